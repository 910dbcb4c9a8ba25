"""A host that somebody has taken over, or somebody in its place, against the operator's own machine."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import pytest

from agent_cli import text
from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.machines import ControlFailed, Outcome, ask, free_bytes, on_all
from agent_cli.ops.status import NodeState, shown, taken_over
from agent_cli.remote import HostUnreachable, Ran, RemoteConfig, connected
from wws.identity.keys import Identity

ALICE, BOB = (str(Identity.from_label(name).peer_id) for name in ("alice", "bob"))
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ" + "A" * 42
HOSTS = (
    HostEntry("one", "127.0.0.1", ALICE, (), host_key=KEY),
    HostEntry("two", "127.0.0.1", BOB, (), host_key=KEY),
)
FORGED = "1.0\ntwo   running  9.9\x1b[2K\u202e"


class Lying:
    """A machine that answers whatever it likes."""

    def __init__(self, answer: str) -> None:
        self.host, self.control, self._answer = HOSTS[0], ("wws-control",), answer

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        as_root: bool = False,
        given: bytes = b"",
    ) -> Ran:
        return Ran(0, self._answer)


NUMBERS = "[1e999, -1e999, NaN, 1" + "0" * 400 + ", -1, true, null]"
VALUES = [*json.loads(NUMBERS), FORGED, "x" * 500_000, [FORGED], {"a": [[[]]]}]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
@pytest.mark.parametrize(
    "member", ["version", "uptime_s", "rss_bytes", "bundle_expires_at", "bundle_seq", "peer_id", "status"]
)
def test_a_host_speaks_for_nobody_but_itself(member: str, value: object) -> None:
    """One row of the table is its own, whatever it says, and the others are as they would be."""
    said = {"peer_id": ALICE, "version": "1.0", "uptime_s": 1, "status": "running", "bundle_seq": 1}
    lies = taken_over({**said, "bundle_seq": 1, member: value})
    honest = taken_over({**said, "peer_id": BOB})
    outcomes = [Outcome(HOSTS[0], NodeState(lies, None)), Outcome(HOSTS[1], NodeState(honest, None))]
    result = shown(Inventory("example.org", "example.org", HOSTS), outcomes, 1e9)
    lines = result.text.splitlines()
    assert [line.split()[0] for line in lines] == ["host", "one", "two"]
    assert len(result.text) < 2_000
    assert result.text.replace("\n", "").isprintable()
    assert all(note.isprintable() for note in result.notes)
    assert all(problem.message.isprintable() for problem in result.errors)
    json.dumps(result.data, allow_nan=False)


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_anything_can_be_said_to_people(value: object) -> None:
    for shape in (text.duration, text.size, text.when):
        assert "\n" not in text.table(("a",), [(shape(value),)]).split("\n", 1)[1]
    assert len(text.table(("a",), [(str(value)[:600_000],)]).splitlines()) == 2


@pytest.mark.parametrize("answer", ["1 " * 4, "9" * 5_000 + " 1 1 1", "a b 1 \u0663", ""])
def test_a_disk_of_any_size(answer: str) -> None:
    assert free_bytes(Lying(answer)) in (None, (1, 1))


def test_an_error_of_a_host_is_one_line() -> None:
    problem = {"code": FORGED * 99, "message": FORGED * 999, "hint": FORGED}
    with pytest.raises(ControlFailed) as caught:
        ask(Lying(json.dumps({"schema": "x", "errors": [problem]})), "status")
    assert "\n" not in f"{caught.value.code}{caught.value}{caught.value.hint}"
    assert len(str(caught.value)) < 700


@pytest.fixture
def broken() -> Iterator[HostEntry]:
    """Who begins to speak SSH, and goes on with what breaks the program that reads it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"SSH-2.0-x\r\n")
                # KEXINIT (RFC 4253, 7.1) whose lists of names are no text.
                payload = b"\x14" + bytes(16) + (struct.pack(">I", 4) + b"\xff\xfe\xff\xfe") * 10 + bytes(5)
                padding = 8 - (len(payload) + 5) % 8 + 8
                connection.sendall(struct.pack(">IB", len(payload) + padding + 1, padding))
                connection.sendall(payload + bytes(padding))
                while connection.recv(4096):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield replace(HOSTS[0], ssh_port=listening.getsockname()[1])


@pytest.mark.net
def test_who_breaks_the_protocol_is_a_host_that_cannot_be_reached(broken: HostEntry) -> None:
    def log_in(host: HostEntry) -> str:
        with connected(host, config=RemoteConfig(connect_timeout=5)):
            return "in"

    (outcome,) = on_all([broken], log_in)
    assert isinstance(outcome.error, HostUnreachable)
