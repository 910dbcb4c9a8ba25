"""What was published under a domain, and when: needed to count on, to judge changes, and to go back.

    {"schema": 1, "domain": "example.org", "publishers": [hex], "published": [
        {"bundle": "v=wws1;…", "at": unix,
         "addresses": [["boot1.example.org", "192.0.2.1"]], "ttl": 300}],
     "prepared_at": unix, "whole": true}

`publishers` are the keys with which clients began. Nothing in it is secret: it may lie in version control,
or in the state of the stack. Lost, it is found again as far as DNS itself knows, which is the last bundle.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from wws.codec.canonical import MAX_INTEGER, JsonObject, JsonValue
from wws.discovery.bundle import MAX_TEXT, Bundle
from wws.discovery.publishers import (
    MAX_PUBLISHERS,
    PublisherKey,
    host_kind,
    parse_domain,
    parse_publisher_key,
)
from wws.errors import LocalError, ParseError
from wws.rpc.codes import Exit
from wws.runtime.machine_errors import reading_failed, writing_failed
from wws.runtime.whole_files import make_folder, write_whole
from wws_dns.desired import DEFAULT_TTL, MAX_TTL

SCHEMA = 1
"""Number of the form that is written; one newer is read, unknown members ignored."""
MAX_FILE = 256 * 1024
"""Largest history that is read, in bytes."""
MAX_PUBLISHED = 300
"""Most publications that are kept: with one every day, more than any rule asks for."""
MAX_KEPT = 200 * 1024
"""Most bytes of publications that are kept, whatever their number: the file must stay readable."""
MAX_ADDRESSES = 128
"""Most addresses of one publication."""


class HistoryMalformed(LocalError):
    """The history of what was published cannot be read."""

    code = "history_malformed"
    exit_code = Exit.INTEGRITY
    hint = "Restore the file from version control. Without it, move it away: what DNS serves is taken up."


@dataclass(frozen=True, slots=True)
class Publication:
    """One bundle that was published."""

    bundle: Bundle
    at: int
    """Unix time."""
    addresses: tuple[tuple[str, str], ...] = ()
    """Host and IP address of the A and AAAA records that were published with it."""
    ttl: int = DEFAULT_TTL
    """The time to live that was wanted for its records."""

    @property
    def size(self) -> int:
        """Bytes that it takes in the file, at most."""
        return len(self.bundle.text) + sum(len(host) + len(ip) + 40 for host, ip in self.addresses) + 120

    def to_json(self) -> JsonObject:
        pairs: list[JsonValue] = [[host, address] for host, address in self.addresses]
        return {"bundle": self.bundle.text, "at": self.at, "addresses": pairs, "ttl": self.ttl}


class History:
    """The publications of one domain, by their numbers; in memory, and in a file if it has one."""

    def __init__(
        self,
        domain: str,
        *,
        publishers: Sequence[PublisherKey] = (),
        published: Sequence[Publication] = (),
        prepared_at: int = 0,
        is_whole: bool = True,
        path: Path | None = None,
    ) -> None:
        self.domain = domain
        self.publishers: tuple[PublisherKey, ...] = tuple(publishers)
        """The keys with which clients began, before any bundle changed them; none until the first publish."""
        self.published: tuple[Publication, ...] = tuple(sorted(published, key=lambda one: one.bundle.seq))
        self.prepared_at = prepared_at
        """Unix time at which times to live were lowered for a change to come, or 0."""
        self.is_whole = is_whole
        """Whether it knows all keys that clients may still go by. Taken up from DNS it may not."""
        self.path = path

    @property
    def last(self) -> Publication | None:
        """The one with the highest number."""
        return self.published[-1] if self.published else None

    def find(self, seq: int) -> Publication | None:
        """The publication with this number."""
        return next((one for one in self.published if one.bundle.seq == seq), None)

    def add(
        self, publication: Publication, *, publishers: Sequence[PublisherKey] = (), is_whole: bool = True
    ) -> None:
        """Remember a publication, in the file too. Twice is once. Raises `MachineError`.

        `publishers` and `is_whole` tell of the beginning, and count where that is not known yet; a history
        that was not whole becomes so once its operator has vouched for it. What another process has written
        into the file in the meantime is kept.
        """
        with self._merged():
            if not self.publishers:
                self.publishers, self.is_whole = tuple(publishers), is_whole
            self.is_whole = self.is_whole or is_whole
            self._insert(publication)

    def prepare(self, unix_now: int) -> None:
        """Remember that times to live were lowered now, in the file too. Raises `MachineError`."""
        with self._merged():
            self.prepared_at = max(self.prepared_at, unix_now)

    @contextmanager
    def _merged(self) -> Iterator[None]:
        """One process at a time reads the file again, adds its own, and writes it whole."""
        if self.path is None:
            yield
            return
        make_folder(self.path.parent)
        path = self.path.with_name(f".{self.path.name}.lock")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise writing_failed(path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            other = load_history(self.path, self.domain)
            if other.publishers:
                self.publishers, self.is_whole = other.publishers, other.is_whole
            self.prepared_at = max(self.prepared_at, other.prepared_at)
            for publication in other.published:
                self._insert(publication)
            yield
            write_whole(self.path, self.to_text().encode())
        finally:
            os.close(lock)

    def _insert(self, publication: Publication) -> None:
        same = next((one for one in self.published if one.bundle.text == publication.bundle.text), None)
        if same is not None:  # hosts get other addresses without another bundle
            latest = replace(publication, at=same.at)
            self.published = tuple(latest if one is same else one for one in self.published)
            return
        together = sorted((*self.published, publication), key=lambda one: (one.bundle.seq, one.at))
        first, size = len(together) - 1, together[-1].size
        while (
            first > 0
            and len(together) - first < MAX_PUBLISHED
            and size + together[first - 1].size <= MAX_KEPT
        ):
            first -= 1
            size += together[first].size
        for forgotten in together[:first]:
            # Its clients are long past, and the keys that it brought are where later ones began.
            self.publishers = forgotten.bundle.keys or self.publishers
        self.published = tuple(together[first:])

    def copy(self) -> History:
        """Another one with the same content, without a file."""
        return History(
            self.domain,
            publishers=self.publishers,
            published=self.published,
            prepared_at=self.prepared_at,
            is_whole=self.is_whole,
        )

    def to_json(self) -> JsonObject:
        """All of it, with its schema number."""
        published: list[JsonValue] = [one.to_json() for one in self.published]
        publishers: list[JsonValue] = [key.hex() for key in self.publishers]
        return {
            "schema": SCHEMA,
            "domain": self.domain,
            "publishers": publishers,
            "prepared_at": self.prepared_at,
            "whole": self.is_whole,
            "published": published,
        }

    def to_text(self) -> str:
        """The content of its file: one line a member, so that a change reads well in version control."""
        return json.dumps(self.to_json(), indent=1) + "\n"


def load_history(path: Path, domain: str) -> History:
    """The history in the file at `path`; an empty one of `domain` where there is no file.

    Raises `HistoryMalformed`, also when it is of another domain, and `MachineError`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return History(domain, path=path)
    except OSError as error:
        raise reading_failed(path, error) from error
    history = parse_history(data)
    if history.domain != domain:
        raise HistoryMalformed(
            f"{path} is the history of {history.domain}, not of {domain}.",
            hint="Each domain has a history of its own: --history FILE",
        )
    history.path = path
    return history


