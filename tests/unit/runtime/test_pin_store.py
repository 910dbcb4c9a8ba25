"""Pins on disk: several processes of one user share them."""

from pathlib import Path

import pytest

from wws.identity.keys import Identity
from wws.names.pins import Pins, PinsConfig
from wws.names.state import StateUnreadable
from wws.runtime.homes import Home
from wws.runtime.pin_store import PinStore

ALICE, BOB = (Identity.from_label(name).peer_id for name in ("alice", "bob"))
NOW = 1_790_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def pin(store: PinStore, name: str) -> None:
    store.use(lambda pins: pins.trust("example.org", "public", name, ALICE, NOW))


def known(store: PinStore) -> int:
    return store.use(len)


def test_what_one_process_pins_the_other_knows(home: Home) -> None:
    first, second = PinStore(home), PinStore(home)
    pin(first, "alice")
    assert known(second) == 1
    pin(second, "bob")
    pin(first, "carol")
    assert known(first) == known(second) == known(PinStore(home)) == 3


def test_only_a_change_is_written(home: Home) -> None:
    store = PinStore(home)
    assert known(store) == 0
    assert not home.known_names.exists()
    pin(store, "alice")
    before = home.known_names.stat()
    assert store.use(lambda pins: pins.find("example.org", "public", "alice")) is not None
    assert home.known_names.stat().st_ino == before.st_ino
    assert before.st_mode & 0o777 == 0o600


def test_work_that_fails_saves_nothing(home: Home) -> None:
    store = PinStore(home)
    pin(store, "alice")

    def fails(pins: Pins) -> None:
        pins.trust("example.org", "public", "bob", BOB, NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.use(fails)
    assert known(PinStore(home)) == 1
    assert known(store) == 1  # nor does this process believe it


def test_a_file_that_is_no_list_of_pins_guards_no_name_and_is_said(home: Home) -> None:
    store = PinStore(home)
    pin(store, "alice")
    home.known_names.write_text('{"schema": 1, "pins": [{"name": "alice"}]}')
    with pytest.raises(StateUnreadable):
        known(store)


def test_pins_that_were_removed_are_forgotten(home: Home) -> None:
    store = PinStore(home)
    pin(store, "alice")
    home.known_names.unlink()
    assert known(store) == 0


def test_as_many_pins_as_are_kept_are_read_again(home: Home) -> None:
    """A file that is larger than what is read counts as damaged, and the home would begin without pins."""
    most = PinsConfig().most
    domain = ".".join(["d" * 62] * 4)

    def fill(pins: Pins) -> None:
        for number in range(most):
            assert pins.trust(domain, "s" * 32, f"{'n' * 26}{number:06d}", BOB, NOW)

    PinStore(home).use(fill)
    assert PinStore(home).use(len) == most
