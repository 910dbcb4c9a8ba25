"""Looking at what the world is served: a real name server, real resolvers, and some that lie."""

import contextlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.knot import Knot
from tests.lab.unbound import Unbound
from tests.prerequisites import require
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.publishers import PublisherKey
from wws.discovery.txt import bundle_name, dnsaddr_name, seed_name
from wws.identity.keys import Identity
from wws.testing.dns_server import DnsServer, Fault
from wws_dns.asking import WAYS, Answer, AskingConfig, Failure, Question
from wws_dns.authority import AuthorityConfig, find_authority
from wws_dns.findings import Report, Server, VerifyConfig
from wws_dns.findings_report import result_of
from wws_dns.judging import Judge
from wws_dns.verify import verify

pytestmark = pytest.mark.net

DOMAIN = "boot.test"
PUBLISHER, MALLORY = Identity.from_label("publisher1"), Identity.from_label("mallory")
KEYS = (PublisherKey(PUBLISHER.public_key),)
ALICE, BOB, CAROL = (Identity.from_label(name).peer_id for name in ("alice", "bob", "carol"))
NOW = int(time.time())
CONFIG = VerifyConfig(asking=AskingConfig(timeout=1.0, tries=2))
ENTRIES = (
    BundleEntry(ALICE, f"eu.{DOMAIN}", 9000),
    BundleEntry(BOB, "192.0.2.2", 9000),
    BundleEntry(CAROL, "192.0.2.3", 9000),
)


def bundle(seq: int = NOW, *, days: float = 30, signer: Identity = PUBLISHER, begun: int = NOW) -> Bundle:
    return Bundle(seq, begun, begun + int(days * 86_400), None, ENTRIES).sign(DOMAIN, [signer])


def zone(text: str, **more: Mapping[str, Sequence[str]]) -> dict[str, Mapping[str, Sequence[str]]]:
    hints = [f"/dns4/eu.{DOMAIN}/tcp/9000/p2p/{ALICE}", f"/ip4/192.0.2.2/tcp/9000/p2p/{BOB}"]
    return {
        bundle_name(DOMAIN): {"TXT": [text]},
        seed_name(DOMAIN): {"TXT": [f"v=1 peer={hint}" for hint in hints]},
        dnsaddr_name(DOMAIN): {"TXT": [f"dnsaddr={hint}" for hint in hints]},
        f"eu.{DOMAIN}": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
        **more,
    }


GOOD = bundle()


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    require("knotd")
    with Knot(tmp_path_factory.mktemp("knot"), DOMAIN, zone(GOOD.text)) as server:
        yield server


@contextlib.contextmanager
def resolvers(folder: Path, knot: Knot, *settings: tuple[str, ...]) -> Iterator[list[Server]]:
    require("unbound")
    with contextlib.ExitStack() as stack:
        yield [
            Server(
                (
                    "127.0.0.1",
                    stack.enter_context(Unbound(folder / str(n), DOMAIN, knot.port, *lines)).port,
                ),
                "resolver",
            )
            for n, lines in enumerate(settings)
        ]


@contextlib.asynccontextmanager
async def serving(
    records: Mapping[str, Mapping[str, Sequence[str]]], role: str = "resolver"
) -> AsyncIterator[tuple[DnsServer, Server]]:
    async with DnsServer(records) as server:
        yield server, Server((server.host, server.port), "authority" if role == "authority" else "resolver")


def authority(knot: Knot) -> Server:
    return Server(("127.0.0.1", knot.port), "authority", f"ns1.{DOMAIN}")


def codes(report: Report, server: Server | None = None) -> set[str]:
    at = None if server is None else f"{server.address[0]}:{server.address[1]}"
    return {finding.code for finding in report.findings if at in (None, finding.server)}


async def test_all_is_well(knot: Knot, tmp_path: Path) -> None:
    with resolvers(tmp_path, knot, (), (), ()) as three:
        report = await verify(DOMAIN, KEYS, [authority(knot), *three], NOW, CONFIG)
        # Found by way of the resolvers, as they know it.
        config = AuthorityConfig(port=knot.port)
        found = await find_authority(DOMAIN, [server.address for server in three], CONFIG.asking, config)
    assert report.bundle == GOOD
    assert report.findings == ()
    assert [server.verdict for server in report.servers] == ["ok"] * 4
    assert {server.seq for server in report.servers} == {NOW}
    assert {server.ttl for server in report.servers} == {60}
    assert all(size is not None and size < 512 for one in report.servers for size in one.sizes.values())
    assert found.zone == DOMAIN
    assert found.servers == {("127.0.0.1", knot.port): f"ns1.{DOMAIN}"}


