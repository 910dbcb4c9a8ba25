"""DNS look-ups against a server that behaves, and against one that misbehaves in each way there is."""

import asyncio
import struct
from pathlib import Path

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.runtime.dns_resolve import (
    DnsConfig,
    DnsError,
    DnsMalformed,
    DnsNetwork,
    DnsNoAnswer,
    DnsNxDomain,
    DnsRefused,
    DnsResolver,
    DnsServFail,
    DnsTimeout,
    parse_server,
)
from wws.testing.dns_server import DnsServer, Fault

pytestmark = pytest.mark.net

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id

ZONE = {
    "_openswarm._tcp.boot.test": {"TXT": [f"v=1 peer=/ip4/127.0.0.1/tcp/9000/p2p/{ALICE}"]},
    "_dnsaddr.boot.test": {
        "TXT": [
            f"dnsaddr=/dns4/eu.boot.test/tcp/9000/p2p/{ALICE}",
            f"dnsaddr=/dnsaddr/more.boot.test/p2p/{BOB}",
            "dnsaddr=/nonsense",
        ]
    },
    "_dnsaddr.more.boot.test": {"TXT": [f"dnsaddr=/ip4/127.0.0.3/tcp/9000/p2p/{BOB}"]},
    "_dnsaddr.loop.test": {"TXT": [f"dnsaddr=/dnsaddr/loop.test/p2p/{BOB}"]},
    "eu.boot.test": {"A": ["127.0.0.2", "0.0.0.0"], "AAAA": ["::1"]},
    "alias.test": {"CNAME": ["eu.boot.test."]},
    "empty.test": {"A": ["127.0.0.1"]},
    "long.test": {"TXT": ["x" * 700]},
}


def resolver(*servers: DnsServer, **settings: float) -> DnsResolver:
    return DnsResolver(
        DnsConfig(servers=tuple(s.address for s in servers), **{"timeout": 5.0, "stagger": 0.2, **settings})
    )


async def test_txt_is_joined_without_separator() -> None:
    async with DnsServer(ZONE) as server:
        assert (await resolver(server).txt("long.test")).texts == ("x" * 700,)
        assert (await resolver(server).txt("_openswarm._tcp.boot.test.")).server == server.address


async def test_an_answer_too_long_for_udp_comes_over_tcp() -> None:
    async with DnsServer({"big.test": {"TXT": ["y" * 3_000]}}) as server:
        assert (await resolver(server).txt("big.test")).texts == ("y" * 3_000,)
        assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.NXDOMAIN, DnsNxDomain),
        (Fault.SERVFAIL, DnsServFail),
        (Fault.REFUSED, DnsRefused),
        (Fault.EMPTY, DnsNoAnswer),
        (Fault.GARBAGE, DnsMalformed),
        (Fault.SILENCE, DnsTimeout),
        (Fault.FORGED, DnsTimeout),
    ],
)
async def test_every_fault_has_its_reason(fault: Fault, error: type[DnsError]) -> None:
    async with DnsServer(ZONE) as server:
        server.fail(fault)
        asked = resolver(server, timeout=0.3 if error is DnsTimeout else 5.0)
        with pytest.raises(error) as caught:
            await asked.txt("_openswarm._tcp.boot.test")
        assert caught.value.code == f"dns_{caught.value.reason}"
        with pytest.raises(error):
            await asked.addresses("eu.boot.test")
        server.heal()
        assert (await resolver(server).txt("_openswarm._tcp.boot.test")).texts


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.SLOW])
async def test_a_fault_that_only_costs_time(fault: Fault) -> None:
    async with DnsServer(ZONE) as server:
        server.fail(fault)
        assert (await resolver(server).txt("_openswarm._tcp.boot.test")).texts


async def test_an_answer_of_a_thousand_records_is_bounded() -> None:
    async with DnsServer(ZONE) as server:
        server.fail(Fault.THOUSAND)
        answer = await resolver(server).txt("_openswarm._tcp.boot.test")
        assert len(answer.texts) == 1_000
        assert answer.left_off == 0
        assert ZONE["_openswarm._tcp.boot.test"]["TXT"][0] in answer.texts
        fewer = await resolver(server, max_records=999).txt("_openswarm._tcp.boot.test")
        assert (len(fewer.texts), fewer.left_off) == (999, 1)


