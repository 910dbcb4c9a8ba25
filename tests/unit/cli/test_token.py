"""`wws token` against a real RPC server: what is made, what is shown, and what it opens."""

import json
import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_cli.quantities import parse_duration, parse_rate, shown_duration
from agent_cli.result import WrongUsage
from tests.unit.cli.running import Cli

DAY = 86_400


def ask(address: str, method: str, token: str) -> dict:
    """One call over TCP, as a program would make it."""
    host, _, port = address.rpartition(":")
    request = {"jsonrpc": "2.0", "method": method, "id": 1, "token": token}
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(connection.makefile("rb").readline())


def test_a_token_opens_what_it_was_made_for_until_it_is_revoked(cli: Cli) -> None:
    address = cli("join", "--json").data["rpc"]
    made = cli("token", "create", "--methods", "swarm.my_names, swarm.peers", "--label", "dashboard")
    assert made.code == 0
    (secret,) = made.out.split()
    assert "opens swarm.my_names, swarm.peers until " in made.err
    assert "; 600 calls a minute.\n" in made.err
    assert "shown only now" in made.err
    assert address in made.err
    assert ask(address, "swarm.my_names", secret)["result"] == []
    assert ask(address, "swarm.get_status", secret)["error"]["code"] == -32003
    head, row = cli("token", "list").out.splitlines()
    assert head.split() == ["id", "label", "methods", "rate", "until", "last", "used"]
    token_id = row.split()[0]
    assert "dashboard" in row
    assert secret not in row
    assert f"wws token revoke {token_id}" in made.err
    (listed,) = cli("token", "list", "--json").data["tokens"]
    assert (listed["id"], listed["rate"]) == (token_id, 600)
    assert "secret" not in listed
    assert cli("token", "revoke", token_id).out == f"The token {token_id} opens nothing any more.\n"
    assert ask(address, "swarm.my_names", secret)["error"]["code"] == -32001
    gone = cli("token", "revoke", token_id, "--json")
    assert (gone.code, gone.error["code"]) == (4, "not_found")
    assert cli("token", "list").out == "No tokens. Make one: wws token create\n"


def test_quiet_and_json_and_what_is_asked_for(cli: Cli) -> None:
    cli("join")
    quiet = cli("token", "create", "--quiet", "--rate", "100/h", "--expires", "12h")
    assert (len(quiet.out.split()), quiet.err) == (1, "")
    rounded = cli("token", "create", "--rate", "100/h")
    assert "opens read (10 methods) until " in rounded.err
    assert "; 100/h, counted by the minute: 1 call a minute.\n" in rounded.err
    made = cli("token", "create", "--methods", "names", "--rate", "10/s", "--expires", "1h", "--json").data
    assert made["secret"] not in json.dumps(made["token"])
    assert made["token"]["rate"] == 600
    assert made["token"]["expires_at"] - made["token"]["created_at"] == 3600
    assert "swarm.register_name" in made["token"]["methods"]
    assert len(cli("token", "list", "--json").data["tokens"]) == 3
    assert " more" in cli("token", "list").out
    assert " more" not in cli("token", "list", "--verbose").out


@pytest.mark.parametrize(
    "methods, said", [("no.such", "no.such"), ("swarm.create_token", "swarm.create_token")]
)
def test_what_no_token_opens_is_wrong_usage(cli: Cli, methods: str, said: str) -> None:
    cli("join")
    refused = cli("token", "create", "--methods", methods)
    assert (refused.code, refused.out) == (2, "")
    assert said in refused.err


@pytest.mark.parametrize(
    "text, seconds",
    [
        ("60s", 60),
        ("15m", 900),
        ("15min", 900),
        ("12h", 43_200),
        (" 1 H ", 3_600),
        ("1day", DAY),
        ("30d", 30 * DAY),
        ("2w", 14 * DAY),
    ],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text, least=60, most=366 * DAY) == seconds


@pytest.mark.parametrize(
    "text", ["", "30", "h", "-1h", "1.5h", "1h30m", "1y", "1e3s", "59s", "367d", "9" * 30]
)
def test_what_is_no_duration_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        parse_duration(text, least=60, most=366 * DAY)
    assert "30d" in refused.value.hint or "1m to 366d" in refused.value.hint


@pytest.mark.parametrize(
    "text, calls, is_exact",
    [
        ("10/s", 600, True),
        ("600/min", 600, True),
        ("120/h", 2, True),
        ("100/h", 1, False),
        ("1 / m", 1, True),
    ],
)
def test_rates_are_read(text: str, calls: int, is_exact: bool) -> None:
    assert parse_rate(text, most=100_000) == (calls, is_exact)


@pytest.mark.parametrize(
    "text", ["", "10", "/s", "10/", "0/s", "59/h", "1667/s", "10/fortnight", "1/1s", "-1/s"]
)
def test_what_is_no_rate_is_wrong_usage(text: str) -> None:
    with pytest.raises(WrongUsage):
        parse_rate(text, most=100_000)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(WrongUsage):
        assert 1 <= parse_duration(text, least=1, most=DAY) <= DAY
    with suppress(WrongUsage):
        assert 1 <= parse_rate(text, most=100)[0] <= 100


@given(st.integers(1, 400 * DAY))
def test_a_duration_is_read_as_it_is_shown(seconds: int) -> None:
    assert parse_duration(shown_duration(seconds), least=1, most=400 * DAY) == seconds