async def test_a_zone_above_the_domain_is_found(knot: Knot, tmp_path: Path) -> None:
    with resolvers(tmp_path, knot, ()) as (one,):
        found = await find_authority(f"net.{DOMAIN}", [one.address], CONFIG.asking)
        assert (found.zone, list(found.servers)) == (DOMAIN, [("127.0.0.1", 53)])
        for other in ("elsewhere.invalid", "elsewhere.nowhere"):
            assert (await find_authority(other, [one.address], CONFIG.asking)).servers == {}


async def test_real_resolvers_that_lie_are_named(knot: Knot, tmp_path: Path) -> None:
    name = bundle_name(DOMAIN)
    with resolvers(
        tmp_path,
        knot,
        (),
        (f'local-zone: "{name}." always_nxdomain',),
        (f'local-data: "{name}. 60 IN TXT please-pay-for-wifi"',),
        (f'local-data: "eu.{DOMAIN}. 60 IN A 192.0.2.66"',),
        ("cache-min-ttl: 3600",),
    ) as (honest, strips, portal, detour, stretches):
        servers = [authority(knot), honest, strips, portal, detour, stretches]
        report = await verify(DOMAIN, KEYS, servers, NOW, CONFIG)
    assert codes(report, honest) == set()
    assert codes(report, strips) == {"bundle_stripped"}
    assert codes(report, portal) == {"bundle_stripped"}
    assert codes(report, detour) == {"records_differ"}
    assert codes(report, stretches) == {"ttl_stretched"}
    named = [finding.message for finding in report.findings if finding.code == "bundle_stripped"]
    assert all("lies" in message and "127.0.0.1:" in message for message in named)


async def test_a_resolver_that_keeps_answers_too_long_is_stale(tmp_path: Path) -> None:
    require("knotd", "unbound")
    old = bundle(NOW - 5_000, begun=NOW - 5_000)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Knot(tmp_path / "old", DOMAIN, zone(old.text)))
        stale = Server(
            (
                "127.0.0.1",
                stack.enter_context(Unbound(tmp_path / "u", DOMAIN, first.port, "cache-min-ttl: 86400")).port,
            ),
            "resolver",
        )
        assert codes(await verify(DOMAIN, KEYS, [authority(first), stale], NOW, CONFIG), stale) == {
            "ttl_stretched"
        }
        new = bundle(NOW - 1_000, begun=NOW - 1_000)
        second = stack.enter_context(Knot(tmp_path / "new", DOMAIN, zone(new.text)))
        report = await verify(DOMAIN, KEYS, [authority(second), stale], NOW, CONFIG)
        assert codes(report) == {"resolver_stale"}
        assert report.servers[1].seq == old.seq
        # Just published, it may still be there; then it is no fault.
        report = await verify(DOMAIN, KEYS, [authority(second), stale], NOW - 950, CONFIG)
        assert [(one.code, one.severity) for one in report.findings] == [("still_cached", "warning")]


LIES = {
    "signed by somebody else": (bundle(NOW + 5, signer=MALLORY).text, "publisher_unknown"),
    "changed on the way": (GOOD.text.replace("192.0.2.2", "192.0.2.6"), "bundle_bad_signature"),
    "other bytes, same number": (bundle(NOW, days=29).text, "bundle_equivocation"),
    "newer than the name servers have": (bundle(NOW + 100).text, "bundle_ahead"),
    "cut": (GOOD.text[:-20], "bundle_malformed"),
    "long past its end": (bundle(NOW + 1, days=1, begun=NOW - 9_000_00).text, "bundle_expired"),
}


@pytest.mark.parametrize("case", LIES)
async def test_every_lie_is_told_from_the_others(knot: Knot, case: str) -> None:
    text, code = LIES[case]
    async with serving(zone(text)) as (_, liar):
        report = await verify(DOMAIN, KEYS, [authority(knot), liar], NOW, CONFIG)
    assert codes(report) == {code}
    assert "lies" in report.errors[0].message
    assert report.bundle == GOOD


