"""The names of a node: how many it keeps, what it remembers of them, and what it says is wrong with one."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.net.mesh_node import node
from wws.codec.canonical import JsonValue
from wws.identity.keys import Identity
from wws.names.events import CoverDelayed, NameContested, NameHeld, RetryScheduled
from wws.names.kinds import NameRecords, PeerRecords
from wws.names.lease import Lease
from wws.names.lease_state import LeaseState
from wws.runtime.held_name import HeldName, NotOurName
from wws.runtime.homes import Home, NodePaths
from wws.runtime.names_driver import MAX_NAMES, NamesDriver, TooManyNames
from wws.runtime.pin_store import PinStore
from wws.runtime.resolution import NameResolver
from wws.runtime.state_files import StateFile
from wws.runtime.witness.client import WitnessClient

pytestmark = [pytest.mark.net, pytest.mark.timeout(60)]

LONG_AGO = LeaseState("bob", "public", 1_000, 1_000, 0, 2_000, released=True)
FAR_AHEAD = LeaseState("carol", "public", 1_000, 1_000, 0, 2**40, released=True)


@contextlib.asynccontextmanager
async def names_of_alice(tmp_path: Path) -> AsyncIterator[NamesDriver]:
    """The names of a node that nobody is connected to: claims wait."""
    home = Home(tmp_path)
    paths = NodePaths(home, "alice")
    paths.state.mkdir(parents=True, exist_ok=True)
    async with node("alice") as alice:
        names = NameRecords()
        resolver = NameResolver(
            alice.host,
            alice.dht,
            names=names,
            peers=PeerRecords(),
            pins=PinStore(home),
            domain="",
            proofs=StateFile(paths.equivocations),
        )
        driver = NamesDriver(
            alice.host,
            alice.dht,
            WitnessClient(alice.host, alice.dialer, lambda: (frozenset(), frozenset()), lambda _: ()),
            names=names,
            resolver=resolver,
            node=paths,
            rng=random.Random(1),
        )
        try:
            yield driver
        finally:
            driver.close()
            await resolver.close()


async def test_names_that_are_not_ours_any_more_make_room_for_others(tmp_path: Path) -> None:
    async with names_of_alice(tmp_path) as names:
        for number in range(MAX_NAMES):
            names.begin_claim(f"name-{number}", "public")
        with pytest.raises(TooManyNames):
            names.begin_claim("alice", "public")
        assert (await names.release("name-7", "public", 10)).state == "released"
        names.begin_claim("alice", "public")
        kept = [held.lease.name for held in names.names]
        assert len(kept) == MAX_NAMES
        assert "alice" in kept
        assert "name-7" not in kept
        with pytest.raises(TooManyNames):
            names.begin_claim("dave", "public")


async def test_what_was_given_back_is_forgotten_once_it_is_free(tmp_path: Path) -> None:
    file = StateFile(NodePaths(Home(tmp_path), "alice").leases)
    file.path.parent.mkdir(parents=True)
    file.write({"leases": [LONG_AGO.to_json(), FAR_AHEAD.to_json()]})
    async with names_of_alice(tmp_path) as names:
        names.begin_claim("alice", "public")
        await names.release("alice", "public", 10)
    leases: JsonValue = (file.read() or {})["leases"]
    assert leases == [FAR_AHEAD.to_json()]


def held_name() -> HeldName:
    lease = Lease(Identity.from_label("alice"), "alice", "public", kind=NameRecords(), rng=random.Random(1))
    return HeldName(lease, lambda: None)


def test_what_had_to_be_tried_again_is_no_problem_once_the_name_is_held() -> None:
    held = held_name()
    held.reported(RetryScheduled("nobody answered the look-up", 1.0))
    assert held.problem == "nobody answered the look-up"
    held.reported(NameHeld(2**40, witnessed=False))
    assert (held.state, held.problem) == ("held", "")


def test_why_no_witness_covers_it_is_said_until_they_do() -> None:
    held = held_name()
    held.reported(CoverDelayed("witnesses_away", "too few witnesses can be asked", 5.0))
    held.reported(RetryScheduled("too few holders stored the record", 1.0))
    held.reported(NameHeld(2**40, witnessed=False))
    assert held.problem == "too few witnesses can be asked"
    held.reported(NameHeld(2**40, witnessed=True))
    assert held.problem == ""


async def test_a_contested_claim_that_is_given_up_is_none_of_ours(tmp_path: Path) -> None:
    bob = Identity.from_label("bob").peer_id
    async with names_of_alice(tmp_path) as names:
        held = names.begin_claim("alice", "public")
        held.reported(NameContested(bob, 5.0))
        assert not held.is_gone
        held.reported(NameContested(bob, None))
        assert (held.state, held.is_gone) == ("contested", True)
        for ask in (names.renew, names.release):
            with pytest.raises(NotOurName):
                await ask("alice", "public", 1)
