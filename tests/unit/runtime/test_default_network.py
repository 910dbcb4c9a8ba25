"""The network of a build: verified each time, and never believed before what the home has settled."""

import json
import time
from pathlib import Path

import pytest

from tests.stamped import stamp_of
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws.runtime.default_network import DefaultNetwork, DefaultNetworkRefused, carry_over, default_network
from wws.runtime.homes import Home
from wws.runtime.state_files import NetworkFiles
from wws.stamp import Stamp, parse_stamp

ALICE, BOB, CAROL, DAVE = (Identity.from_label(name) for name in ("alice", "bob", "carol", "dave"))
NOW = int(time.time())


def file_of(*publishers: Identity, signers: tuple[Identity, ...] = (), issued_at: int = NOW) -> bytes:
    keys = tuple(PublisherKey(one.public_key) for one in publishers)
    network = Network("example.org", "example.org", keys, issued_at=issued_at)
    return network.to_file(signers or publishers)


def build(data: bytes | None) -> Stamp:
    return parse_stamp(json.dumps(stamp_of(network=data)).encode())


def default(data: bytes) -> DefaultNetwork:
    found = default_network(build(data))
    assert found is not None
    return found


@pytest.fixture
def files(tmp_path: Path) -> NetworkFiles:
    return NetworkFiles(Home(tmp_path))


def pin(files: NetworkFiles, *keys: Identity, seq: int = NOW - 1000) -> None:
    entries = (BundleEntry(BOB.peer_id, "203.0.113.1", 9000),)
    bundle = Bundle(seq, seq, seq + 86_400, None, entries).sign("example.org", keys)
    publishers = [PublisherKey(one.public_key) for one in keys]
    files.raise_state("example.org", BundleState("example.org", publishers, last=bundle).to_json())


def pinned(files: NetworkFiles) -> set[bytes]:
    value = files.read_state("example.org")
    assert value is not None
    return set(BundleState.from_json(value).keys)


def public(*identities: Identity) -> set[bytes]:
    return {one.public_key for one in identities}


def test_a_build_without_one() -> None:
    assert default_network(build(None)) is None
    assert default_network() is None, "the sources name no network"


def test_the_stamp_keeps_what_was_signed() -> None:
    found = default(file_of(ALICE, BOB, signers=(ALICE,)))
    assert found.data == file_of(ALICE, BOB, signers=(ALICE,))
    assert (found.network.name, set(found.network.publishers)) == ("example.org", public(ALICE, BOB))


def test_it_is_verified_again_when_it_is_used() -> None:
    value = stamp_of(network=file_of(ALICE))
    changed = json.loads(json.dumps(value).replace("example.org", "example.com"))
    with pytest.raises(DefaultNetworkRefused, match="does not verify"):
        default_network(parse_stamp(json.dumps(changed).encode()))
    unsigned = Network("example.org", "example.org").to_file()
    with pytest.raises(DefaultNetworkRefused, match="nobody has signed"):
        default_network(build(unsigned))
    deep: object = 1
    for _ in range(5_000):
        deep = [deep]
    for network in ({"v": 1.5}, {"v": 2}, {"v": float("nan")}, {"peers": [None]}, {"\ud800": 1}, {"v": deep}):
        with pytest.raises(DefaultNetworkRefused):
            default_network(Stamp(network=network))  # type: ignore[arg-type]


def test_a_home_that_knows_nothing_begins_with_the_keys_of_the_build(files: NetworkFiles) -> None:
    assert carry_over(default(file_of(ALICE)), files) == ()
    assert files.read_state("example.org") is None


def test_the_same_keys_are_no_change(files: NetworkFiles) -> None:
    pin(files, ALICE, BOB)
    assert carry_over(default(file_of(BOB, ALICE)), files) == ()
    assert pinned(files) == public(ALICE, BOB)


@pytest.mark.parametrize(
    "before, after, signers",
    [
        ((ALICE,), (BOB,), (ALICE, BOB)),
        ((ALICE,), (ALICE, BOB), (ALICE,)),
        ((ALICE, BOB, CAROL), (BOB, CAROL, DAVE), (BOB, CAROL)),
    ],
)
def test_an_update_brings_the_keys_that_the_pinned_ones_have_signed_for(
    files: NetworkFiles,
    before: tuple[Identity, ...],
    after: tuple[Identity, ...],
    signers: tuple[Identity, ...],
) -> None:
    pin(files, *before)
    assert carry_over(default(file_of(*after, signers=signers)), files) == ()
    assert pinned(files) == public(*after)


@pytest.mark.parametrize(
    "before, after, signers",
    [
        ((ALICE,), (BOB,), (BOB,)),
        ((ALICE, BOB), (BOB, CAROL), (BOB, CAROL)),
        ((ALICE, BOB, CAROL), (CAROL, DAVE), (CAROL, DAVE)),
    ],
)
def test_a_build_alone_does_not_change_the_keys_of_a_home(
    files: NetworkFiles,
    before: tuple[Identity, ...],
    after: tuple[Identity, ...],
    signers: tuple[Identity, ...],
) -> None:
    pin(files, *before)
    (warning,) = carry_over(default(file_of(*after, signers=signers)), files)
    assert "wws network remove example.org" in warning
    assert pinned(files) == public(*before)


def test_an_older_build_does_not_bring_back_older_keys(files: NetworkFiles) -> None:
    pin(files, BOB, seq=NOW)
    assert carry_over(default(file_of(ALICE, signers=(ALICE, BOB), issued_at=NOW - 1)), files) == ()
    assert pinned(files) == public(BOB)


def test_a_state_of_another_domain_is_left_to_who_reads_it(files: NetworkFiles) -> None:
    state = BundleState("example.com", [PublisherKey(ALICE.public_key)])
    files.raise_state("example.org", state.to_json())
    assert carry_over(default(file_of(BOB)), files) == ()
    assert pinned(files) == public(ALICE)
