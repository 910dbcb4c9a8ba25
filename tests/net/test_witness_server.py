"""The witness on real sockets: the whole life of a name, and everybody who gets no receipts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.interop.ours import until
from tests.net.circuit_node import Member, RelayNode
from tests.net.mesh_node import NETWORK, OTHER_NETWORK, MeshNode, node
from wws.errors import WwsError
from wws.mesh.admission import AdmissionConfig
from wws.names.receipts import Receipt
from wws.names.rules import MAX_LEASE
from wws.names.transfers import Transfer
from wws.names.witness.book import BookConfig
from wws.names.witness.budget import BudgetConfig
from wws.names.witness.messages import (
    MAX_MESSAGE,
    RECEIPT_PROTOCOL,
    Dropped,
    Op,
    WitnessAnswer,
    WitnessRefusal,
    WitnessRequest,
    parse_answer,
)
from wws.runtime.connection import Connection
from wws.runtime.host import HostConfig
from wws.runtime.relay.circuits import Circuits, CircuitsConfig
from wws.runtime.relay.client import RelayClient, RelayClientConfig
from wws.runtime.streams import StreamReset
from wws.runtime.witness.metrics import WitnessMetrics
from wws.runtime.witness.server import WitnessServer, WitnessServerConfig
from wws.runtime.witness.store import StoreConfig, WitnessStore
from wws.testing.names import person, solved_work

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]


@contextlib.asynccontextmanager
async def witness(
    folder: Path,
    label: str = "witness",
    *,
    config: WitnessServerConfig | None = None,
    store: StoreConfig | None = None,
    others: tuple[str, ...] = (),
    denied: tuple[str, ...] = (),
    swarm_size: int = 1,
    host: HostConfig | None = None,
) -> AsyncIterator[tuple[MeshNode, WitnessServer]]:
    """A running witness; it and `others` are W."""
    members = frozenset(person(one).peer_id for one in (label, *others))
    async with node(label, host) as one:
        server = WitnessServer(
            one.host,
            person(label),
            WitnessStore(folder / f"{label}.sqlite", store),
            lambda: (members, frozenset()),
            lambda: swarm_size,
            NETWORK,
            lambda name: name in denied,
            config,
        )
        await server.start()
        try:
            yield one, server
        finally:
            await server.close()


def request(op: Op, one: MeshNode, label: str, **members: object) -> WitnessRequest:
    given = {
        "swarm": "public",
        "name": "alice",
        "nonce": solved_work(label),
        "registered_at": one.host.clock.unix(),
    }
    return WitnessRequest(op=op, **{**given, **members})  # type: ignore[arg-type]


async def ask(connection: Connection, what: WitnessRequest | bytes) -> WitnessAnswer:
    async with asyncio.timeout(20), connection.open_stream(RECEIPT_PROTOCOL) as stream:
        await stream.write_frame(what if isinstance(what, bytes) else what.to_bytes())
        stream.close_write()
        data = await stream.read_frame(MAX_MESSAGE)
        assert data is not None
        assert await stream.read() == b""
        return parse_answer(data)


async def test_the_life_of_a_name(tmp_path: Path) -> None:
    async with witness(tmp_path) as (one, server), node("alice") as alice, node("bob") as bob:
        to_alice, to_bob = await alice.join(one), await bob.join(one)
        claim = request(Op.CLAIM, one, "alice")
        first = await ask(to_alice, claim)
        assert isinstance(first, Receipt)
        assert (first.owner, first.provisional) == (alice.peer_id, True)
        assert first.expires_at == first.first_seen + 600
        answer = await ask(to_bob, request(Op.CLAIM, one, "bob"))
        assert isinstance(answer, WitnessRefusal)
        assert (answer.error, answer.holder) == ("name_contested", alice.peer_id)

        full = await ask(to_alice, replace(claim, op=Op.RENEW, receipts=(first,)))
        assert isinstance(full, Receipt)
        assert not full.provisional
        assert full.is_signed_by_witness
        assert full.witness == one.peer_id
        assert (full.registered_at, full.first_seen) == (claim.registered_at, first.first_seen)
        again = await ask(to_alice, replace(claim, op=Op.RENEW))
        assert again == full  # it is not long ago

        entry = Transfer.sign(
            person("alice"),
            bob.peer_id,
            name="alice",
            swarm="public",
            seq=claim.registered_at,
            at=claim.registered_at,
        )
        taken = replace(claim, op=Op.TRANSFER, nonce=solved_work("bob"), transfers=(entry,))
        moved = await ask(to_bob, taken)
        assert isinstance(moved, Receipt)
        assert (moved.owner, moved.via) == (bob.peer_id, entry.digest)
        answer = await ask(to_alice, replace(claim, op=Op.RENEW))
        assert isinstance(answer, WitnessRefusal)
        assert (answer.error, answer.holder) == ("name_taken", bob.peer_id)

        assert await ask(to_bob, replace(taken, op=Op.DROP, transfers=())) == Dropped()
        assert server.receipts == {"claim": 1, "renew": 2, "transfer": 1}
        assert (server.entries, server.provisional, server.log_rows) == (1, 0, 2)
        assert one.host.refusals[RECEIPT_PROTOCOL, "name_taken"] == 1
        assert one.host.refusals[RECEIPT_PROTOCOL, "name_contested"] == 1


async def refusal(connection: Connection, what: WitnessRequest | bytes) -> WitnessRefusal:
    answer = await ask(connection, what)
    assert isinstance(answer, WitnessRefusal), answer
    return answer


def refused(one: MeshNode, word: str) -> int:
    return one.host.refusals[RECEIPT_PROTOCOL, word]


async def test_three_witnesses_and_one_that_missed_it(tmp_path: Path) -> None:
    labels = ("first", "second", "third")
    async with contextlib.AsyncExitStack() as stack:
        group = [
            await stack.enter_async_context(
                witness(tmp_path, label, others=tuple(other for other in labels if other != label))
            )
            for label in labels
        ]
        alice = await stack.enter_async_context(node("alice"))
        connections = [await alice.join(one) for one, _ in group]
        claim = request(Op.CLAIM, group[0][0], "alice")
        given = await asyncio.gather(*(ask(connection, claim) for connection in connections[:2]))
        shown = tuple(one for one in given if isinstance(one, Receipt))
        assert len(shown) == 2
        renewal = replace(claim, op=Op.RENEW, receipts=shown)
        full = [await ask(connection, renewal) for connection in connections[:2]]
        late = replace(claim, op=Op.RENEW, receipts=tuple(one for one in full if isinstance(one, Receipt)))
        taken = await ask(connections[2], late)
        assert isinstance(taken, Receipt)
        assert {one.witness for one in (*full, taken) if isinstance(one, Receipt)} == {
            one.peer_id for one, _ in group
        }


@pytest.mark.parametrize("network", [OTHER_NETWORK, None])
async def test_strangers_get_no_receipts(tmp_path: Path, network: str | None) -> None:
    async with witness(tmp_path) as (one, server), node("alice", network=network) as alice:
        answer = await refusal(await alice.dial(one.address), request(Op.CLAIM, one, "alice"))
        assert answer.error == "wrong_network"
        assert refused(one, "wrong_network") == 1
        assert server.entries == 0


async def test_nothing_is_served_over_a_circuit(tmp_path: Path) -> None:
    async with (
        witness(tmp_path) as (one, server),
        RelayNode.run("relay") as relay,
        Member.run("alice") as alice,
    ):
        # The witness holds a reservation: whoever comes through the relay would share the relay's prefix.
        client = RelayClient(
            one.host, one.dialer, RelayClientConfig(), random.Random(1), network=one.dht._network
        )
        Circuits(one.host, one.dialer, CircuitsConfig(), accepts_from=client.holds_reservation_at)
        try:
            await one.join(relay.mesh)
            client.set_wanted(True)
            await until(lambda: len(client.reservations) == 1)
            address = client.reservations[0].addresses[0].with_peer(one.peer_id)
            await alice.mesh.join(relay.mesh)
            connection = await alice.mesh.dial(address)
            assert connection.is_limited
            answer = await refusal(connection, request(Op.CLAIM, one, "alice"))
            assert answer.error == "limited_circuit"
            assert (server.entries, refused(one, "limited_circuit")) == (0, 1)
        finally:
            await client.close()


GOOD = b'{"name":"alice","op":"claim","pow":1,"registered_at":1,"swarm":"public","v":1}'


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"{}", "record_members_wrong"),
        (b"not json", "record_not_canonical"),
        (GOOD.replace(b"claim", b"steal"), "record_type_wrong"),
        (GOOD.replace(b'"v":1', b'"v":2'), "record_version_unknown"),
        (GOOD.replace(b"alice", b"Alice"), "record_name_malformed"),
        (GOOD + b" ", "record_not_canonical"),
    ],
)
async def test_what_is_malformed_is_told_and_counted(tmp_path: Path, data: bytes, reason: str) -> None:
    async with witness(tmp_path) as (one, _), node("alice") as alice:
        connection = await alice.join(one)
        assert (await refusal(connection, data)).error == "malformed"
        assert refused(one, reason) == 1
        assert isinstance(await ask(connection, request(Op.CLAIM, one, "alice")), Receipt)


async def test_too_much_and_nothing_at_all(tmp_path: Path) -> None:
    config = WitnessServerConfig(request_timeout=0.3)
    async with witness(tmp_path, config=config) as (one, _), node("alice") as alice:
        connection = await alice.join(one)
        stream = connection.open_stream(RECEIPT_PROTOCOL)
        await stream.write_frame(b"x" * (MAX_MESSAGE + 1))
        with pytest.raises(WwsError):
            await stream.read_frame(MAX_MESSAGE)
        await until(lambda: refused(one, "too_large") == 1)
        silent = connection.open_stream(RECEIPT_PROTOCOL)
        await silent.write(b"\x05he")
        await until(lambda: refused(one, "timeout") == 1)
        closed = connection.open_stream(RECEIPT_PROTOCOL)
        closed.close_write()
        with pytest.raises(StreamReset):
            await closed.read()
        await until(lambda: not one.host.handlers.of_peers)
        assert connection.is_established


async def test_one_peer_has_its_pace(tmp_path: Path) -> None:
    config = WitnessServerConfig(per_second=0.001, burst=3)
    async with witness(tmp_path, config=config) as (one, _), node("alice") as alice, node("bob") as bob:
        connection = await alice.join(one)
        claim = request(Op.CLAIM, one, "alice")
        for _ in range(3):
            assert isinstance(await ask(connection, claim), Receipt)
        assert await refusal(connection, claim) == WitnessRefusal("rate_limited", retry_after=1000)
        assert (await refusal(await bob.join(one), request(Op.CLAIM, one, "bob"))).error == "name_contested"


async def test_one_prefix_has_its_pace(tmp_path: Path) -> None:
    """Loopback counts as one prefix here."""
    everybody = HostConfig(admission=AdmissionConfig(prefix_exempt=(ip_network("10.0.0.0/8"),)))
    config = WitnessServerConfig(per_second_prefix=0.001, burst_prefix=2)
    book = BookConfig(budget=BudgetConfig(names_per_prefix=1))
    async with (
        witness(tmp_path, config=replace(config, book=book), host=everybody) as (one, server),
        node("alice") as alice,
        node("bob") as bob,
    ):
        to_alice, to_bob = await alice.join(one), await bob.join(one)
        assert isinstance(await ask(to_alice, request(Op.CLAIM, one, "alice")), Receipt)
        claim = request(Op.CLAIM, one, "bob", name="bob", nonce=solved_work("bob", "bob"))
        assert (await refusal(to_bob, claim)).error == "budget_prefix"
        assert (await refusal(to_bob, claim)).error == "rate_limited"
        server.reconfigure(WitnessServerConfig())
        # The pace is another from now on, and the budget too.
        await until_answer(to_bob, claim)


async def until_answer(connection: Connection, what: WitnessRequest) -> Receipt:
    """Ask until the pace allows it."""
    async with asyncio.timeout(20):
        while not isinstance(answer := await ask(connection, what), Receipt):
            await asyncio.sleep(0.05)
        return answer


async def test_streams_of_one_peer_are_bounded(tmp_path: Path) -> None:
    config = WitnessServerConfig(max_streams_per_peer=2)
    async with witness(tmp_path, config=config) as (one, _), node("alice") as alice:
        connection = await alice.join(one)
        silent = [connection.open_stream(RECEIPT_PROTOCOL) for _ in range(2)]
        for stream in silent:
            await stream.write(b"\x05")
        await until(lambda: one.host.handlers.of_peers[alice.peer_id, RECEIPT_PROTOCOL] == 2)
        third = connection.open_stream(RECEIPT_PROTOCOL)
        data = await third.read_frame(MAX_MESSAGE)
        assert data is not None
        assert parse_answer(data) == WitnessRefusal("rate_limited", retry_after=1)
        third.reset()
        for stream in silent:
            stream.reset()
        await until(lambda: not one.host.handlers.of_peers)
        assert isinstance(await ask(connection, request(Op.CLAIM, one, "alice")), Receipt)


async def test_the_operator_and_the_work_decide_too(tmp_path: Path) -> None:
    async with witness(tmp_path, denied=("alice",), swarm_size=40_000) as (one, _), node("alice") as alice:
        connection = await alice.join(one)
        assert (await refusal(connection, request(Op.CLAIM, one, "alice"))).error == "name_denied"
        weak = request(Op.CLAIM, one, "alice", name="bob", nonce=solved_work("alice", "bob"))
        assert await refusal(connection, weak) == WitnessRefusal("work_too_weak", required_bits=18)


async def test_a_full_disk_keeps_the_node_alive(tmp_path: Path) -> None:
    async with witness(tmp_path, store=StoreConfig(max_bytes=1)) as (one, server), node("alice") as alice:
        connection = await alice.join(one)
        answers = []
        for number in range(5):
            name = f"name-{number}"
            asked = request(Op.CLAIM, one, "alice", name=name, nonce=solved_work("alice", name))
            answers.append(await ask(connection, asked))
        words = [answer.error for answer in answers if isinstance(answer, WitnessRefusal)]
        assert set(words) <= {"witness_full"}
        if words:
            assert not server.is_writable
        assert connection.is_established


async def test_a_witness_that_lost_its_promises_says_until_when(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "witness.sqlite").write_text("lost")
    for _ in ("the file is damaged", "the time holds on"):
        caplog.clear()
        async with witness(tmp_path) as (one, server), node("alice") as alice:
            registry = CollectorRegistry()
            WitnessMetrics(registry, server)
            until = server.no_first_claims_until
            assert until > one.host.clock.unix()
            gauge = "wws_witness_no_first_claims_until_timestamp_seconds"
            assert registry.get_sample_value(gauge) == until
            (line,) = [text for text in caplog.messages if "no first claims" in text]
            assert f"UTC (Unix {until})" in line
            refused = await refusal(await alice.join(one), request(Op.CLAIM, one, "alice"))
            assert (refused.error, refused.retry_after) == ("no_first_claims", MAX_LEASE)
    async with witness(tmp_path, "another") as (_, server):
        assert server.no_first_claims_until == 0


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    async with node("alice") as alice, node("bob") as bob:
        async with witness(tmp_path) as (one, _):
            connection = await alice.join(one)
            claim = request(Op.CLAIM, one, "alice")
            first = await ask(connection, claim)
            assert isinstance(first, Receipt)
            full = await ask(connection, replace(claim, op=Op.RENEW, receipts=(first,)))
            assert isinstance(full, Receipt)
        async with witness(tmp_path) as (one, server):
            assert (server.entries, server.log_rows) == (1, 1)
            taken = await refusal(await bob.join(one), request(Op.CLAIM, one, "bob"))
            assert (taken.error, taken.holder) == ("name_taken", alice.peer_id)