async def test_lies_about_hints_and_beside_the_bundle(knot: Knot) -> None:
    hint = {"TXT": [f"v=1 peer=/ip4/192.0.2.66/tcp/1/p2p/{MALLORY.peer_id}"]}
    async with serving(zone(GOOD.text) | {seed_name(DOMAIN): hint}) as (_, liar):
        assert codes(await verify(DOMAIN, KEYS, [authority(knot), liar], NOW, CONFIG)) == {"records_differ"}
    more = {"TXT": [GOOD.text, bundle(NOW - 5, signer=MALLORY).text]}
    async with serving(zone(GOOD.text) | {bundle_name(DOMAIN): more}) as (_, liar):
        assert codes(await verify(DOMAIN, KEYS, [authority(knot), liar], NOW, CONFIG)) == {"records_differ"}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault.NXDOMAIN, "bundle_stripped"),
        (Fault.EMPTY, "bundle_stripped"),
        (Fault.SERVFAIL, "server_refuses"),
        (Fault.REFUSED, "server_refuses"),
        (Fault.GARBAGE, "server_silent"),
        (Fault.SILENCE, "server_silent"),
        (Fault.FORGED, "server_silent"),
    ],
)
async def test_every_way_of_not_answering(knot: Knot, fault: Fault, expected: str) -> None:
    config = replace(CONFIG, asking=AskingConfig(timeout=0.2, tries=1))
    async with serving(zone(GOOD.text)) as (server, resolver):
        server.fail(fault, bundle_name(DOMAIN))
        report = await verify(DOMAIN, KEYS, [authority(knot), resolver], NOW, config)
    assert expected in codes(report, resolver)
    assert codes(report, authority(knot)) == set()


async def test_a_server_that_is_not_there(knot: Knot, unused_tcp_port: int) -> None:
    nobody = Server(("127.0.0.1", unused_tcp_port), "resolver")
    config = replace(CONFIG, asking=AskingConfig(timeout=0.2, tries=1))
    report = await verify(DOMAIN, KEYS, [authority(knot), nobody], NOW, config)
    assert codes(report) == {"server_silent"}
    assert report.servers[1].sizes == {"udp": None, "edns": None, "tcp": None}


@pytest.mark.parametrize(
    ("days", "after", "expected"),
    [
        (30, 0, set()),
        (30, 16 * 86_400 - 1, set()),
        (30, 16 * 86_400, {"expires_soon"}),
        (30, 30 * 86_400 - 1, {"expires_soon"}),
        (30, 30 * 86_400, {"bundle_expired"}),
        (30, -301, {"bundle_not_yet_valid"}),
    ],
)
async def test_the_end_is_announced_fourteen_days_ahead(days: int, after: int, expected: set[str]) -> None:
    async with serving(zone(bundle(days=days).text), "authority") as (_, server):
        report = await verify(DOMAIN, KEYS, [server], NOW + after, CONFIG)
    assert codes(report) == expected
    assert [one.severity for one in report.findings] == (
        ["warning"] if "expires_soon" in expected else ["error"] * len(expected)
    )


async def test_what_is_wrong_with_the_records_themselves() -> None:
    async with serving({}, "authority") as (_, server):
        assert codes(await verify(DOMAIN, KEYS, [server], NOW, CONFIG)) == {"bundle_missing"}
    records = zone(
        GOOD.text, **{seed_name(DOMAIN): {"TXT": ["v=1 peer=/nonsense", "v=1 peer=/ip4/1.2.3.4/tcp/1"]}}
    )
    records[dnsaddr_name(DOMAIN)] = {"TXT": [f"dnsaddr=/ip4/192.0.2.9/tcp/9000/p2p/{MALLORY.peer_id}"]}
    del records[f"eu.{DOMAIN}"]
    async with serving(records, "authority") as (_, server):
        report = await verify(DOMAIN, KEYS, [server], NOW, CONFIG)
    assert codes(report) == {"hint_malformed", "hint_unknown_peer", "host_without_address"}
    for count, code in ((8, "answer_large"), (16, "answer_too_large")):
        many = tuple(BundleEntry(BOB, "192.0.2.2", 9000 + n) for n in range(count))
        large = Bundle(NOW, NOW, NOW + 86_400 * 20, None, many).sign(DOMAIN, [PUBLISHER])
        async with serving(zone(large.text), "authority") as (_, server):
            assert code in codes(await verify(DOMAIN, KEYS, [server], NOW, CONFIG))
    assert codes(await verify(DOMAIN, KEYS, [], NOW, CONFIG)) == {"no_authority"}


