"""The RPC server over real sockets: who is served, what is refused, and that every refusal is counted."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import uvloop

from wws.rpc.wire import WireConfig
from wws.runtime.homes import Home, Ready, process_start
from wws.runtime.machine_errors import PortTaken
from wws.runtime.rpc_connection import ConnectionConfig
from wws.runtime.rpc_ports import PortClaims
from wws.runtime.rpc_server import RpcServer, RpcServerConfig
from wws.testing import scale
from wws.testing.fake_node import FakeNode, FakeSwarm

pytestmark = pytest.mark.net

STATUS = b'{"jsonrpc":"2.0","method":"swarm.get_status","id":1}\n'


class Client:
    """A raw client: bytes out, JSON lines in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> dict:
        line = await self.reader.readline()
        assert line.endswith(b"\n"), "the connection ended"
        return json.loads(line)

    async def ask(self, method: str, params: object = None, **members: object) -> dict:
        value = {"jsonrpc": "2.0", "method": method, "id": 1, **members}
        if params is not None:
            value["params"] = params
        self.send(json.dumps(value).encode() + b"\n")
        return await self.answer()

    async def ended(self) -> bool:
        """Whether the server ended the connection and said nothing more."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


class Rig:
    """A server for alice, in whose swarm bob lives too, and clients for it."""

    def __init__(self, home: Path, **config: object) -> None:
        swarm = FakeSwarm()
        self.alice, self.bob = FakeNode("alice", swarm), FakeNode("bob", swarm)
        self.env = {"XDG_RUNTIME_DIR": str(home)}
        self.paths = Home(home).node("alice")
        self.server = RpcServer(self.alice, self.paths, RpcServerConfig(**config), env=self.env)
        self._clients: list[Client] = []

    async def on_socket(self) -> Client:
        return self._kept(await asyncio.open_unix_connection(str(self.server.socket_path), limit=1 << 24))

    async def on_tcp(self) -> Client:
        assert self.server.tcp_address is not None
        host, _, port = self.server.tcp_address.rpartition(":")
        return self._kept(await asyncio.open_connection(host, int(port), limit=1 << 24))

    def cookie(self) -> str:
        return self.server.cookie_path.read_text().strip()

    def _kept(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> Client:
        client = Client(*streams)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.close()
        await self.server.close()


@asynccontextmanager
async def serving(home: Path, **config: object) -> AsyncIterator[Rig]:
    settings: dict[str, object] = {"port": 0, "port_is_default": False, **config}
    rig = Rig(home, **settings)
    await rig.server.start()
    try:
        yield rig
    finally:
        await rig.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# --- who is served ----------------------------------------------------------------------------


async def test_the_socket_answers_its_own_user(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        answer = await client.ask("swarm.get_status")
        assert answer["result"]["peer_id"] == rig.alice.peer_id
        assert answer["result"]["agent_id"] == rig.alice.did
        assert answer["jsonrpc"] == "2.0"
        assert answer["id"] == 1


def test_it_runs_on_uvloop_too(home: Path) -> None:
    async def conversation() -> None:
        async with serving(home) as rig:
            unix, tcp = await rig.on_socket(), await rig.on_tcp()
            assert "result" in await unix.ask("swarm.get_status")
            assert (await tcp.ask("swarm.get_status"))["error"]["data"]["code"] == "unauthorised"
            unix.send(STATUS.rstrip(b"\n"))
            unix.writer.write_eof()
            assert "result" in await unix.answer()
            assert await unix.ended()

    uvloop.run(conversation())


async def test_files_are_for_the_user_alone(home: Path) -> None:
    async with serving(home) as rig:
        assert rig.server.socket_path is not None
        assert stat.S_IMODE(rig.server.socket_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(rig.server.cookie_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(rig.server.socket_path.parent.stat().st_mode) == 0o700
        cookie = rig.server.cookie_path.read_bytes()
        assert cookie.endswith(b"\n")
        assert cookie[:-1].isascii()
        assert len(cookie) > 40
    assert not rig.paths.run.joinpath("rpc.sock").exists()
    assert not rig.paths.cookie.exists()


async def test_tcp_asks_for_the_cookie(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_tcp()
        assert (await client.ask("swarm.get_status"))["error"]["data"]["code"] == "unauthorised"
        wrong = await client.ask("swarm.get_status", token="wrong")
        assert wrong["error"]["code"] == -32001
        assert (await client.ask("swarm.get_status", token="\ud800"))["error"]["code"] == -32001
        assert (await client.ask("no.such", token="wrong"))["error"]["code"] == -32001
        good = await client.ask("swarm.get_status", token=rig.cookie())
        assert good["result"]["peer_id"] == rig.alice.peer_id
        assert rig.server.refused["unauthorised"] == 4


async def test_a_new_start_makes_a_new_cookie(home: Path) -> None:
    async with serving(home) as rig:
        first = rig.cookie()
    async with serving(home) as rig:
        assert rig.cookie() != first
        client = await rig.on_tcp()
        assert (await client.ask("swarm.get_status", token=first))["error"]["code"] == -32001


async def test_stopping_is_for_the_socket_only(home: Path) -> None:
    async with serving(home) as rig:
        tcp = await rig.on_tcp()
        refused = await tcp.ask("swarm.stop", token=rig.cookie())
        assert refused["error"]["code"] == -32003
        assert refused["error"]["data"]["code"] == "not_allowed"
        assert not rig.alice.stopped.is_set()
        unix = await rig.on_socket()
        assert (await unix.ask("swarm.stop"))["result"] == {"stopping": True, "released": []}
        assert rig.alice.stopped.is_set()


async def test_a_cookie_that_is_a_link_is_replaced_not_followed(home: Path) -> None:
    victim = home / "victim"
    victim.write_text("precious")
    run = home / "run" / "alice"
    run.mkdir(parents=True)
    (run / "rpc.cookie").symlink_to(victim)
    async with serving(home) as rig:
        assert not rig.server.cookie_path.is_symlink()
    assert victim.read_text() == "precious"


# --- calls ------------------------------------------------------------------------------------


async def test_a_name_is_claimed_resolved_and_lost_to_the_first(home: Path) -> None:
    async with serving(home) as rig:
        await rig.bob.register_name("bob")
        client = await rig.on_socket()
        assert (await client.ask("swarm.register_name", {"name": "alice"}))["result"]["registered"] is True
        assert (await client.ask("swarm.my_names"))["result"][0]["name"] == "alice"
        assert (await client.ask("swarm.resolve_name", ["wws:bob"]))["result"]["did"] == rig.bob.did
        taken = (await client.ask("swarm.register_name", {"name": "bob"}))["error"]
        assert taken["code"] == -32003
        assert taken["data"]["code"] == "name_taken"
        assert taken["data"]["holder"] == rig.bob.did
        unknown = (await client.ask("swarm.resolve_name", {"name": "carol"}))["error"]
        assert (unknown["code"], unknown["data"]["code"]) == (-32002, "name_not_found")


@pytest.mark.parametrize(
    "method, params, code, word",
    [
        ("swarm.no_such", None, -32601, "method_not_found"),
        ("swarm.ping", {}, -32602, "invalid_params"),
        ("swarm.ping", {"target": ""}, -32602, "invalid_params"),
        ("swarm.ping", {"target": 5}, -32602, "invalid_params"),
        ("swarm.ping", {"target": "bob", "count": "4"}, -32602, "invalid_params"),
        ("swarm.ping", {"target": "bob", "count": True}, -32602, "invalid_params"),
        ("swarm.ping", {"target": "bob", "count": 101}, -32602, "invalid_params"),
        ("swarm.ping", {"target": "bob", "more": 1}, -32602, "invalid_params"),
        ("swarm.ping", ["bob", 1, 2, 3], -32602, "invalid_params"),
        ("swarm.ping", {"target": "b\u0000b"}, -32602, "invalid_params"),
        ("swarm.ping", {"target": "\ud800"}, -32602, "invalid_params"),
        ("swarm.stop", {"release_name": 1}, -32602, "invalid_params"),
    ],
)
async def test_what_does_not_fit_is_refused(
    home: Path, method: str, params: object, code: int, word: str
) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        error = (await client.ask(method, params))["error"]
        assert (error["code"], error["data"]["code"]) == (code, word)
        assert rig.server.refused[word] == 1
        assert "result" in await client.ask("swarm.get_status")


async def test_pipelined_calls_are_answered_by_id(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        for number in range(50):
            client.send(
                b'{"jsonrpc":"2.0","method":"swarm.ping","params":{"target":"%s"},"id":%d}\n'
                % (rig.bob.did.encode(), number)
            )
        answers = [await client.answer() for _ in range(50)]
        assert sorted(answer["id"] for answer in answers) == list(range(50))


async def test_calls_of_a_client_run_beside_each_other_up_to_a_bound(home: Path) -> None:
    async with serving(home, connection=ConnectionConfig(max_calls=4)) as rig:
        rig.alice.hold.clear()
        client = await rig.on_socket()
        ping = {"jsonrpc": "2.0", "method": "swarm.ping", "params": {"target": rig.bob.did}}
        client.send(b"".join(json.dumps({**ping, "id": n}).encode() + b"\n" for n in range(20)))
        other = await rig.on_socket()
        while rig.alice.calls < 4:
            await other.ask("swarm.get_status")
        rig.alice.hold.set()
        assert {(await client.answer())["id"] for _ in range(20)} == set(range(20))
        assert rig.alice.most_calls == 4


async def test_a_notification_is_carried_out_and_not_answered(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        client.send(b'{"jsonrpc":"2.0","method":"swarm.register_name","params":["alice"]}\n')
        client.send(STATUS)
        assert (await client.answer())["id"] == 1
        while not await rig.alice.names():
            await client.ask("swarm.get_status")


async def test_a_call_that_takes_too_long_times_out(home: Path) -> None:
    async with serving(home, connection=ConnectionConfig(call_timeout=0.01)) as rig:
        rig.alice.hold.clear()
        client = await rig.on_socket()
        error = (await client.ask("swarm.ping", {"target": rig.bob.did}))["error"]
        assert (error["code"], error["data"]["code"]) == (-32005, "timeout")


async def test_a_bug_in_one_call_ends_that_call_only(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(home) as rig:

        async def broken() -> None:
            raise ZeroDivisionError

        rig.alice.peers = broken  # type: ignore[method-assign]
        client = await rig.on_socket()
        error = (await client.ask("swarm.peers"))["error"]
        assert (error["code"], error["data"]["code"]) == (-32603, "internal_error")
        assert "ZeroDivisionError" in caplog.text
        assert "result" in await client.ask("swarm.get_status")


async def test_half_close_is_answered(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        client.send(STATUS + STATUS.replace(b'"id":1', b'"id":2').rstrip(b"\n"))
        client.writer.write_eof()
        assert {(await client.answer())["id"], (await client.answer())["id"]} == {1, 2}
        assert await client.ended()


# --- batches ----------------------------------------------------------------------------------


async def test_a_batch_is_answered_in_one_line(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        calls = [{"jsonrpc": "2.0", "method": "swarm.get_status", "id": n} for n in range(100)]
        client.send(json.dumps(calls).encode() + b"\n")
        answers = json.loads(await client.reader.readline())
        assert sorted(answer["id"] for answer in answers) == list(range(100))


async def test_a_batch_over_the_bound_is_refused_whole(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        calls = [
            {"jsonrpc": "2.0", "method": "swarm.register_name", "params": ["x"], "id": n} for n in range(101)
        ]
        client.send(json.dumps(calls).encode() + b"\n")
        error = (await client.answer())["error"]
        assert (error["code"], error["data"]["code"]) == (-32600, "batch_too_large")
        assert rig.server.refused["batch_too_large"] == 1
        assert "result" in await client.ask("swarm.get_status")


async def test_invalid_entries_of_a_batch_are_answered_beside_the_good_ones(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        client.send(
            b'[1,{"jsonrpc":"2.0","method":"swarm.peers","id":7},{"foo":1},{"jsonrpc":"2.0","method":"swarm.peers"}]\n'
        )
        answers = json.loads(await client.reader.readline())
        assert len(answers) == 3
        assert [a["id"] for a in answers if "result" in a] == [7]
        assert [a["error"]["code"] for a in answers if "error" in a] == [-32600, -32600]


async def test_a_batch_of_notifications_says_nothing(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        client.send(b'[{"jsonrpc":"2.0","method":"swarm.peers"}]\n' + STATUS)
        assert (await client.answer())["id"] == 1


async def test_an_empty_batch_is_an_invalid_request(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        client.send(b"[]\n")
        assert (await client.answer())["error"]["code"] == -32600


# --- what ends a connection -------------------------------------------------------------------

HTTP = (
    b"POST / HTTP/1.1\r\nHost: localhost:9370\r\nContent-Type: text/plain\r\nContent-Length: 53\r\n\r\n"
    + STATUS
)


@pytest.mark.parametrize(
    "data, word",
    [
        (HTTP, "parse_error"),
        (b"GET /" + STATUS, "parse_error"),
        (b"\n" + STATUS, "parse_error"),
        (b"5\n" + STATUS, "parse_error"),
        (b'"x"\n' + STATUS, "parse_error"),
        (b"{}\n" + STATUS, "parse_error"),
        (b'{"jsonrpc":"1.0","method":"swarm.stop","id":1}\n' + STATUS, "parse_error"),
        (b'{"jsonrpc":"2.0","jsonrpc":"2.0","method":"swarm.stop","id":1}\n' + STATUS, "parse_error"),
        (b'{"jsonrpc":"2.0","method":"swarm.stop","id":NaN}\n' + STATUS, "parse_error"),
        (b"\xff\xfe\n" + STATUS, "parse_error"),
        (b"1" * 5000 + b"\n" + STATUS, "parse_error"),
        (b"[" * 10_000 + b"]" * 10_000 + b"\n" + STATUS, "too_deep"),
        (
            b'{"jsonrpc":"2.0","method":"swarm.stop","id":1,"params":' + b"[" * 10_000 + b"\n" + STATUS,
            "too_deep",
        ),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"\n" + STATUS, "too_deep"),
    ],
)
async def test_a_line_that_is_no_json_rpc_ends_the_connection(home: Path, data: bytes, word: str) -> None:
    async with serving(home) as rig:
        client = await rig.on_socket()
        client.send(data)
        answer = await client.answer()
        assert answer["id"] is None
        assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (-32700, word)
        assert await client.ended()
        assert rig.server.refused == {word: 1}
        assert not rig.alice.stopped.is_set()


async def test_a_line_of_the_longest_kind_is_served_and_one_more_byte_is_not(home: Path) -> None:
    wire = WireConfig(max_line=1000)
    async with serving(home, wire=wire) as rig:
        client = await rig.on_socket()
        line = STATUS.rstrip(b"\n")
        client.send(line + b" " * (1000 - len(line)) + b"\n")
        assert "result" in await client.answer()
        client.send(line + b" " * (1001 - len(line)) + b"\n")
        assert (await client.answer())["error"]["data"]["code"] == "line_too_long"
        assert await client.ended()


async def test_ten_mebibytes_without_a_line_feed_are_cut_at_two(home: Path) -> None:
    async with serving(home) as rig:
        client = await rig.on_tcp()
        block = b"x" * (1 << 20)

        async def flood() -> None:
            while True:
                client.send(block)
                await client.writer.drain()

        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await flood()
        assert rig.server.refused["line_too_long"] == 1


async def test_unfinished_lines_of_all_clients_share_a_bound(home: Path) -> None:
    async with serving(home, max_pending=3000) as rig:
        clients = [await rig.on_tcp() for _ in range(4)]
        for client in clients:
            client.send(b" " * 1000)
            await client.writer.drain()
        answers = [asyncio.ensure_future(client.reader.readline()) for client in clients]
        done, _ = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
        assert all(b"too many unfinished lines" in task.result() for task in done)
        for task in answers:
            task.cancel()


async def test_a_long_line_is_read_of_those_alone_who_show_a_token(home: Path) -> None:
    """Reading 2 MiB of brackets takes a second, in which the node does nothing else."""
    async with serving(home) as rig:
        padding = {"note": "x" * 20_000}
        stranger = await rig.on_tcp()
        answer = await stranger.ask("swarm.get_status", padding, token="x" * 43)
        assert answer["error"]["data"]["code"] == "line_too_long"
        assert await stranger.ended()
        for client, token in ((await rig.on_tcp(), rig.cookie()), (await rig.on_socket(), None)):
            answer = await client.ask("swarm.get_status", padding, token=token)
            assert answer["error"]["code"] == -32602  # it was read: there is no parameter of that name


async def test_a_silent_client_is_cut(home: Path) -> None:
    async with serving(home, connection=ConnectionConfig(idle_timeout=0.05)) as rig:
        client = await rig.on_tcp()
        client.send(b'{"jsonrpc"')
        assert await client.ended()
        assert rig.server.refused["idle"] == 1


async def test_a_client_with_a_call_under_way_is_not_idle(home: Path) -> None:
    async with serving(home, connection=ConnectionConfig(idle_timeout=0.05)) as rig:
        rig.alice.hold.clear()
        client = await rig.on_socket()
        asked = asyncio.ensure_future(client.ask("swarm.ping", {"target": rig.bob.did}))
        while not rig.server.refused["idle"]:
            silent = await rig.on_socket()
            await silent.ended()
        rig.alice.hold.set()
        assert "result" in await asked


async def test_who_does_not_read_is_not_read_from_and_at_last_cut(home: Path) -> None:
    async with serving(home, connection=ConnectionConfig(write_timeout=0.1)) as rig:
        assert rig.server.socket_path is not None
        with closing(socket.socket(socket.AF_UNIX)) as raw:
            raw.connect(str(rig.server.socket_path))
            raw.setblocking(False)
            loop = asyncio.get_running_loop()
            line = b'{"jsonrpc":"2.0","method":"rpc.discover","id":1}\n' * 200

            async def ask_for_ever() -> None:
                while True:
                    await loop.sock_sendall(raw, line)

            with pytest.raises((ConnectionResetError, BrokenPipeError)):
                await ask_for_ever()
        while rig.server.clients:
            await asyncio.sleep(0)
        assert rig.server.refused["connection_lost"] >= 1


# --- how many ---------------------------------------------------------------------------------


async def test_three_hundred_clients_where_256_fit(home: Path) -> None:
    async with serving(home) as rig:
        clients = [await rig.on_socket() for _ in range(300)]
        for client in clients:
            client.send(STATUS)
        served = 0
        for client in clients:
            try:
                answer = await client.answer()
            except (ConnectionResetError, BrokenPipeError):
                continue  # turned away before the question was out
            if "result" in answer:
                served += 1
            else:
                assert answer["error"]["data"]["code"] == "too_many_clients"
        assert served == 256
        assert rig.server.refused["too_many_clients"] == 44
        for client in clients:
            client.writer.close()
        while rig.server.clients:
            await asyncio.sleep(0)
        assert "result" in await (await rig.on_socket()).ask("swarm.get_status")


async def test_strangers_on_tcp_do_not_keep_out_who_may_call(home: Path) -> None:
    """Any user of the machine, and any web page, can open sockets to 127.0.0.1 and say nothing."""
    async with serving(home, max_clients=8) as rig:
        proven = await rig.on_tcp()
        assert "result" in await proven.ask("swarm.get_status", token=rig.cookie())
        strangers = [await rig.on_tcp() for _ in range(20)]
        while rig.server.clients < 8:
            await asyncio.sleep(0)
        owner = await rig.on_socket()
        assert "result" in await owner.ask("swarm.get_status")
        by_cookie = await rig.on_tcp()
        assert "result" in await by_cookie.ask("swarm.get_status", token=rig.cookie())
        assert "result" in await proven.ask("swarm.get_status", token=rig.cookie())
        assert await strangers[0].ended()
        assert rig.server.clients <= 8


async def test_unfinished_lines_of_strangers_make_room_for_those_who_may_call(home: Path) -> None:
    async with serving(home, max_pending=3000) as rig:
        stranger = await rig.on_tcp()
        stranger.send(b" " * 2999)
        await stranger.writer.drain()
        while not sum(client.pending for client in rig.server._connections):
            await asyncio.sleep(0)
        owner = await rig.on_socket()
        owner.send(b" " * 100)
        await owner.writer.drain()
        assert await stranger.ended()
        owner.send(STATUS)
        assert "result" in await owner.answer()


async def test_slots_come_back_whatever_the_clients_do(home: Path) -> None:
    async with serving(home, max_clients=4) as rig:
        for turn in range(scale(200)):
            client = await rig.on_socket()
            client.send([STATUS, b"x\n", b'{"jsonrpc"', b"", b"[" * 50 + b"\n"][turn % 5])
            client.writer.close()
            while rig.server.clients >= 4:
                await asyncio.sleep(0)
        while rig.server.clients:
            await asyncio.sleep(0)
        assert rig.server.refused["too_many_clients"] == 0


# --- start and end ----------------------------------------------------------------------------


async def test_a_stale_socket_is_replaced(home: Path) -> None:
    path = home / "run" / "alice" / "rpc.sock"
    path.parent.mkdir(parents=True)
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    async with serving(home) as rig:
        assert "result" in await (await rig.on_socket()).ask("swarm.get_status")


async def test_a_socket_that_somebody_serves_is_left_alone(home: Path) -> None:
    async with serving(home) as rig:
        second = Rig(home, port=None)
        with pytest.raises(PortTaken):
            await second.server.start()
        assert "result" in await (await rig.on_socket()).ask("swarm.get_status")


async def test_a_long_path_moves_into_the_runtime_folder(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True, mode=0o700)
    rig = Rig(deep, port=None)
    rig.env["XDG_RUNTIME_DIR"] = "/nonexistent"
    rig.env["TMPDIR"] = "/tmp"
    await rig.server.start()
    try:
        assert rig.server.socket_path is not None
        assert len(os.fsencode(rig.server.socket_path)) <= 100
        assert "result" in await (await rig.on_socket()).ask("swarm.get_status")
    finally:
        await rig.close()


async def test_a_port_that_was_asked_for_must_be_free(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        rig = Rig(home, port=port, port_is_default=False)
        with pytest.raises(PortTaken) as caught:
            await rig.server.start()
        assert caught.value.exit_code == 10
        assert str(port) in str(caught.value)
        assert not rig.paths.socket(rig.env).exists()


async def test_the_default_port_is_given_up_to_a_stranger(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as stranger:
        rig = Rig(home, port=stranger.getsockname()[1])
        await rig.server.start()
        try:
            assert rig.server.tcp_address is None
            assert [warning.code for warning in rig.server.warnings] == ["rpc_tcp_off"]
            assert "result" in await (await rig.on_socket()).ask("swarm.get_status")
        finally:
            await rig.close()


@pytest.mark.parametrize("host, codes", [("0.0.0.0", ["rpc_open"]), ("127.0.0.1", []), ("127.3.2.1", [])])
async def test_a_port_that_other_machines_reach_is_warned_of(home: Path, host: str, codes: list[str]) -> None:
    rig = Rig(home, host=host, port=0, port_is_default=False)
    await rig.server.start()
    try:
        assert [warning.code for warning in rig.server.warnings] == codes
    finally:
        await rig.close()


async def test_the_default_port_moves_aside_for_a_node_of_this_user(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        child = await asyncio.create_subprocess_exec("sleep", "60")
        try:
            other = Home(home).node("bob")
            other.write_ready(
                Ready(
                    "bob",
                    child.pid,
                    "p",
                    "d",
                    (),
                    f"127.0.0.1:{port}",
                    None,
                    "s",
                    "c",
                    process_start(child.pid),
                )
            )
            rig = Rig(home, port=port)
            await rig.server.start()
            try:
                assert rig.server.tcp_address == f"127.0.0.1:{port + 10}"
                assert rig.server.port_shift == 10
            finally:
                await rig.close()
        finally:
            child.kill()
            await child.wait()


async def test_a_claim_shows_a_node_that_is_not_ready_yet_and_dies_with_it(home: Path) -> None:
    child = await asyncio.create_subprocess_exec("sleep", "60")
    claims = PortClaims(Home(home), {"XDG_RUNTIME_DIR": str(home)})
    path = home / "wws" / f"rpc-9370.{child.pid}"
    path.write_text(json.dumps({"pid": child.pid, "started": process_start(child.pid)}))
    assert claims.is_ours(9370)
    assert not claims.is_ours(9380)
    child.kill()
    await child.wait()
    assert not claims.is_ours(9370)
    assert not path.exists()


async def test_closing_lets_calls_under_way_finish(home: Path) -> None:
    async with serving(home) as rig:
        rig.alice.hold.clear()
        client = await rig.on_socket()
        asked = asyncio.ensure_future(client.ask("swarm.ping", {"target": rig.bob.did}))
        while not rig.alice.calls:
            await asyncio.sleep(0)
        closing_task = asyncio.ensure_future(rig.server.close())
        await asyncio.sleep(0)
        rig.alice.hold.set()
        assert "result" in await asked
        await closing_task
        assert rig.server.clients == 0
