"""Resolution on loopback: what is remembered, what makes it void, and what judges it at each use."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.codec.canonical import JsonValue
from wws.dht.positions import position_of_key
from wws.identity.peer_id import PeerId
from wws.names.cache import CacheConfig
from wws.names.kinds import NameRecords, PeerRecords
from wws.names.peer_record import PeerRecord
from wws.names.record import NameRecord, name_key
from wws.names.resolve import (
    EQUIVOCATION,
    NameDenied,
    NameNotFound,
    NameNotPinned,
    OwnerChanged,
    ResolveError,
)
from wws.names.uri import DidTarget, NameTarget, PeerTarget
from wws.runtime.clock import SystemClock
from wws.runtime.homes import Home
from wws.runtime.pin_store import PinStore
from wws.runtime.resolution import NameResolver, ResolutionConfig
from wws.runtime.state_files import StateFile
from wws.testing.names import ADDRESS, NOW, name_record, person

pytestmark = [pytest.mark.net, pytest.mark.timeout(60), pytest.mark.usefixtures("leaves_nothing")]

ALICE, MALLORY = person("alice"), person("mallory")
TARGET = NameTarget("alice")
KEY = name_key("alice", "public")


class ShiftedClock(SystemClock):
    """The clock of this machine, a while later."""

    later = 0.0
    unix_later = 0

    def monotonic(self) -> float:
        return super().monotonic() + self.later

    def unix(self) -> int:
        return super().unix() + int(self.later) + self.unix_later


@dataclass
class Desk:
    """Bob, who resolves, and three holders who know what he does not."""

    bob: MeshNode
    holders: list[MeshNode]
    clock: ShiftedClock
    names: NameRecords
    home: Path
    witnesses: list[frozenset[PeerId]]
    denied: set[str] = field(default_factory=set)
    denied_peers: set[PeerId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pins = PinStore(Home(self.home))
        self.resolver = NameResolver(
            self.bob.host,
            self.bob.dht,
            names=self.names,
            peers=PeerRecords(),
            pins=self.pins,
            domain="",
            proofs=StateFile(self.home / "equivocations.json"),
            is_denied=self.denied.__contains__,
            is_peer_denied=self.denied_peers.__contains__,
            config=ResolutionConfig(cache=CacheConfig(), save_interval=0.01),
        )

    @property
    def look_ups(self) -> int:
        return sum(n for (kind, _), n in self.bob.dht.operations.items() if kind == "get")

    def hold(self, record: NameRecord | PeerRecord) -> bytes:
        """Let all three hold a record, in place of what they hold."""
        for holder in self.holders:
            records = holder.dht.machine.records
            records.drop(record.key.encode())
            records.offer(record.key.encode(), record.value, holder.peer_id, self.clock.unix())
        return record.value


def record_of(owner: str, *, seq_later: int = 0, released: bool = False) -> NameRecord:
    now = int(time.time()) - 10
    return name_record(owner, registered_at=now, seq=now + seq_later, released=released)


@contextlib.asynccontextmanager
async def desk(tmp_path: Path, *, joined: bool = True) -> AsyncIterator[Desk]:
    clock = ShiftedClock()
    async with contextlib.AsyncExitStack() as stack:
        witnesses: list[frozenset[PeerId]] = [frozenset(), frozenset()]
        names = NameRecords(lambda: (witnesses[0], witnesses[1]))
        bob = await stack.enter_async_context(node("bob", clock=clock, server=False, names=names))
        holders = [await stack.enter_async_context(node(f"holder {number}")) for number in range(3)]
        found = Desk(bob, holders, clock, names, tmp_path, witnesses)
        if joined:
            await join(found)
        yield found
        await found.resolver.close()


async def join(found: Desk) -> None:
    for holder in found.holders:
        await found.bob.join(holder)
    await until(lambda: len(found.bob.dht.machine.routing.closest(position_of_key(KEY.encode()), 3)) == 3)


async def test_one_look_up_serves_all_who_ask_and_the_next_ones(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        record = record_of("alice")
        found.hold(record)
        answers = await asyncio.gather(*(found.resolver.resolve(TARGET) for _ in range(50)))
        assert {answer.peer_id for answer in answers} == {ALICE.peer_id}
        assert answers[0].addresses == (ADDRESS.with_peer(ALICE.peer_id),)
        for _ in range(50):
            assert (await found.resolver.resolve(TARGET)).peer_id == ALICE.peer_id
        assert found.look_ups == 1


async def test_one_who_gives_up_leaves_the_look_up_to_the_others(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        hasty, patient = (asyncio.ensure_future(found.resolver.resolve(TARGET)) for _ in range(2))
        await asyncio.sleep(0)
        hasty.cancel()
        assert (await patient).peer_id == ALICE.peer_id
        assert hasty.cancelled()
        assert found.look_ups == 1


async def test_a_dial_that_failed_makes_us_look_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        await found.resolver.resolve(TARGET)
        found.resolver.forget(TARGET)
        await found.resolver.resolve(TARGET)
        assert found.look_ups == 2


async def test_what_is_used_is_looked_up_again_before_it_is_old(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        await found.resolver.resolve(TARGET)
        newer = record_of("alice", seq_later=5)
        found.hold(newer)
        found.clock.later = 31
        await found.resolver.resolve(TARGET)
        await until(lambda: found.look_ups == 2)
        found.clock.later = 61
        assert (await found.resolver.resolve(TARGET)).expires_at == newer.expires_at
        assert found.look_ups == 2


async def test_what_was_not_found_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        for _ in range(3):
            with pytest.raises(NameNotFound):
                await found.resolver.resolve(TARGET)
        assert found.look_ups == 1
        found.hold(record_of("alice"))
        found.resolver.forget(TARGET)  # as a claim of our own does
        assert (await found.resolver.resolve(TARGET)).peer_id == ALICE.peer_id


async def test_what_was_not_found_is_looked_for_again_after_seconds(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        with pytest.raises(NameNotFound):
            await found.resolver.resolve(TARGET)
        found.hold(record_of("alice"))
        found.clock.later = 5
        assert (await found.resolver.resolve(TARGET)).peer_id == ALICE.peer_id


async def test_a_look_up_that_nobody_answered_is_not_remembered(tmp_path: Path) -> None:
    async with desk(tmp_path, joined=False) as found:
        with pytest.raises(ResolveError):
            await found.resolver.resolve(TARGET)
        found.hold(record_of("alice"))
        await join(found)
        assert (await found.resolver.resolve(TARGET)).peer_id == ALICE.peer_id


async def test_a_name_that_is_denied_meanwhile_gives_no_answer(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        await found.resolver.resolve(TARGET)
        found.denied.add(KEY)
        with pytest.raises(NameDenied):
            await found.resolver.resolve(TARGET)
        found.denied.clear()
        found.denied_peers.add(ALICE.peer_id)
        with pytest.raises(NameDenied):
            await found.resolver.resolve(TARGET)
        with pytest.raises(NameDenied):
            await found.resolver.resolve(PeerTarget(ALICE.peer_id))
        assert found.look_ups == 1


async def test_a_pin_that_moves_decides_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        await found.resolver.resolve(TARGET)
        found.pins.use(lambda pins: pins.trust("", "public", "alice", MALLORY.peer_id, 0))
        with pytest.raises(OwnerChanged):
            await found.resolver.resolve(TARGET)
        assert found.look_ups == 1


async def test_a_changed_owner_is_refused_until_somebody_trusts_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        await found.resolver.resolve(TARGET)
        found.hold(record_of("mallory"))
        found.resolver.forget(TARGET)
        with pytest.raises(OwnerChanged) as refused:
            await found.resolver.resolve(TARGET)
        assert (refused.value.pinned, refused.value.found) == (ALICE.peer_id, MALLORY.peer_id)
        assert await found.resolver.trust(TARGET, None) == (MALLORY.peer_id, ALICE.peer_id)
        answer = await found.resolver.resolve(TARGET)
        assert (answer.peer_id, answer.pinned) == (MALLORY.peer_id, True)
        assert await found.resolver.trust(TARGET, ALICE.peer_id) == (ALICE.peer_id, MALLORY.peer_id)
        with pytest.raises(OwnerChanged):
            await found.resolver.resolve(TARGET)


async def test_nobody_is_trusted_with_a_name_that_nobody_holds(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        with pytest.raises(NameNotFound):
            await found.resolver.trust(TARGET, None)
        found.hold(record_of("alice", released=True))
        with pytest.raises(NameNotFound):
            await found.resolver.trust(TARGET, None)


async def test_without_an_entry_point_only_pinned_names_resolve_also_remembered_ones(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        with pytest.raises(NameNotPinned):
            await found.resolver.resolve(TARGET, only_pinned=True)
        await found.resolver.resolve(TARGET)
        assert (await found.resolver.resolve(TARGET, only_pinned=True)).peer_id == ALICE.peer_id


async def test_other_witnesses_and_a_set_clock_make_us_look_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        found.hold(record_of("alice"))
        await found.resolver.resolve(TARGET)
        found.witnesses[0] = frozenset({person("w1").peer_id})
        await found.resolver.resolve(TARGET)
        assert found.look_ups == 2
        found.clock.unix_later = 3_600
        await found.resolver.resolve(TARGET)
        assert found.look_ups == 3
        found.clock.unix_later = 0
        await found.resolver.resolve(TARGET)
        assert found.look_ups == 4


async def test_a_did_and_a_peer_id_lead_to_the_same(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        now = int(time.time())
        found.hold(
            PeerRecord.sign(ALICE, addresses=(ADDRESS,), seq=now, issued_at=now, expires_at=now + 3_600)
        )
        by_did = await found.resolver.resolve(DidTarget(ALICE.peer_id.did))
        assert await found.resolver.resolve(PeerTarget(ALICE.peer_id)) == by_did
        assert found.look_ups == 1


async def test_two_records_of_one_number_are_kept_shown_and_survive(tmp_path: Path) -> None:
    async with desk(tmp_path) as found:
        one = record_of("alice")
        other = name_record(
            "alice", registered_at=one.registered_at, seq=one.seq, addresses=(ADDRESS.with_port(9001),)
        )
        found.hold(one)
        holder = found.holders[0]
        holder.dht.machine.records.drop(KEY.encode())
        holder.dht.machine.records.offer(KEY.encode(), other.value, holder.peer_id, found.clock.unix())
        answer = await found.resolver.resolve(TARGET)
        assert EQUIVOCATION in answer.warnings
        (proof,) = found.resolver.equivocations()
        assert (proof.name, proof.peer_id, proof.seq) == ("alice", ALICE.peer_id, one.seq)
        assert set(proof.records) == {one.value, other.value}
        await found.resolver.close()
        again = Desk(found.bob, [], found.clock, NameRecords(), tmp_path, [])
        assert again.resolver.equivocations() == [proof]
        await again.resolver.close()


async def test_a_flood_of_proofs_fills_neither_the_disk_nor_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path, joined=False) as found:
        file = tmp_path / "equivocations.json"
        written: set[int] = set()
        for number in range(40):
            pair = [
                name_record("alice", seq=NOW + number, addresses=(ADDRESS.with_port(port),))
                for port in (9_000, 9_001)
            ]
            for record in pair:
                found.names.read(KEY, record.value, NOW)
            for _ in range(3):
                await asyncio.sleep(0.01)
                if file.exists():
                    written.add(file.stat().st_mtime_ns)
        assert 1 <= len(written) <= 7
        assert sum("equivocation" in line.getMessage() for line in caplog.records) <= 21
        proofs = found.resolver.equivocations()
        assert len(proofs) == 4
    # What is known at the end is written.
    again = Desk(found.bob, [], found.clock, NameRecords(), tmp_path, [])
    assert again.resolver.equivocations() == proofs


async def test_proofs_that_could_not_be_written_are_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(tmp_path, joined=False) as found:
        in_the_way = tmp_path / "equivocations.json"
        in_the_way.mkdir()
        for port in (9_000, 9_001):
            found.names.read(KEY, name_record("alice", addresses=(ADDRESS.with_port(port),)).value, NOW)
        await until(lambda: "equivocations not saved" in caplog.text)
        in_the_way.rmdir()
        proofs = found.resolver.equivocations()
        assert len(proofs) == 1
    again = Desk(found.bob, [], found.clock, NameRecords(), tmp_path, [])
    assert again.resolver.equivocations() == proofs


async def test_a_file_of_proofs_is_believed_only_as_far_as_it_proves(tmp_path: Path) -> None:
    async with desk(tmp_path, joined=False) as found:
        one = record_of("alice").value.decode()
        entries: list[JsonValue] = [
            {"found_at": 1, "records": [one, one]},
            {"found_at": 1, "records": [one]},
            7,
        ]
        StateFile(tmp_path / "equivocations.json").write({"equivocations": entries})
        again = Desk(found.bob, [], found.clock, NameRecords(), tmp_path, [])
        assert again.resolver.equivocations() == []
        await again.resolver.close()
