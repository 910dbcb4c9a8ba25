"""The RPC abuse list: what an attacker on this machine, or a web page in its browser, may try.

One table. Each row does its worst, and for each: nothing is answered but errors, each refusal is counted by
its reason, and an honest client, which was connected before, goes on being answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from wws import client
from wws.client import CookieUnsafe
from wws.identity.keys import Identity
from wws.rpc.access import AccessConfig
from wws.rpc.signed import SignedConfig
from wws.rpc.turns import TurnsConfig
from wws.runtime.homes import Home, Ready, process_start
from wws.runtime.http_server import HttpConfig, HttpServer
from wws.runtime.metrics import Metrics
from wws.runtime.rpc_server import RpcServer, RpcServerConfig
from wws.runtime.status_pages import Readiness, make_pages
from wws.testing import scale
from wws.testing.fake_node import FakeNode, FakeSwarm
from wws.testing.rpc import NOW_MS, line, registration, signed_request

pytestmark = pytest.mark.net

ALICE, BOB, CAROL = (Identity.from_label(label) for label in ("alice", "bob", "carol"))
"""The node that is attacked is alice's; bob is a registered agent, carol nobody."""
STATUS = "swarm.get_status"
MIB = 1024 * 1024


class Rig:
    """A server, what it refused, and the ways to it."""

    def __init__(self, home: Path, config: RpcServerConfig) -> None:
        self.now_ms = NOW_MS
        self.node = FakeNode("alice", FakeSwarm(), path=str(home / "identity.key"))
        self.env = {"XDG_RUNTIME_DIR": str(home)}
        self.paths = Home(home).node("alice")
        self.server = RpcServer(self.node, self.paths, config, env=self.env, unix_ms=lambda: self.now_ms)
        self.answers: list[object] = []
        """Everything that attackers were answered."""

    @property
    def refused(self) -> Counter[str]:
        return self.server.refused

    @property
    def cookie(self) -> str:
        return self.server.cookie_path.read_text().strip()

    async def tcp(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.server.tcp_address is not None
        host, _, port = self.server.tcp_address.rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=32 * MIB)

    async def unix(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(self.server.socket_path), limit=32 * MIB)

    async def send(self, data: bytes, *, on_socket: bool = False) -> list:
        """Send it all on a connection of its own, end, and return every answer, batches unfolded."""
        reader, writer = await (self.unix() if on_socket else self.tcp())
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
            writer.write_eof()
        got = b""
        with contextlib.suppress(ConnectionError):
            got = await reader.read()
        writer.close()
        answers: list = []
        for text in got.splitlines():
            value = json.loads(text)
            answers += value if isinstance(value, list) else [value]
        self.answers += answers
        return answers

    async def ask(
        self, method: str, params: object = None, *, on_socket: bool = False, **members: object
    ) -> dict:
        """One call; its answer is not taken for an attacker's."""
        request = {"jsonrpc": "2.0", "method": method, "id": 1, **members}
        if params is not None:
            request["params"] = params
        (answer,) = await self.send(json.dumps(request).encode() + b"\n", on_socket=on_socket)
        self.answers.pop()
        return answer

    async def register_bob(self) -> None:
        assert "result" in await self.ask("swarm.register_agent", registration(BOB), on_socket=True)

    async def token(self, **params: object) -> dict:
        return (await self.ask("swarm.create_token", params, on_socket=True))["result"]


@contextlib.asynccontextmanager
async def serving(home: Path, **config: object) -> AsyncIterator[Rig]:
    settings = {"port": 0, "port_is_default": False, **config}
    rig = Rig(home, RpcServerConfig(**settings))  # type: ignore[arg-type]
    await rig.server.start()
    try:
        yield rig
    finally:
        await rig.server.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def call(method: str = STATUS, params: object = None, **members: object) -> bytes:
    request = {"jsonrpc": "2.0", "method": method, "id": 1, **members}
    if params is not None:
        request["params"] = params
    return json.dumps(request).encode() + b"\n"


# --- the table --------------------------------------------------------------------------------

Attack = Callable[[Rig], Awaitable[None]]
ROWS: list[tuple[str, Attack, dict[str, int]]] = []
"""What it is called, what it does, and how often each reason must then have been counted."""


def row(name: str, attack: Attack, **counted: int) -> None:
    ROWS.append((name, attack, counted))


def sends(data: bytes, **how: bool) -> Attack:
    async def attack(rig: Rig) -> None:
        await rig.send(data, **how)

    return attack


def attack(**counted: int) -> Callable[[Attack], Attack]:
    """A row that needs more than bytes: named by its function."""

    def add(function: Attack) -> Attack:
        row(function.__name__, function, **counted)
        return function

    return add


# Who it is not.

row("no token", sends(call()), unauthorised=1)
row("an empty token", sends(call(token="")), unauthorised=1)
row("a wrong token", sends(call(token="wwst_" + "A" * 43)), unauthorised=1)
row("a lone surrogate for a token", sends(call(token="\ud800")), unauthorised=1)
row("a token of a mebibyte", sends(call(token="A" * MIB)), line_too_long=1)
row("a token that is no text", sends(call(token=["x"])), invalid_request=1)
row("a token among the params", sends(call(params={"token": "x"})), unauthorised=1)
row("what methods there are", sends(call("rpc.discover")), unauthorised=1)
row("a method that does not exist", sends(call("swarm.secrets")), unauthorised=1)
row("stopping from outside", sends(call("swarm.stop")), unauthorised=1)
row("a token of one's own", sends(call("swarm.create_token")), unauthorised=1)


