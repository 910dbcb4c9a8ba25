"""The Python client against a served node: the socket first, TCP where there is none, typed errors."""

import asyncio
import dataclasses
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from wws import client
from wws.client import NodeNotRunning, RpcError
from wws.runtime.homes import Home, Ready, SeveralNodes, process_start
from wws.runtime.rpc_server import RpcServer, RpcServerConfig
from wws.testing.fake_node import FakeNode, FakeSwarm

pytestmark = pytest.mark.net


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    tmp_path.chmod(0o700)
    monkeypatch.delenv("WWS_NODE", raising=False)
    monkeypatch.setenv("WWS_HOME", str(tmp_path))
    return Home(tmp_path)


@asynccontextmanager
async def serving(
    home: Home, label: str, swarm: FakeSwarm, *, on_socket: bool = True
) -> AsyncIterator[FakeNode]:
    node, paths = FakeNode(label, swarm), home.node(label)
    config = RpcServerConfig(port=0, port_is_default=False)
    server = RpcServer(node, paths, config, env={"XDG_RUNTIME_DIR": str(home.root)})
    await server.start()
    paths.write_ready(
        Ready(
            node=label,
            pid=os.getpid(),
            peer_id=node.peer_id,
            did=node.did,
            listen=(),
            rpc=server.tcp_address,
            http=None,
            socket=str(server.socket_path) if on_socket else str(home.root / "none.sock"),
            cookie=str(server.cookie_path),
            started=process_start(os.getpid()),
        )
    )
    try:
        yield node
    finally:
        paths.clear()
        await server.close()


async def test_a_program_joins_in(home: Home) -> None:
    swarm = FakeSwarm()
    bob = FakeNode("bob", swarm)
    await bob.register_name("bob")
    async with serving(home, "alice", swarm) as alice, client.connect() as node:
        assert (await node.status())["peer_id"] == alice.peer_id
        assert (await node.register_name("alice"))["registered"] is True
        assert (await node.resolve("bob"))["did"] == bob.did
        assert (await node.ping("bob", 2))["received"] == 2
        assert (await node.peers())[0]["peer_id"] == bob.peer_id
        assert (await node.connect(bob.address))["peer_id"] == bob.peer_id
        assert (await node.identity())["did"] == alice.did
        assert (await node.network_stats())["peers"] == 1
        assert [name["name"] for name in await node.my_names()] == ["alice"]
        assert (await node.renew_name("alice"))["renewed"] is True
        assert (await node.release_name("alice"))["released"] is True
        assert (await node.stop())["stopping"] is True
        assert alice.stopped.is_set()


async def test_calls_run_beside_each_other(home: Home) -> None:
    swarm = FakeSwarm()
    bob = FakeNode("bob", swarm)
    async with serving(home, "alice", swarm) as alice, client.connect() as node:
        alice.hold.clear()
        ping = asyncio.ensure_future(node.ping(bob.did))
        assert (await node.status())["node"] == "alice"
        assert not ping.done()
        alice.hold.set()
        assert (await ping)["received"] == 4


async def test_over_tcp_the_cookie_is_shown(home: Home) -> None:
    async with serving(home, "alice", FakeSwarm(), on_socket=False) as alice:
        async with client.connect() as node:
            assert (await node.status())["peer_id"] == alice.peer_id
        found = await asyncio.to_thread(client.call_once, client.find(), "swarm.get_status")
        assert found["peer_id"] == alice.peer_id


async def test_an_error_keeps_its_word_number_and_details(home: Home) -> None:
    swarm = FakeSwarm()
    bob = FakeNode("bob", swarm)
    await bob.register_name("bob")
    async with serving(home, "alice", swarm), client.connect(node="alice") as node:
        with pytest.raises(RpcError) as caught:
            await node.register_name("bob")
        assert (caught.value.code, caught.value.number, caught.value.exit_code) == ("name_taken", -32003, 7)
        assert caught.value.details["holder"] == bob.did
        with pytest.raises(RpcError) as caught:
            await asyncio.to_thread(client.call_once, node.ready, "no.such")
        assert caught.value.code == "method_not_found"


async def test_no_node_and_several(home: Home) -> None:
    with pytest.raises(NodeNotRunning):
        client.connect()
    with pytest.raises(NodeNotRunning) as caught:
        client.connect(node="carol")
    assert "wws join --name carol" in caught.value.hint
    async with serving(home, "alice", FakeSwarm()), serving(home, "bob", FakeSwarm()):
        with pytest.raises(SeveralNodes):
            client.connect()
        async with client.connect(node="bob") as node:
            assert (await node.status())["node"] == "bob"
    for ended in ("alice", "bob"):
        home.node(ended).state.mkdir(parents=True)
    with pytest.raises(NodeNotRunning):
        client.connect()


async def test_a_node_that_goes_away_ends_the_calls(home: Home) -> None:
    swarm = FakeSwarm()
    bob = FakeNode("bob", swarm)
    async with serving(home, "alice", swarm) as alice:
        node = await client.connect().__aenter__()
        alice.hold.clear()
        ping = asyncio.ensure_future(node.ping(bob.did))
        while not alice.calls:
            await asyncio.sleep(0)
    with pytest.raises(NodeNotRunning):
        await ping
    with pytest.raises(NodeNotRunning):
        await node.status()
    await node.__aexit__(None, None, None)


async def test_whoever_takes_the_port_of_a_dead_node_is_not_asked(home: Home) -> None:
    """A node that was killed leaves its socket, its cookie and its ready.json, and frees its TCP port."""
    asked: list[bytes] = []

    async def harvest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(harvest, "127.0.0.1", 0)
    async with server, serving(home, "alice", FakeSwarm()):
        dead = home.node("alice").run / "dead.sock"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(dead))
        port = server.sockets[0].getsockname()[1]
        ready = dataclasses.replace(client.find(), socket=str(dead), rpc=f"127.0.0.1:{port}")
        with pytest.raises(NodeNotRunning):
            await asyncio.to_thread(client.call_once, ready, "swarm.get_status")
        with pytest.raises(NodeNotRunning):
            async with client.Client(ready, 5.0):
                pass
    assert not asked


async def test_a_ready_file_of_a_dead_node_is_no_node(home: Home) -> None:
    async with serving(home, "alice", FakeSwarm()):
        ready = client.find()
    with pytest.raises(NodeNotRunning):
        await asyncio.to_thread(client.call_once, ready, "swarm.get_status")
