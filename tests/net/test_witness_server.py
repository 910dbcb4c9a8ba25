"""The witness on real sockets: the whole life of a name, and everybody who gets no receipts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import NETWORK, OTHER_NETWORK, MeshNode, node
from wws.identity import proof_of_work
from wws.identity.peer_id import PeerId
from wws.names.receipts import Receipt
from wws.names.record import work_context
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
from wws.runtime.witness.register import RegisterConfig
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
) -> AsyncIterator[tuple[MeshNode, WitnessServer]]:
    """A running witness; it and `others` are W."""
    members = frozenset(person(one).peer_id for one in (label, *others))
    async with node(label) as one:
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
        assert isinstance(again, Receipt)

        entry = Transfer.sign(
            person("alice"), bob.peer_id, name="alice", swarm="public", seq=5, at=claim.registered_at
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
        assert (server.entries, server.provisional, server.log_rows) == (1, 0, 3)
        assert one.host.refusals[RECEIPT_PROTOCOL, "name_taken"] == 1
        assert one.host.refusals[RECEIPT_PROTOCOL, "name_contested"] == 1
