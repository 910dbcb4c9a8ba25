"""Cloudflare, through its SDK: the only module that imports it.

    zone's name ─► zone id        record sets ─► records, each with its id, page by page
    changes ─► look again ─► batch of adds ─► look again ─► batch of deletes, by name and content

Adds come first and removals last, since between the two clients see both lists, never none. The service has
no "only if the zone is still so": what the plan saw is compared a moment before the first batch, and that
moment is what is left to chance. A batch is one transaction, so that a change is half done only between two
of them; after any failure the zone is looked at once more, since an answer that got lost does not mean that
nothing was done.

TXT content comes back as strings in quotes, cut at 255 bytes, or bare when it was put in bare; it is sent
quoted. Record ids are never kept: whoever edits in the dashboard gives a record a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Final, TypeVar

import cloudflare
from cloudflare.pagination import SyncV4PagePaginationArray
from cloudflare.types.dns import AAAARecordParam, ARecordParam, RecordResponse, TXTRecordParam
from cloudflare.types.dns.batch_patch_param import AAAARecord, ARecord, BatchPatchParam, TXTRecord
from cloudflare.types.dns.record_batch_params import Delete, Post

from wws_dns.character_strings import content_of, text_of
from wws_dns.cloudflare_token import HOW_TO_GET_ONE
from wws_dns.provider import (
    AuthFailed,
    Changes,
    Conflict,
    Partial,
    ProviderError,
    RateLimited,
    Record,
    RecordKind,
    RecordSet,
    Refused,
    Unavailable,
    ZoneLocked,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CloudflareConfig:
    """How the service is spoken to, and the bounds of it."""

    base_url: str = "https://api.cloudflare.com/client/v4"
    """Where version 4 of the API is."""
    timeout: float = 20.0
    """Seconds for one request."""
    max_retries: int = 2
    """How often a request is repeated after 408, 409, 429, 5xx or a cut connection; the SDK waits as long as
    Retry-After says, up to a minute."""
    page: int = 100
    """Records asked for at a time."""
    max_records: int = 1_000
    """Most records of one record set that are looked at."""
    batch: int = 100
    """Changes in one batch: the service takes 200 on its free plan."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A record as the service keeps it."""

    id: str
    record: Record
    is_proxied: bool

    def is_as(self, wanted: Record) -> bool:
        return self.record == wanted and not self.is_proxied