class Bomb(DnsServer):
    """Answers with small records by the thousand, each at a name of a hundred labels."""

    def answer(self, wire: bytes, transport: str) -> tuple[bytes | None, float]:
        count, flags = (0, 0x8600) if transport == "udp" else (4_000, 0x8400)  # over UDP only: ask over TCP
        name = b"\xc0\x0c" + struct.pack("!2HIH", 16, 1, 1, 2) + b"\x01x"
        end = wire.index(b"\x00", 12) + 5
        head = wire[:2] + struct.pack("!5H", flags, 1, count, 0, 0)
        return head + wire[12:end] + name * count, 0.0


async def test_an_answer_that_costs_more_to_read_than_to_send_is_not_read() -> None:
    """dnspython takes a second for these 56 kB."""
    async with Bomb(ZONE) as server:
        with pytest.raises(DnsMalformed):
            await resolver(server).txt(".".join("a" * 100))


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.GARBAGE, Fault.SILENCE])
async def test_the_next_server_is_asked(fault: Fault) -> None:
    async with DnsServer(ZONE) as bad, DnsServer(ZONE) as good:
        bad.fail(fault)
        answer = await resolver(bad, good).txt("_openswarm._tcp.boot.test")
        assert answer.server == good.address


async def test_a_definite_no_is_not_asked_twice() -> None:
    async with DnsServer(ZONE) as first, DnsServer(ZONE) as second:
        with pytest.raises(DnsNxDomain):
            await resolver(first, second).txt("nobody.test")
        assert not second.queries


async def test_nobody_listens() -> None:
    async with DnsServer(ZONE) as server:
        gone = resolver(server)
    with pytest.raises(DnsNetwork):
        await gone.txt("_openswarm._tcp.boot.test")


async def test_a_name_that_is_none() -> None:
    async with DnsServer(ZONE) as server:
        with pytest.raises(DnsMalformed):
            await resolver(server).txt("a..b")
        with pytest.raises(DnsMalformed):
            await resolver(server).txt("x" * 64 + ".test")


async def test_addresses_leave_out_what_nobody_can_be_reached_at() -> None:
    async with DnsServer(ZONE) as server:
        assert set(await resolver(server).addresses("eu.boot.test")) == {"127.0.0.2", "::1"}
        assert await resolver(server).addresses("eu.boot.test", "dns4") == ("127.0.0.2",)
        assert await resolver(server).addresses("alias.test", "dns6") == ("::1",)
        assert await resolver(server).addresses("localhost", "dns4") == ("127.0.0.1",)
        with pytest.raises(DnsNoAnswer):
            await resolver(server).addresses("empty.test", "dns6")
        assert await resolver(server).addresses("empty.test") == ("127.0.0.1",)


async def test_without_servers_of_our_own_hosts_go_through_the_system() -> None:
    assert await DnsResolver().addresses("127.0.0.1", "dns4") == ("127.0.0.1",)
    assert "127.0.0.1" in await DnsResolver().addresses("localhost")


async def test_expand_follows_dnsaddr() -> None:
    async with DnsServer(ZONE) as server:
        asked = resolver(server)
        found = await asked.expand(Multiaddr.parse("/dnsaddr/boot.test"))
        assert {str(address) for address in found} == {
            f"/ip4/127.0.0.2/tcp/9000/p2p/{ALICE}",
            f"/ip4/127.0.0.3/tcp/9000/p2p/{BOB}",
        }
        only_bob = await asked.expand(Multiaddr.parse(f"/dnsaddr/boot.test/p2p/{BOB}"))
        assert [str(address) for address in only_bob] == [f"/ip4/127.0.0.3/tcp/9000/p2p/{BOB}"]


