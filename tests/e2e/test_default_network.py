"""A released build: `wws join` without a network joins the one that was stamped into it."""

import re
import time

import pytest

from tests.e2e.programs import Programs
from tests.e2e.seed_scripts import LOOPBACK, bootstrap_node, put_on_path
from tests.stamped import stamp_of, stamped
from wws.addresses.multiaddr import Multiaddr
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity

PUBLISHER = Identity.from_label("publisher")
NET = f"example.org#{PUBLISHER.public_key.hex()}"


def network_file(*addresses: str) -> bytes:
    peers = tuple(map(Multiaddr.parse, addresses))
    keys = (PublisherKey(PUBLISHER.public_key),)
    return Network("example.org", "example.org", keys, peers, issued_at=int(time.time())).to_file([PUBLISHER])


@pytest.mark.net
def test_join_in_a_build_with_a_default_network(programs: Programs) -> None:
    """DNS is off: the pinned peers of the build lead in. A running node is not asked to change."""
    env = {**put_on_path(programs), "WWS_NETWORK_AUTO_DISCOVER_BOOTSTRAP": "false"}
    variables = {name: value for name, value in env.items() if name.startswith("WWS_")}
    with bootstrap_node(programs, env, "boot", "--network", NET) as address:
        build = stamped(programs.folder / "build", stamp_of(commit="0123456", network=network_file(address)))
        variables["PYTHONPATH"] = build
        joined = programs.json("join", "--listen", LOOPBACK, **variables)["data"]
        assert (joined["joined"], joined["network"]) == (True, "example.org")
        assert (joined["source"], joined["network_origin"]) == ("pinned", "build")
        said = programs.wws("join", **variables)
        assert said.returncode == 0
        assert re.search(
            r"^network +example\.org, the default of this build, found", said.stdout, re.MULTILINE
        )
        (shown,) = programs.json("network", "show", **variables)["data"]["networks"]
        assert (shown["origin"], shown["peers"]) == ("build", [address])
        assert programs.json("join", "--network", "example.org", **variables)["data"]["already_running"]
        other = programs.json("join", "--network", "ad-hoc", exit_code=2, **variables)
        assert other["errors"][0]["code"] == "other_network"
        programs.json("leave", **variables)

        adhoc = programs.json(
            *("join", "--network", "ad-hoc", "--bootstrap", address, "--listen", LOOPBACK, "--node", "other"),
            **variables,
        )["data"]
        assert (adhoc["ad_hoc"], adhoc["network"]) == (True, None)
        again = programs.json("join", "--network", "ad-hoc", "--node", "other", **variables)["data"]
        assert again["already_running"]
        programs.json("leave", "--node", "other", **variables)


@pytest.mark.net
def test_a_build_whose_network_was_changed_joins_nothing(programs: Programs) -> None:
    peer = Identity.from_label("alice").peer_id
    stamp = stamp_of(network=network_file(f"/ip4/127.0.0.1/tcp/9/p2p/{peer}"))
    stamp["network"] = {**stamp["network"], "domain": "example.com"}  # type: ignore[dict-item]
    build = stamped(programs.folder / "build", stamp)
    refused = programs.json("join", exit_code=8, PYTHONPATH=build)
    assert refused["errors"][0]["code"] == "default_network_refused"
    assert programs.running() == []


@pytest.mark.net
def test_a_build_without_a_default_network_says_so_at_once(programs: Programs) -> None:
    refused = programs.json("join", exit_code=9)
    (error,) = refused["errors"]
    assert error["code"] == "no_network"
    assert "This build has no default network" in error["message"]
    for way in ("--network <domain>#<publisher key>", "--network FILE.json", "--bootstrap /ip4/"):
        assert way in error["hint"]
    assert programs.running() == []
