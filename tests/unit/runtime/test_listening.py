"""Where a node listens: what is skipped, what stops the start, and the port that is kept."""

import random
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from wws.config.records import NetworkSettings, NodeConfig
from wws.identity.keys import Identity
from wws.runtime.clock import SystemClock
from wws.runtime.homes import Home
from wws.runtime.host import Host, HostConfig
from wws.runtime.listening import CannotListen, open_listeners
from wws.runtime.machine_errors import PortTaken
from wws.runtime.quic_transport import QuicTransport
from wws.runtime.state_files import PortFile

pytestmark = pytest.mark.net

LOOPBACK = "/ip4/127.0.0.1/tcp/0"
QUIC = "/ip4/127.0.0.1/udp/0/quic-v1"


def new_host() -> Host:
    host = Host(Identity.from_label("alice"), HostConfig(), clock=SystemClock(), rng=random.Random(1))
    host.quic = QuicTransport(host, host.identity)
    return host


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = new_host()
    yield host
    await host.close()


@pytest.fixture
def port_file(tmp_path: Path) -> PortFile:
    return PortFile(Home(tmp_path).node("alice"))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on, on every interface."""
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        yield other.getsockname()[1]


def asked(*addresses: str, sources: dict[str, str] | None = None, **settings: bool) -> NodeConfig:
    chosen = {"network.listen": "flag --listen"} if sources is None else sources
    return NodeConfig(network=NetworkSettings(listen=addresses, **settings), sources=chosen)  # type: ignore[arg-type]


async def test_what_was_asked_for_is_opened(host: Host, port_file: PortFile) -> None:
    assert await open_listeners(host, asked(LOOPBACK, LOOPBACK), port_file) == []
    assert [address.host for address in host.listen_addresses] == ["127.0.0.1"] * 2
    assert all(address.port for address in host.listen_addresses)
    assert port_file.read() is None


async def test_quic_is_opened_beside_tcp(host: Host, port_file: PortFile) -> None:
    assert await open_listeners(host, asked(QUIC, LOOPBACK), port_file) == []
    assert [address.transport for address in host.listen_addresses] == ["quic-v1", "tcp"]
    assert all(address.port for address in host.listen_addresses)


async def test_what_is_disabled_is_skipped_with_a_warning(host: Host, port_file: PortFile) -> None:
    warnings = await open_listeners(host, asked(QUIC, LOOPBACK, enable_quic=False), port_file)
    assert warnings == [f"skipped {QUIC}: QUIC is disabled"]
    assert [address.transport for address in host.listen_addresses] == ["tcp"]


async def test_a_host_without_quic_listens_with_tcp_alone(host: Host, port_file: PortFile) -> None:
    host.quic = None
    assert await open_listeners(host, NodeConfig(), port_file) == []
    assert {address.transport for address in host.listen_addresses} == {"tcp"}


async def test_every_interface_has_tcp_and_quic_at_one_port(host: Host, port_file: PortFile) -> None:
    assert await open_listeners(host, NodeConfig(), port_file) == []
    for ip in {address.host for address in host.listen_addresses}:
        transports = [address.transport for address in host.listen_addresses if address.host == ip]
        assert transports == ["tcp", "quic-v1"]
    assert {address.port for address in host.listen_addresses} == {port_file.read()}


@pytest.mark.parametrize(
    "settings, transport", [({"enable_tcp": False}, "quic-v1"), ({"enable_quic": False}, "tcp")]
)
async def test_one_transport_alone(
    settings: dict[str, bool], transport: str, host: Host, port_file: PortFile
) -> None:
    config = NodeConfig(network=NetworkSettings(**settings))  # type: ignore[arg-type]
    assert await open_listeners(host, config, port_file) == []
    assert {address.transport for address in host.listen_addresses} == {transport}


async def test_without_any_transport_there_is_nothing_to_listen_with(host: Host, port_file: PortFile) -> None:
    config = NodeConfig(network=NetworkSettings(enable_tcp=False, enable_quic=False))
    with pytest.raises(CannotListen):
        await open_listeners(host, config, port_file)


async def test_a_port_that_only_udp_has_taken_is_taken(host: Host, port_file: PortFile) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 0))
        port_file.write(other.getsockname()[1])
        (warning,) = await open_listeners(host, NodeConfig(), port_file)
        assert "is taken" in warning
        assert {address.port for address in host.listen_addresses} == {port_file.read()}
        assert port_file.read() != other.getsockname()[1]


@pytest.mark.parametrize(
    "config",
    [
        asked(QUIC, enable_quic=False),
        asked(LOOPBACK, enable_tcp=False),
        asked("/ip4/127.0.0.1/tcp/1/p2p-circuit"),
        asked("not an address"),
        asked("/ip4/192.0.2.1/tcp/0"),
        asked("/ip4/192.0.2.1/tcp/0", sources={}),
    ],
    ids=["quic off", "tcp off", "circuit", "garbage", "foreign address", "foreign default"],
)
async def test_none_left_is_wrong_usage(config: NodeConfig, host: Host, port_file: PortFile) -> None:
    with pytest.raises(CannotListen) as refused:
        await open_listeners(host, config, port_file)
    assert refused.value.exit_code == 2
    assert refused.value.code == "cannot_listen"
    assert host.listen_addresses == []


async def test_a_default_that_this_machine_has_not_is_skipped(host: Host, port_file: PortFile) -> None:
    warnings = await open_listeners(host, asked("/ip4/192.0.2.1/tcp/0", LOOPBACK, sources={}), port_file)
    assert len(warnings) == 1
    assert len(host.listen_addresses) == 1


@pytest.mark.parametrize("sources", [None, {}], ids=["asked for", "default"])
async def test_a_port_that_is_taken(
    sources: dict[str, str] | None, host: Host, port_file: PortFile, taken: int
) -> None:
    with pytest.raises(PortTaken) as refused:
        await open_listeners(host, asked(f"/ip4/127.0.0.1/tcp/{taken}", sources=sources), port_file)
    assert refused.value.exit_code == 10
    assert refused.value.code == "port_taken"


async def test_an_agent_keeps_the_port_of_its_first_start(host: Host, port_file: PortFile) -> None:
    assert await open_listeners(host, NodeConfig(), port_file) == []
    port = host.listen_addresses[0].port
    assert port_file.read() == port
    await host.close()
    again = new_host()
    try:
        assert await open_listeners(again, NodeConfig(), port_file) == []
        assert {address.port for address in again.listen_addresses} == {port}
    finally:
        await again.close()


async def test_an_agent_says_when_its_port_had_to_change(host: Host, port_file: PortFile, taken: int) -> None:
    port_file.write(taken)
    (warning,) = await open_listeners(host, NodeConfig(), port_file)
    assert f"port {taken} of the last start is taken" in warning
    assert port_file.read() == host.listen_addresses[0].port != taken