@attack(unauthorised=1)
async def the_name_of_the_cookies_file(rig: Rig) -> None:
    await rig.send(call(token=str(rig.server.cookie_path)))


@attack(unauthorised=3)
async def nearly_the_cookie(rig: Rig) -> None:
    for token in (rig.cookie[:-1], rig.cookie + "A", rig.cookie.swapcase()):
        await rig.send(call(token=token))


@attack(not_allowed=4)
async def the_cookie_for_what_the_socket_alone_opens(rig: Rig) -> None:
    for method in ("swarm.stop", "swarm.create_token", "swarm.list_tokens", "swarm.revoke_token"):
        await rig.send(call(method, token=rig.cookie))


@attack(unauthorised=1)
async def a_revoked_token(rig: Rig) -> None:
    made = await rig.token()
    await rig.ask("swarm.revoke_token", [made["token"]["id"]], on_socket=True)
    await rig.send(call(token=made["secret"]))


@attack(token_expired=1)
async def an_expired_token(rig: Rig) -> None:
    made = await rig.token(expires_in=60)
    rig.now_ms += 60_000
    await rig.send(call(token=made["secret"]))


@attack(not_allowed=3)
async def a_token_for_what_it_was_not_made_for(rig: Rig) -> None:
    made = await rig.token(methods=["swarm.peers"])
    for method in (STATUS, "swarm.register_name", "swarm.stop"):
        await rig.send(call(method, token=made["secret"]))


@attack(rate_limited=1)
async def a_token_over_its_rate(rig: Rig) -> None:
    made = await rig.token(rate=1)
    assert "result" in await rig.ask(STATUS, token=made["secret"])
    (answer,) = await rig.send(call(token=made["secret"]))
    assert answer["error"]["code"] == -32004
    assert 1 <= answer["error"]["data"]["retry_after"] <= 60


# Lines that are too much.

row("10 MiB without a line feed", sends(b'{"jsonrpc":"2.0","x":"' + b"A" * 10 * MIB), line_too_long=1)
row("10 MiB in one line", sends(call(params={"x": "A" * 10 * MIB})), line_too_long=1)
row("10 MiB on the socket", sends(call(params={"x": "A" * 10 * MIB}), on_socket=True), line_too_long=1)
row("10,000 deep, arrays", sends(b"[" * 10_000 + b"]" * 6_000 + b"\n"), too_deep=1)
row("10,000 deep and as long", sends(b"[" * 10_000 + b"]" * 10_000 + b"\n"), line_too_long=1)
row("10,000 deep, on the socket", sends(b"[" * 10_000 + b"]" * 10_000 + b"\n", on_socket=True), too_deep=1)
row("10,000 deep, objects", sends(b'{"a":' * 2_000 + b"1" + b"}" * 2_000 + b"\n"), too_deep=1)
row("deep, and never closed", sends(b"[" * 10_000 + b"\n"), too_deep=1)
row(
    "deep within the params",
    sends(call().replace(b'"id": 1', b'"id": 1, "params": ' + b"[" * 65 + b"]" * 65)),
    too_deep=1,
)
row(
    "a batch of 101",
    sends(json.dumps([json.loads(call())] * 101).encode() + b"\n", on_socket=True),
    batch_too_large=1,
)
row("a batch bomb", sends(b"[" + b"1," * 1_000_000 + b"1]\n", on_socket=True), too_many_values=1)
row("a smaller one", sends(b"[" + b"1," * 20_000 + b"1]\n", on_socket=True), batch_too_large=1)
row(
    "two megabytes of empty texts",
    sends(b"[" + b'"",' * 600_000 + b"1]\n", on_socket=True),
    too_many_values=1,
)
row("quotes", sends(b'"' * 2_000_000 + b"\n", on_socket=True), too_many_values=1)
row("a batch of batches", sends(b"[[[[]]]]\n", on_socket=True), invalid_request=1)
row("an empty batch", sends(b"[]\n", on_socket=True), invalid_request=1)
row(
    "a hundred calls without a token",
    sends(json.dumps([json.loads(call())] * 100).encode() + b"\n"),
    unauthorised=100,
)
row(
    "a number of 100,000 digits",
    sends(b'{"jsonrpc":"2.0","id":' + b"9" * 100_000 + b"}\n", on_socket=True),
    parse_error=1,
)
row("NaN", sends(b'{"jsonrpc":"2.0","method":"swarm.peers","id":NaN}\n', on_socket=True), parse_error=1)

# Lines that two readers understand differently.

