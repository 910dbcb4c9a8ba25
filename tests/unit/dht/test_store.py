"""What is kept, what is refused, and what makes room for what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.dht.positions import position_of_key
from wws.dht.store import (
    BadRecord,
    ExpiredRecord,
    Outcome,
    ProviderStore,
    PublisherQuota,
    RecordStore,
    SenderQuota,
    StoreConfig,
    StoreFull,
    StoreRefused,
    UnknownNamespace,
    ValueTooLarge,
)
from wws.identity.keys import Identity
from wws.testing.notes import PREFIX, Notes, note_key, write_note

ALICE, BOB, CAROL = (Identity.from_label(name) for name in ("alice", "bob", "carol"))
UNIX = 1_800_000_000
LOCAL = CAROL.peer_id


def store(config: StoreConfig | None = None) -> RecordStore:
    return RecordStore(LOCAL, {PREFIX: Notes()}, config)


def note(
    label: str = "x", *, author: Identity = ALICE, seq: int = 1, text: str = "text", lifetime: int = 3600
) -> tuple[bytes, bytes]:
    key = note_key(label)
    return key.encode(), write_note(author, key, text, seq=seq, expires_at=UNIX + lifetime)


def by_distance(count: int) -> list[str]:
    """Labels of notes, nearest to the store's own position first."""
    labels = [str(number) for number in range(count)]
    return sorted(labels, key=lambda label: position_of_key(note_key(label).encode()) ^ LOCAL.position)


def test_only_select_decides_what_is_kept() -> None:
    records = store()
    key, old = note(seq=1)
    _, new = note(seq=2)
    assert records.offer(key, old, BOB.peer_id, UNIX) is Outcome.STORED
    assert records.offer(key, old, BOB.peer_id, UNIX) is Outcome.HELD
    assert records.offer(key, new, BOB.peer_id, UNIX) is Outcome.STORED
    assert records.offer(key, old, ALICE.peer_id, UNIX) is Outcome.LOST
    assert records.find(key, UNIX) == new
    assert len(records) == 1
    assert records.bytes_held == len(key) + len(new)


