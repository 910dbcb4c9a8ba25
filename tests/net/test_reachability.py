"""How a node finds out how it is reached: real servers on loopback, no NAT, a played one, and liars."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import NETWORK, OTHER_NETWORK, MeshNode
from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope
from wws.identity.keys import Identity
from wws.nat import autonat_v2
from wws.nat.autonat_v2 import (
    DialBack,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    ResponseStatus,
)
from wws.nat.reachability_events import ProbingConfig, ReachabilityConfig
from wws.nat.verdict import Verdict
from wws.runtime import own_addresses
from wws.runtime.clock import SystemClock
from wws.runtime.dialer import DialFailed
from wws.runtime.host import Host, HostConfig, StreamHandler
from wws.runtime.identify_service import IdentifyConfig
from wws.runtime.nat import reachability
from wws.runtime.nat.autonat_client import AutonatClientConfig
from wws.runtime.nat.autonat_server import AutonatServer, AutonatServerConfig
from wws.runtime.nat.reachability import ReachabilityDriver, ReachabilityDriverConfig
from wws.runtime.streams import Stream

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

V2 = autonat_v2.DIAL_REQUEST_PROTOCOL
QUICK = ReachabilityDriverConfig(
    gather=0.01,
    look=0.05,
    machine=ReachabilityConfig(
        retry=0.2, recheck=0.3, longest=0.5, probing=ProbingConfig(retry=0.1, second_look=0.1, recheck=0.5)
    ),
    client=AutonatClientConfig(timeout=5, late=0.05),
)
SLOW = replace(QUICK, machine=ReachabilityConfig())


class Alice(MeshNode):
    """A node that looks at its reachability."""

    def __init__(self, config: ReachabilityDriverConfig, *, network: str | None, private: bool) -> None:
        super().__init__("alice", network=network, identify=IdentifyConfig(tell_private=private))
        self.probe_hosts: list[Host] = []
        self.reach = ReachabilityDriver(
            self.host, self.dialer, self.identify, self._make_probe_host, config, random.Random(1)
        )
        self.changes: list[tuple[str, str]] = []
        """What it took its place for, one after the other."""
        self.reach.on_change.append(self._changed)

    def verdicts(self) -> dict[str, Verdict]:
        return {str(one.address): one.verdict for one in self.reach.addresses}

    def _changed(self) -> None:
        self.changes.append((self.reach.reachability, self.reach.nat))

    def _make_probe_host(self) -> Host:
        config = replace(HostConfig(), tick=0.01)
        self.probe_hosts.append(Host(self.host.identity, config, clock=SystemClock(), rng=random.Random(2)))
        return self.probe_hosts[-1]


@asynccontextmanager
async def running(node: MeshNode, listen: str) -> AsyncIterator[None]:
    await node.host.start()
    try:
        await node.host.listen(Multiaddr.parse(listen))
        yield
    finally:
        await node.dht.close()
        await node.dialer.close()
        await node.host.close()


@asynccontextmanager
async def alice(
    config: ReachabilityDriverConfig = QUICK,
    *,
    listen: str = "/ip4/127.0.0.1/tcp/0",
    network: str | None = NETWORK,
    private: bool = True,
) -> AsyncIterator[Alice]:
    node = Alice(config, network=network, private=private)
    async with running(node, listen):
        node.reach.start()
        try:
            yield node
        finally:
            await node.reach.close()
            assert all(not host.connections() and not host.admission.total for host in node.probe_hosts)


@asynccontextmanager
async def servers(
    count: int, *, network: str | None = NETWORK, instead: StreamHandler | None = None, first: int = 0
) -> AsyncIterator[list[MeshNode]]:
    """Nodes at 127.0.0.2 and on that dial for others; with `instead` they only seem to."""
    async with AsyncExitStack() as stack:
        nodes = [MeshNode(f"server {first + number}", network=network) for number in range(count)]
        for number, node in enumerate(nodes, first + 2):
            if instead is None:
                AutonatServer(node.host, _make_dial_host, AutonatServerConfig(dial_timeout=2))
            else:
                node.host.serve(V2, instead)
            await stack.enter_async_context(running(node, f"/ip4/127.0.0.{number}/tcp/0"))
        yield nodes


def _make_dial_host() -> Host:
    label = f"dial host {random.random()}"
    return Host(Identity.from_label(label), HostConfig(tick=0.01), clock=SystemClock(), rng=random.Random(1))


def behind_a_nat(patch: pytest.MonkeyPatch) -> None:
    """As if the address that others see were none of this machine's."""
    for module in (own_addresses, reachability):
        patch.setattr(module, "interface_addresses", lambda ipv6: [])


