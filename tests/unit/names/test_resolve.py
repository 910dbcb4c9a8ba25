"""From what a look-up found to an answer (contract.md section 2; wire.md section 4)."""

from __future__ import annotations

import pytest

from wws.names.kinds import NameRecords, PeerRecords
from wws.names.pins import Pins, PinsConfig
from wws.names.resolve import (
    NameNotFound,
    NameNotPinned,
    NameReleased,
    OwnerChanged,
    PeerNotFound,
    Resolved,
    resolve_name,
    resolve_peer,
    target_key,
)
from wws.names.uri import DidTarget, NameTarget, PeerTarget
from wws.testing.names import ADDRESS, NOW, name_record, peer_record, person, transfer

TARGET = NameTarget("alice")
ALICE = person("alice").peer_id
WITNESSED = NameRecords(lambda: (frozenset({person("w1").peer_id}), frozenset()))


def resolve(
    value: bytes | None,
    pins: Pins,
    unix_now: int = NOW,
    *,
    kind: NameRecords | None = None,
    only_pinned: bool = False,
) -> Resolved:
    return resolve_name(
        TARGET, value, unix_now, kind=kind or NameRecords(), pins=pins, domain="", only_pinned=only_pinned
    )


def test_a_first_answer_pins_and_says_what_it_rests_on() -> None:
    pins = Pins()
    record = name_record("alice")
    assert resolve(record.value, pins) == Resolved(
        name="alice",
        swarm="public",
        peer_id=ALICE,
        addresses=(ADDRESS.with_peer(ALICE),),
        expires_at=record.expires_at,
        pinned=True,
        warnings=("unwitnessed_first_pin",),
    )
    assert resolve(record.value, pins).warnings == ()


def test_a_name_like_one_that_is_pinned_is_told_at_its_first_use() -> None:
    pins = Pins()
    pins.trust("", "public", "a1ice", person("mallory").peer_id, NOW)
    pins.trust("", "lab", "al1ce", person("mallory").peer_id, NOW)
    pins.trust("other.org", "public", "alicee", person("mallory").peer_id, NOW)
    record = name_record("alice")
    assert resolve(record.value, pins).looks_like == "a1ice"
    assert resolve(record.value, pins).looks_like is None


def test_a_witnessed_first_answer_needs_no_warning() -> None:
    answer = resolve(name_record("alice", witnesses=["w1"]).value, Pins(), kind=WITNESSED)
    assert answer.witnessed
    assert answer.warnings == ()


def test_stale_in_grace_and_gone_after() -> None:
    record = name_record("alice")
    assert not resolve(record.value, Pins(), record.expires_at - 1).stale
    answer = resolve(record.value, Pins(), record.expires_at)
    assert answer.stale
    assert "stale" in answer.warnings
    with pytest.raises(NameNotFound):
        resolve(record.value, Pins(), record.dead_at)


@pytest.mark.parametrize("value", [None, b"garbage", name_record("bob", name="bob").value])
def test_not_found(value: bytes | None) -> None:
    pins = Pins()
    with pytest.raises(NameNotFound) as error:
        resolve(value, pins)
    assert error.value.code == "name_not_found"
    assert len(pins) == 0


def test_released() -> None:
    record = name_record("alice", released=True)
    pins = Pins()
    with pytest.raises(NameReleased) as error:
        resolve(record.value, pins)
    assert error.value.code == "name_released"
    assert error.value.free_at == record.dead_at
    assert len(pins) == 0


def test_another_owner_is_an_error_without_addresses() -> None:
    pins = Pins()
    resolve(name_record("alice").value, pins)
    with pytest.raises(OwnerChanged) as error:
        resolve(name_record("bob").value, pins)
    assert error.value.code == "owner_changed"
    assert (error.value.pinned, error.value.found) == (ALICE, person("bob").peer_id)
    assert not hasattr(error.value, "addresses")
    assert "wws name trust" in error.value.hint


def test_a_transfer_moves_the_pin_and_the_answer_says_so() -> None:
    pins = Pins()
    resolve(name_record("alice").value, pins)
    given = name_record("bob", issued_at=NOW + 9, transfers=[transfer("alice", "bob", seq=NOW)])
    answer = resolve(given.value, pins, NOW + 9)
    assert answer.owner_changed
    assert answer.peer_id == person("bob").peer_id
    assert answer.warnings == ("pin_moved",)
    assert not resolve(given.value, pins, NOW + 9).owner_changed


def test_without_entry_points_only_pinned_names_resolve() -> None:
    pins, record = Pins(), name_record("alice")
    with pytest.raises(NameNotPinned):
        resolve(record.value, pins, only_pinned=True)
    resolve(record.value, pins)
    assert resolve(record.value, pins, only_pinned=True).peer_id == ALICE


def test_full_pins_still_resolve_and_say_so() -> None:
    answer = resolve(name_record("alice").value, Pins(PinsConfig(most=0)))
    assert not answer.pinned
    assert answer.warnings == ("pins_full",)


def test_eight_addresses_are_dialled() -> None:
    addresses = [ADDRESS.with_port(port) for port in range(1, 17)]
    answer = resolve(name_record("alice", addresses=addresses).value, Pins())
    assert len(answer.addresses) == 16
    assert answer.dialled == answer.addresses[:8]


def test_a_did_and_a_peer_id() -> None:
    record = peer_record("alice")
    for target in (DidTarget(ALICE.did), PeerTarget(ALICE)):
        assert target_key(target) == record.key
        answer = resolve_peer(target, record.value, NOW, kind=PeerRecords())
        assert (answer.name, answer.swarm, answer.peer_id) == (None, None, ALICE)
        for value, unix_now in (
            (None, NOW),
            (record.value, record.expires_at),
            (peer_record("bob").value, NOW),
        ):
            with pytest.raises(PeerNotFound) as error:
                resolve_peer(target, value, unix_now, kind=PeerRecords())
            assert error.value.code == "peer_not_found"
            assert str(error.value).startswith(ALICE.did if target == DidTarget(ALICE.did) else str(ALICE))


def test_target_key_of_a_name() -> None:
    assert target_key(NameTarget("alice", "lab")) == name_record("alice", swarm="lab").key
