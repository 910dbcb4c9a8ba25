"""Key files: where they lie, what is refused, how they are made, and one node a key.

The tests also run as root, to whom modes mean nothing: a home that cannot be written is made of a file in the
place of a folder, and, where namespaces can be had, of a read-only mount.
"""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.prerequisites import skip
from wws.identity.keys import Identity
from wws.runtime.homes import Home, choose_home
from wws.runtime.keyfile import (
    IdentityInUse,
    KeyExists,
    KeyFileLoose,
    KeyFileSize,
    KeyFileSymlink,
    KeyLock,
    NoIdentity,
    choose_identity_path,
    create,
    load,
    load_or_create,
    store,
)
from wws.runtime.machine_errors import CannotWrite, MachineError
from wws.testing import scale

ALICE = Identity.from_label("alice")
BOB = Identity.from_label("bob")
# The children of these tests only make a key and end; threads of the test runner do not matter to them.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Alice's key file, as it should be."""
    path = tmp_path / "home" / "identity.key"
    store(ALICE, path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "env, flag, configured, name, expected",
    [
        ({"WWS_IDENTITY_PATH": "/e"}, "/f", "/c", "alice", "/e"),
        ({"WWS_IDENTITY_PATH": ""}, "/f", "/c", "alice", "/f"),
        ({}, "/f", "/c", "alice", "/f"),
        ({}, None, "/c", "alice", "/c"),
        ({}, None, None, "Alice", "/homes/alice/.openswarm/alice.key"),
        ({}, None, None, None, "/homes/alice/.openswarm/identity.key"),
        ({"HOME": "/homes/alice"}, "~/k", None, None, "/homes/alice/k"),
    ],
)
def test_the_path_is_chosen_in_the_order_of_the_contract(env, flag, configured, name, expected):
    home = Home(Path("/homes/alice/.openswarm"))
    assert choose_identity_path(env, flag, configured, name, home).path == Path(expected)


@pytest.mark.parametrize("name", [None, "alice"])
def test_without_a_home_folder_the_key_lies_in_data(name):
    home = choose_home(None, {})
    assert choose_identity_path({}, None, None, name, home).path == Path("data/identity.key")


def test_a_key_that_was_made_is_loaded_again(tmp_path: Path):
    path = tmp_path / "new" / "home" / "identity.key"
    made = create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes() == made.seed
    assert load(path, {}).peer_id == made.peer_id
    assert names(path.parent) == ["identity.key"]
    assert load_or_create(path, {})[1] is False


def test_a_wide_umask_does_not_loosen_the_key(tmp_path: Path):
    before = os.umask(0)
    try:
        create(tmp_path / "home" / "identity.key")
    finally:
        os.umask(before)
    assert (tmp_path / "home" / "identity.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_a_key_is_never_replaced(key: Path):
    for attempt in (lambda: create(key), lambda: store(BOB, key)):
        with pytest.raises(KeyExists) as caught:
            attempt()
        assert caught.value.exit_code == 7
    assert key.read_bytes() == ALICE.seed


def test_a_dangling_link_is_not_written_through(tmp_path: Path):
    path = tmp_path / "identity.key"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyExists):
        create(path)
    assert not (tmp_path / "elsewhere").exists()


def test_no_key_is_exit_code_four(tmp_path: Path):
    with pytest.raises(NoIdentity) as caught:
        load(tmp_path / "nothing.key", {})
    assert (caught.value.code, caught.value.exit_code) == ("no_identity", 4)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o606, 0o610, 0o601, 0o666])