async def test_name_servers_that_differ() -> None:
    old = bundle(NOW - 50)
    async with (
        serving(zone(GOOD.text), "authority") as (_, one),
        serving(zone(old.text), "authority") as (_, other),
    ):
        report = await verify(DOMAIN, KEYS, [other, one], NOW, CONFIG)
    assert codes(report) == {"authority_stale"}
    assert report.bundle == GOOD


async def test_what_was_published_with_other_keys_is_old_and_no_lie(knot: Knot) -> None:
    former = bundle(NOW - 30, signer=MALLORY)
    async with serving(zone(former.text)) as (_, resolver):
        report = await verify(DOMAIN, KEYS, [authority(knot), resolver], NOW, CONFIG, former=[former.text])
    assert codes(report) == {"still_cached"}


async def test_what_was_signed_long_before_it_was_published_is_not_stale() -> None:
    signed_early, before = bundle(NOW - 5_000, begun=NOW - 5_000), bundle(NOW - 9_000, begun=NOW - 9_000)
    async with (
        serving(zone(signed_early.text), "authority") as (_, server),
        serving(zone(before.text)) as (_, resolver),
    ):
        report = await verify(DOMAIN, KEYS, [server, resolver], NOW, CONFIG)
        assert codes(report) == {"resolver_stale"}
        known = {signed_early.seq: NOW - 30}
        report = await verify(DOMAIN, KEYS, [server, resolver], NOW, CONFIG, published_at=known)
        assert codes(report) == {"still_cached"}


async def test_one_way_is_shut(knot: Knot) -> None:
    async with serving(zone(GOOD.text)) as (server, resolver):
        server.fail(Fault.TRUNCATED, bundle_name(DOMAIN))
        report = await verify(DOMAIN, KEYS, [authority(knot), resolver], NOW, CONFIG)
    assert codes(report) == set()
    assert report.servers[1].cut == {"udp", "edns"}


TEXTS = st.sampled_from(
    [GOOD.text, bundle(NOW - 9).text, bundle(NOW, signer=MALLORY).text, GOOD.text[:90], "v=wws1;", "", "v=1"]
)
QUESTIONS = [
    Question(server, name, kind, way)
    for server in (("192.0.2.1", 53), ("192.0.2.2", 53), ("192.0.2.3", 53))
    for name, kind in (
        (bundle_name(DOMAIN), "TXT"),
        (seed_name(DOMAIN), "TXT"),
        (dnsaddr_name(DOMAIN), "TXT"),
        (f"eu.{DOMAIN}", "A"),
        (f"eu.{DOMAIN}", "AAAA"),
    )
    for way in WAYS
]
FAILURES: list[Failure] = ["nxdomain", "no_answer", "servfail", "refused", "timeout", "network", "malformed"]


@st.composite
def answers(draw: st.DrawFn) -> dict[Question, Answer]:
    """What three servers may say: anything, and not the same over one way as over another."""
    said: dict[Question, Answer] = {}
    for question in draw(st.lists(st.sampled_from(QUESTIONS), unique=True, max_size=len(QUESTIONS))):
        if draw(st.booleans()):
            said[question] = Answer(question, failure=draw(st.sampled_from(FAILURES)))
        else:
            values = tuple(sorted(draw(st.lists(TEXTS, max_size=3))))
            ttl, size, cut = draw(st.integers(0, 9_000)), draw(st.integers(0, 9_000)), draw(st.booleans())
            said[question] = Answer(question, values, ttl, size, cut, draw(st.booleans()))
    return said


@given(answers())
def test_whatever_servers_say_is_judged(said: dict[Question, Answer]) -> None:
    servers = [
        Server(("192.0.2.1", 53), "authority"),
        Server(("192.0.2.2", 53), "authority"),
        Server(("192.0.2.3", 53), "resolver"),
    ]
    judge = Judge(DOMAIN, KEYS, NOW, CONFIG)
    judge.add_answers(said)
    judge.find_reference(servers[:2])
    report = judge.report(servers)
    assert len(report.servers) == 3
    result = result_of(report, (), NOW, strict=False)
    assert bool(result.errors) == (result.exit_code != 0)
    json.dumps(dict(result.data))
    good = {text for answer in said.values() for text in answer.values if answer.is_answered}
    if report.bundle is not None:  # it is one that a name server has, and never one that was made up
        assert report.bundle.text in good