# Without a NAT


async def test_an_open_node_is_public_by_two_servers() -> None:
    async with alice(SLOW) as node, servers(2) as (bob, carol):
        assert (node.reach.reachability, node.reach.nat) == ("unknown", "unknown")
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.reachability == "public" and node.reach.nat == "none")
        own = node.host.listen_addresses[0]
        [verdict] = node.reach.addresses
        assert (verdict.address, verdict.source, verdict.confidence) == (own, "interface", 2)
        assert node.reach.observed() == (own,)
        assert node.reach.public_ips() == frozenset()  # it is not public at all
        # Three when bob had answered before carol came: he is then asked once more.
        assert set(node.reach.results) == {("ask", "reached")}
        assert set(node.reach.dialled_back) == {"expected"}
        assert node.changes[-1] == ("public", "none")
        assert node.probe_hosts == []


async def test_an_address_at_which_nobody_answers_is_private() -> None:
    async with servers(2) as (bob, carol):
        closed = bob.host.listen_addresses[0].with_host("127.0.0.9")
        async with alice(replace(SLOW, announce=(closed,))) as node:
            await node.join(bob)
            await node.join(carol)
            own = str(node.host.listen_addresses[0])
            await until(lambda: node.verdicts() == {str(closed): "private", own: "public"})
            assert node.reach.reachability == "public"
            node.reach.offer_configured(())
            await until(lambda: node.verdicts() == {own: "public"})


async def test_a_port_that_a_router_has_opened_is_asked_about_and_forgotten_with_the_mapping() -> None:
    async with servers(2) as (bob, carol), alice(SLOW) as node:
        await node.join(bob)
        await node.join(carol)
        mapped = node.host.listen_addresses[0].with_host("127.0.0.8")
        node.reach.offer_mapped((mapped,))
        await until(lambda: node.verdicts().get(str(mapped)) == "private")
        assert {one.source for one in node.reach.addresses} == {"interface", "mapped"}
        node.reach.offer_mapped(())
        await until(lambda: str(mapped) not in node.verdicts())


async def test_each_family_is_judged_for_itself() -> None:
    async with servers(2) as (bob, carol), alice(SLOW) as node:
        await node.host.listen(Multiaddr.parse("/ip6/::1/tcp/0"))
        await node.join(bob)
        await node.join(carol)
        await until(lambda: set(node.verdicts().values()) == {"public"} and len(node.verdicts()) == 2)


async def test_no_servers_no_verdict() -> None:
    async with servers(1) as (bob,), alice() as node:
        await node.join(bob)
        await until(lambda: node.reach.results["ask", "reached"] >= 2)
        assert node.reach.reachability == "unknown"


async def test_switched_off_nobody_is_asked_but_what_peers_see_is_known() -> None:
    async with servers(2) as (bob, carol), alice(replace(QUICK, enabled=False)) as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.nat == "none")
        assert node.reach.reachability == "unknown"
        assert node.reach.addresses == ()


# Whom to ask


async def test_strangers_are_not_asked_unless_they_are_entry_points() -> None:
    async with servers(2, network=OTHER_NETWORK) as (bob, carol), alice() as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.nat == "none")
        assert node.reach.results == {}
        node.host.set_entry_points({bob.peer_id, carol.peer_id})
        node.reach.refresh()
        await until(lambda: node.reach.reachability == "public")