row(
    "a member twice",
    sends(b'{"jsonrpc":"2.0","method":"swarm.peers","method":"swarm.stop","id":1}\n', on_socket=True),
    parse_error=1,
)
row(
    "a member twice, once escaped",
    sends(b'{"jsonrpc":"2.0","method":"swarm.peers","\\u006dethod":"swarm.stop","id":1}\n', on_socket=True),
    parse_error=1,
)
row("a method with a NUL", sends(call("swarm.stop\0", token="x")), unauthorised=1)
row("a method in other letters", sends(call("\uff53warm.stop"), on_socket=True), method_not_found=1)
row("UTF-16", sends(call().decode().encode("utf-16")), parse_error=1)
row("a byte order mark", sends(b"\xef\xbb\xbf" + call()), parse_error=1)
row("no UTF-8", sends(b'{"jsonrpc":"2.0","method":"\xff","id":1}\n'), parse_error=1)
row("JSON after JSON", sends(b'{"jsonrpc":"2.0","id":1}{"jsonrpc":"2.0","id":2}\n'), parse_error=1)

# A web page in this user's browser. It can send this, with any body, and read nothing.

HEAD = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:9370\r\nOrigin: http://evil.example\r\n\r\n"
row("a form's POST with a call in its body", sends(HEAD + call("swarm.stop")), parse_error=1)
row(
    "a GET",
    sends(b"GET /?x=" + call().replace(b" ", b"") + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    parse_error=1,
)
row(
    "a call between the lines of a head",
    sends(b"POST / HTTP/1.1\n" + call("swarm.stop") + b"\n"),
    parse_error=1,
)
row("the preface of HTTP/2", sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), parse_error=1)
row("a TLS hello", sends(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\n"), parse_error=1)


@attack(parse_error=1)
async def a_post_that_knows_the_cookie(rig: Rig) -> None:
    await rig.send(HEAD + call(token=rig.cookie))


# Signed requests.

row("signed by nobody who is known", sends(line(signed_request(CAROL, STATUS))), agent_unknown=1)
row(
    "half a signature",
    sends(line(signed_request(BOB, STATUS, changed={"signature": None}))),
    malformed_signed_request=1,
)
row(
    "a signature and more",
    sends(line(signed_request(BOB, STATUS, changed={"admin": True}))),
    malformed_signed_request=1,
)


@attack(two_credentials=3)
async def a_signature_and_a_token(rig: Rig) -> None:
    for token in (rig.cookie, "", "wrong"):
        await rig.send(line(signed_request(ALICE, STATUS, changed={"token": token})))


@attack(nonce_seen=2)
async def a_replay(rig: Rig) -> None:
    await rig.register_bob()
    request = line(signed_request(BOB, STATUS))
    assert "result" in (await rig.send(request))[0]
    rig.answers.clear()
    await rig.send(request)
    await rig.send(request, on_socket=True)


@attack(nonce_seen=1)
async def a_replay_when_the_clock_was_set_back(rig: Rig) -> None:
    await rig.register_bob()
    request = line(signed_request(BOB, STATUS))
    await rig.send(request)
    rig.answers.clear()
    rig.now_ms -= 200_000
    await rig.send(request)


@attack(timestamp_off=2)
async def a_replay_when_its_nonce_is_forgotten(rig: Rig) -> None:
    await rig.register_bob()
    request = line(signed_request(BOB, STATUS))
    await rig.send(request)
    rig.now_ms += 301_001
    await rig.send(line(signed_request(BOB, STATUS, timestamp=rig.now_ms, nonce="00000001")))
    rig.answers.clear()
    await rig.send(request)
    rig.now_ms = NOW_MS + 1
    await rig.send(request)


@attack(timestamp_off=4)
async def back_dated_and_post_dated(rig: Rig) -> None:
    await rig.register_bob()
    for off in (-1, -300_001, 300_001, 86_400_000):  # -1: before this node's start
        await rig.send(line(signed_request(BOB, STATUS, timestamp=NOW_MS + off)))


@attack(nonce_window_full=1)
async def a_full_window_of_nonces(rig: Rig) -> None:
    requests = [signed_request(ALICE, "rpc.nothing", nonce=f"{number:08x}") for number in range(WINDOW)]
    for start in range(0, WINDOW, 20):
        await rig.send(json.dumps(requests[start : start + 20]).encode() + b"\n")
    rig.refused.clear()  # each was refused, and used its nonce up all the same
    await rig.send(line(signed_request(ALICE, STATUS, nonce="ffffffff")))


@attack(request_signature_wrong=4)
async def signed_by_another_key_or_changed(rig: Rig) -> None:
    await rig.register_bob()
    await rig.send(line(signed_request(CAROL, STATUS, changed={"agent_id": BOB.peer_id.did})))
    await rig.send(line(signed_request(BOB, STATUS, changed={"agent_id": ALICE.peer_id.did})))
    await rig.send(line(signed_request(BOB, STATUS, changed={"method": "swarm.peers"})))
    changed = signed_request(BOB, "swarm.resolve_name", {"name": "alice"}) | {
        "params": {"name": "al\u0131ce"}
    }
    await rig.send(line(changed))


@attack(not_canonical=4)
async def what_has_no_canonical_form(rig: Rig) -> None:
    await rig.register_bob()
    good = signed_request(BOB, "swarm.ping", {"target": "bob", "count": 1})
    for params in ({"count": 1.0}, {"count": 2**53}, {"target": "\ud800"}, ["bob", 1]):
        await rig.send(line(good | {"params": params}))


@attack(parse_error=1)
async def a_signed_member_twice(rig: Rig) -> None:
    await rig.register_bob()
    text = line(signed_request(BOB, "swarm.resolve_name", {"name": "alice"}))
    await rig.send(text.replace(b'"name"', b'"n\\u0061me": "bob", "name"'))


@attack(other_node=1)
async def signed_for_another_node(rig: Rig) -> None:
    await rig.register_bob()
    await rig.send(line(signed_request(BOB, STATUS, {"node": str(CAROL.peer_id)})))


@attack(not_allowed=9)
async def an_agent_that_wants_more_than_to_read(rig: Rig) -> None:
    await rig.register_bob()
    wanted = [
        *("swarm.register_name", "swarm.renew_name", "swarm.release_name", "swarm.transfer_name"),
        *("swarm.connect", "swarm.stop", "swarm.create_token", "swarm.trust_name", "swarm.my_names"),
    ]
    for number, method in enumerate(wanted):
        await rig.send(line(signed_request(BOB, method, {"name": "bob"}, nonce=f"{number:08x}")))
    assert not await rig.node.names()


INSIDE = "/ip4/10.0.0.1/tcp/22/p2p/" + str(CAROL.peer_id)


@attack(not_allowed=2)
async def knocking_at_doors_behind_the_node(rig: Rig) -> None:
    """What answers there would be quoted in the error."""
    await rig.register_bob()
    made = await rig.token(methods=["read"])
    await rig.send(line(signed_request(BOB, "swarm.ping", {"target": INSIDE})))
    await rig.send(call("swarm.ping", [INSIDE], token=made["secret"]))


@attack(invalid_params=4)
async def labels_that_steer_a_terminal(rig: Rig) -> None:
    for label in ("\x1b[31m", "\x9b31m", "\u202eevil", "a\u2028b"):
        await rig.send(call("swarm.create_token", {"label": label}), on_socket=True)


@attack(work_too_weak=1, invalid_params=1, not_allowed=1, rate_limited=1)
async def registrations_that_are_none(rig: Rig) -> None:
    await rig.register_bob()
    register, carols = "swarm.register_agent", registration(CAROL)
    await rig.send(line(signed_request(CAROL, register, carols | {"pow": 0})))
    await rig.send(line(signed_request(CAROL, register, registration(BOB))))
    await rig.send(line(signed_request(BOB, register, carols)))
    await rig.send(line(signed_request(BOB, register, registration(BOB), nonce="00000001")))


@attack(unauthorised=1, agent_unknown=1)
async def a_registration_that_nobody_signed(rig: Rig) -> None:
    await rig.send(call("swarm.register_agent", registration(CAROL)))
    await rig.send(line(signed_request(CAROL, STATUS)))


# Rates.


@attack(rate_limited=1)
async def a_sixth_new_name_in_a_day(rig: Rig) -> None:
    for number in range(5):
        answer = await rig.ask("swarm.register_name", [f"name-{number}"], on_socket=True)
        assert "result" in answer
    (answer,) = await rig.send(call("swarm.register_name", ["name-5"]), on_socket=True)
    assert answer["error"]["data"]["retry_after"] == 86_400


WINDOW = scale(2_000, least=200)
"""Nonces in the full window here: the machine itself is tested with all 10,000."""


@pytest.mark.parametrize("name, attack, counted", ROWS, ids=[name for name, _, _ in ROWS])
async def test_refused_counted_and_survived(home: Path, name: str, attack: Attack, counted: dict) -> None:
    config = AccessConfig(signed=SignedConfig(max_nonces=WINDOW))
    async with serving(home, access=config) as rig:
        honest = await rig.unix()
        honest_too = await rig.tcp()
        before = await asked(honest)
        await attack(rig)
        assert rig.answers or counted, "the attack did nothing"
        assert not [answer for answer in rig.answers if "error" not in answer], "something was let through"
        assert dict(rig.refused) == counted
        assert await asked(honest) == before
        assert await asked(honest_too, token=rig.cookie) == before
        assert not rig.node.stopped.is_set()
        for _, writer in (honest, honest_too):
            writer.close()


async def asked(connection: tuple, **members: object) -> str:
    """The PeerId that the node answers to an honest client."""
    reader, writer = connection
    writer.write(call(**members))
    return json.loads(await reader.readline())["result"]["peer_id"]


# --- time -------------------------------------------------------------------------------------


async def answered(connection: tuple, request: bytes) -> asyncio.Task[bytes]:
    """Ask on a connection that stays open; what comes back, when it comes back."""
    reader, writer = connection
    writer.write(request)
    await writer.drain()

    async def heard() -> bytes:
        answer = await reader.readline()
        if not answer:
            writer.close()
        return answer

    return asyncio.create_task(heard())


async def test_strangers_agents_and_programs_wait_and_never_the_owner(home: Path) -> None:
    """Each kind has a share of its own, so small here that one line uses it up for good."""
    async with serving(home, turns=TurnsConfig(share=1e-9, programs=1e-9, burst=1e-9)) as rig:
        made = await rig.token(methods=["read"])
        await rig.register_bob()
        kinds = {
            "stranger": [call(token="wrong")] * 2,
            "agent": [line(signed_request(BOB, STATUS, nonce=f"{number:08x}")) for number in range(3)],
            "program": [call(token=made["secret"])] * 2,
        }
        open_ones = {kind: await rig.tcp() for kind in kinds}
        # An agent's first line is a stranger's: it comes before theirs is used up.
        assert b"result" in await (await answered(open_ones["agent"], kinds["agent"].pop()))
        waiting = []
        for kind, (first, second) in kinds.items():
            if kind != "stranger":
                assert b"result" in await (await answered(open_ones[kind], first))
            waiting.append(await answered(open_ones[kind], second))
        for _ in range(20):
            assert "result" in await rig.ask(STATUS, on_socket=True)
            assert "result" in await rig.ask(STATUS, token=rig.cookie)
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [b"", b"", b""], "who waits does not hold up the end"


async def test_a_strangers_long_line_waits_and_the_owners_does_not(home: Path) -> None:
    async with serving(home, turns=TurnsConfig(share=1e-9, programs=1e-9, burst=1e-9)) as rig:
        stranger, owner = await rig.tcp(), await rig.tcp()
        body = b'"params":{"x":"' + b"A" * MIB + b'"}}'
        stranger[1].write(b'{"jsonrpc":"2.0","id":1,"method":"a",' + body + b"\n")
        shown = b'{"jsonrpc":"2.0","id":1,"method":"a","token":"%s",' % rig.cookie.encode()
        waiting = asyncio.create_task(stranger[0].readline())
        assert b"method_not_found" in await (await answered(owner, shown + body + b"\n"))
        assert not waiting.done()
    with contextlib.suppress(ConnectionError):  # what was not read makes it a reset
        assert await waiting == b""
    for _, writer in (stranger, owner):
        writer.close()


async def test_who_waits_makes_room_like_any_stranger(home: Path) -> None:
    """A connection that was cut leaves nothing behind in the queue."""
    async with serving(home, turns=TurnsConfig(share=1e-9, programs=1e-9, burst=1e-9), max_clients=4) as rig:
        first = await rig.tcp()
        assert b"unauthorised" in await (await answered(first, call(token="wrong")))
        waiting = [await answered(await rig.tcp(), call(token="wrong")) for _ in range(12)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 8:  # of thirteen, the first included, four stay
            done, _ = await asyncio.wait(set(waiting) - done, return_when=asyncio.FIRST_COMPLETED)
            done = {task for task in waiting if task.done()}
        assert rig.server.clients <= 4
        assert "result" in await rig.ask(STATUS, on_socket=True)
    assert not any(await asyncio.gather(*waiting))
    first[1].close()


async def test_a_token_does_not_keep_the_owner_out(home: Path) -> None:
    """Not by holding every place, nor by filling the room for unfinished lines."""
    async with serving(home, max_clients=4, max_pending=100_000) as rig:
        made = await rig.token(methods=["read"])
        held = [await rig.tcp() for _ in range(4)]
        for connection in held:
            assert b"result" in await (await answered(connection, call(token=made["secret"])))
        held.append(await rig.tcp())
        assert b"too_many_clients" in await held[-1][0].readline(), "it may be anybody's"
        assert "result" in await rig.ask(STATUS, on_socket=True)
        for _, writer in held:
            writer.close()
    async with serving(home, max_clients=4, max_pending=100_000) as rig:
        reader, writer = await rig.tcp()
        made = await rig.token(methods=["read"])
        assert b"result" in await (await answered((reader, writer), call(token=made["secret"])))
        writer.write(b'{"x":"' + b"A" * 99_000)
        await writer.drain()
        own_reader, own_writer = await rig.unix()
        long = call(params={"x": "A" * 60_000})
        own_writer.write(long[:-1])
        await own_writer.drain()
        assert await reader.read() == b"", "the token's line went, not the owner's"
        own_writer.write(long[-1:])
        assert b"invalid_params" in await own_reader.readline()
        for each in (writer, own_writer):
            each.close()


# --- over a restart ---------------------------------------------------------------------------


async def test_a_stale_cookie(home: Path) -> None:
    async with serving(home) as rig:
        stale = rig.cookie
    async with serving(home) as rig:
        (answer,) = await rig.send(call(token=stale))
        assert answer["error"]["data"]["code"] == "unauthorised"
        assert rig.refused == {"unauthorised": 1}


async def test_a_replay_over_a_restart(home: Path) -> None:
    """Accepted with a clock ahead: after the restart neither its time nor a nonce speaks against it."""
    async with serving(home) as rig:
        await rig.register_bob()
        request = line(signed_request(BOB, STATUS, timestamp=NOW_MS + 200_000))
        assert "result" in (await rig.send(request))[0]
    async with serving(home) as rig:
        (answer,) = await rig.send(request)
        assert answer["error"]["data"]["code"] == "timestamp_off"
        assert rig.refused == {"timestamp_off": 1}
        later = line(signed_request(BOB, STATUS, timestamp=NOW_MS + 220_000, nonce="00000001"))
        assert "result" in (await rig.send(later))[0], "bob is still registered"


async def test_a_replay_after_a_kill_and_with_the_clock_set_back(home: Path) -> None:
    """A killed node saves nothing at the end; what it saved before it served is read by the next one."""
    (home / "copy").mkdir(mode=0o700)
    async with serving(home) as rig:
        await rig.register_bob()
        rig.now_ms += 60_000
        request = line(signed_request(BOB, STATUS, timestamp=rig.now_ms))
        assert "result" in (await rig.send(request))[0]
        shutil.copytree(home / "state", home / "copy" / "state")
    async with serving(home / "copy") as rig:  # its clock is a minute behind
        (answer,) = await rig.send(request)
        assert answer["error"]["data"]["code"] == "timestamp_off"


async def test_nothing_signed_is_served_that_could_not_be_remembered(home: Path) -> None:
    """On a full disk, also when the call before it has tried to save the same already."""
    async with serving(home) as rig:
        await rig.register_bob()
        rig.now_ms += 60_000
        rig.paths.state.rename(home / "aside")
        rig.paths.state.write_text("in the way")
        for number in range(3):
            request = signed_request(ALICE, STATUS, timestamp=rig.now_ms + number, nonce=f"{number:08x}")
            (answer,) = await rig.send(line(request))
            assert answer["error"]["data"]["code"] == "cannot_write"
        assert "result" in await rig.ask(STATUS, on_socket=True)
        assert "result" in await rig.ask(STATUS, token=rig.cookie)
        rig.paths.state.unlink()
        (home / "aside").rename(rig.paths.state)
        request = signed_request(ALICE, STATUS, timestamp=rig.now_ms + 5, nonce="00000005")
        assert "result" in (await rig.send(line(request)))[0]


async def test_whoever_may_connect_may_ping_an_address(home: Path) -> None:
    async with serving(home) as rig:
        made = await rig.token(methods=["swarm.ping", "swarm.connect"])
        outcomes = [
            await rig.ask("swarm.ping", [INSIDE], token=made["secret"]),
            await rig.ask("swarm.ping", [INSIDE], on_socket=True),
        ]
        for outcome in outcomes:
            assert outcome.get("error", {}).get("data", {}).get("code") != "not_allowed"


async def test_an_agent_learns_no_path(home: Path) -> None:
    """Another user of the machine can be one: nothing says where this user keeps things."""
    async with serving(home) as rig:
        await rig.register_bob()
        heard = []
        for number, method in enumerate([STATUS, "swarm.get_identity", "swarm.get_network_stats"]):
            heard += await rig.send(line(signed_request(BOB, method, nonce=f"{number:08x}")))
        assert all("result" in answer for answer in heard)
        own = await rig.ask(STATUS, on_socket=True), await rig.ask("swarm.get_identity", on_socket=True)
        assert own[0]["result"]["identity_path"]
        assert own[1]["result"]["path"]
        rig.paths.state.rename(home / "aside")
        rig.paths.state.write_text("in the way")
        rig.now_ms += 60_000
        heard += await rig.send(line(signed_request(BOB, STATUS, timestamp=rig.now_ms)))
        heard += await rig.send(
            line(signed_request(CAROL, "swarm.register_agent", registration(CAROL), timestamp=rig.now_ms))
        )
        assert [answer["error"]["data"]["code"] for answer in heard[3:]] == ["cannot_write"] * 2
        said = json.dumps(heard)
        for path in (str(home), own[0]["result"]["identity_path"], own[1]["result"]["path"]):
            assert path not in said


async def test_what_was_promised_is_there_after_a_restart(home: Path) -> None:
    async with serving(home) as rig:
        made = await rig.token(label="bob's script", methods=["read"])
        for number in range(5):
            await rig.ask("swarm.register_name", [f"name-{number}"], on_socket=True)
    async with serving(home) as rig:
        assert "result" in await rig.ask(STATUS, token=made["secret"])
        (shown,) = (await rig.ask("swarm.list_tokens", on_socket=True))["result"]
        assert shown["label"] == "bob's script"
        sixth = await rig.ask("swarm.register_name", ["name-5"], on_socket=True)
        assert sixth["error"]["data"]["code"] == "rate_limited"


# --- other users and files --------------------------------------------------------------------


@contextlib.contextmanager
def folder_for_all() -> Iterator[Path]:
    """A folder that every user can enter: a test's own lies below one that only root may."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def as_another_user(path: Path, data: bytes) -> bytes | OSError:
    """What a process of another user is answered on the socket.

    One thread takes the other user's id, by the system call itself, which on Linux changes that thread alone.
    """
    number = {"x86_64": 117, "aarch64": 147}[platform.machine()]
    outcome: list[bytes | OSError] = []

    def run() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        nobody = ctypes.c_int(65534)
        assert libc.syscall(number, nobody, nobody, nobody) == 0
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(path))
                heard = connection.makefile("rb").readline()  # it is refused before it has said a word
                with contextlib.suppress(ConnectionError):
                    connection.sendall(data)
                    heard += connection.recv(MIB)
                outcome.append(heard)
        except OSError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


NEEDS_ROOT = pytest.mark.skipif(
    os.getuid() != 0 or sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="only root on Linux can become another user",
)


@pytest.mark.root
@NEEDS_ROOT
async def test_another_user_cannot_open_the_socket() -> None:
    with folder_for_all() as folder:
        path = folder / "rpc.sock"
        async with serving(folder / "home", unix_socket=path):
            answer = await asyncio.to_thread(as_another_user, path, call())
            assert isinstance(answer, PermissionError)


@pytest.mark.root
@NEEDS_ROOT
async def test_another_user_on_the_socket_is_refused_whatever_it_shows() -> None:
    """Even where the file's mode lets it in, the kernel says who it is."""
    with folder_for_all() as folder:
        path = folder / "rpc.sock"
        async with serving(folder / "home", unix_socket=path) as rig:
            path.chmod(0o666)
            tries = [call(), call(token=rig.cookie), line(signed_request(ALICE, STATUS))]
            for data in tries:
                answer = await asyncio.to_thread(as_another_user, path, data)
                assert isinstance(answer, bytes)
                assert json.loads(answer)["error"]["data"]["code"] == "unauthorised"
            assert rig.refused == {"unauthorised": len(tries)}
            assert "result" in await rig.ask(STATUS, on_socket=True)
            written = [json.loads(text) for text in (rig.paths.state / "audit.log").read_text().splitlines()]
            assert [(entry["method"], entry["about"]) for entry in written] == [("connect", "65534")] * 3


async def test_a_cookie_that_is_a_link_is_replaced_and_not_written_through(home: Path) -> None:
    victim = home / "victim"
    victim.write_text("precious")
    cookie = Home(home).node("alice").cookie
    cookie.parent.mkdir(parents=True)
    cookie.symlink_to(victim)
    async with serving(home) as rig:
        assert not rig.server.cookie_path.is_symlink()
        assert rig.cookie != "precious"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("how", ["link", "readable", "pipe", "absent"])
async def test_a_client_sends_no_cookie_that_somebody_else_could_have_put_there(home: Path, how: str) -> None:
    async with serving(home) as rig:
        cookie = rig.server.cookie_path
        genuine = cookie.read_bytes()
        cookie.unlink()
        match how:
            case "link":
                (home / "elsewhere").write_bytes(genuine)
                (home / "elsewhere").chmod(0o600)
                cookie.symlink_to(home / "elsewhere")
            case "readable":
                cookie.write_bytes(genuine)
                cookie.chmod(0o644)
            case "pipe":
                os.mkfifo(cookie, 0o600)
        ready = Ready(
            node="alice",
            pid=os.getpid(),
            peer_id=rig.node.peer_id,
            did=rig.node.did,
            listen=(),
            rpc=rig.server.tcp_address,
            http=None,
            socket=str(home / "no.sock"),
            cookie=str(cookie),
            started=process_start(os.getpid()),
        )
        expected = client.NodeNotRunning if how == "absent" else CookieUnsafe
        with pytest.raises(expected):
            await asyncio.to_thread(client.call_once, ready, STATUS)
        with pytest.raises(expected):
            async with client.Client(ready, 5.0):
                pass
        assert not rig.refused


# --- the audit log ----------------------------------------------------------------------------


async def test_the_audit_log_tells_it_and_holds_no_secret(home: Path) -> None:
    async with serving(home) as rig:
        made = await rig.token(label="bob's script", methods=["names"])
        await rig.ask("swarm.register_name", {"name": "alice"}, token=made["secret"])
        await rig.ask("swarm.stop", token=made["secret"])
        await rig.ask(STATUS, token="wwst_guess")
        await rig.ask("swarm.x\n\u001b[31m", token="wwst_guess")
        await rig.ask(STATUS, on_socket=True)
        cookie = rig.cookie
        log = rig.paths.state / "audit.log"
        text = log.read_bytes()
        assert log.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(entry) for entry in text.splitlines()]
    who = f"token:{made['token']['id']}"
    assert [(entry["who"], entry["method"], entry.get("about"), entry["outcome"]) for entry in lines] == [
        ("owner", "swarm.create_token", "bob's script", "ok"),
        (who, "swarm.register_name", "alice", "ok"),
        (who, "swarm.stop", None, "not_allowed"),
        ("stranger", STATUS, None, "unauthorised"),
        ("stranger", "swarm.x\n\u001b[31m", None, "unauthorised"),
    ]
    assert all(32 <= byte < 127 or byte == 10 for byte in text)
    for secret in (made["secret"], cookie, "wwst_guess"):
        assert secret.encode() not in text


# --- the HTTP face ----------------------------------------------------------------------------

LINE = "GET /metrics HTTP/1.1"
OWN = "Host: 127.0.0.1:9371"
HTTP_ROWS: list[tuple[str, list[str], str]] = [
    ("wrong Host", [LINE, "Host: evil.example"], "host"),
    ("a name that is rebound to 127.0.0.1", [LINE, "Host: 127.0.0.1.evil.example:9371"], "host"),
    ("a name that begins like ours", [LINE, "Host: localhost.evil.example"], "host"),
    ("a name that ends like ours", [LINE, "Host: evil.localhost"], "host"),
    ("our name with a dot", [LINE, "Host: localhost."], "host"),
    ("an address that is not the loopback's", [LINE, "Host: 0.0.0.0:9371"], "host"),
    ("the loopback within IPv6", [LINE, "Host: [::ffff:127.0.0.1]"], "host"),
    ("the loopback in decimal", [LINE, "Host: 2130706433"], "host"),
    ("the loopback in octal", [LINE, "Host: 0177.0.0.1"], "host"),
    ("the loopback in short", [LINE, "Host: 127.1"], "host"),
    ("a port that is none", [LINE, "Host: localhost:99999"], "host"),
    ("a port with a sign", [LINE, "Host: localhost:+80"], "host"),
    ("a port in other digits", [LINE, "Host: localhost:\u0669"], "host"),
    ("two ports", [LINE, "Host: localhost:80:9371"], "host"),
    ("a user before the host", [LINE, "Host: localhost@evil.example"], "host"),
    ("our host as the user", [LINE, "Host: evil.example#@localhost"], "host"),
    ("two names in one", [LINE, "Host: localhost, evil.example"], "host"),
    ("an empty Host", [LINE, "Host:"], "host"),
    ("no Host in HTTP/1.0", ["GET /metrics HTTP/1.0"], "host"),
    ("no Host", [LINE], "malformed"),
    ("two Hosts", [LINE, OWN, "Host: evil.example"], "malformed"),
    ("the same Host twice", [LINE, OWN, OWN], "malformed"),
    ("a Host with a space before the colon", [LINE, "Host : localhost"], "malformed"),
    ("a Host that goes on in the next line", [LINE, "Host: local", "\thost"], "host"),
    ("another's origin", [LINE, OWN, "Origin: http://evil.example"], "origin"),
    ("a null origin", [LINE, OWN, "Origin: null"], "origin"),
    ("an empty origin", [LINE, OWN, "Origin:"], "origin"),
    ("our origin over TLS", [LINE, OWN, "Origin: https://127.0.0.1:9371"], "origin"),
    ("our origin at another port", [LINE, OWN, "Origin: http://127.0.0.1:9370"], "origin"),
    ("our origin by another of its names", [LINE, OWN, "Origin: http://localhost:9371"], "origin"),
    ("our origin in capitals", [LINE, OWN, "Origin: HTTP://127.0.0.1:9371"], "origin"),
    ("our origin with a path", [LINE, OWN, "Origin: http://127.0.0.1:9371/"], "origin"),
    ("our origin and another", [LINE, OWN, "Origin: http://127.0.0.1:9371", "Origin: null"], "origin"),
    ("two origins in one", [LINE, OWN, "Origin: http://127.0.0.1:9371 http://evil.example"], "origin"),
    ("a target with another host", ["GET http://evil.example/metrics HTTP/1.1", OWN], "path"),
    ("a target with our host", ["GET http://127.0.0.1:9371/metrics HTTP/1.1", OWN], "path"),
    ("a target of two slashes", ["GET //evil.example/metrics HTTP/1.1", OWN], "path"),
    ("a target that climbs", ["GET /x/../metrics HTTP/1.1", OWN], "path"),
    ("a target with an escape", ["GET /%6detrics HTTP/1.1", OWN], "path"),
    ("a target without a slash", ["GET metrics HTTP/1.1", OWN], "path"),
    ("a target with a fragment", ["GET /metrics#x HTTP/1.1", OWN], "path"),
    ("an authority for a target", ["CONNECT 127.0.0.1:9370 HTTP/1.1", OWN], "method"),
    ("an asterisk for a target", ["OPTIONS * HTTP/1.1", OWN], "method"),
    ("asking before it asks", ["OPTIONS /metrics HTTP/1.1", OWN], "method"),
    ("a method of our own", ["STATUS /metrics HTTP/1.1", OWN], "method"),
    ("a body", [LINE, OWN, "Content-Length: 5"], "body"),
    ("two lengths", [LINE, OWN, "Content-Length: 0", "Content-Length: 5"], "malformed"),
    ("chunks", [LINE, OWN, "Transfer-Encoding: chunked"], "body"),
    ("an upgrade of a page that is none", ["GET /rpc HTTP/1.1", OWN, "Upgrade: websocket"], "path"),
]  # fmt: skip


@pytest.mark.parametrize("name, lines, reason", HTTP_ROWS, ids=[name for name, _, _ in HTTP_ROWS])
async def test_the_http_face_refuses_counts_and_goes_on(name: str, lines: list[str], reason: str) -> None:
    refused: Counter[str] = Counter()
    pages = make_pages(Metrics(process=False), Readiness("listening"))
    server = HttpServer(pages, HttpConfig(), lambda why: refused.update([why]))
    host, port = await server.start("127.0.0.1", 0)
    try:
        answer = await fetched(host, port, lines)
        assert int(answer.split(b" ", 2)[1]) >= 400
        assert b"wws_" not in answer
        assert b"access-control" not in answer.lower()
        assert refused == {reason: 1}
        honest = await fetched(host, port, [LINE, OWN, "Origin: http://127.0.0.1:9371"])
        assert b" 200 " in honest.partition(b"\r\n")[0]
    finally:
        await server.close()


async def fetched(host: str, port: int, lines: list[str]) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        return await reader.read()
    finally:
        writer.close()
