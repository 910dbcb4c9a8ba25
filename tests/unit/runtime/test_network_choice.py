"""Which network a node belongs to: the first that applies, and what stops the start."""

from pathlib import Path

import pytest

from wws.config.records import NetworkSettings, NodeConfig
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import (
    BootstrapWithoutPeerId,
    Network,
    NetworkBadSignature,
    NetworkUnknown,
    UnsignedNetwork,
)
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws.runtime.homes import Home
from wws.runtime.machine_errors import MachineError
from wws.runtime.network_choice import BootstrapMalformed, NetworkChoice, NoNetwork, choose_network
from wws.runtime.state_files import NetworkFiles

PUBLISHER = Identity.from_label("publisher")
KEY = PUBLISHER.public_key.hex()
PEER = f"/ip4/203.0.113.7/tcp/9000/p2p/{Identity.from_label('alice').peer_id}"


@pytest.fixture
def files(tmp_path: Path) -> NetworkFiles:
    return NetworkFiles(Home(tmp_path))


def save(files: NetworkFiles, name: str) -> None:
    network = Network(name, f"{name}.example.org", (PUBLISHER.public_key,), issued_at=1)
    files.write_file(name, network.to_file([PUBLISHER]))


def choose(
    files: NetworkFiles, net: str | None = None, *, allow_unsigned: bool = False, **settings: object
) -> NetworkChoice:
    config = NodeConfig(network=NetworkSettings(**settings))  # type: ignore[arg-type]
    return choose_network(net, config, files, allow_unsigned=allow_unsigned)


def test_the_order(files: NetworkFiles) -> None:
    """Each line leaves out what the one before was chosen by."""
    save(files, "lab")
    settings = {"domain": "set.example.org", "publishers": (KEY,), "bootstrap_peers": (PEER,)}
    assert choose(files, f"typed.example.org#{KEY}", **settings).network.domain == "typed.example.org"
    assert choose(files, **settings).network.domain == "set.example.org"
    assert choose(files, name="lab", bootstrap_peers=(PEER,)).network.domain == "lab.example.org"
    assert choose(files, bootstrap_peers=(PEER,)).network.domain == "lab.example.org"
    files.remove("lab")
    assert choose(files, bootstrap_peers=(PEER,)).network.is_ad_hoc
    with pytest.raises(NoNetwork) as none:
        choose(files)
    assert none.value.exit_code == 9
    assert choose(files, bootstrap_mode=True).network.is_ad_hoc  # it may begin one


def test_the_words_of_a_build_without_a_default_network(files: NetworkFiles) -> None:
    with pytest.raises(NoNetwork, match="This build has no default network") as none:
        choose(files)
    for way in ("--network <domain>#<publisher key>", "--network FILE.json", "--bootstrap /ip4/"):
        assert way in none.value.hint


OF_BUILD = Network("public", "public.example.org", (PUBLISHER.public_key,), issued_at=1)  # type: ignore[arg-type]


def with_build(files: NetworkFiles, net: str | None = None, **settings: object) -> tuple[str, str]:
    """The name of what is chosen where the build names a network, and what named it."""
    last = settings.pop("last_domain", None)
    config = NodeConfig(network=NetworkSettings(**settings))  # type: ignore[arg-type]
    choice = choose_network(
        net, config, files, allow_unsigned=False, default=OF_BUILD, last_domain=last and str(last)
    )
    return choice.network.name, choice.origin


def test_the_network_of_the_build_is_the_last_resort(files: NetworkFiles) -> None:
    assert with_build(files) == ("public", "build")
    assert with_build(files, bootstrap_mode=True) == ("public", "build")
    assert with_build(files, bootstrap_peers=(PEER,)) == ("public", "build")  # pinned beside it
    assert with_build(files, "ad-hoc", bootstrap_peers=(PEER,)) == ("ad-hoc", "bootstrap")
    assert with_build(files, "ad-hoc", bootstrap_mode=True) == ("ad-hoc", "bootstrap")
    assert with_build(files, name="ad-hoc", bootstrap_peers=(PEER,)) == ("ad-hoc", "bootstrap")
    assert with_build(files, name="ad-hoc", bootstrap_mode=True) == ("ad-hoc", "bootstrap")
    assert with_build(files, f"example.org#{KEY}", name="ad-hoc") == ("example.org", "argument")
    assert with_build(files, "public") == ("public", "build")
    assert with_build(files, name="public") == ("public", "build")
    assert with_build(files, f"example.org#{KEY}") == ("example.org", "argument")
    assert with_build(files, domain="example.org", publishers=(KEY,)) == ("example.org", "settings")
    save(files, "lab")
    assert with_build(files) == ("lab", "saved")
    assert with_build(files, "public") == ("public", "build")
    save(files, "home")
    with pytest.raises(NoNetwork, match="home, lab, and this build names public"):
        with_build(files)
    save(files, "public")
    assert with_build(files, "public") == ("public", "saved")
    for net, name in (("ad-hoc", None), (None, "ad-hoc")):
        with pytest.raises(NoNetwork, match="An ad hoc network"):
            with_build(files, net, name=name)
    settings = {"name": "ad-hoc", "domain": "example.org", "publishers": (KEY,)}
    assert with_build(files, **settings) == ("ad-hoc", "settings")  # what that domain is called