async def test_without_a_network_everybody_is_asked() -> None:
    async with servers(2, network=OTHER_NETWORK) as (bob, carol), alice(network=None) as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.reachability == "public")


# Behind a NAT


async def test_behind_an_open_nat_a_probe_comes_first_and_then_two_servers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    behind_a_nat(monkeypatch)
    # Only the wildcard's addresses are unknown now, as behind a NAT.
    async with servers(3) as nodes, alice(SLOW, listen="/ip4/0.0.0.0/tcp/0") as node:
        for server in nodes:
            await node.join(server)
        await until(lambda: node.reach.reachability == "public")
        assert node.reach.nat == "endpoint_independent"
        [verdict] = node.reach.addresses
        assert verdict.source == "observed"
        assert verdict.address == Multiaddr.of("127.0.0.1", node.port)
        assert len(node.probe_hosts) == 1
        assert node.reach.results["filtering", "open"] == 1
        assert node.reach.results["ask", "reached"] == 2
        # The probe has sent to one server and nobody else; what else it had came in.
        assert node.probe_hosts[0].handshakes["out", "done"] == 1


async def test_behind_a_nat_that_filters_the_verdict_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    behind_a_nat(monkeypatch)

    async def not_reached(stream: Stream) -> None:
        await stream.read_frame(8192)
        await stream.write_frame(DialResponse(ResponseStatus.OK, 0, DialStatus.E_DIAL_ERROR).encode())
        await stream.finish()

    async with servers(3, instead=not_reached) as nodes, alice(listen="/ip4/0.0.0.0/tcp/0") as node:
        for server in nodes:
            await node.join(server)
        await until(lambda: node.reach.reachability == "private")
        await until(lambda: node.reach.results["filtering", "filtered"] >= 3)
        assert node.reach.reachability == "private"


async def test_a_probe_answers_identify_as_the_node_does(monkeypatch: pytest.MonkeyPatch) -> None:
    behind_a_nat(monkeypatch)
    async with servers(2) as (bob, carol), alice(SLOW, listen="/ip4/0.0.0.0/tcp/0") as node:
        heard: list[tuple[tuple[str, ...], str | None]] = []
        for server in (bob, carol):
            server.host.listeners.peer_identified.append(
                lambda connection: (
                    heard.append(
                        (
                            connection.identification.protocols,  # type: ignore[union-attr, arg-type]
                            connection.identification.network,  # type: ignore[union-attr]
                        )
                    )
                    if connection.peer_id == node.peer_id
                    else None
                )
            )
            await node.join(server)
        await until(lambda: node.reach.reachability == "public")
        await until(lambda: len(heard) >= 3)  # both connections of the node, and the probe's
        assert len(set(heard)) == 1
        assert heard[0][1] == NETWORK


# Servers that lie


async def test_a_server_that_says_yes_without_the_nonce_says_nothing() -> None:
    async def lie(stream: Stream) -> None:
        await stream.read_frame(8192)
        await stream.write_frame(DialResponse(ResponseStatus.OK, 0, DialStatus.OK).encode())
        await stream.finish()

    async with servers(2, instead=lie) as (bob, carol), alice() as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.results["ask", "nonce_missing"] >= 2)
        assert node.reach.reachability == "unknown"


async def test_a_nonce_over_the_connection_there_is_says_nothing() -> None:
    async def lie(stream: Stream) -> None:
        frame = await stream.read_frame(8192)
        request = autonat_v2.parse(frame or b"")
        assert isinstance(request, DialRequest)
        back = stream.connection.open_stream(autonat_v2.DIAL_BACK_PROTOCOL)
        await back.write_frame(DialBack(request.nonce).encode())
        await back.finish()
        await stream.write_frame(DialResponse(ResponseStatus.OK, 0, DialStatus.OK).encode())
        await stream.finish()

    async with servers(2, instead=lie) as (bob, carol), alice() as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.results["ask", "nonce_missing"] >= 2)
        assert node.reach.dialled_back["other_connection"] >= 2
        assert node.reach.reachability == "unknown"


