"""One question to one DNS server, in one of the three ways in which clients ask.

    udp    without EDNS (RFC 1035): 512 bytes, or cut short
    edns   with EDNS (RFC 6891), for answers of up to 1232 bytes: what our nodes do first
    tcp    when an answer was cut short

A server that does not answer is an answer too, with a reason: nothing here raises for what a server does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rdtypes.txtbase

from wws.discovery.bundle import MAX_ANSWER
from wws.runtime.dns_exchange import server_text

Way: TypeAlias = Literal["udp", "edns", "tcp"]
WAYS: Final[tuple[Way, ...]] = ("udp", "edns", "tcp")
Failure: TypeAlias = Literal[
    "", "nxdomain", "no_answer", "servfail", "refused", "timeout", "network", "malformed"
]


@dataclass(frozen=True, slots=True)
class AskingConfig:
    """The bounds of asking."""

    timeout: float = 3.0
    """Seconds for one try."""
    tries: int = 2
    """How often a question is put over UDP before the server counts as silent."""
    max_concurrent: int = 32
    """Questions under way at once."""
    max_values: int = 1_000
    """Most records of an answer that are looked at."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of whom, and how."""

    server: tuple[str, int]
    name: str
    kind: str
    way: Way


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    question: Question
    values: tuple[str, ...] = ()
    """The records, sorted: whole texts of TXT, addresses, names without the final dot."""
    ttl: int = 0
    """Seconds for which they may be kept."""
    size: int = 0
    """Bytes of the answer."""
    is_cut: bool = False
    """Whether the server says: ask over TCP."""
    is_authoritative: bool = False
    failure: Failure = ""
    """Why there are no records; empty when there are."""
    authority: str = ""
    """Of an answer without records: the zone that says so."""

    @property
    def is_answered(self) -> bool:
        """Whether the server spoke DNS with us, whatever it said."""
        return self.failure not in ("timeout", "network", "malformed")

    @property
    def server(self) -> str:
        return server_text(self.question.server)


async def ask_all(
    questions: Iterable[Question], config: AskingConfig | None = None
) -> dict[Question, Answer]:
    """The answers to all questions, asked side by side."""
    bounds = config or AskingConfig()
    room = asyncio.Semaphore(bounds.max_concurrent)

    async def one(question: Question) -> tuple[Question, Answer]:
        async with room:
            return question, await ask(question, bounds)

    return dict(await asyncio.gather(*map(one, dict.fromkeys(questions))))


async def ask(question: Question, config: AskingConfig) -> Answer:
    """The answer to one question."""
    host, port = question.server
    failure: Failure = "timeout"
    for _ in range(1 if question.way == "tcp" else config.tries):
        try:
            query = _query(question)
            if question.way == "tcp":
                message = await dns.asyncquery.tcp(query, host, config.timeout, port)
            else:
                message = await dns.asyncquery.udp(
                    query, host, config.timeout, port, ignore_unexpected=True, ignore_trailing=False
                )
        except dns.exception.Timeout:
            continue
        except (OSError, EOFError):
            failure = "network"
            continue
        except (dns.exception.DNSException, ValueError, IndexError):
            return Answer(question, failure="malformed")
        return _read(question, message, config)
    return Answer(question, failure=failure)


def _query(question: Question) -> dns.message.QueryMessage:
    if question.way == "udp":
        return dns.message.make_query(question.name, question.kind, use_edns=False)
    return dns.message.make_query(question.name, question.kind, use_edns=0, payload=MAX_ANSWER)


def _read(question: Question, message: dns.message.Message, config: AskingConfig) -> Answer:
    values: list[str] = []
    ttls: list[int] = []
    for rrset in message.answer:
        if dns.rdatatype.to_text(rrset.rdtype) != question.kind:
            continue
        ttls.append(rrset.ttl)
        values += [_value(rdata) for rdata in list(rrset)[: config.max_values - len(values)]]
    is_cut = bool(message.flags & dns.flags.TC)
    return Answer(
        question,
        tuple(sorted(values)),
        min(ttls, default=0),
        len(message.wire or b""),
        is_cut,
        bool(message.flags & dns.flags.AA),
        _failure(message.rcode(), bool(values) or is_cut),
        _authority(message),
    )


def _value(rdata: object) -> str:
    if isinstance(rdata, dns.rdtypes.txtbase.TXTBase):
        return b"".join(rdata.strings).decode("utf-8", "replace")
    return str(rdata).removesuffix(".").lower()


def _failure(rcode: dns.rcode.Rcode, has_records: bool) -> Failure:
    match rcode:
        case dns.rcode.NOERROR:
            return "" if has_records else "no_answer"
        case dns.rcode.NXDOMAIN:
            return "nxdomain"
        case dns.rcode.REFUSED | dns.rcode.NOTAUTH:
            return "refused"
        case _:
            return "servfail"


def _authority(message: dns.message.Message) -> str:
    owners: Sequence[dns.name.Name] = [
        rrset.name for rrset in message.authority if rrset.rdtype == dns.rdatatype.SOA
    ]
    return owners[0].to_text(omit_final_dot=True).lower() if owners else ""
