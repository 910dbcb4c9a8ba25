"""Reading `config.toml`: known sections and keys only, and the line of each.

`tomllib` tells the line of a syntax error but not of a value, so a small scan finds where each key stands;
it is used for messages only. Where it cannot tell (a section written inline), the message names the file.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wws.config.errors import ConfigBadValue, ConfigUnknownKey, ConfigUnreadable
from wws.config.records import SECTIONS

MAX_FILE = 1024 * 1024
"""Largest configuration file that is read."""

_HEADER = re.compile(r"\s*\[\s*([A-Za-z0-9_\"'.-]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_\"'.-]+)\s*=")


@dataclass(frozen=True, slots=True)
class TomlFile:
    """What a configuration file says, by section and key, and the line of each dotted key."""

    path: Path
    values: Mapping[str, Mapping[str, object]]
    lines: Mapping[str, int]

    def place(self, setting: str) -> str:
        """`file:line` of a dotted setting, or the file alone where the line is not known."""
        line = self.lines.get(setting) or self.lines.get(setting.partition(".")[0])
        return f"{self.path}:{line}" if line else str(self.path)


def read_toml(path: Path, *, required: bool) -> TomlFile | None:
    """The file at `path`, or `None` when there is none and none is required.

    Raises `ConfigUnreadable`, `ConfigUnknownKey` (naming line and nearest key), `ConfigBadValue`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not required:
            return None
        raise ConfigUnreadable(f"There is no configuration file at {path}.") from error
    except OSError as error:
        raise ConfigUnreadable(f"Cannot read {path}: {error.strerror or error}.") from error
    if len(data) > MAX_FILE:
        raise ConfigUnreadable(f"{path} is larger than {MAX_FILE} bytes.")
    try:
        text = data.decode("utf-8")
        values: dict[str, object] = tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigUnreadable(f"{path} is not UTF-8 text.") from None
    except RecursionError:
        raise ConfigUnreadable(f"{path} is nested too deeply.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigUnreadable(f"{path} is not TOML: {error}.") from None
    except ValueError as error:  # digits beyond what Python turns into a number
        raise ConfigUnreadable(f"{path} cannot be read: {error}.") from None
    lines = _find_lines(text)
    _check_keys(TomlFile(path, {}, lines), values)
    return TomlFile(path, {name: item for name, item in values.items() if isinstance(item, Mapping)}, lines)


def nearest(word: str, words: list[str]) -> str | None:
    """The one of `words` that `word` was most likely meant to be."""
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return close[0] if close else None


def section_keys(section: str) -> list[str]:
    """The keys of one section."""
    return [item.name for item in dataclasses.fields(SECTIONS[section])]


def _check_keys(file: TomlFile, values: Mapping[str, object]) -> None:
    for section, members in values.items():
        if section not in SECTIONS:
            shown = f"[{section}]" if isinstance(members, Mapping) else section
            raise _unknown(file, section, section, list(SECTIONS), shown)
        if not isinstance(members, Mapping):
            raise ConfigBadValue(
                f"{file.place(section)}: {section} is a section: write [{section}] above its keys."
            )
        for key in members:
            if key not in section_keys(section):
                raise _unknown(file, f"{section}.{key}", key, section_keys(section), f"{key} in [{section}]")


def _unknown(file: TomlFile, setting: str, word: str, valid: list[str], shown: str) -> ConfigUnknownKey:
    close = nearest(word, valid)
    # A key that is right, but in another section, is the commoner slip.
    elsewhere = [
        f"{key} in [{section}]" for section in SECTIONS for key in section_keys(section) if key == word
    ]
    meant = elsewhere[0] if elsewhere else close
    return ConfigUnknownKey(
        f"{file.place(setting)}: there is no setting {shown[:80]}"
        + (f"; did you mean {meant}?" if meant else "."),
        hint=f"Valid here: {', '.join(valid)}",
    )


def _find_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = _plain(header[1])
            lines.setdefault(section, number)
        elif key := _KEY.match(line):
            name = _plain(key[1])
            lines.setdefault(f"{section}.{name}" if section else name, number)
    return lines


def _plain(name: str) -> str:
    return name.replace('"', "").replace("'", "")