def settle(files: NetworkFiles, name: str, domain: str) -> None:
    entries = (BundleEntry(PUBLISHER.peer_id, "203.0.113.1", 9000),)
    bundle = Bundle(1, 1, 86_400, None, entries).sign(domain, [PUBLISHER])
    publishers = [PublisherKey(PUBLISHER.public_key)]
    files.raise_state(name, BundleState(domain, publishers, last=bundle).to_json())


def test_a_node_comes_back_to_where_it_was(files: NetworkFiles) -> None:
    """Joined by domain and key once; nothing is saved but what the signed list has settled."""
    settle(files, "example.org", "example.org")
    config = NodeConfig()
    choice = choose_network(None, config, files, allow_unsigned=False, last_domain="example.org")
    assert (choice.network.name, choice.origin) == ("example.org", "remembered")
    assert choice.network.publishers == (PUBLISHER.public_key,)
    with pytest.raises(NoNetwork, match="no network is known") as none:  # another node was never there
        choose_network(None, config, files, allow_unsigned=False)
    assert f"wws join --network example.org#{KEY}" in none.value.hint
    assert with_build(files, last_domain="example.org") == ("example.org", "remembered")
    assert with_build(files) == ("public", "build")
    assert with_build(files, last_domain="example.com") == ("public", "build")
    assert with_build(files, last_domain="example.org", bootstrap_mode=True) == ("public", "build")
    settle(files, "public", "public.example.org")
    assert with_build(files, last_domain="public.example.org") == ("public", "build")
    assert choose(files, bootstrap_peers=(PEER,)).network.is_ad_hoc
    save(files, "lab")
    assert with_build(files, last_domain="example.org") == ("lab", "saved")


def test_a_node_comes_back_to_one_of_several_saved_networks(files: NetworkFiles) -> None:
    for name in ("lab", "home"):
        save(files, name)
        settle(files, name, f"{name}.example.org")
    assert with_build(files, last_domain="home.example.org") == ("home", "saved")


def test_two_saved_networks_and_none_named(files: NetworkFiles) -> None:
    save(files, "lab")
    save(files, "home")
    with pytest.raises(NoNetwork, match="2 networks are saved: home, lab"):
        choose(files)
    assert choose(files, "home").network.name == "home"


def test_typed_peers_are_pinned_beside_a_network_and_are_no_part_of_it(files: NetworkFiles) -> None:
    save(files, "lab")
    choice = choose(files, bootstrap_peers=(PEER, PEER))
    assert [str(address) for address in choice.typed] == [PEER]
    assert choice.network.peers == ()


def test_a_bad_typed_peer_is_skipped_and_said(files: NetworkFiles) -> None:
    choice = choose(files, bootstrap_peers=("garbage", "/ip4/203.0.113.7/tcp/9000", PEER))
    assert [str(address) for address in choice.typed] == [PEER]
    assert len(choice.warnings) == 2
    assert choose(files, bootstrap_mode=True, bootstrap_peers=("garbage",)).network.is_ad_hoc


def test_nobody_signs_for_a_bare_domain(files: NetworkFiles) -> None:
    for net, settings in (("example.org", {}), (None, {"domain": "example.org"})):
        with pytest.raises(UnsignedNetwork):
            choose(files, net, **settings)
        choice = choose(files, net, allow_unsigned=True, **settings)
        assert choice.is_unsigned
        assert choice.network.domain == "example.org"
    assert not choose(files, f"example.org#{KEY}").is_unsigned
    assert not choose(files, bootstrap_peers=(PEER,)).is_unsigned  # the keys were typed, too


def test_a_network_file(files: NetworkFiles, tmp_path: Path) -> None:
    path = tmp_path / "lab.json"
    with pytest.raises(NetworkUnknown):
        choose(files, str(path))
    network = Network("lab", "lab.example.org", (PUBLISHER.public_key,), issued_at=1)
    data = network.to_file([PUBLISHER])
    path.write_bytes(data)
    assert choose(files, str(path)).network == network
    path.write_bytes(data.replace(b'"min_seq":0', b'"min_seq":1'))
    with pytest.raises(NetworkBadSignature):
        choose(files, str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(MachineError):
        choose(files, str(path))


def test_a_network_that_is_not_saved(files: NetworkFiles) -> None:
    for net, settings in (("lab", {}), (None, {"name": "lab"})):
        with pytest.raises(NetworkUnknown):
            choose(files, net, **settings)


def test_a_typed_peer_without_its_id_says_what_is_missing(files: NetworkFiles) -> None:
    with pytest.raises(BootstrapWithoutPeerId, match="/p2p/<PeerId>"):
        choose(files, bootstrap_peers=("/ip4/203.0.113.7/tcp/9000",))


@pytest.mark.parametrize("text", ["127.0.0.1:9000", "example.org", "", "/ip4/300.0.0.1/tcp/9000"])
def test_a_typed_peer_that_is_no_address_is_wrong_usage(files: NetworkFiles, text: str) -> None:
    with pytest.raises(BootstrapMalformed) as error:
        choose(files, bootstrap_peers=(text,))
    assert error.value.exit_code == 2
    assert "/ip4/127.0.0.1/tcp/9000/p2p/<PeerId>" in error.value.hint
    assert choose(files, bootstrap_peers=(text, PEER)).typed
