"""The file of a witness: what is in it after anything, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from wws.names.receipts import Receipt
from wws.names.record import KEPT_AFTER_EXPIRY
from wws.names.rules import MAX_LEASE
from wws.names.witness.book import WitnessBook
from wws.names.witness.decision import Changes
from wws.names.witness.entry import Caller, Counted, Entry, EntryChange
from wws.names.witness.log import Kind, LogEntry, is_superseded, replay
from wws.names.witness.messages import Dropped, Op, Why, WitnessAnswer, WitnessRefusal, WitnessRequest
from wws.runtime.machine_errors import CannotRead, CannotWrite
from wws.runtime.state_files import StateTooNew
from wws.runtime.witness.reading import open_for_reading, witness_of
from wws.runtime.witness.register import Register, RegisterConfig
from wws.runtime.witness.rows import count_log, read_counted, read_entries, read_log
from wws.runtime.witness.store import StoreConfig, WitnessStore
from wws.testing.clock import ManualClock
from wws.testing.names import NOW, person, receipt, solved_work, transfer
from wws.testing.scale import scale

WITNESS = person("witness")
ALICE, BOB = person("alice").peer_id, person("bob").peer_id
DAY = 86_400


@contextlib.asynccontextmanager
async def opened(path: Path, config: StoreConfig | None = None) -> AsyncIterator[WitnessStore]:
    store = WitnessStore(path, config)
    await store.open(WITNESS.peer_id, NOW)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def register(
    path: Path, clock: ManualClock, store: StoreConfig | None = None, config: RegisterConfig | None = None
) -> AsyncIterator[tuple[Register, WitnessStore]]:
    """A register on a file; the witness is alone."""
    members = frozenset({WITNESS.peer_id})
    file = WitnessStore(path, store)
    restored = await file.open(WITNESS.peer_id, clock.unix())
    book = WitnessBook(WITNESS, lambda: (members, frozenset()), lambda: 1, lambda _: False)
    book.restore(restored.entries, restored.counted, claims_from=restored.claims_from)
    answering = Register(book, file, clock, config)
    answering.start()
    try:
        yield answering, file
    finally:
        await answering.close()
        await file.close()


def claim(owner: str, name: str = "alice", at: int = NOW) -> tuple[WitnessRequest, Caller]:
    request = WitnessRequest(Op.CLAIM, "public", name, solved_work(owner, name), at)
    return request, Caller(person(owner).peer_id)


def renewed(first: Receipt, owner: str) -> tuple[WitnessRequest, Caller]:
    nonce = solved_work(owner, first.name)
    at = first.registered_at
    request = WitnessRequest(Op.RENEW, "public", first.name, nonce, at, receipts=(first,))
    return request, Caller(person(owner).peer_id)


async def full(answering: Register, owner: str, name: str = "alice") -> Receipt:
    first = await answering.ask(*claim(owner, name))
    assert isinstance(first, Receipt), first
    answer = await answering.ask(*renewed(first, owner))
    assert isinstance(answer, Receipt), answer
    return answer


def held(name: str, expires_at: int = NOW + DAY, **more: object) -> Changes:
    entry = Entry("public", name, ALICE, NOW, NOW, expires_at, **more)  # type: ignore[arg-type]
    return Changes(entries=[EntryChange(entry.key, None, entry)])


def logged(kind: Kind, owner: str = "alice", *, at: int = NOW, **facts: object) -> Changes:
    return Changes(log=[LogEntry(at, kind, receipt("witness", owner, **facts))])  # type: ignore[arg-type]


def log_in(path: Path, name: str | None = None) -> list[LogEntry]:
    with open_for_reading(path) as database:
        return list(read_log(database, name=name))


# What was written is there


async def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "witness.sqlite"
    chain = (transfer("bob", "alice", seq=3),)
    entry = Entry(
        "lab", "alice", ALICE, NOW, NOW + 1, NOW + DAY, False, (chain[0].digest,), False, True, 0, None
    )
    first = Entry("public", "bob", BOB, NOW, NOW, NOW + 600, True, held_since=NOW, prefix="203.0.113.0/24")
    counted = [
        Counted(ALICE, ("public", "bob"), "203.0.113.0/24", NOW),
        Counted(BOB, ("lab", "bob"), None, NOW),
    ]
    log = LogEntry(NOW, Kind.TRANSFERRED, receipt("witness", "alice"), chain, (receipt("other", "bob"),))
    async with opened(path) as store:
        await store.commit(
            [
                Changes([EntryChange(entry.key, None, entry)], counted[:1], [], [log]),
                Changes([EntryChange(first.key, None, first)], counted[1:], [], []),
                held("carol"),
                Changes([EntryChange(("public", "carol"), None, None)], [], counted[1:], []),
            ]
        )
        assert (store.log_rows, store.commits) == (1, 1)
    again = WitnessStore(path)
    restored = await again.open(WITNESS.peer_id, NOW)
    await again.close()
    assert set(restored.entries) == {entry, first}
    assert restored.counted == (counted[0],)
    assert (restored.log_rows, restored.claims_from) == (1, 0)
    assert log_in(path) == [log]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_log_is_append_only(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    async with opened(path) as store:
        await store.commit([logged(Kind.CLAIMED)])
        with contextlib.closing(sqlite3.connect(path)) as database, pytest.raises(sqlite3.IntegrityError):
            database.execute("UPDATE log SET owner = 'mallory'")


async def test_others_read_while_it_is_written_and_after(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    async with opened(path) as store:
        await store.commit([held("alice"), logged(Kind.CLAIMED)])
        with open_for_reading(path) as database:
            assert witness_of(database) == str(WITNESS.peer_id)
            await store.commit([held("bob"), logged(Kind.CLAIMED, "bob", name="bob")])
            assert [entry.name for entry in read_entries(database)] == ["alice"]  # of one moment
            assert count_log(database) == 1
            with pytest.raises(sqlite3.OperationalError):
                database.execute("DELETE FROM log")
        with open_for_reading(path) as database:
            assert [entry.name for entry in read_entries(database)] == ["alice", "bob"]
    with open_for_reading(path) as database:
        assert len(list(read_log(database, name="bob"))) == 1
        assert [one.key for one in read_log(database, last=1)] == [("public", "bob")]
        assert list(read_counted(database)) == []


async def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    bad = Changes(counted=[Counted(ALICE, ("public", "x"), None, None)])  # type: ignore[arg-type]
    async with opened(path) as store:
        with pytest.raises(CannotWrite):
            await store.commit([held("alice"), logged(Kind.CLAIMED), bad])
        assert (store.log_rows, store.commits) == (0, 0)
        with open_for_reading(path) as database:
            assert list(read_entries(database)) == []
        await store.commit([held("bob")])


# Files that are not as they should be


@pytest.mark.parametrize("content", [b"not a database at all" * 300, b"SQLite format 3\x00" + b"\x07" * 9000])
async def test_a_damaged_file_is_set_aside_and_promises_nothing_new(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "witness.sqlite"
    path.write_bytes(content)
    store = WitnessStore(path)
    restored = await store.open(WITNESS.peer_id, NOW)
    await store.close()
    assert restored.claims_from == NOW + MAX_LEASE + KEPT_AFTER_EXPIRY
    (aside,) = tmp_path.glob("witness.sqlite.damaged-*")
    assert aside.read_bytes() == content
    again = await store.open(WITNESS.peer_id, NOW + 5)
    await store.close()
    assert again.claims_from == NOW + MAX_LEASE + KEPT_AFTER_EXPIRY


@pytest.mark.parametrize("harm", ["UPDATE entries SET owner = 'nobody'", "DROP TABLE meta", "DROP TABLE log"])
async def test_tables_that_cannot_be_read_are_damage_too(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "witness.sqlite"
    async with opened(path) as store:
        await store.commit([held("alice")])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(harm)
    store = WitnessStore(path)
    restored = await store.open(WITNESS.peer_id, NOW)
    await store.close()
    assert (restored.entries, restored.claims_from) == ((), NOW + MAX_LEASE + KEPT_AFTER_EXPIRY)


async def test_the_file_of_another_key_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    async with opened(path) as store:
        await store.commit([held("alice")])
    store = WitnessStore(path)
    restored = await store.open(person("another").peer_id, NOW)
    await store.close()
    assert (restored.entries, restored.claims_from) == ((), 0)
    assert len(list(tmp_path.glob("witness.sqlite.other-key-*"))) == 1


async def test_the_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    async with opened(path):
        pass
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 9")
    store = WitnessStore(path)
    with pytest.raises(StateTooNew):
        await store.open(WITNESS.peer_id, NOW)
    await store.close()
    with pytest.raises(StateTooNew), open_for_reading(path):
        pass


async def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = WitnessStore(tmp_path / "file" / "witness.sqlite")
    with pytest.raises(CannotWrite):
        await store.open(WITNESS.peer_id, NOW)
    await store.close()
    with pytest.raises(CannotWrite):
        await store.commit([held("alice")])
    with pytest.raises(CannotRead), open_for_reading(tmp_path / "none.sqlite"):
        pass
    (tmp_path / "text.sqlite").write_text("hello")
    with pytest.raises(CannotRead), open_for_reading(tmp_path / "text.sqlite"):
        pass


# Compaction


async def test_compaction_keeps_what_proves_something(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    late = NOW + 3 * DAY
    async with opened(path, StoreConfig(compact_rows=2)) as store:
        renewals = [logged(Kind.RENEWED, at=NOW + step, expires_at=NOW + DAY + step) for step in range(1, 8)]
        await store.commit(
            [
                logged(Kind.CLAIMED),
                *renewals,
                logged(Kind.RENEWED, at=late - 100, expires_at=late + DAY - 100),
                logged(Kind.RENEWED, at=late - 10, expires_at=late + DAY - 10),
            ]
        )
        assert await store.compact(late) == 7
        assert [one.at for one in log_in(path)] == [NOW, late - 100, late - 10]
        assert store.log_rows == 3
        over = late + DAY - 10 + 87_000 + 7 * DAY
        assert await store.compact(over) == 1  # the renewal before the last
        assert await store.compact(over + 1) == 2
        assert log_in(path) == []


async def test_compaction_takes_out_exactly_what_is_superseded(tmp_path: Path) -> None:
    """The statement of SQL and the rule in the log's module are one."""
    rng = random.Random(5)
    changes = [
        logged(
            rng.choice([Kind.RENEWED, Kind.RENEWED, Kind.CLAIMED, Kind.TRANSFERRED]),
            rng.choice(["alice", "bob"]),
            at=NOW + step,
            name=rng.choice(["alice", "carol"]),
            registered_at=NOW + rng.randrange(2),
            expires_at=NOW + DAY + rng.randrange(20),
            via=rng.choice([None, "0" * 64]),
        )
        for step in range(scale(400, least=120))
    ]
    log = [entry for change in changes for entry in change.log]
    left = [
        entry
        for at, entry in enumerate(log)
        if not any(is_superseded(entry, later) for later in log[at + 1 :])
    ]
    path = tmp_path / "witness.sqlite"
    async with opened(path, StoreConfig(compact_rows=7)) as store:
        await store.commit(changes)
        assert await store.compact(NOW + 3 * DAY) == len(log) - len(left)
    assert 0 < len(left) < len(log)
    assert log_in(path) == left


