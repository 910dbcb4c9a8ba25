"""Who serves a domain: its zone and the zone's name servers, as the resolvers know them.

    SOA of the domain ─► the zone (in the answer, or beside it)      NS of the zone ─► names ─► addresses

One resolver that lies must not choose whom we believe, so all of them are asked, and a server counts that any
of them names: who is named by some only does not serve what the others serve, and stands out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wws_dns.asking import Answer, AskingConfig, Question, ask_all


@dataclass(frozen=True, slots=True)
class AuthorityConfig:
    """The bounds of looking for name servers."""

    max_servers: int = 16
    """Most addresses of name servers that are asked later."""
    max_names: int = 13
    """Most names of name servers that are looked up."""
    port: int = 53
    """Where name servers answer."""


@dataclass(frozen=True, slots=True)
class Authority:
    """The zone of a domain and who serves it."""

    zone: str
    """Empty where no resolver knows it."""
    servers: Mapping[tuple[str, int], str]
    """Address → name."""


async def find_authority(
    domain: str,
    resolvers: Sequence[tuple[str, int]],
    asking: AskingConfig | None = None,
    config: AuthorityConfig | None = None,
) -> Authority:
    """The name servers of the zone that `domain` is in; none where no resolver knows any."""
    bounds = config or AuthorityConfig()
    zone = await _zone_of(domain, resolvers, asking)
    if not zone:
        return Authority("", {})
    named = await _ask(resolvers, [(zone, "NS")], asking)
    names = most_named(named, bounds.max_names)
    located = await _ask(resolvers, [(name, kind) for name in names for kind in ("A", "AAAA")], asking)
    called = {address: answer.question.name for answer in located for address in answer.values}
    chosen = sorted(most_named(located, bounds.max_servers))
    return Authority(zone, {(address, bounds.port): called[address] for address in chosen})


def most_named(answers: Sequence[Answer], most: int) -> list[str]:
    """The values that most resolvers give, the first of them first: one that lies crowds nobody out."""
    resolvers: dict[str, set[tuple[str, int]]] = {}
    for answer in answers:
        for value in answer.values:
            resolvers.setdefault(value, set()).add(answer.question.server)
    return sorted(resolvers, key=lambda value: (-len(resolvers[value]), value))[:most]


async def _zone_of(domain: str, resolvers: Sequence[tuple[str, int]], asking: AskingConfig | None) -> str:
    """The longest name that a resolver calls a zone and that `domain` lies in."""
    zones: set[str] = set()
    for answer in await _ask(resolvers, [(domain, "SOA")], asking):
        zone = domain if not answer.failure else answer.authority
        if domain == zone or ("." in zone and domain.endswith(f".{zone}")):
            zones.add(zone)  # a top-level domain is the zone of those that do not exist
    return max(zones, key=len, default="")


async def _ask(
    resolvers: Sequence[tuple[str, int]], wanted: Sequence[tuple[str, str]], asking: AskingConfig | None
) -> list[Answer]:
    """The answers, over TCP where they did not fit."""
    questions = [Question(resolver, name, kind, "edns") for resolver in resolvers for name, kind in wanted]
    answers = await ask_all(questions, asking)
    cut = [
        Question(question.server, question.name, question.kind, "tcp")
        for question, answer in answers.items()
        if answer.is_cut
    ]
    return [*answers.values(), *(await ask_all(cut, asking)).values()]
