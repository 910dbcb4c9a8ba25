"""The driver of a machine of names: each wish is carried out, and its outcome comes back as an event."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.identity.keys import Identity
from wws.identity.proof_of_work import verify
from wws.machine import Command, Event
from wws.names.events import (
    AskWitnesses,
    LookedUp,
    LookUp,
    LookUpFailed,
    NameReleased,
    ProofSolved,
    SolveProofOfWork,
    Start,
    StoreFailed,
    StoreRecord,
    TimerFired,
    WitnessesAnswered,
)
from wws.names.witness.messages import Op, WitnessRequest
from wws.runtime.machine_driver import MachineDriver
from wws.runtime.witness.client import WitnessClient

pytestmark = [pytest.mark.net, pytest.mark.timeout(30)]

KEY = "/wws/names/public/alice"
DID = Identity.from_label("alice").peer_id.did


class Script:
    """A machine that answers `Start` with one command, and keeps what it is told."""

    def __init__(self, wish: Command, wakeup: float | None = None) -> None:
        self.wish = wish
        self.wakeup = wakeup
        self.heard: list[Event] = []

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        if isinstance(event, Start):
            return [self.wish]
        self.wakeup = None
        self.heard.append(event)
        return []

    def next_wakeup(self) -> float | None:
        return self.wakeup


@pytest.fixture
async def alice() -> AsyncIterator[MeshNode]:
    async with node("alice") as alice:
        yield alice


def nobody(on: MeshNode) -> WitnessClient:
    """Witnesses of a network that has none."""
    return WitnessClient(on.host, on.dialer, lambda: (frozenset(), frozenset()), lambda _: ())


async def outcome(machine: Script, on: MeshNode) -> Event:
    """What comes back for the wish of the machine."""
    driver = MachineDriver(machine, on.host, on.dht, nobody(on), pytest.fail)  # type: ignore[arg-type]
    driver.feed(Start())
    await until(lambda: bool(machine.heard))
    driver.close()
    assert len(machine.heard) == 1
    return machine.heard[0]


@pytest.mark.parametrize(
    "wish, expected", [(LookUp(KEY), LookUpFailed), (StoreRecord(KEY, b"x"), StoreFailed)]
)
async def test_with_nobody_connected_nothing_is_known_and_nothing_kept(
    wish: Command, expected: type[Event], alice: MeshNode
) -> None:
    assert isinstance(await outcome(Script(wish), alice), expected)


async def test_a_look_up_that_finds_nothing(alice: MeshNode) -> None:
    async with node("bob") as bob:
        await alice.join(bob)
        assert await outcome(Script(LookUp(KEY)), alice) == LookedUp(None)


async def test_a_look_up_that_nobody_answered_is_no_free_name(alice: MeshNode) -> None:
    async with node("bob", server=False) as bob:
        await alice.join(bob)
        assert await outcome(Script(LookUp(KEY)), alice) == LookUpFailed()


async def test_a_record_that_nobody_keeps(alice: MeshNode) -> None:
    async with node("bob") as bob:
        await alice.join(bob)
        assert isinstance(await outcome(Script(StoreRecord(KEY, b"{}")), alice), StoreFailed)


async def test_work_is_done_beside_the_loop(alice: MeshNode) -> None:
    solved = await outcome(Script(SolveProofOfWork("context", DID, 8)), alice)
    assert isinstance(solved, ProofSolved)
    assert verify("context", DID, solved.nonce, 8)


async def test_the_timer_fires_once_and_not_after_the_end(alice: MeshNode) -> None:
    machine = Script(NameReleased(0), wakeup=alice.host.clock.monotonic() + 0.01)
    reports: list[Command] = []
    driver = MachineDriver(machine, alice.host, alice.dht, nobody(alice), reports.append)
    driver.feed(Start())
    assert reports == [NameReleased(0)]
    await until(lambda: machine.heard == [TimerFired()])
    machine.wakeup = alice.host.clock.monotonic() + 0.01
    driver.feed(Start())
    driver.close()
    await asyncio.sleep(0.03)
    driver.feed(Start())
    assert machine.heard == [TimerFired()]
    assert len(reports) == 2


async def test_closing_ends_the_work(alice: MeshNode) -> None:
    async with node("bob") as bob:
        await alice.join(bob)
        machine = Script(LookUp(KEY))
        driver = MachineDriver(machine, alice.host, alice.dht, nobody(alice), pytest.fail)  # type: ignore[arg-type]
        driver.feed(Start())
        driver.close()
        await until(lambda: not any(task.get_name() == "Script" for task in alice.host._tasks))
        assert machine.heard == []


async def test_witnesses_are_asked_and_their_silence_is_an_answer(alice: MeshNode) -> None:
    request = WitnessRequest(Op.CLAIM, "public", "alice", 1, 1_800_000_000)
    assert await outcome(Script(AskWitnesses(request)), alice) == WitnessesAnswered(())