async def test_a_file_half_full_keeps_no_renewal_that_a_later_one_proves(tmp_path: Path) -> None:
    """Renewals of a day must not take the room that others need to renew."""
    path = tmp_path / "witness.sqlite"
    async with opened(path, StoreConfig(max_bytes=256 * 1024)) as store:
        await store.commit([logged(Kind.CLAIMED)])
        for step in range(1, 200):
            await store.commit([logged(Kind.RENEWED, at=NOW + step, expires_at=NOW + DAY + step)])
            if step == 50:
                assert await store.compact(NOW + 200) == 0
        assert await store.compact(NOW + 200) == 198
        assert [one.at for one in log_in(path)] == [NOW, NOW + 199]


async def test_a_name_in_use_keeps_all_its_evidence(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    year = NOW + 365 * DAY
    async with opened(path) as store:
        await store.commit(
            [
                logged(Kind.CLAIMED),
                logged(Kind.TAKEN_OVER, "bob", at=NOW + 400_000, registered_at=NOW + 400_000),
                logged(Kind.RENEWED, "bob", at=year, registered_at=NOW + 400_000, expires_at=year + DAY),
                logged(Kind.CLAIMED, "carol", name="carol"),
            ]
        )
        assert await store.compact(year) == 1
        assert len(log_in(path, "alice")) == 3


# The register: on disk before it leaves, one fsync for many


async def test_requests_that_come_together_share_a_transaction(tmp_path: Path) -> None:
    count = 40
    async with register(tmp_path / "w.sqlite", ManualClock(unix_now=NOW)) as (answering, store):
        await answering.ask(*claim("alice", "first-of-all"))
        before = store.commits
        answers = await asyncio.gather(
            *(answering.ask(*claim(f"owner {number}", f"name-{number}")) for number in range(count))
        )
        assert all(isinstance(answer, Receipt) for answer in answers)
        assert store.commits - before <= 3
        assert answering.receipts == {"claim": count + 1}
        assert (answering.entries, answering.provisional) == (count + 1, count + 1)


async def test_one_name_goes_to_one_of_those_who_ask_at_once(tmp_path: Path) -> None:
    async with register(tmp_path / "w.sqlite", ManualClock(unix_now=NOW)) as (answering, _):
        answers = await asyncio.gather(*(answering.ask(*claim(f"owner {number}")) for number in range(10)))
        assert sum(isinstance(answer, Receipt) for answer in answers) == 1


async def test_a_receipt_leaves_after_it_was_written(tmp_path: Path) -> None:
    """What a reader of the file sees at the moment of the answer holds the receipt already."""
    path = tmp_path / "w.sqlite"
    async with register(path, ManualClock(unix_now=NOW)) as (answering, _):
        for owner, name in (("alice", "alice"), ("bob", "bob")):
            given = await full(answering, owner, name)
            assert given in [logged.receipt for logged in log_in(path)]


async def test_after_a_restart_everything_holds(tmp_path: Path) -> None:
    clock, path = ManualClock(unix_now=NOW), tmp_path / "w.sqlite"
    async with register(path, clock) as (answering, _):
        given = await full(answering, "alice")
        for number in range(4):
            assert isinstance(await answering.ask(*claim("alice", f"name-{number}")), Receipt)
    async with register(path, clock) as (answering, _):
        taken = await answering.ask(*claim("bob"))
        assert taken == WitnessRefusal(Why.NAME_TAKEN, holder=ALICE, retry_after=DAY + 87_000)
        spent = await answering.ask(*claim("alice", "one-more"))
        assert isinstance(spent, WitnessRefusal)
        assert spent.error == "budget_owner"
        again = await answering.ask(*renewed(given, "alice"))
        assert isinstance(again, Receipt)
        assert again.first_seen == given.first_seen
        contested = await answering.ask(*claim("bob", "name-0"))
        assert isinstance(contested, WitnessRefusal)
        assert contested.error == "name_contested"
        caller = Caller(ALICE)
        dropping = WitnessRequest(Op.DROP, "public", "name-0", 0, NOW)
        assert await answering.ask(dropping, caller) == Dropped()
        clock.advance(600)
    async with register(path, clock) as (answering, _):
        assert isinstance(await answering.ask(*claim("bob", "name-0", clock.unix())), Receipt)
        assert answering.entries == 2  # the first claims of before went by themselves


async def test_a_full_disk_is_a_refusal_and_the_witness_lives_on(tmp_path: Path) -> None:
    path = tmp_path / "w.sqlite"
    async with register(path, ManualClock(unix_now=NOW), StoreConfig(max_bytes=200_000)) as (answering, _):
        given: dict[str, Receipt] = {}
        for number in range(1000):
            answer = await answering.ask(*claim(f"owner {number}", f"name-{number}"))
            if isinstance(answer, Receipt):
                answer = await answering.ask(*renewed(answer, f"owner {number}"))
            if not isinstance(answer, Receipt):
                break
            given[answer.name] = answer
        assert isinstance(answer, WitnessRefusal)
        assert (answer.error, answer.retry_after) == ("witness_full", 60)
        assert not answering.is_writable
        assert answering.failures == {"no_space": 1}
        assert len(given) > 20
        taken = await answering.ask(*claim("mallory", "name-0"))  # what it knows it still knows
        assert isinstance(taken, WitnessRefusal)
        assert (taken.error, taken.holder) == ("name_taken", given["name-0"].owner)
        entries = answering.entries
        assert {entry.receipt.name for entry in log_in(path)} == set(given)
    async with register(path, ManualClock(unix_now=NOW)) as (answering, _):
        assert answering.entries == entries
        assert isinstance(await answering.ask(*renewed(given["name-0"], "owner 0")), Receipt)
        assert answering.is_writable


async def test_too_many_who_wait_are_refused(tmp_path: Path) -> None:
    config = RegisterConfig(max_waiting=3, max_batch=2)
    async with register(tmp_path / "w.sqlite", ManualClock(unix_now=NOW), config=config) as (answering, _):
        answers = await asyncio.gather(
            *(answering.ask(*claim(f"owner {number}", f"name-{number}")) for number in range(8))
        )
        refused = [answer for answer in answers if isinstance(answer, WitnessRefusal)]
        assert {refusal.error for refusal in refused} == {"rate_limited"}
        assert len(refused) == 5
    assert isinstance(await answering.ask(*claim("alice")), WitnessRefusal)  # closed


@pytest.mark.parametrize("steps", range(4))
async def test_it_closes_at_any_moment_of_its_start(tmp_path: Path, steps: int) -> None:
    async with asyncio.timeout(20), register(tmp_path / "w.sqlite", ManualClock(unix_now=NOW)):
        for _ in range(steps):
            await asyncio.sleep(0)


async def test_who_gives_up_waiting_holds_nobody_up(tmp_path: Path) -> None:
    async with register(tmp_path / "w.sqlite", ManualClock(unix_now=NOW)) as (answering, _):
        asking = [asyncio.ensure_future(answering.ask(*claim("alice"))) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        answers: list[WitnessAnswer | BaseException] = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert all(isinstance(answer, Receipt) for answer in answers[1:])


# kill -9

_CHILD = """
import asyncio, sys
from pathlib import Path
from tests.unit.runtime.test_witness_store import NOW, full, register
from wws.testing.clock import ManualClock

async def main(path, seed):
    async with register(Path(path), ManualClock(unix_now=NOW)) as (answering, _):
        async def one(number):
            given = await full(answering, f"owner {seed} {number}", f"name-{seed}-{number}")
            print(given.name, given.signature.hex(), flush=True)
        number = 0
        while True:  # several at once, so that batches are cut in the middle
            await asyncio.gather(*(one(number + more) for more in range(4)))
            number += 4

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@pytest.mark.timeout(120)
async def test_no_receipt_that_left_is_forgotten_by_kill_9(tmp_path: Path) -> None:
    """A witness is killed at random moments; what its clients have heard is in the log and in the book."""
    path, rng = tmp_path / "w.sqlite", random.Random(5)
    heard: dict[str, str] = {}
    for seed in range(scale(40, least=4)):
        with subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(path), str(seed)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        ) as child:
            assert child.stdout is not None
            stop_after = rng.randint(1, 12)
            for count, line in enumerate(child.stdout, 1):
                name, signature = line.split()
                heard[name] = signature
                if count == stop_after:
                    child.send_signal(signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
        log = log_in(path)
        told = {logged.receipt.name: logged.receipt.signature.hex() for logged in log}
        assert heard.items() <= told.items()
        async with opened(path) as store:
            await store.commit([])
        with open_for_reading(path) as database:
            entries = {entry.key: entry for entry in read_entries(database)}
        for key, entry in replay(log).items():
            assert entries[key].owner == entry.owner
            assert entries[key].expires_at == entry.expires_at
    assert len(heard) > scale(40, least=4)