def test_a_loose_key_is_refused_and_left_alone(key: Path, mode: int):
    key.chmod(mode)
    with pytest.raises(KeyFileLoose) as caught:
        load_or_create(key, {})
    assert (caught.value.code, caught.value.exit_code) == ("key_file_loose", 8)
    assert key.read_bytes() == ALICE.seed
    assert key.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("content", [b"", b"\0" * 31, b"\0" * 33, b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
def test_a_short_or_long_key_is_refused_and_left_alone(key: Path, content: bytes):
    key.write_bytes(content)
    with pytest.raises(KeyFileSize) as caught:
        load_or_create(key, {})
    assert (caught.value.code, caught.value.exit_code) == ("key_file_size", 8)
    assert key.read_bytes() == content


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path, make):
    path = tmp_path / "identity.key"
    make(path)
    path.chmod(0o600)
    with pytest.raises(KeyFileSize):
        load(path, {})


class TestSymlinks:
    @pytest.fixture
    def public(self, tmp_path: Path) -> Path:
        """A folder like /tmp: everyone may write, with the sticky bit."""
        folder = tmp_path / "public"
        folder.mkdir()
        folder.chmod(0o1777)
        return folder

    def test_into_a_private_folder_is_fine(self, key: Path, tmp_path: Path):
        (tmp_path / "link.key").symlink_to(key)
        assert load(tmp_path / "link.key", {}).peer_id == ALICE.peer_id

    def test_into_a_world_writable_folder_is_refused(self, public: Path, tmp_path: Path):
        store(ALICE, public / "real.key")
        (tmp_path / "link.key").symlink_to(public / "real.key")
        with pytest.raises(KeyFileSymlink) as caught:
            load_or_create(tmp_path / "link.key", {})
        assert (caught.value.code, caught.value.exit_code) == ("key_file_symlink", 8)

    def test_relative_and_through_a_linked_folder_is_refused(self, public: Path, tmp_path: Path):
        store(ALICE, public / "real.key")
        (tmp_path / "relative.key").symlink_to("public/real.key")
        (tmp_path / "folder").symlink_to(public)
        for path in (tmp_path / "relative.key", tmp_path / "folder" / "real.key"):
            with pytest.raises(KeyFileSymlink):
                load(path, {})

    def test_that_only_passes_through_such_a_folder_is_refused(self, key: Path, public: Path, tmp_path: Path):
        (public / "middle").symlink_to(key)
        (tmp_path / "link.key").symlink_to(public / "middle")
        with pytest.raises(KeyFileSymlink):
            load(tmp_path / "link.key", {})

    def test_in_a_circle_is_refused(self, tmp_path: Path):
        (tmp_path / "a").symlink_to(tmp_path / "b")
        (tmp_path / "b").symlink_to(tmp_path / "a")
        with pytest.raises(KeyFileSymlink):
            load(tmp_path / "a", {})


def test_below_the_credentials_folder_only_the_other_bits_matter(key: Path, tmp_path: Path):
    key.chmod(0o440)
    env = {"CREDENTIALS_DIRECTORY": str(key.parent)}
    assert load(key, env).peer_id == ALICE.peer_id
    with pytest.raises(KeyFileLoose):
        load(key, {"CREDENTIALS_DIRECTORY": str(tmp_path / "elsewhere")})
    key.chmod(0o444)
    with pytest.raises(KeyFileLoose):
        load(key, env)


def test_a_home_that_cannot_be_made_is_exit_code_ten(tmp_path: Path):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(CannotWrite) as caught:
        create(tmp_path / "home" / "identity.key")
    assert (caught.value.code, caught.value.exit_code) == ("cannot_write", 10)
    assert "--home" in caught.value.hint


def test_a_read_only_home_is_exit_code_ten(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    script = f"""
        from pathlib import Path
        from wws.runtime.keyfile import create
        from wws.runtime.machine_errors import CannotWrite
        try:
            create(Path({str(home / "identity.key")!r}))
        except CannotWrite as error:
            print(error.code, error.exit_code, "read-only" in str(error))
    """
    mount = f'mount --bind {home} {home} && mount -o remount,bind,ro {home} && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=20)
    except FileNotFoundError:
        skip("there is no unshare here")
    if done.returncode != 0:
        skip("this machine gives no mount namespaces")
    done = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=30, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.stdout.split() == ["cannot_write", "10", "True"], done.stderr
    assert names(home) == []


def _create_in_process(path: str, started: object, results: object) -> None:
    started.wait()  # type: ignore[attr-defined]
    identity, made = load_or_create(Path(path), {})
    results.put((str(identity.peer_id), made))  # type: ignore[attr-defined]


def test_of_several_processes_one_makes_the_key_and_all_use_it(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    started, results = context.Event(), context.Queue()
    path = str(tmp_path / "identity.key")
    workers = [context.Process(target=_create_in_process, args=(path, started, results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    started.set()
    found = [results.get(timeout=20) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({peer_id for peer_id, _ in found}) == 1
    assert [made for _, made in found].count(True) == 1
    assert names(tmp_path) == ["identity.key"]


def test_a_kill_at_any_step_leaves_no_key_or_a_whole_one(tmp_path: Path):
    """The child counts the system calls that matter and kills itself before the n-th, for each n."""
    seen = set()
    for step in range(20):
        path = tmp_path / str(step) / "identity.key"
        process = os.fork()
        if process == 0:
            _kill_before_call(step)
            create(path)
            os._exit(0)
        _, result = os.waitpid(process, 0)
        if path.exists():
            assert len(path.read_bytes()) == 32
            assert path.stat().st_mode & 0o777 == 0o600
        seen.add((path.exists(), os.WIFSIGNALED(result)))
        identity, _ = load_or_create(path, {})  # the next start works, and clears up
        if not os.WIFSIGNALED(result):
            break
        assert load(path, {}).peer_id == identity.peer_id
    assert seen >= {(False, True), (True, True), (True, False)}


def _kill_before_call(step: int) -> None:
    left = step

    def counted(function):
        def call(*arguments, **options):
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return function(*arguments, **options)

        return call

    for name in ("open", "fchmod", "fsync", "link", "unlink", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))


def test_kills_at_random_moments_leave_no_key_or_a_whole_one(tmp_path: Path):
    rng = random.Random(7)
    for attempt in range(scale(200, least=20)):
        path = tmp_path / str(attempt) / "identity.key"
        ready, ready_child = os.pipe()
        process = os.fork()
        if process == 0:
            os.write(ready_child, b"1")
            create(path)
            os._exit(0)
        os.read(ready, 1)
        for _ in range(rng.randrange(2000)):
            pass  # a random moment of the child's work; the clock plays no part in what is asserted
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ready)
        os.close(ready_child)
        if path.exists():
            assert len(path.read_bytes()) == 32
        load_or_create(path, {})
        assert names(path.parent) == ["identity.key"]


class TestLock:
    def test_one_node_a_key_file(self, key: Path, tmp_path: Path):
        lock = KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path)})
        with pytest.raises(IdentityInUse) as caught:
            KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path)})
        assert (caught.value.code, caught.value.exit_code) == ("identity_in_use", 7)
        lock.release()
        lock.release()
        KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path)}).release()

    def test_a_copy_of_the_key_is_the_same_key(self, key: Path, tmp_path: Path):
        copy = tmp_path / "copy.key"
        store(ALICE, copy)
        env = {"XDG_RUNTIME_DIR": str(tmp_path)}
        lock = KeyLock(key, ALICE.peer_id, env)
        with pytest.raises(IdentityInUse, match=f"process {os.getpid()}"):
            KeyLock(copy, ALICE.peer_id, env)
        lock.release()
        KeyLock(copy, ALICE.peer_id, env).release()

    def test_another_key_is_another_matter(self, key: Path, tmp_path: Path):
        store(BOB, tmp_path / "bob.key")
        env = {"XDG_RUNTIME_DIR": str(tmp_path)}
        locks = [KeyLock(key, ALICE.peer_id, env), KeyLock(tmp_path / "bob.key", BOB.peer_id, env)]
        for lock in locks:
            lock.release()

    def test_the_same_file_is_the_same_key_whatever_the_environment(self, key: Path, tmp_path: Path):
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path / "b")}).release()
        lock = KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path / "a")})
        with pytest.raises(IdentityInUse, match="another home or user"):
            KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path / "b")})
        lock.release()

    def test_a_read_only_key_can_be_locked(self, key: Path, tmp_path: Path):
        key.chmod(0o400)
        KeyLock(key, ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path)}).release()

    def test_a_killed_node_leaves_no_lock(self, key: Path, tmp_path: Path):
        env = {"XDG_RUNTIME_DIR": str(tmp_path)}
        held, held_child = os.pipe()
        process = os.fork()
        if process == 0:
            KeyLock(key, ALICE.peer_id, env)
            os.write(held_child, b"1")
            signal.pause()
        os.read(held, 1)
        with pytest.raises(IdentityInUse):
            KeyLock(key, ALICE.peer_id, env)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        KeyLock(key, ALICE.peer_id, env).release()
        os.close(held)
        os.close(held_child)


def test_a_missing_key_cannot_be_locked(tmp_path: Path):
    with pytest.raises(MachineError):
        KeyLock(tmp_path / "none.key", ALICE.peer_id, {"XDG_RUNTIME_DIR": str(tmp_path)})
