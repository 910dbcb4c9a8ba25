"""What the RPC server keeps on disk: whole, private, bounded, and not worth a node that does not start."""

import asyncio
import json
import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from wws.codec.canonical import JsonObject
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.rpc.access import Access
from wws.rpc.audit import AuditConfig
from wws.rpc.policy import Role
from wws.rpc.serving import Principal
from wws.rpc.turns import Standing
from wws.runtime.homes import Home, NodePaths
from wws.runtime.rpc_state import AGENTS, AUDIT, TOKENS, AuditFile, RpcState
from wws.runtime.state_files import StateFile
from wws.testing.rpc import NOW_MS, make_access, registration

NODE, BOB = Identity.from_label("alice"), Identity.from_label("bob")


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    return Home(tmp_path).node("alice")


def fill(access: Access) -> str:
    """A token and an agent; the token's secret."""
    params = registration(BOB)
    access.register_agent(
        params["agent_id"],
        params["public_key"],
        params["pow"],
        swarm_size=1,
        caller=Principal(Role.SOCKET, "owner"),
        unix_ms=NOW_MS,
    )
    return access.create_token("for bob", ["read"], 60, 3600, unix_ms=NOW_MS).secret


async def test_what_was_saved_is_read_again(paths: NodePaths) -> None:
    state, access = RpcState(paths), make_access(NODE.peer_id)
    state.load(access)
    secret = fill(access)
    await state.save(access)
    for name in (TOKENS, AGENTS):
        assert stat.S_IMODE((paths.state / name).stat().st_mode) == 0o600
        assert secret not in (paths.state / name).read_text()
    again = make_access(NODE.peer_id)
    RpcState(paths).load(again)
    assert again.tokens_to_json() == access.tokens_to_json()
    assert again.books_to_json() == access.books_to_json()


async def test_nothing_is_written_that_did_not_change(paths: NodePaths) -> None:
    state, access = RpcState(paths), make_access(NODE.peer_id)
    state.load(access)
    await state.save(access)
    await state.close(access)
    assert not (paths.state / TOKENS).exists()
    fill(access)
    await state.save(access)
    before = (paths.state / TOKENS).stat().st_ino
    await state.save(access)
    await state.close(access)
    assert (paths.state / TOKENS).stat().st_ino == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"schema": "1"}',
        b"[" * 5000,
        b"\xff",
        b'{"schema":1,"tokens":5,"agents":{}}',
    ],
)
def test_a_damaged_file_opens_nothing_and_stops_nothing(paths: NodePaths, content: bytes) -> None:
    paths.state.mkdir(parents=True)
    for name in (TOKENS, AGENTS):
        (paths.state / name).write_bytes(content)
    access = make_access(NODE.peer_id)
    RpcState(paths).load(access)
    assert access.list_tokens() == ()
    assert access.books_to_json()["agents"] == []


async def test_a_disk_that_is_full_fails_the_call_that_needed_it_and_no_other(paths: NodePaths) -> None:
    state, access = RpcState(paths), make_access(NODE.peer_id)
    state.load(access)
    paths.state.parent.mkdir(parents=True)
    paths.state.write_text("in the way")
    fill(access)
    with pytest.raises(WwsError) as caught:
        await state.save(access)
    assert caught.value.code == "cannot_write"
    await state.close(access)
    paths.state.unlink()
    await state.save(access)
    assert json.loads((paths.state / TOKENS).read_text())["tokens"]


async def test_a_save_that_is_given_up_does_not_undo_a_later_one(paths: NodePaths) -> None:
    """A token that was revoked stays revoked: the caller of the save before it went away in the middle."""
    state, access = RpcState(paths), make_access(NODE.peer_id)
    state.load(access)
    secret = fill(access)
    begun, go_on = threading.Event(), threading.Event()

    class Slow(StateFile):
        """A disk that takes its time for the first write."""

        def write(self, members: JsonObject, *, durable: bool = True) -> None:
            if not begun.is_set():
                begun.set()
                assert go_on.wait(30)
            super().write(members, durable=durable)

    state._tokens = Slow(paths.state / TOKENS)
    first = asyncio.create_task(state.save(access))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (token,) = access.list_tokens()
    access.revoke_token(token.id)
    second = asyncio.create_task(state.save(access))
    _, unfinished = await asyncio.wait({second}, timeout=0.1)
    go_on.set()
    await second
    assert unfinished, "it waits for the one that is under way"
    await state.close(access)
    again = make_access(NODE.peer_id)
    RpcState(paths).load(again)
    assert again.list_tokens() == ()
    assert again.shown_in(b'"token":"%s"' % secret.encode()) is Standing.STRANGER


