"""State files: whole at every moment, set aside when damaged, read one version ahead."""

import json
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wws.codec.canonical import JsonObject
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState
from wws.errors import LocalError
from wws.identity.keys import Identity
from wws.runtime.homes import Home
from wws.runtime.machine_errors import CannotWrite
from wws.runtime.state_files import (
    MAX_STATE,
    NetworkFiles,
    PortFile,
    StateDamaged,
    StateFile,
    StateTooNew,
    locked,
)
from wws.runtime.whole_files import create_whole, sweep, write_whole
from wws.testing import scale

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def file(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "state" / "file.json", schema=2, warn=pytest.fail)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_written_is_read(file: StateFile):
    assert file.read() is None
    file.write({"a": 1})
    assert file.read() == {"schema": 2, "a": 1}
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert names(file.path.parent) == ["file.json"]


def test_a_member_called_schema_is_not_the_callers_to_choose(file: StateFile):
    file.write({"schema": 77, "a": 1})
    assert file.read() == {"schema": 2, "a": 1}


def test_one_version_newer_is_read_and_its_members_are_handed_on(file: StateFile):
    write_whole(file.path, json.dumps({"schema": 3, "a": 1, "invented_later": [1]}).encode())
    assert file.read() == {"schema": 3, "a": 1, "invented_later": [1]}
    file.write({"a": 2})
    assert file.read() == {"schema": 3, "a": 2, "invented_later": [1]}


def test_one_version_older_is_read_and_brought_forward(file: StateFile):
    write_whole(file.path, json.dumps({"schema": 1, "a": 1, "gone": 1}).encode())
    assert file.read() == {"schema": 1, "a": 1, "gone": 1}
    file.write({"a": 2})
    assert file.read() == {"schema": 2, "a": 2}


def test_two_versions_newer_is_refused_and_left_alone(file: StateFile):
    content = json.dumps({"schema": 4, "a": 1}).encode()
    write_whole(file.path, content)
    with pytest.raises(StateTooNew) as caught:
        file.read()
    assert caught.value.exit_code == 10
    assert file.path.read_bytes() == content


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b"{}",
    b'{"schema": true}',
    b'{"schema": 0}',
    b'{"schema": "1"}',
]


@pytest.mark.parametrize("content", [*DAMAGED, b"[" * 200_000, b"1" * 10_000, b" " * (MAX_STATE + 1)])
def test_a_damaged_file_is_set_aside_with_a_warning(tmp_path: Path, content):
    warnings: list[LocalError] = []
    file = StateFile(tmp_path / "file.json", warn=warnings.append)
    write_whole(file.path, content)
    assert file.read() is None
    assert [type(warning) for warning in warnings] == [StateDamaged]
    assert names(tmp_path) == ["file.json.damaged"]
    assert (tmp_path / "file.json.damaged").read_bytes() == content
    file.write({"a": 1})
    assert file.read() == {"schema": 1, "a": 1}


@given(st.binary(max_size=300))
@example(b'{"schema": 1, "port": 1e400}')
@example(b'{"schema": 1, "port": 65536}')
@example(b'{"schema": 1, "port": true}')
def test_no_content_breaks_a_reader(tmp_path_factory: pytest.TempPathFactory, content):
    node = Home(tmp_path_factory.getbasetemp() / "any").node("alice")
    write_whole(node.port_file, content, durable=False)
    assert PortFile(node, warn=lambda _: None).read() is None


def test_a_file_that_cannot_be_written_keeps_its_content(file: StateFile, monkeypatch: pytest.MonkeyPatch):
    file.write({"a": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError) as caught:
        file.write({"a": 2})
    assert (caught.value.code, caught.value.exit_code) == ("no_space", 10)
    assert file.read() == {"schema": 2, "a": 1}
    assert names(file.path.parent) == ["file.json"]


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path):
    (tmp_path / "state").write_text("")
    with pytest.raises(CannotWrite):
        StateFile(tmp_path / "state" / "file.json").write({})


def test_create_whole_never_replaces(tmp_path: Path):
    create_whole(tmp_path / "file", b"1")
    with pytest.raises(FileExistsError):
        create_whole(tmp_path / "file", b"2")
    assert (tmp_path / "file").read_bytes() == b"1"
    assert names(tmp_path) == ["file"]