def parse_history(data: bytes | str) -> History:
    """A history from its text. Raises `HistoryMalformed`."""
    if len(data) > MAX_FILE:
        raise HistoryMalformed(f"A history of more than {MAX_FILE} bytes.")
    try:
        value: JsonValue = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HistoryMalformed(f"The history is no JSON: {error}.") from None
    if not isinstance(value, dict):
        raise HistoryMalformed("The history is no JSON object.")
    schema = value.get("schema")
    if schema not in (SCHEMA, SCHEMA + 1) or isinstance(schema, bool):
        raise HistoryMalformed(f"The history has schema {schema!r}; this version reads {SCHEMA}.")
    domain, published = value.get("domain"), value.get("published")
    if not isinstance(domain, str) or host_kind(domain) != "name" or parse_domain(domain) != domain:
        raise HistoryMalformed("The history does not say of which domain it is.")
    if not isinstance(published, list) or len(published) > MAX_PUBLISHED:
        raise HistoryMalformed(f"The history is no list of at most {MAX_PUBLISHED} publications.")
    try:
        return History(
            domain,
            publishers=_keys(value.get("publishers", [])),
            published=[_publication(one) for one in published],
            prepared_at=_time(value.get("prepared_at", 0)),
            is_whole=value.get("whole", True) is not False,
        )
    except ParseError as error:
        raise HistoryMalformed(f"The history of {domain}: {error}.") from None


def _keys(value: JsonValue) -> list[PublisherKey]:
    if not isinstance(value, list) or len(value) > MAX_PUBLISHERS:
        raise ParseError("its publishers are no short list")
    return [parse_publisher_key(_text(key)) for key in value]


def _publication(value: JsonValue) -> Publication:
    if not isinstance(value, dict):
        raise ParseError("a publication is no object")
    text = _text(value.get("bundle"))
    pairs = value.get("addresses", [])
    if len(text) > MAX_TEXT or not isinstance(pairs, list) or len(pairs) > MAX_ADDRESSES:
        raise ParseError("a publication is too large")
    addresses: list[tuple[str, str]] = []
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise ParseError("an address of a publication is no pair of host and address")
        host, address = _text(pair[0]), _text(pair[1])
        if host_kind(host) != "name" or host_kind(address) not in ("ip4", "ip6"):
            raise ParseError("an address of a publication is none")
        addresses.append((host, address))
    return Publication(Bundle.parse(text), _time(value.get("at")), tuple(addresses), _ttl(value))


def _ttl(value: JsonObject) -> int:
    ttl = _time(value.get("ttl", DEFAULT_TTL))
    if not 1 <= ttl <= MAX_TTL:
        raise ParseError("a time to live is none")
    return ttl


def _text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise ParseError("something that is a text is none")
    return value


def _time(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_INTEGER:
        raise ParseError("a time is none")
    return value