async def test_a_nonce_that_nobody_asked_for_is_refused_and_counted() -> None:
    async with servers(1) as (bob,), alice(SLOW) as node:
        connection = await bob.dial(node.address)
        stream = connection.open_stream(autonat_v2.DIAL_BACK_PROTOCOL)
        await stream.write_frame(DialBack(12345).encode())
        await until(lambda: node.reach.dialled_back == {"unknown_nonce": 1})
        assert node.host.refusals[autonat_v2.DIAL_BACK_PROTOCOL, "unknown_nonce"] == 1
        stream.reset()


@pytest.mark.parametrize(
    "answer, reason",
    [
        (DialResponse(ResponseStatus.E_DIAL_REFUSED), "dial_refused"),
        (DialResponse(ResponseStatus.E_REQUEST_REJECTED), "rejected"),
        (DialResponse(ResponseStatus.E_INTERNAL_ERROR), "internal_error"),
        (DialResponse(ResponseStatus.OK, 0, DialStatus.E_DIAL_BACK_ERROR), "dial_back_error"),
        (DialResponse(ResponseStatus.OK, 7, DialStatus.E_DIAL_ERROR), "other_address"),
        (DialDataRequest(0, 100_001), "dial_data_too_much"),
        (DialDataRequest(0, 2**60), "dial_data_too_much"),
        (DialRequest((), 1), "remote_protocol_error"),
        (None, "truncated"),
    ],
    ids=str,
)
async def test_what_is_no_evidence(answer: autonat_v2.Message | None, reason: str) -> None:
    async def give(stream: Stream) -> None:
        await stream.read_frame(8192)
        if answer is not None:
            await stream.write_frame(answer.encode())
        await stream.finish()

    async with servers(2, instead=give) as (bob, carol), alice(SLOW) as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.results["ask", reason] >= 2)
        assert node.reach.reachability == "unknown"


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def wait(stream: Stream) -> None:
        await stream.read_to_end(8192)

    config = replace(SLOW, client=AutonatClientConfig(timeout=0.1))
    async with servers(2, instead=wait) as (bob, carol), alice(config) as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.results["ask", "timeout"] >= 2)
        assert node.reach.reachability == "unknown"


@pytest.mark.parametrize("bound", [{"max_data_per_minute": 100_000}, {"max_data_per_day": 100_000}])
async def test_servers_get_no_more_data_a_minute_than_the_bound(bound: dict[str, int]) -> None:
    paid: list[int] = []

    async def want(stream: Stream) -> None:
        await stream.read_frame(8192)
        await stream.write_frame(DialDataRequest(0, 40_000).encode())
        got = 0
        while got < 40_000 and (frame := await stream.read_frame(8192)) is not None:
            piece = autonat_v2.parse(frame)
            assert isinstance(piece, DialDataResponse)
            got += len(piece.data)
        paid.append(got)
        await stream.write_frame(DialResponse(ResponseStatus.OK, 0, DialStatus.E_DIAL_ERROR).encode())
        await stream.finish()

    config = replace(QUICK, client=AutonatClientConfig(max_data=50_000, **bound))
    async with servers(3, instead=want) as nodes, alice(config) as node:
        for server in nodes:
            await node.join(server)
        await until(lambda: node.reach.results["ask", "dial_data_too_much"] >= 1)
        assert [got for got in paid if got] == [40_000, 40_000]


async def test_a_second_request_for_data_is_no_answer() -> None:
    async def want_twice(stream: Stream) -> None:
        await stream.read_frame(8192)
        for _ in range(2):
            await stream.write_frame(DialDataRequest(0, 100).encode())
        await stream.finish()

    async with servers(2, instead=want_twice) as (bob, carol), alice(SLOW) as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.results["ask", "remote_protocol_error"] >= 2)


# Change