async def test_expand_of_a_host_keeps_the_rest() -> None:
    async with DnsServer(ZONE) as server:
        address = Multiaddr.parse(f"/dns4/eu.boot.test/tcp/9000/p2p/{ALICE}/p2p-circuit/p2p/{BOB}")
        assert [str(found) for found in await resolver(server).expand(address)] == [
            f"/ip4/127.0.0.2/tcp/9000/p2p/{ALICE}/p2p-circuit/p2p/{BOB}"
        ]
        ready = Multiaddr.parse("/ip4/127.0.0.1/tcp/1")
        assert await resolver(server).expand(ready) == (ready,)


async def test_expand_ends_where_dnsaddr_leads_to_itself() -> None:
    async with DnsServer(ZONE) as server:
        with pytest.raises(DnsNoAnswer):
            await resolver(server).expand(Multiaddr.parse("/dnsaddr/loop.test"))
        assert len(server.queries) == 2  # once for everyone, once for bob


async def test_one_record_that_hangs_costs_only_itself() -> None:
    zone = {
        "_dnsaddr.boot.test": {
            "TXT": [
                f"dnsaddr=/dns4/slow.test/tcp/9/p2p/{ALICE}",
                f"dnsaddr=/dnsaddr/slow.test/p2p/{ALICE}",
                f"dnsaddr=/dns4/quick.test/tcp/9/p2p/{BOB}",
            ]
        },
        "quick.test": {"A": ["127.0.0.4"]},
    }
    async with DnsServer(zone) as server:
        server.fail(Fault.SILENCE, "slow.test")
        server.fail(Fault.SILENCE, "_dnsaddr.slow.test")
        found = await resolver(server, timeout=0.5).expand(Multiaddr.parse("/dnsaddr/boot.test"))
        assert [str(address) for address in found] == [f"/ip4/127.0.0.4/tcp/9/p2p/{BOB}"]


async def test_one_family_that_hangs_costs_little() -> None:
    class OnlyV4(DnsServer):
        def answer(self, wire: bytes, transport: str) -> tuple[bytes | None, float]:
            answer, delay = super().answer(wire, transport)
            return (None if self.queries[-1][1] == "AAAA" else answer), delay

    async with OnlyV4(ZONE) as server:
        asked = resolver(server, timeout=30.0, family_grace=0.05)
        assert await asked.addresses("eu.boot.test") == ("127.0.0.2",)


async def test_expand_is_bounded_in_depth_and_number() -> None:
    zone = {
        f"_dnsaddr.d{n}.test": {
            "TXT": [f"dnsaddr=/dnsaddr/d{n + 1}.test/p2p/{BOB}"]
            + [f"dnsaddr=/ip4/127.0.{n}.{m}/tcp/9/p2p/{BOB}" for m in range(1, 40)]
        }
        for n in range(10)
    }
    async with DnsServer(zone) as server:
        found = await resolver(server).expand(Multiaddr.parse("/dnsaddr/d0.test"))
        assert len(found) == DnsConfig().max_hosts
        assert len({name for name, _, _ in server.queries}) == DnsConfig().max_depth


async def test_cancelling_leaves_nothing_behind() -> None:
    async with DnsServer(ZONE) as server:
        server.fail(Fault.SILENCE)
        task = asyncio.create_task(resolver(server).txt("_openswarm._tcp.boot.test"))
        while not server.queries:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_system_servers_are_read_from_resolv_conf(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    async with DnsServer(ZONE) as server:
        path.write_text("# comment\nnameserver nonsense\noptions ndots:2\nnameserver 127.0.0.1\n")
        from wws.runtime.dns_exchange import system_servers

        assert system_servers(path) == [("127.0.0.1", 53)]
        assert system_servers(tmp_path / "missing") == [("127.0.0.1", 53)]
        assert server.queries is not None


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
        ("[fe80::1%eth0]:53", ("fe80::1%eth0", 53)),
    ],
)
def test_server_forms(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dns.example",
        "192.0.2.1:0",
        "192.0.2.1:x",
        "192.0.2.1:70000",
        "192.0.2.1:0000531234",
        "192.0.2.1:" + "0" * 5_000,
        "[::1]x",
        "[::1]:",
        "1:",
    ],
)
def test_no_server_forms(text: str) -> None:
    with pytest.raises(ParseError):
        parse_server(text)
