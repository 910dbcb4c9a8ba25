"""Asking witnesses over real connections: whom, how long, and what of silence."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from tests.net.mesh_node import MeshNode
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.receipts import Receipt
from wws.names.witness.messages import (
    RECEIPT_PROTOCOL,
    Dropped,
    Op,
    WitnessAnswer,
    WitnessRefusal,
    WitnessRequest,
    answer_bytes,
)
from wws.runtime.streams import Stream
from wws.runtime.witness.client import WitnessClient, WitnessClientConfig

QUICK = WitnessClientConfig(timeout=20.0, patience=0.05)
CLAIM = WitnessRequest(Op.CLAIM, "public", "alice", 1, 1_800_000_000)

Script = Callable[[WitnessRequest], bytes]


class Witness:
    """A node that answers every request by `script`, or keeps silent for ever where that is `None`."""

    def __init__(
        self, label: str, script: Script | None, *, held_back_by: asyncio.Event | None = None
    ) -> None:
        """With `held_back_by` it answers once that is set."""
        self._held_back_by = held_back_by
        self.identity = Identity.from_label(label)
        self.node = MeshNode(label)
        self.asked: list[tuple[PeerId, WitnessRequest]] = []
        self._script = script
        self._running = MeshNode.run(self.node, server=False)

    async def __aenter__(self) -> "Witness":
        await self._running.__aenter__()
        self.node.host.serve(RECEIPT_PROTOCOL, self._serve)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.__aexit__(kind, error, trace)

    async def _serve(self, stream: Stream) -> None:
        frame = await stream.read_frame(16 * 1024)
        assert frame is not None
        self.asked.append((stream.connection.peer_id, WitnessRequest.parse(frame)))
        if self._script is None:
            await asyncio.Event().wait()
        else:
            if self._held_back_by is not None:
                await self._held_back_by.wait()
            await stream.write_frame(self._script(WitnessRequest.parse(frame)))
            await stream.finish()


def receipt_of(label: str) -> Receipt:
    owner = Identity.from_label("alice").peer_id
    return Receipt.sign(
        Identity.from_label(label),
        swarm="public",
        name="alice",
        owner=owner,
        registered_at=1_800_000_000,
        first_seen=1_800_000_000,
        expires_at=1_800_086_400,
    )


def answering(answer: WitnessAnswer) -> Script:
    return lambda _: answer_bytes(answer)


@contextlib.asynccontextmanager
async def owner_with(
    *witnesses: Witness, before: tuple[Witness, ...] = (), config: WitnessClientConfig = QUICK
) -> AsyncIterator[WitnessClient]:
    async with MeshNode.run(MeshNode("alice"), server=False) as alice:
        current = frozenset(witness.identity.peer_id for witness in witnesses)
        older = frozenset(witness.identity.peer_id for witness in before)
        addresses = {one.identity.peer_id: one for one in (*witnesses, *before)}
        yield WitnessClient(
            alice.host,
            alice.dialer,
            lambda: (current, older),
            lambda peer: (
                (addresses[peer].node.address,) if addresses[peer].node.host.listen_addresses else ()
            ),
            config,
        )


async def test_every_member_of_both_sets_is_asked_once() -> None:
    async with (
        Witness("w1", answering(receipt_of("w1"))) as w1,
        Witness("w2", answering(WitnessRefusal("name_taken", w1.identity.peer_id))) as w2,
        Witness("w3", answering(Dropped())) as w3,
        owner_with(w1, w2, before=(w2, w3)) as client,
    ):
        answers = dict(await client.ask(CLAIM))
    assert answers == {
        w1.identity.peer_id: receipt_of("w1"),
        w2.identity.peer_id: WitnessRefusal("name_taken", w1.identity.peer_id),
        w3.identity.peer_id: Dropped(),
    }
    asked_by = Identity.from_label("alice").peer_id
    assert [w.asked for w in (w1, w2, w3)] == [[(asked_by, CLAIM)]] * 3
    assert client.answers == {("claim", "receipt"): 1, ("claim", "name_taken"): 1, ("claim", "dropped"): 1}


async def test_a_silent_one_is_not_waited_for_once_a_majority_has_answered() -> None:
    async with (
        Witness("w1", answering(receipt_of("w1"))) as w1,
        Witness("w2", answering(receipt_of("w2"))) as w2,
        Witness("w3", None) as w3,
        owner_with(w1, w2, w3) as client,
    ):
        async with asyncio.timeout(10):  # far below the round's own time-out
            answers = dict(await client.ask(CLAIM))
    assert answers[w3.identity.peer_id] is None
    assert sum(answer is not None for answer in answers.values()) == 2


async def test_quick_refusals_and_junk_do_not_cut_short_who_is_slow() -> None:
    """Else one witness that lies, and a second's delay on the path to another, deny an owner its cover."""
    slow = asyncio.Event()
    junk = [
        answering(WitnessRefusal("witness_full")),
        answering(receipt_of("w3")),  # not its own
        answering(Dropped()),
    ]
    for script in junk:
        slow.clear()
        async with (
            Witness("w1", answering(receipt_of("w1"))) as w1,
            Witness("w2", answering(receipt_of("w2")), held_back_by=slow) as w2,
            Witness("w4", script) as liar,
            owner_with(w1, w2, liar) as client,
        ):
            asking = asyncio.ensure_future(client.ask(CLAIM))
            while client.answers.total() < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(2 * QUICK.patience)
            assert not asking.done()
            slow.set()
            assert dict(await asking)[w2.identity.peer_id] == receipt_of("w2")


async def test_without_a_majority_the_round_ends_at_its_time_out() -> None:
    config = WitnessClientConfig(timeout=0.3, patience=0.05)
    async with (
        Witness("w1", None) as w1,
        Witness("w2", None) as w2,
        owner_with(w1, w2, config=config) as client,
    ):
        assert dict(await client.ask(CLAIM)) == {w1.identity.peer_id: None, w2.identity.peer_id: None}


async def test_who_cannot_be_reached_or_talks_nonsense_has_not_answered() -> None:
    gone = Witness("w1", None)  # never started: there is no address of it
    async with (
        Witness("w2", lambda _: b'{"error":"Not A Word"}') as w2,
        Witness("w3", lambda _: b'{"error":"any_other_word"}') as w3,
        owner_with(gone, w2, w3) as client,
    ):
        answers = dict(await client.ask(CLAIM))
    assert answers[gone.identity.peer_id] is None
    assert answers[w2.identity.peer_id] is None
    assert answers[w3.identity.peer_id] == WitnessRefusal("any_other_word")
    assert client.answers["claim", "record_type_wrong"] == 1
    assert client.answers["claim", "other"] == 1


async def test_without_witnesses_nobody_is_asked() -> None:
    async with owner_with() as client:
        assert await client.ask(CLAIM) == ()
