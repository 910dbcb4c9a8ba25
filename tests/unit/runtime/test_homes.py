"""Where everything lies, and who is running there."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import LocalProtocolError
from wws.runtime.homes import (
    MAX_SOCKET_PATH,
    MAX_STATUS_FILE,
    BadNodeName,
    Home,
    NodePaths,
    Ready,
    SeveralNodes,
    choose_home,
    make_folder,
    parse_node_name,
    private_folder,
    process_start,
    runtime_folder,
)
from wws.runtime.keyfile import KeyExists
from wws.runtime.machine_errors import CannotWrite


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def ready(node: str, **changes: object) -> Ready:
    members: dict[str, object] = {
        "node": node,
        "pid": os.getpid(),
        "peer_id": "12D3KooW",
        "did": "did:swarm:00",
        "listen": ("/ip4/127.0.0.1/tcp/9000",),
        "rpc": "127.0.0.1:9370",
        "http": None,
        "socket": "/run/rpc.sock",
        "cookie": "/run/rpc.cookie",
        "started": process_start(os.getpid()),
        **changes,
    }
    return Ready(**members)  # type: ignore[arg-type]


def test_every_path_of_the_contract(home: Home):
    node = home.node("alice")
    root = home.root
    assert [home.identity_key, home.named_key("Alice"), home.config_file, home.known_names] == [
        root / "identity.key",
        root / "alice.key",
        root / "config.toml",
        root / "known_names.json",
    ]
    assert home.network_file("example.org") == root / "networks/example.org.json"
    assert home.network_state("example.org") == root / "networks/example.org.state"
    assert [node.port_file, node.peer_cache, node.leases, node.inbox, node.log] == [
        root / "state/alice" / name for name in ("port", "peers.json", "leases.json", "inbox.sqlite", "log")
    ]
    assert [node.ready_file, node.error_file, node.cookie, node.lock, node.socket({})] == [
        root / "run/alice" / name for name in ("ready.json", "error.json", "rpc.cookie", "lock", "rpc.sock")
    ]
    assert not root.exists()


def test_the_home_is_chosen_by_flag_environment_and_user(tmp_path: Path):
    env = {"WWS_HOME": "/e", "HOME": str(tmp_path)}
    assert choose_home("/f", env) == Home(Path("/f"))
    assert choose_home("~/f", env) == Home(tmp_path / "f")
    assert choose_home(None, env) == Home(Path("/e"))
    assert choose_home(None, {"HOME": str(tmp_path)}) == Home(tmp_path / ".openswarm")


@pytest.mark.parametrize("env", [{}, {"HOME": ""}, {"HOME": "/"}, {"HOME": "/nonexistent"}])
def test_users_without_a_home_folder_use_data(env):
    assert choose_home(None, env) == Home(Path("data"), is_fallback=True)


@pytest.mark.parametrize("name", ["alice", "Alice", "a", "0", "node-1", "node_1", "node.1", "a" * 63])
def test_names_of_nodes(name):
    assert parse_node_name(name) == name.lower()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a..b", "-a", ".a", "_a", "a/b", "a b", "a\n", "é", "\u212aate", "a" * 64]
)
def test_what_is_no_name_of_a_node(home: Home, name):
    for attempt in (parse_node_name, home.node, home.named_key, home.network_file, home.network_state):
        if attempt in (home.network_file, home.network_state) and name == "a" * 64:
            continue  # a domain may be longer
        with pytest.raises(BadNodeName) as caught:
            attempt(name)
        assert caught.value.exit_code == 2


@given(st.text())
def test_no_name_leads_out_of_the_home(text):
    try:
        path = Home(Path("/h")).node(text).state
    except BadNodeName:
        return
    assert path.parent == Path("/h/state")
    assert os.path.normpath(path) == str(path)


class TestReady:
    def test_is_written_whole_0600_and_read_back(self, home: Home):
        node = home.node("alice")
        assert node.read_ready() is None
        node.write_ready(ready("alice"))
        assert node.read_ready() == ready("alice")
        assert stat.S_IMODE(node.ready_file.stat().st_mode) == 0o600
        assert stat.S_IMODE(node.run.stat().st_mode) == 0o700
        members = json.loads(node.ready_file.read_text())
        assert {"node", "pid", "peer_id", "did", "listen", "rpc", "http", "socket", "cookie"} <= set(members)
        node.clear()
        node.clear()
        assert node.read_ready() is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"pid": 0},
            {"pid": -1},
            {"pid": 2**70},
            {"pid": True},
            {"pid": "1"},
            {"started": 1},
            {"node": "bob"},
            {"listen": "x"},
            {"listen": [1]},
            {"socket": None},
            {"rpc": 9370},
        ],
    )
    def test_that_is_stale_or_malformed_means_not_running(self, home: Home, changes):
        node = home.node("alice")
        node.write_ready(ready("alice"))
        members = json.loads(node.ready_file.read_text())
        node.ready_file.write_text(json.dumps({**members, **changes}))
        assert node.read_ready() is None

    def test_of_a_process_that_died_means_not_running(self, home: Home):
        done = subprocess.Popen([sys.executable, "-c", ""])
        done.wait()
        node = home.node("alice")
        node.write_ready(ready("alice", pid=done.pid, started=None))
        assert node.read_ready() is None
        assert home.running_nodes() == []

    @pytest.mark.parametrize("content", ["", "null", "[]", "{", "[" * 5000, "{}", '"' * 70_000])
    def test_that_is_garbage_means_not_running(self, home: Home, content):
        node = home.node("alice")
        make_folder(node.run)
        node.ready_file.write_text(content)
        node.error_file.write_text(content)
        assert node.read_ready() is None
        assert node.read_error() is None

    def test_too_large_is_not_read(self, home: Home):
        node = home.node("alice")
        node.write_ready(ready("alice"))
        node.ready_file.write_text(node.ready_file.read_text() + " " * MAX_STATUS_FILE)
        assert node.read_ready() is None

    def test_members_of_a_later_version_are_ignored(self, home: Home):
        node = home.node("alice")
        node.write_ready(ready("alice"))
        members = json.loads(node.ready_file.read_text())
        node.ready_file.write_text(json.dumps({**members, "quic": True}))
        assert node.read_ready() == ready("alice")


class TestPickNode:
    def test_none_at_all(self, home: Home):
        assert home.pick_node(None) is None

    def test_the_one_asked_for(self, home: Home):
        assert home.pick_node("Bob") == NodePaths(home, "bob")

    def test_the_only_one_with_state(self, home: Home):
        make_folder(home.node("alice").state)
        assert home.pick_node(None) == home.node("alice")

    def test_the_only_running_one_before_others_with_state(self, home: Home):
        for name in ("alice", "bob"):
            make_folder(home.node(name).state)
        home.node("bob").write_ready(ready("bob"))
        assert home.pick_node(None) == home.node("bob")

    def test_several_are_listed(self, home: Home):
        for name in ("bob", "alice"):
            home.node(name).write_ready(ready(name))
        with pytest.raises(SeveralNodes, match="alice, bob") as caught:
            home.pick_node(None)
        assert caught.value.exit_code == 2
        assert caught.value.hint.endswith("--node alice or --node bob")

    def test_one_that_has_ended_is_none_to_ask(self, home: Home):
        for name in ("alice", "bob"):
            make_folder(home.node(name).state)
        assert home.pick_running(None) is None
        assert home.pick_running("bob") == home.node("bob")
        with pytest.raises(SeveralNodes, match="known"):
            home.pick_node(None)
        home.node("bob").write_ready(ready("bob"))
        assert home.pick_running(None) == home.node("bob")


@pytest.mark.parametrize(
    "error, expected",
    [
        (KeyExists("taken", hint="move it"), ("key_exists", "taken", "move it", 7)),
        (LocalProtocolError("x"), None),
    ],
)
def test_why_a_start_failed_is_left_for_the_command(home: Home, error, expected):
    node = home.node("alice")
    node.write_error(error)
    found = node.read_error()
    assert found is not None
    assert (found.code, found.message, found.hint, found.exit_code) == (
        expected or ("local_protocol_error", "x", "", 1)
    )
    node.clear()
    assert node.read_error() is None


class TestSocket:
    def test_a_long_path_lies_in_the_runtime_folder(self, tmp_path: Path):
        env = {"XDG_RUNTIME_DIR": str(tmp_path)}
        node = Home(Path("/" + "x" * MAX_SOCKET_PATH)).node("alice")
        path = node.socket(env)
        assert path.parent == tmp_path / "wws"
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path == node.socket(env)
        assert path != Home(Path("/" + "y" * MAX_SOCKET_PATH)).node("alice").socket(env)

    def test_the_longest_path_can_be_bound(self, tmp_path: Path):
        room = MAX_SOCKET_PATH - len(os.fsencode(tmp_path)) - len("/x/run/alice/rpc.sock") + 1
        node = Home(tmp_path / ("x" * max(room, 1))).node("alice")
        path = node.socket({"XDG_RUNTIME_DIR": str(tmp_path)})
        make_folder(path.parent)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))

    def test_a_runtime_folder_that_is_too_long_itself_is_not_used(self, tmp_path: Path):
        runtime = tmp_path / ("r" * MAX_SOCKET_PATH)
        runtime.mkdir()
        node = Home(Path("/" + "x" * MAX_SOCKET_PATH)).node("alice")
        assert len(os.fsencode(node.socket({"XDG_RUNTIME_DIR": str(runtime)}))) <= MAX_SOCKET_PATH

    def test_without_xdg_it_lies_in_the_temporary_folder(self, tmp_path: Path):
        for env in ({"TMPDIR": str(tmp_path)}, {"TMPDIR": str(tmp_path), "XDG_RUNTIME_DIR": "/nonexistent"}):
            assert runtime_folder(env) == tmp_path / f"wws-{os.getuid()}"

    def test_a_folder_that_others_prepared_is_not_used(self, tmp_path: Path):
        folder = tmp_path / "wws"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        with pytest.raises(CannotWrite):
            private_folder(folder)
        folder.rmdir()
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(CannotWrite):
            private_folder(folder)


def test_a_home_inside_a_file_is_a_typed_error(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(CannotWrite):
            make_folder(path)


def test_the_module_needs_the_standard_library_only():
    heavy = ("nacl", "pydantic", "structlog", "cryptography", "asyncio")
    script = f"import sys, wws.runtime.homes; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the state of a process cannot be read")
def test_a_node_that_died_unheard_of_does_not_run(home: Home):
    """Its number and its start are still those of its process, until its parent asks."""
    node = home.node("alice")
    with subprocess.Popen(["sleep", "60"]) as process:
        node.write_ready(ready("alice", pid=process.pid, started=process_start(process.pid)))
        assert node.read_ready() is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert node.read_ready() is None
        assert home.running_nodes() == []