@given(st.permutations(range(6)))
def test_the_order_of_arrival_does_not_matter(order: list[int]) -> None:
    records = store()
    notes = [note(seq=1 + number // 2, text=str(number)) for number in range(6)]
    for number in order:
        records.offer(*notes[number], BOB.peer_id, UNIX)
    winner = Notes().select("", [value for _, value in notes], UNIX)
    assert records.find(notes[0][0], UNIX) == notes[winner][1]


def test_an_expired_value_gives_way_to_any_and_is_not_shown() -> None:
    records = store()
    key, brief = note(seq=9, lifetime=10)
    _, lasting = note(seq=1)
    records.offer(key, brief, BOB.peer_id, UNIX)
    assert records.find(key, UNIX + 10) is None
    assert records.offer(key, lasting, BOB.peer_id, UNIX + 10) is Outcome.STORED
    assert records.expire(UNIX + 11) == 0, "the entry of the replaced one drops nothing"
    assert records.expire(UNIX + 3600) == 1
    assert len(records) == records.bytes_held == 0


KEY, VALUE = note()
REFUSED: list[tuple[bytes, bytes, type[StoreRefused]]] = [
    (b"/ipns/x", VALUE, UnknownNamespace),
    (b"\xff\xfe", VALUE, UnknownNamespace),
    (KEY, b"", BadRecord),
    (KEY, VALUE + b"!", BadRecord),
    (note_key("y").encode(), VALUE, BadRecord),
    (KEY, b"x" * 8193, ValueTooLarge),
]


@pytest.mark.parametrize("key, value, error", REFUSED)
def test_what_is_refused_leaves_no_trace(key: bytes, value: bytes, error: type[StoreRefused]) -> None:
    records = store()
    with pytest.raises(error) as caught:
        records.offer(key, value, BOB.peer_id, UNIX)
    assert caught.value.code != StoreRefused.code
    assert len(records) == records.bytes_held == 0


class Lingering(Notes):
    """Notes that validate after their time, as a record in its grace does."""

    def validate(self, key: str, value: bytes, unix_now: int) -> None:
        super().validate(key, value, 0)


def test_what_holders_must_not_keep_is_refused_even_if_valid() -> None:
    records = RecordStore(LOCAL, {PREFIX: Lingering()})
    with pytest.raises(ExpiredRecord):
        records.offer(KEY, VALUE, BOB.peer_id, UNIX + 3600)


def test_one_publisher_and_one_sender_have_their_bounds() -> None:
    records = store(StoreConfig(max_per_publisher=2, max_per_sender=3))
    for label in "ab":
        records.offer(*note(label), BOB.peer_id, UNIX)
    with pytest.raises(PublisherQuota):
        records.offer(*note("c"), BOB.peer_id, UNIX)
    assert records.offer(*note("a", seq=2), BOB.peer_id, UNIX) is Outcome.STORED, "a renewal is no new record"
    records.offer(*note("c", author=BOB), BOB.peer_id, UNIX)
    with pytest.raises(SenderQuota):
        records.offer(*note("d", author=BOB), BOB.peer_id, UNIX)
    records.drop(note("a")[0])
    assert records.offer(*note("d"), BOB.peer_id, UNIX) is Outcome.STORED
    for label in "efgh":
        assert records.offer(*note(label, author=CAROL), LOCAL, UNIX) is Outcome.STORED, "our own are exempt"


def test_a_full_store_keeps_the_nearest_and_its_own() -> None:
    records = store(StoreConfig(max_records=4))
    labels = by_distance(9)
    own = note(labels[8], author=CAROL)
    records.offer(*own, LOCAL, UNIX)
    for label in labels[2:5]:
        records.offer(*note(label), BOB.peer_id, UNIX)
    with pytest.raises(StoreFull):
        records.offer(*note(labels[6]), BOB.peer_id, UNIX)
    records.offer(*note(labels[0]), BOB.peer_id, UNIX)
    held = {record.key for record in records}
    assert held == {own[0], *(note(label)[0] for label in (labels[0], labels[2], labels[3]))}


def test_bytes_are_bounded_too() -> None:
    size = sum(map(len, note()))
    records = store(StoreConfig(max_bytes=2 * size))
    labels = by_distance(3)
    for label in (labels[1], labels[2]):
        records.offer(*note(label), BOB.peer_id, UNIX)
    records.offer(*note(labels[0]), BOB.peer_id, UNIX)
    assert records.bytes_held == 2 * size
    with pytest.raises(StoreFull):
        records.offer(*note(labels[1], seq=2, text="x" * (2 * size)), BOB.peer_id, UNIX)


def test_many_renewals_leave_no_heap_behind() -> None:
    records = store()
    for seq in range(500):
        records.offer(*note(seq=seq), BOB.peer_id, UNIX)
    assert len(records._expiries) < 100


def test_providers_are_bounded_and_forgotten() -> None:
    providers = ProviderStore(
        StoreConfig(max_provided_keys=2, max_providers=2, max_keys_per_provider=2, provider_lifetime=100)
    )
    alice, bob, carol = ALICE.peer_id, BOB.peer_id, CAROL.peer_id
    assert providers.add(b"1", alice, (), 0)
    assert providers.add(b"2", alice, (), 0)
    assert not providers.add(b"3", alice, (), 0), "two keys of one provider"
    assert not providers.add(b"3", bob, (), 0), "two keys in all"
    assert providers.add(b"1", bob, (), 50)
    assert not providers.add(b"1", carol, (), 50), "two providers of a key"
    assert [peer.peer_id for peer in providers.find(b"1", 99)] == [alice, bob]
    assert [peer.peer_id for peer in providers.find(b"1", 100)] == [bob]
    assert providers.add(b"1", alice, (), 90), "one who repeats itself stays"
    assert providers.expire(100) == 1
    assert len(providers) == 1
    providers.remove(b"1", alice)
    providers.remove(b"1", carol)
    assert providers.add(b"4", alice, (), 100)
    assert providers.expire(1000) == 2
    assert len(providers) == 0
