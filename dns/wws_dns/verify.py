"""Looks at what the world is served for a domain, and says who serves something else.

    name servers of the zone ─┐                                ┌─► what should be served: the newest good
    resolvers, three and more ┴─► udp, edns, tcp, every name ──┤   bundle that a name server has
                                                               └─► what is wrong, and with whom

What a name server serves is judged as a client without memory judges it, by the publisher keys. What a
resolver serves is compared with that: an older good bundle is *stale*, anything else that differs is a *lie*,
whether somebody lies or something is broken. Signatures protect clients from lies, not from being left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from wws.discovery.publishers import PublisherKey
from wws.discovery.txt import bundle_name, dnsaddr_name, seed_name
from wws_dns.asking import WAYS, Question, ask_all
from wws_dns.findings import Report, Server, VerifyConfig
from wws_dns.judging import Judge


async def verify(
    domain: str,
    keys: Collection[PublisherKey],
    servers: Sequence[Server],
    unix_now: int,
    config: VerifyConfig | None = None,
    *,
    former: Collection[str] = (),
    published_at: Mapping[int, int] = MappingProxyType({}),
) -> Report:
    """Ask all of `servers` everything, and judge what they say. Raises nothing for what they do.

    `former` are the texts of bundles that were published earlier, signed with whatever keys held then;
    `published_at` gives bundle numbers the Unix time at which they were published, where it is known.
    """
    bounds = config or VerifyConfig()
    names = (bundle_name(domain), seed_name(domain), dnsaddr_name(domain))
    answers = await ask_all(
        (Question(server.address, name, "TXT", way) for server in servers for name in names for way in WAYS),
        bounds.asking,
    )
    judge = Judge(domain, keys, unix_now, bounds, former, published_at)
    judge.add_answers(answers)
    judge.find_reference(server for server in servers if server.role == "authority")
    located = await ask_all(
        (
            Question(server.address, host, kind, "edns")
            for server in servers
            for host in judge.hosts
            for kind in ("A", "AAAA")
        ),
        bounds.asking,
    )
    judge.add_answers(located)
    return judge.report(servers)