async def test_another_network_under_the_machine_starts_everything_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = "192.0.2.1"
    monkeypatch.setattr(reachability, "source_address", lambda ipv6: None if ipv6 else here)
    async with servers(3) as nodes, alice(SLOW) as node:
        for server in nodes[:2]:
            await node.join(server)
        await until(lambda: node.reach.reachability == "public" and node.reach.nat == "none")
        node.changes.clear()
        here = "198.51.100.1"
        await until(lambda: node.changes[-1:] == [("public", "none")])  # by those who are asked anew
        assert node.changes[0] == ("unknown", "unknown")
        # Two for each network, and one more where a server had answered before the other came.
        assert node.reach.results["ask", "reached"] in (4, 5, 6)


async def test_a_server_that_leaves_is_not_asked_and_what_it_saw_fades() -> None:
    async with servers(2) as (bob, carol), alice(SLOW) as node:
        await node.join(bob)
        await node.join(carol)
        await until(lambda: node.reach.reachability == "public")
        await carol.host.close()
        await until(lambda: node.host.connection_to(carol.peer_id) is None)
        assert node.reach.reachability == "public"
        assert node.reach.nat == "none"


async def test_a_peer_that_has_moved_is_told_where_it_is_seen_now() -> None:
    """What QUIC does when a NAT gives it another address, played on a connection of TCP."""
    async with servers(1) as (bob,), alice(SLOW) as node:
        bob.identify._config = replace(bob.identify._config, move_wait=0.01)
        await node.join(bob)
        here = await bob.connection_with(node.peer_id)
        for port in (4001, 4002, 4003):
            here._seen_at("203.0.113.7", port)
        assert bob.host.scope is Scope.PUBLIC
        await until(lambda: tuple(address.port for address in node.reach.observed()) == (4003,))
        assert node.host.refusals == {}
        await node.host.close()
        await until(lambda: not bob.host._scopes)


# The same local network


@pytest.mark.parametrize(
    "ours, theirs, tells, told",
    [
        ("127.0.0.1", "127.0.0.2", True, True),
        ("203.0.113.7", "203.0.113.7", True, False),
        ("203.0.113.7", "127.0.0.2", True, False),
        ("127.0.0.1", "203.0.113.7", True, False),
        ("127.0.0.1", "127.0.0.2", False, False),
    ],
    ids=["same", "both elsewhere", "listener elsewhere", "teller elsewhere", "discreet"],
)
async def test_peers_at_our_public_address_are_told_private_ones_outside_the_record(
    ours: str, theirs: str, tells: bool, told: bool
) -> None:
    """`ours` is where alice comes from for bob, if he is right to take her for a neighbour; and so on."""
    near = Multiaddr.parse("/ip4/192.168.7.7/tcp/9000")
    async with alice(private=tells) as node, servers(1) as (bob,):
        node.identify._announced = tuple
        node.host.listen_addresses.append(near)
        node.identify.public_ips = lambda: frozenset({theirs})
        bob.identify.public_ips = lambda: frozenset({ours})
        await node.join(bob)
        said = (await bob.connection_with(node.peer_id)).identification
        assert said is not None
        assert said.record is not None
        assert said.record.addresses == ()
        assert (near in (said.addresses or ())) is (tells and theirs == "127.0.0.2")
        expected = (near,) if told else ()
        assert bob.identify.neighbour_addresses(node.peer_id) == expected
        assert bob.host.peers.addresses(node.peer_id) == tuple(a.with_peer(node.peer_id) for a in expected)


async def test_a_neighbour_is_dialled_below_the_scope_of_the_mesh_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with servers(2) as (bob, carol), alice() as node:
        monkeypatch.setattr(Host, "scope", Scope.PUBLIC)
        node.identify._neighbours[bob.peer_id] = (bob.address.without_peer(),)
        connection = await node.dialer.connect(bob.peer_id, [bob.address])
        assert connection.peer_id == bob.peer_id
        with pytest.raises(DialFailed) as failure:
            await node.dialer.connect(carol.peer_id, [carol.address])
        assert [attempt.code for attempt in failure.value.attempts] == ["scope"]
