"""Reads the project's Dockerfile: what goes into the image, and what it is run with.

Only what that file uses is understood, in the exact forms that need no shell; everything else is refused. So
what our own builder makes of the file and what an engine makes of it cannot differ in meaning.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

_SECONDS = re.compile(r"([1-9][0-9]{0,3})s")
_USER = re.compile(r"([0-9]{1,5}):([0-9]{1,5})")
_PORT = re.compile(r"[1-9][0-9]{0,4}/(tcp|udp)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_FOLDER = re.compile(r"[a-z]+/")
_ABSOLUTE = re.compile(r"/[A-Za-z0-9_./-]*")
NANOSECONDS = 1_000_000_000


class NotUnderstood(ValueError):
    """A line that is not in one of the forms above."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One layer: a folder of the context, and whose its files are."""

    source: str
    target: str
    uid: int = 0
    gid: int = 0


@dataclass(slots=True)
class Image:
    """What the file says."""

    copies: list[Copy] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    ports: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    health: dict[str, object] = field(default_factory=dict)
    """As engines write it: seconds are nanoseconds."""
    user: str = ""
    folder: str = ""
    stop_signal: str = ""

    def to_config(self) -> dict[str, object]:
        """The `config` object of an OCI image, with `Healthcheck` as Docker adds it."""
        return {
            "User": self.user,
            "ExposedPorts": {port: {} for port in self.ports},
            "Env": [f"{name}={value}" for name, value in self.env.items()],
            "Entrypoint": self.entrypoint,
            "Volumes": {volume: {} for volume in self.volumes},
            "WorkingDir": self.folder,
            "Labels": self.labels,
            "StopSignal": self.stop_signal,
            "Healthcheck": self.health,
        }


def parse(text: str) -> Image:
    """The image of a Dockerfile. Raises `NotUnderstood`."""
    image, begun = Image(), False
    for word, rest in _instructions(text):
        if (word == "FROM") == begun or (word == "FROM" and rest != "scratch"):
            raise NotUnderstood("it begins with FROM scratch, and has no other")
        begun = True
        _take(image, word, rest)
    if not (image.copies and image.user and image.entrypoint):
        raise NotUnderstood("an image has files, a user and an entry point")
    return image


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"[ \t]*\\\n[ \t]*", " ", "\n".join(lines)).split("\n"):
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


def _take(image: Image, word: str, rest: str) -> None:
    match word:
        case "FROM":
            pass
        case "COPY":
            image.copies.append(_copy(rest))
        case "ENV":
            image.env |= _pairs(rest)
        case "LABEL":
            image.labels |= _pairs(rest)
        case "EXPOSE":
            image.ports += [_matching(_PORT, port) for port in rest.split()]
        case "VOLUME":
            image.volumes += [_matching(_ABSOLUTE, path) for path in _words(rest)]
        case "WORKDIR":
            image.folder = _matching(_ABSOLUTE, rest)
        case "USER":
            image.user = _matching(_USER, rest)
        case "STOPSIGNAL":
            image.stop_signal = _matching(re.compile("SIG[A-Z]+"), rest)
        case "ENTRYPOINT":
            image.entrypoint = _words(rest)
        case "HEALTHCHECK":
            image.health = _health(rest)
        case _:
            raise NotUnderstood(f"{word}: an instruction that this image needs not")


def _copy(rest: str) -> Copy:
    options, _, paths = rest.rpartition("--") if rest.startswith("--") else ("", "", rest)
    if options:
        raise NotUnderstood(f"COPY {rest}: at most one option")
    words = paths.split()
    uid, gid = 0, 0
    if rest.startswith("--"):
        found = _USER.fullmatch(words[0].removeprefix("chown="))
        if found is None:
            raise NotUnderstood(f"COPY {rest}: only --chown=UID:GID")
        uid, gid, words = int(found[1]), int(found[2]), words[1:]
    if len(words) != 2:
        raise NotUnderstood(f"COPY {rest}: one folder to one folder")
    source, target = _matching(_FOLDER, words[0]), _matching(_ABSOLUTE, words[1])
    if not target.endswith("/"):
        raise NotUnderstood(f"COPY {rest}: a folder ends with /")
    return Copy(source.rstrip("/"), target, uid, gid)


def _pairs(rest: str) -> dict[str, str]:
    try:
        pairs = [word.partition("=") for word in shlex.split(rest)]
    except ValueError as error:
        raise NotUnderstood(f"{rest}: {error}") from None
    if "$" in rest or not all(equals and _NAME.fullmatch(name) for name, equals, _ in pairs):
        raise NotUnderstood(f"{rest}: NAME=VALUE, without $")
    return {name: value for name, _, value in pairs}


def _words(rest: str) -> list[str]:
    try:
        words = json.loads(rest)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise NotUnderstood(f'{rest}: the exec form ["…"], which needs no shell')
    return words


def _health(rest: str) -> dict[str, object]:
    options, found, command = rest.partition(" CMD ")
    if not found:
        raise NotUnderstood('HEALTHCHECK: --option=…s CMD ["…"]')
    names = {"--interval": "Interval", "--timeout": "Timeout", "--start-period": "StartPeriod"}
    health: dict[str, object] = {"Test": ["CMD", *_words(command)]}
    for option in options.split():
        name, _, value = option.partition("=")
        seconds = _SECONDS.fullmatch(value)
        if name in names and seconds is not None:
            health[names[name]] = int(seconds[1]) * NANOSECONDS
        elif name == "--retries" and value.isdecimal():
            health["Retries"] = int(value)
        else:
            raise NotUnderstood(f"HEALTHCHECK {option}")
    return health


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if pattern.fullmatch(text) is None:
        raise NotUnderstood(f"{text!r} is not {pattern.pattern}")
    return text
