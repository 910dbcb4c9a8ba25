"""What the DHT asks of a kind of records."""

from __future__ import annotations

import pytest

from wws.names import errors
from wws.names.kinds import KindsConfig, NameRecords, ParsedRecords, PeerRecords
from wws.names.record import NameRecord, name_key
from wws.testing.names import NOW, name_record, peer_record, person

KEY = name_key("alice")
ALICE, BOB = name_record("alice"), name_record("bob", registered_at=NOW + 1, witnesses=["w1"])


def test_name_records() -> None:
    kind = NameRecords()
    assert kind.prefix == "/wws/names/"
    kind.validate(KEY, ALICE.value, NOW)
    assert kind.select(KEY, [BOB.value, ALICE.value], NOW) == 1
    assert kind.keep_until(KEY, ALICE.value) == ALICE.expires_at + 87_000
    assert kind.publisher(KEY, ALICE.value) == person("alice").peer_id
    with pytest.raises(errors.RecordKeyMismatch):
        kind.validate(name_key("bob"), ALICE.value, NOW)


def test_the_witnesses_are_those_of_the_moment() -> None:
    sets = [(frozenset[object](), frozenset[object]())]
    kind = NameRecords(lambda: sets[0])  # type: ignore[arg-type, return-value]
    assert kind.select(KEY, [ALICE.value, BOB.value], NOW) == 0
    sets[0] = (frozenset({person("w1").peer_id}), frozenset())
    assert kind.select(KEY, [ALICE.value, BOB.value], NOW) == 1
    sets[0] = (frozenset({person("w2").peer_id}), frozenset({person("w1").peer_id}))
    assert kind.select(KEY, [ALICE.value, BOB.value], NOW) == 1


def test_a_remembered_record_is_still_judged_by_the_clock_and_the_key() -> None:
    kind = NameRecords()
    kind.validate(KEY, ALICE.value, NOW)
    with pytest.raises(errors.RecordFromFuture):
        kind.validate(KEY, ALICE.value, NOW - 301)
    peers = PeerRecords()
    record = peer_record("alice")
    peers.validate(record.key, record.value, NOW)
    with pytest.raises(errors.RecordExpired):
        peers.validate(record.key, record.value, NOW + 86_700)


def test_peer_records() -> None:
    kind = PeerRecords()
    old, new = peer_record("alice"), peer_record("alice", issued_at=NOW + 9)
    assert kind.prefix == "/wws/peers/"
    kind.validate(old.key, old.value, NOW)
    assert kind.select(old.key, [old.value, new.value], NOW) == 1
    assert kind.keep_until(old.key, old.value) == old.expires_at + 300
    assert kind.publisher(old.key, old.value) == person("alice").peer_id


def test_memory_is_bounded_and_parses_once() -> None:
    calls: list[bytes] = []

    def parse(value: bytes) -> NameRecord:
        calls.append(value)
        return NameRecord.parse(value)

    records = ParsedRecords(parse, 2)
    one, two, three = (name_record("alice", issued_at=NOW + n).value for n in range(3))
    for value in (one, one, two, one, three, one):
        records.parse(value)
    assert calls == [one, two, three]
    assert len(records) == 2
    records.parse(two)
    assert calls == [one, two, three, two]
    with pytest.raises(errors.RecordNotCanonical):
        records.parse(b"x")
    assert len(records) == 2


def test_the_bound_is_a_setting() -> None:
    kind = NameRecords(config=KindsConfig(remembered=1))
    for number in range(3):
        kind.validate(KEY, name_record("alice", issued_at=NOW + number).value, NOW)
    assert len(kind._parsed) == 1
