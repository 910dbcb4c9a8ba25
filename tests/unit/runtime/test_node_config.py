"""Every limit of the settings reaches the layer that keeps it."""

from dataclasses import fields, replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from wws.config.loading import load_config
from wws.config.records import LimitSettings, NetworkSettings, NodeConfig
from wws.runtime import node_config
from wws.runtime.node_config import dialer_config, dns_config, host_config, kademlia_config

MAPPINGS = [
    getattr(node_config, name)
    for name in dir(node_config)
    if name.endswith("_config") and getattr(node_config, name).__module__ == node_config.__name__
]
ELSEWHERE = ("rpc_", "http_", "drain_timeout")
"""Limits of the local interfaces: their servers take them from the settings themselves."""


def changed(value: object) -> object:
    """Another valid value of the same kind."""
    return ("192.0.2.0/24",) if isinstance(value, tuple) else value * 2  # type: ignore[operator]


@pytest.mark.parametrize("name", [f.name for f in fields(LimitSettings) if not f.name.startswith(ELSEWHERE)])
def test_each_limit_has_an_effect(name: str) -> None:
    before = NodeConfig()
    limits = replace(before.limits, **{name: changed(getattr(before.limits, name))})
    after = replace(before, limits=limits)
    assert any(mapping(before) != mapping(after) for mapping in MAPPINGS)


def test_the_limits_of_an_agent_are_those_of_the_contract(tmp_path: Path) -> None:
    config = host_config(load_config({}, {}, file=tmp_path / "none"))
    assert config.admission.accepts_per_second == 100
    assert config.admission.accepts_per_second_prefix == 10
    assert config.admission.max_per_prefix == 32
    assert config.admission.max_connections == 256 + config.max_half_open
    assert config.phase_timeout == config.connection.handshake_timeout == 10
    assert config.table.high_water == 256
    assert config.table.low_water < config.table.high_water
    assert config.admission.prefix_exempt is not None
    assert ip_network("10.0.0.0/8") in config.admission.prefix_exempt


def test_the_limits_of_a_bootstrap_node_are_those_of_the_contract(tmp_path: Path) -> None:
    config = host_config(load_config({"network.bootstrap_mode": True}, {}, file=tmp_path / "none"))
    assert config.admission.accepts_per_second == 1000
    assert config.admission.accepts_per_second_prefix == 100
    assert config.admission.max_per_prefix == 512
    assert config.table.high_water == 10_000
    assert config.peers.max_peers > 10_000


def test_who_names_dns_servers_asks_no_other() -> None:
    network = NetworkSettings(dns_servers=("127.0.0.1:5300",), doh_servers=("https://192.0.2.1/dns-query",))
    assert dns_config(NodeConfig(network=network)).doh_servers == ()
    assert dns_config(NodeConfig(network=replace(network, dns_servers=()))).doh_servers == network.doh_servers


def test_a_smallest_node_still_trims_and_dials() -> None:
    config = NodeConfig(network=NetworkSettings(max_peers=1))
    assert host_config(config).table.low_water == 1
    assert dialer_config(config).max_concurrent > 0
    assert kademlia_config(config).max_operations > 0


@pytest.mark.parametrize("bootstrap", [False, True])
def test_what_is_kept_for_peers_fits_what_one_connection_may_hold(tmp_path: Path, bootstrap: bool) -> None:
    config = host_config(load_config({"network.bootstrap_mode": bootstrap}, {}, file=tmp_path / "none"))
    memory, yamux = config.memory, config.connection.yamux
    assert yamux.max_unread + 2 * yamux.max_buffered < memory.per_peer < memory.per_group < memory.total
    connections = config.admission.max_connections * memory.connection
    assert connections < memory.total * memory.relief
    store = kademlia_config(NodeConfig(network=NetworkSettings(bootstrap_mode=bootstrap))).store
    elsewhere = store.max_bytes + store.max_provider_bytes + config.peers.max_bytes
    assert elsewhere < memory.total * (1 - memory.least_share)


def test_a_bootstrap_node_of_ten_thousand_connections_stays_within_512_megabytes(tmp_path: Path) -> None:
    """What peers can make it keep, and what a node takes by itself (50 MB, docs/benchmarks.md)."""
    config = host_config(load_config({"network.bootstrap_mode": True}, {}, file=tmp_path / "none"))
    assert config.memory.total + 60 * 1024 * 1024 <= 512 * 1024 * 1024
    assert config.table.high_water >= 10_000