def test_without_hard_links_a_file_is_still_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_links(*_arguments: object, **_options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    test_create_whole_never_replaces(tmp_path)


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_stay(tmp_path: Path):
    done = subprocess.Popen(["true"])
    done.wait()
    dead = tmp_path / f".peers.json.{done.pid}.0011aabb.new"
    living = tmp_path / f".peers.json.{os.getpid()}.0011aabb.new"
    other = tmp_path / ".peers.json.lock"
    for path in (dead, living, other):
        path.write_text("")
    sweep(tmp_path)
    assert names(tmp_path) == sorted([living.name, other.name])
    sweep(tmp_path / "nothing")


def test_kills_at_random_moments_leave_the_file_whole(tmp_path: Path):
    """A child rewrites a file without end and is killed meanwhile: what is there is one it wrote."""
    rng = random.Random(11)
    path = tmp_path / "file.json"
    file = StateFile(path, warn=pytest.fail)
    for _ in range(scale(200, least=20)):
        ready, ready_child = os.pipe()
        process = os.fork()
        if process == 0:
            count = 0
            while True:
                file.write({"count": count, "filler": "x" * (count % 7 * 9000)}, durable=count % 2 == 0)
                os.write(ready_child, b"1")
                count += 1
        for _ in range(rng.randrange(1, 6)):
            os.read(ready, 1)
        for _ in range(rng.randrange(3000)):
            pass  # somewhere within the next write
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(ready_child)
        value = file.read()
        assert value is not None
        count = value["count"]
        assert isinstance(count, int)
        assert value["filler"] == "x" * (count % 7 * 9000)
    sweep(tmp_path)
    assert names(tmp_path) == ["file.json"]


def test_the_port_is_kept(home: Home):
    port = PortFile(home.node("alice"))
    assert port.read() is None
    port.write(41_234)
    assert PortFile(home.node("alice")).read() == 41_234


def test_many_processes_that_change_a_file_at_once_lose_nothing(tmp_path: Path):
    path = tmp_path / "file.json"
    children = []
    for index in range(8):
        process = os.fork()
        if process == 0:
            with locked(path):
                file = StateFile(path)
                file.write({**(file.read() or {}), f"member-{index}": index})
            os._exit(0)
        children.append(process)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    value = StateFile(path, warn=pytest.fail).read()
    assert value == {"schema": 1, **{f"member-{index}": index for index in range(8)}}


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path):
    held, held_child = os.pipe()
    process = os.fork()
    if process == 0:
        with locked(tmp_path / "file"):
            os.write(held_child, b"1")
            signal.pause()
    os.read(held, 1)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    with locked(tmp_path / "file"):
        pass
    os.close(held)
    os.close(held_child)


def bundle_state(seq: int) -> JsonObject:
    """The state of a network after the bundle with the number `seq`; signatures play no part in it."""
    text = f"v=wws1;seq={seq};nbf=1;exp=1000;peers={ALICE}@203.0.113.4:9000;sig=00000000:{'A' * 86}"
    return BundleState("example.org", [BOB.public_key], last=Bundle.parse(text)).to_json()


def test_networks_are_saved_and_removed(home: Home):
    networks = NetworkFiles(home)
    assert networks.names() == []
    networks.write_file("example.org", b'{"v":1}')
    networks.raise_state("example.org", bundle_state(5))
    assert networks.names() == ["example.org"]
    assert networks.read_file("example.org") == b'{"v":1}'
    assert len(networks.read_file("example.org", max_bytes=3) or b"") == 4
    assert networks.read_file("other") is None
    assert networks.remove("example.org") is True
    assert networks.remove("example.org") is False
    assert networks.read_state("example.org") is None


def test_the_number_of_a_network_never_sinks(home: Home):
    """Two nodes of one home: the one that has seen less saves last."""
    networks = NetworkFiles(home)
    for seq in (5, 9, 7):
        networks.raise_state("example.org", bundle_state(seq))
    assert networks.read_state("example.org") == bundle_state(9)
    networks.raise_state("example.org", BundleState("example.org", [BOB.public_key]).to_json())
    assert networks.read_state("example.org") == bundle_state(9)


def test_a_state_that_cannot_be_read_gives_way(home: Home):
    networks = NetworkFiles(home)
    write_whole(home.network_state("example.org"), b'{"schema": 1, "domain": 7}')
    networks.raise_state("example.org", bundle_state(5))
    assert networks.read_state("example.org") == bundle_state(5)