async def test_saves_at_once_lose_nothing(paths: NodePaths) -> None:
    state, access = RpcState(paths), make_access(NODE.peer_id)
    state.load(access)

    async def change(number: int) -> None:
        await access.new_names.register(Kept(), f"name-{number}", NOW_MS // 1000)
        await state.save(access)
        assert f"name-{number}" in (paths.state / AGENTS).read_text()

    class Kept:
        """Just enough of a node."""

        async def names(self):
            return []

        async def register_name(self, name: str):
            from wws.rpc.api import NameRegistered

            return NameRegistered(name=name, swarm="public", registered=True, expires_at=1, witnessed=False)

    await asyncio.gather(*(change(number) for number in range(5)))


# --- the audit log ----------------------------------------------------------------------------


def test_the_log_is_private_bounded_and_rotated(paths: NodePaths) -> None:
    path = paths.state / AUDIT
    log = AuditFile(path, AuditConfig(file_bytes=100, files=3))
    for number in range(50):
        log.append(b"line %02d\n" % number)
    log.close()
    files = sorted(paths.state.iterdir())
    assert [file.name for file in files] == [AUDIT, f"{AUDIT}.1", f"{AUDIT}.2"]
    for file in files:
        assert file.stat().st_size <= 100
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = b"".join(file.read_bytes() for file in (files[2], files[1], files[0])).splitlines()
    assert kept == [b"line %02d" % number for number in range(50 - len(kept), 50)]
    assert len(kept) > 24


def test_the_log_goes_on_where_it_was(paths: NodePaths) -> None:
    path = paths.state / AUDIT
    for number in range(3):
        log = AuditFile(path, AuditConfig())
        log.append(b"line %d\n" % number)
        log.close()
    assert path.read_bytes() == b"line 0\nline 1\nline 2\n"


def test_a_line_that_a_kill_has_cut_is_ended_before_the_next(paths: NodePaths) -> None:
    paths.state.mkdir(parents=True)
    (paths.state / AUDIT).write_bytes(b'{"who":"stranger","method":"sw')
    log = AuditFile(paths.state / AUDIT, AuditConfig())
    log.append(b'{"who":"owner"}\n')
    log.append(b'{"who":"owner"}\n')
    log.close()
    lines = (paths.state / AUDIT).read_bytes().splitlines()
    assert lines == [b'{"who":"stranger","method":"sw', b'{"who":"owner"}', b'{"who":"owner"}']


def test_a_line_that_a_full_disk_has_cut_is_ended_before_the_next(paths: NodePaths) -> None:
    log = AuditFile(paths.state / AUDIT, AuditConfig())
    log.append(b"first\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        log.append(b"0123456789\n")
        log.append(b"lost\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.append(b"second\n")
    log.append(b"third\n")
    log.close()
    assert (paths.state / AUDIT).read_bytes().splitlines() == [b"first", b"0123", b"second", b"third"]


def test_a_log_that_is_a_link_is_not_followed(paths: NodePaths, caplog: pytest.LogCaptureFixture) -> None:
    paths.state.mkdir(parents=True)
    victim = paths.state.parent / "victim"
    victim.write_text("precious")
    (paths.state / AUDIT).symlink_to(victim)
    log = AuditFile(paths.state / AUDIT, AuditConfig())
    log.append(b"line\n")
    log.append(b"line\n")
    log.close()
    assert victim.read_text() == "precious"


def test_a_log_that_others_could_read_is_closed_to_them(paths: NodePaths) -> None:
    paths.state.mkdir(parents=True)
    path = paths.state / AUDIT
    path.touch()
    os.chmod(path, 0o644)
    log = AuditFile(path, AuditConfig())
    log.append(b"line\n")
    log.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
