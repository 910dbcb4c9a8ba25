"""`wws-ops probe` against real nodes: well ones, draining ones, other ones, and silence."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from agent_cli.ops.app import run
from agent_cli.ops.probing import CHECKS, Findings, Target, probe
from tests.net.bootstrap import Bootstrap
from tests.net.mesh_node import MeshNode
from wws import __version__
from wws.identity.keys import Identity
from wws.runtime.clock import SystemClock

pytestmark = pytest.mark.net

EVE = str(Identity.from_label("eve").peer_id)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bootstrap]:
    with Bootstrap(tmp_path_factory.mktemp("node")) as running:
        yield running


def look(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> dict[str, Any]:
    """What `wws-ops probe … --json` says, by check."""
    assert run(["probe", "--json", *arguments]) == code
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["schema"] == "wws-ops.probe/v1"
    assert envelope["ok"] is (code == 0)
    checks = {check["check"]: check for check in envelope["data"].get("checks", ())}
    return {**envelope["data"], "by_name": checks, "errors": envelope["errors"]}


def at(*addresses: str) -> list[str]:
    return [word for address in addresses for word in ("--address", address)]


def test_a_node_that_is_well(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    where = [*at(*node.listen), "--peer-id", node.peer_id]
    said = look(capsys, 0, *where, "--network", "example.org", "--metrics", f"http://{node.http}/metrics")
    assert list(said["by_name"]) == list(CHECKS)
    assert all(check["ok"] and check["code"] is None for check in said["checks"])
    assert said["healthy"] is True
    assert said["agent"] == f"wws/{__version__} bootstrap"
    assert (said["attempts"], said["errors"]) == (1, [])
    with_peer = f"{node.listen[0]}/p2p/{node.peer_id}"
    assert "quic" not in look(capsys, 0, "--address", with_peer, "--expect-version", __version__)["by_name"]


def test_a_line_for_each_check_for_people(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", *at(node.listen[0]), "--peer-id", node.peer_id, "--skip", "dht_put"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        ["tcp", "ok"],
        ["peer_id", "ok"],
        ["identify", "ok"],
        ["clock", "ok"],
        ["reservation", "ok"],
        ["dht_put", "-"],
        ["dht_get", "-"],
    ]


def test_somebody_else_answers(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    said = look(capsys, 8, *at(*node.listen), "--peer-id", EVE)
    assert said["by_name"]["tcp"]["ok"] is True
    assert said["by_name"]["quic"]["ok"] is True
    assert said["by_name"]["peer_id"]["code"] == "peer_id_mismatch"
    assert node.peer_id in said["by_name"]["peer_id"]["message"]
    assert said["by_name"]["reservation"]["ok"] is None


def test_nobody_answers_over_one_transport(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dead = f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}"
        said = look(capsys, 5, *at(dead, node.listen[1]), "--peer-id", node.peer_id)
    assert said["by_name"]["tcp"]["code"] == "connection_refused"
    assert said["by_name"]["dht_get"]["ok"] is True, "what can be looked at is looked at"


def test_it_tries_until_the_time_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        where = at(f"/ip4/127.0.0.1/tcp/{taken.getsockname()[1]}")
        said = look(capsys, 5, *where, "--peer-id", EVE, "--retry", "--timeout", "4")
    assert said["attempts"] >= 2
    assert said["duration_ms"] < 60_000


def test_silence_is_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        where = at(f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}")
        said = look(capsys, 5, *where, "--peer-id", EVE, "--timeout", "1")
    assert said["by_name"]["tcp"]["code"] == "timeout"
    assert said["errors"][0]["message"].startswith("tcp: no answer before the 1 s were over")


def test_a_node_of_another_network(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    said = look(capsys, 7, *at(node.listen[0]), "--peer-id", node.peer_id, "--network", "example.net")
    assert said["by_name"]["identify"]["code"] == "wrong_network"
    assert said["by_name"]["dht_put"]["ok"] is False


def test_a_node_of_another_version(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    said = look(capsys, 7, *at(node.listen[0]), "--peer-id", node.peer_id, "--expect-version", "9.9.9")
    assert said["by_name"]["identify"]["code"] == "wrong_version"


def test_a_draining_node_is_not_well(node: Bootstrap, capsys: pytest.CaptureFixture[str]) -> None:
    where = [*at(node.listen[0]), "--peer-id", node.peer_id]
    inventory = ["--inventory", str(node.inventory())]
    assert run(["drain", "one", *inventory]) == 0
    capsys.readouterr()
    said = look(capsys, 7, *where)
    assert said["by_name"]["identify"]["code"] == "no_relay"
    assert said["by_name"]["reservation"]["code"] == "relay_refused"
    assert run(["drain", "one", "--undo", *inventory]) == 0
    capsys.readouterr()
    look(capsys, 0, *where)


class _Ahead(SystemClock):
    """A clock that is an hour ahead."""

    def unix(self) -> int:
        return super().unix() + 3_600


async def probed(node: MeshNode, **more: Any) -> dict[str, tuple[bool | None, str]]:
    target = Target(node.peer_id, (node.address.without_peer(),), **more)
    found: Findings = await probe(target, timeout=20)
    return {check.name: (check.ok, check.code) for check in found.checks}


async def test_a_clock_that_is_off() -> None:
    async with MeshNode.run(MeshNode("alice", clock=_Ahead(), network=None)) as alice:
        found = await probed(alice)
    assert found["clock"] == (False, "clock_skew")
    assert found["identify"] == (False, "no_relay")


async def test_a_relay_that_refuses_and_a_dht_that_says_nothing() -> None:
    node = MeshNode("alice", network=None)
    async with MeshNode.run(node, server=False) as alice:
        found = await probed(alice)
    assert found["reservation"][0] is False
    assert found["dht_put"][0] is False
    assert found["dht_get"] == (None, "")


async def test_metrics_that_are_something_else() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<html>nothing</html>")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, MeshNode.run(MeshNode("alice", network=None)) as alice:
        port = server.sockets[0].getsockname()[1]
        found = await probed(alice, metrics=f"http://127.0.0.1:{port}/metrics")
    assert found["metrics"] == (False, "metrics_unknown")


TCP = "/ip4/192.0.2.1/tcp/9000"


@pytest.mark.parametrize(
    "line, says",
    [
        ("", "Missing option '--address'"),
        (f"--address {TCP}", "Which peer must answer is not said"),
        (f"--address {TCP} --peer-id nobody", "nobody"),
        (f"--address nonsense --peer-id {EVE}", "nonsense"),
        (f"--address {TCP}/p2p/{EVE} --peer-id {Identity.from_label('bob').peer_id}", "name several peers"),
        (f"--address /ip4/192.0.2.1/udp/9000 --peer-id {EVE}", ""),
        (f"--address {TCP}/p2p/{EVE}/p2p-circuit --peer-id {EVE}", ""),
        (f"--address {TCP} --peer-id {EVE} --metrics ftp://x", "no URL of metrics"),
        (f"--address {TCP} --peer-id {EVE} --metrics http://x:y/", "no URL of metrics"),
        (f"--address {TCP} --peer-id {EVE} --skip nothing", "There is no check"),
        (f"--address {TCP} --peer-id {EVE} --dns-server ns1", "no DNS server"),
        (f"--address {TCP} --peer-id {EVE} --timeout 0", ""),
        (" ".join([f"--address {TCP}"] * 17) + f" --peer-id {EVE}", "At most 16"),
    ],
)
def test_what_cannot_be_probed(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = look(capsys, 2, *line.split())
    assert says in said["errors"][0]["message"]