class CloudflareProvider:
    """A zone at Cloudflare.

    `zone` may be given as any name in it, and is the zone's own once that was found: at the first request.
    """

    def __init__(self, zone: str, *, token: str, config: CloudflareConfig | None = None) -> None:
        self.zone = zone.lower().removesuffix(".")
        self.name = "cloudflare"
        self._config = config or CloudflareConfig()
        self._zone_id: str | None = None
        self._client = cloudflare.Cloudflare(
            api_token=token,
            base_url=self._config.base_url,
            timeout=self._config.timeout,
            max_retries=self._config.max_retries,
        )
        # The SDK prefers the key of a whole account, when the environment has one, to the token it is given.
        self._client.api_key = self._client.api_email = self._client.user_service_key = None

    def close(self) -> None:
        """Give the connections back. Doing it twice is harmless."""
        self._client.close()

    def fetch(self, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
        """All records of the wanted sets, sorted. Raises `ProviderError`."""
        return tuple(sorted(kept.record for kept in self._look(wanted)))

    def apply(self, changes: Changes) -> None:
        """Add, then remove. Raises `Conflict`, `Partial`, or what the first request failed with.

        May be called again with the same changes after `Partial`: what stands between what the plan saw and
        what it wants is no conflict.
        """
        if changes.is_empty:
            return
        found = self._look(changes.touched)
        if not _is_on_the_way(changes, [kept.record for kept in found]):
            raise Conflict(f"{self.zone} is not as it was when the change was planned.")
        try:
            self._add(changes, found)
            self._remove(changes)
        except ProviderError as error:
            self._judge(changes, found, error)

    # Reading

    def _find_zone(self) -> str:
        """The id of the zone: of the name itself, or of the nearest one above it."""
        if self._zone_id is not None:
            return self._zone_id
        with self._proper():
            return self._found_zone()

    def _found_zone(self) -> str:
        labels = self.zone.split(".")
        for start in range(len(labels) - 1):
            name = ".".join(labels[start:])
            zones = self._page(partial(self._client.zones.list, name=name))
            for zone in zones.result:
                if zone.name == name:
                    self.zone, self._zone_id = name, zone.id
                    return zone.id
        raise Refused(
            f"This token sees no zone at Cloudflare that holds {self.zone}.",
            hint="Is the domain in this account, and does the token include the zone, with Zone Read and "
            f"DNS Edit? {HOW_TO_GET_ONE}",
        )

    def _look(self, wanted: Collection[RecordSet]) -> list[_Kept]:
        self._find_zone()
        with self._proper():
            return [kept for record_set in sorted(set(wanted)) for kept in self._look_at(*record_set)]

    @contextmanager
    def _proper(self) -> Iterator[None]:
        """The SDK checks nothing that it reads: what has another shape shows when it is used."""
        try:
            yield
        except (AttributeError, TypeError, ValueError) as error:
            raise self._other_answer() from error

    def _look_at(self, name: str, kind: RecordKind) -> Iterator[_Kept]:
        zone_id = self._find_zone()
        seen = 0
        number = 0
        while True:
            number += 1
            page = self._page(
                partial(
                    self._client.dns.records.list,
                    zone_id=zone_id,
                    name={"exact": name},
                    type=kind,
                    page=number,
                    per_page=self._config.page,
                )
            )
            records = page.result
            for response in records:
                kept = _read(response, name, kind)
                if kept is not None:
                    yield kept
            seen += len(records)
            if seen > self._config.max_records:
                raise Refused(
                    f"There are more than {self._config.max_records} {kind} records at {name}.",
                    hint="They are not ours. Remove them in the dashboard, or publish under another domain.",
                )
            info = page.result_info
            size = self._config.page if info is None or info.per_page is None else info.per_page
            if len(records) < max(1, size):
                return

    def _page(self, ask: Callable[[], SyncV4PagePaginationArray[T]]) -> SyncV4PagePaginationArray[T]:
        page = self._ask(ask)
        result: object = page.result
        if not isinstance(result, list):
            raise self._other_answer()
        return page

    # Changing

    def _add(self, changes: Changes, found: Sequence[_Kept]) -> None:
        there: dict[tuple[str, RecordKind, str], list[_Kept]] = {}
        for kept in found:
            there.setdefault(kept.record.content, []).append(kept)
        posts: list[Post] = [_param(record) for record in changes.add if record.content not in there]
        patches: list[BatchPatchParam] = [
            _patch(kept.id, record)
            for record in changes.add
            for kept in there.get(record.content, [])
            if not kept.is_as(record)
        ]
        zone_id = self._find_zone()
        for some in _chunks(posts, self._config.batch):
            self._ask(partial(self._client.dns.records.batch, zone_id=zone_id, posts=some))
        for few in _chunks(patches, self._config.batch):
            self._ask(partial(self._client.dns.records.batch, zone_id=zone_id, patches=few))

    def _remove(self, changes: Changes) -> None:
        gone = _going(changes)
        if not gone:
            return
        zone_id = self._find_zone()
        wanted = {(name, kind) for name, kind, _ in gone}
        ids = [kept.id for kept in self._look(wanted) if kept.record.content in gone]
        for some in _chunks([Delete(id=one) for one in ids], self._config.batch):
            self._ask(partial(self._client.dns.records.batch, zone_id=zone_id, deletes=some))

    def _judge(self, changes: Changes, before: Sequence[_Kept], error: ProviderError) -> None:
        """After a failure: return when all was done all the same, else raise what fits what stands there."""
        try:
            now = {kept.record.content: kept for kept in self._look(changes.touched)}
        except ProviderError as again:
            raise type(error)(
                f"{error} What was done before that cannot be seen: {again}",
                hint=f"{error.hint} Then plan again: the plan shows what is left.",
            ) from error
        had = {kept.record.content: kept for kept in before}
        gone = _going(changes)
        added = [one for one in changes.add if one.content in now and now[one.content].is_as(one)]
        removed = [one for one in changes.remove if one.content in gone and one.content not in now]
        left = Changes(
            tuple(one for one in changes.add if one not in added),
            tuple(one for one in changes.remove if one.content in gone and one.content in now),
            tuple(kept.record for kept in now.values()),
        )
        if left.is_empty:
            return  # the answer got lost, or another did the rest
        done = Changes(
            tuple(one for one in added if one.content not in had or not had[one.content].is_as(one)),
            tuple(one for one in removed if one.content in had),
        )
        if done.is_empty:
            raise error
        raise Partial(
            f"{len(done.add) + len(done.remove)} of the changes were made, "
            f"{len(left.add) + len(left.remove)} were not: {error}",
            done=done,
            left=left,
            hint=f"{Partial.hint} Before that: {error.hint}",
        ) from error

    def _ask(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except cloudflare.APIError as error:
            raise self._told(error) from error
        except (ValueError, AttributeError, TypeError) as error:
            # What is no JSON, or JSON of another shape, the SDK meets unprepared.
            raise self._other_answer() from error

    def _other_answer(self) -> Unavailable:
        return Unavailable(
            f"{self._config.base_url} answered with something else than the API of Cloudflare does.",
            hint="Is there a proxy, or a sign-in page of the network, between here and the service?",
        )

    def _told(self, error: cloudflare.APIError) -> ProviderError:
        """What an error of the SDK means here."""
        if isinstance(error, cloudflare.APITimeoutError):
            return Unavailable(f"Cloudflare has not answered within {self._config.timeout:g} s.")
        if not isinstance(error, cloudflare.APIStatusError):
            why = error.__cause__ or error
            return Unavailable(f"Cloudflare cannot be reached: {why}")
        said = _said(error)
        codes = {one.code for one in error.errors or () if one.code is not None}
        text = f"Cloudflare answered {error.status_code}{said}"
        match error.status_code:
            case 401:
                return AuthFailed(text, hint=f"The token is wrong, expired or revoked. {HOW_TO_GET_ONE}")
            case 400 if codes & _BAD_HEADERS:
                return AuthFailed(text, hint=f"The token has not the form of one. {HOW_TO_GET_ONE}")
            case 403 if codes & _BAD_TOKEN:
                return AuthFailed(text, hint=f"The token is wrong, expired or revoked. {HOW_TO_GET_ONE}")
            case 403 if codes:
                return AuthFailed(
                    text,
                    hint="The token is known and may not do this: it needs Zone Read and DNS Edit for "
                    f"{self.zone}, and, where it is bound to addresses, this machine's. {HOW_TO_GET_ONE}",
                )
            case 403:
                return Refused(
                    text,
                    hint="That came from Cloudflare's edge, not from its API: this machine's address is "
                    "blocked there. Publish from elsewhere.",
                )
            case 429:
                return RateLimited(text, retry_after=_retry_after(error.response.headers))
            case 404:
                return Refused(text, hint=f"Is {self.zone} still in this account? Plan again: wws-dns plan")
            case status if status >= 500 or status == 408:
                return Unavailable(text, hint=f"{Unavailable.hint} See also www.cloudflarestatus.com.")
            case _ if codes & _LOCKED:
                return ZoneLocked(
                    text, hint="Another part of the account manages these records: let go of them there."
                )
            case 409:
                return ZoneLocked(text)
            case _:
                return Refused(text)


_BAD_HEADERS: Final = frozenset({6003, 6111, 9106})
"""The request bears no token that could be one."""
_BAD_TOKEN: Final = frozenset({9109, 1000, 1001})
"""The token is not known, or not any more."""
_LOCKED: Final = frozenset({1043, 1044, 9103, 81_062})
"""A record is managed by another product, or by the zone's primary."""


def _read(response: RecordResponse, name: str, kind: RecordKind) -> _Kept | None:
    """A record of the set that was asked for; others are left out, whatever was filtered there."""
    content = response.content
    if response.name.lower() != name or response.type != kind or not isinstance(content, str):
        return None
    value = text_of(content) if kind == "TXT" else content.lower()
    return _Kept(response.id, Record(name, kind, value, int(response.ttl)), bool(response.proxied))


def _param(record: Record) -> Post:
    """A record for the API. Addresses are never proxied: no peer-to-peer protocol passes the proxy."""
    match record.kind:
        case "TXT":
            return TXTRecordParam(
                name=record.name, type="TXT", content=content_of(record.value), ttl=record.ttl
            )
        case "A":
            return ARecordParam(
                name=record.name, type="A", content=record.value, ttl=record.ttl, proxied=False
            )
        case "AAAA":
            return AAAARecordParam(
                name=record.name, type="AAAA", content=record.value, ttl=record.ttl, proxied=False
            )


def _patch(identifier: str, record: Record) -> BatchPatchParam:
    match record.kind:
        case "TXT":
            return TXTRecord(id=identifier, name=record.name, type="TXT", ttl=record.ttl)
        case "A":
            return ARecord(id=identifier, name=record.name, type="A", ttl=record.ttl, proxied=False)
        case "AAAA":
            return AAAARecord(id=identifier, name=record.name, type="AAAA", ttl=record.ttl, proxied=False)


def _going(changes: Changes) -> set[tuple[str, RecordKind, str]]:
    """What is to be away afterwards: a record that only gets another time to live stays."""
    return {record.content for record in changes.remove} - {record.content for record in changes.add}


def _is_on_the_way(changes: Changes, found: Collection[Record]) -> bool:
    """Whether every record there was seen by the plan or is wanted by it, and none is missing that stays."""
    if changes.expects(found):
        return True
    there = {record.content for record in found}
    touched = set(changes.touched)
    saw = {record.content for record in changes.expected if record.set in touched}
    return saw - _going(changes) <= there <= saw | {record.content for record in changes.add}


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _said(error: cloudflare.APIStatusError) -> str:
    """The service's own words, bounded."""
    words = [f"{one.message} ({one.code})" for one in error.errors or () if one.message]
    return f": {'; '.join(words)[:300]}" if words else "."


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from Retry-After (RFC 9110 section 10.2.3), of which the date form counts from Date."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit() and len(text) <= 6:
        return float(text)
    try:
        until, since = parsedate_to_datetime(text), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - since).total_seconds())
    except (TypeError, ValueError):
        return None
