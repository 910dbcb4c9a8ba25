"""`wws join` and `wws leave` against a real process that keeps a node's promises: every ending of a join."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from agent_cli.connector import has_ended
from agent_cli.join_story import outcome
from agent_cli.options import Options
from tests.unit.cli.running import RUN, Cli, Outcome

WITNESSED = {"witnessed": True, "receipts": 3, "witnesses": 3}


def test_join_status_leave(cli: Cli) -> None:
    joined = cli("join", "--name", "Alice", "--network", "example.org", "--json")
    assert joined.code == 0, joined
    assert joined.json["schema"] == "wws.join/v1"
    assert joined.json["ok"] is True
    assert joined.data["node"] == joined.data["name"] == "alice"
    assert joined.data["already_running"] is False
    assert joined.data["joined"] is True
    assert joined.data["network"] == "example.org"
    assert joined.data["identity_path"] is None or joined.data["identity_path"].endswith("alice.key")
    status = cli("status", "--json")
    assert status.data["peer_id"] == joined.data["peer_id"]
    (ready,) = cli.home.running_nodes()
    left = cli("leave", "--json")
    assert left.data == {"node": "alice", "was_running": True, "released": [], "service": None}
    assert has_ended(ready.pid, ready.started)
    assert cli("leave").code == 0
    assert cli("status").code == 3


def test_join_tells_each_fact_and_keeps_stdout_for_it(cli: Cli) -> None:
    joined = cli("join", "--name", "alice", own_name=WITNESSED)
    for fact in ("peer id   12D3KooW", "did       did:swarm:", "network   test", "wws:alice is yours until"):
        assert fact in joined.out
    assert ", witnessed by 3 of 3\n" in joined.out
    assert joined.err == ""
    again = cli("join", "--name", "alice")
    assert again.code == 0
    assert "already running" in again.out


def test_on_a_terminal_there_is_progress_and_the_facts_stay_whole(cli: Cli) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "join", "--name", "alice"],
        stdout=theirs,
        stderr=theirs,
        env={**cli.env(), "TERM": "xterm", "COLUMNS": "40"},
        cwd=Path(__file__).parents[3],
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed: how a terminal ends on Linux
            break
    os.close(ours)
    assert process.wait(60) == 0
    assert b"starting alice" in shown
    assert re.search(rb"did +did:swarm:[0-9a-f]{64}\r\n", shown)


def test_another_name_is_another_node(cli: Cli) -> None:
    assert cli("join", "--name", "alice").code == 0
    assert cli("join", "--name", "bob").code == 0
    assert [ready.node for ready in cli.home.running_nodes()] == ["alice", "bob"]
    which = cli("status", "--json")
    assert which.code == 2
    assert which.error["code"] == "several_nodes"
    assert "alice, bob" in which.error["message"]
    assert cli("--node", "bob", "status", "--json").data["node"] == "bob"


def test_another_network_on_a_running_node_changes_nothing(cli: Cli) -> None:
    cli("join", "--network", "example.org#" + "00" * 32)
    other = cli("join", "--network", "other.org", "--json")
    assert (other.code, other.error["code"]) == (2, "other_network")
    assert "wws leave" in other.error["hint"]
    for net in ("example.org", "EXAMPLE.org.#" + "00" * 32):
        same = cli("join", "--network", net, "--json")
        assert (same.code, same.data["already_running"]) == (0, True)


def test_another_publisher_is_another_network(cli: Cli) -> None:
    cli("join", "--network", "example.org#" + "00" * 32)
    for keys in ("11" * 32, "00" * 32 + "," + "11" * 32):
        other = cli("join", "--network", f"example.org#{keys}", "--json")
        assert (other.code, other.error["code"]) == (2, "other_network")
        assert "00" * 32 in other.error["message"]
    assert cli("join", "--network", "example.org#11", "--json").code == 2


def test_options_that_come_too_late_are_named(cli: Cli) -> None:
    assert "no effect" not in cli("join", "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0").err
    again = cli("join", "--name", "alice", "--listen", "/ip4/127.0.0.1/tcp/0", "--swarm", "lab")
    assert again.code == 0
    assert "warning: --swarm, --listen have no effect" in again.err
    assert "wws leave --node alice" in again.err
    assert "no effect" not in cli("join", "--name", "alice", "--timeout", "9").err
    assert "warning: --name has no effect" in cli("join", "--node", "alice", "--name", "bob").err


def test_who_asks_to_hide_is_not_told_that_all_is_well(cli: Cli) -> None:
    assert cli("join", "--name", "alice").code == 0
    shown = cli("join", "--name", "alice", "--relay-only")
    assert shown.code == 2
    assert "wws leave --node alice" in shown.err


@pytest.mark.parametrize(
    "state, word, said",
    [
        ("taken", "name_taken", "belongs to did:swarm:bob"),
        ("lost", "name_taken", "belongs to did:swarm:bob"),
        ("transferred", "name_taken", "was transferred to did:swarm:bob"),
        ("contested", "name_contested", "is contested: did:swarm:bob claims it"),
    ],
)
def test_a_name_of_somebody_else_is_exit_7_with_its_holder(
    cli: Cli, state: str, word: str, said: str
) -> None:
    timeout = ("--timeout", "3")  # a contested name may still be won, so that is waited for
    joined = cli("join", "--name", "alice", "--json", *timeout, taken_by="did:swarm:bob", name_state=state)
    assert (joined.code, joined.error["code"]) == (7, word)
    assert said in joined.error["message"]
    assert "did:swarm:bob" in joined.error["message"]
    assert joined.data["joined"] is True
    assert joined.data["name"] is None
    assert joined.data["holder"] == "did:swarm:bob"
    assert "The node 'alice' stays running: wws status, wws leave." in joined.error["hint"]


def test_a_name_that_this_node_has_with_another_key_is_refused_with_the_way_back(cli: Cli) -> None:
    before = ["identity_changed", "alice ran as 12D3KooW with the key /k until now; this is another agent."]
    joined = cli(
        "join",
        "--name",
        "alice",
        taken_by="did:swarm:alice",
        own_name={"way_back": "--identity-path /k"},
        warnings=[before],
    )
    assert joined.code == 7
    assert f"warning: {before[1]}" in joined.err
    assert "This node was that agent before; to go on as it: --identity-path /k. Claim another" in joined.err
    assert f"warning: {before[1]}" in cli("status").err


@pytest.mark.parametrize(
    "own_name, why",
    [
        ({"witnesses": 3, "problem": "2 of 3 witnesses could not be asked"}, "2 of 3 witnesses could not be"),
        ({"witnesses": 3}, "the witnesses are away"),
        ({}, "this network has no witnesses"),
    ],
)
def test_an_unwitnessed_name_is_joined_with_and_told_why(cli: Cli, own_name: dict, why: str) -> None:
    joined = cli("join", "--name", "alice", own_name=own_name)
    assert joined.code == 0
    assert ", unwitnessed\n" in joined.out
    assert f"warning: wws:alice is unwitnessed: {why}" in joined.err
    again = cli("join", "--name", "alice", "--json")
    assert again.data["witnessed"] is False
    assert again.data["name"] == "alice"


def test_an_ad_hoc_network_has_no_witnesses_by_nature(cli: Cli) -> None:
    assert cli("join", "--name", "alice", status={"ad_hoc": True}).err == ""


def test_a_name_like_one_that_is_known_is_said(cli: Cli) -> None:
    cli.know("a1ice", "zoe")
    joined = cli("join", "--name", "alice", own_name=WITNESSED)
    assert joined.code == 0
    assert "warning: wws:alice looks like wws:a1ice, which is known here" in joined.err
    again = cli("join", "--name", "alice", "--json")
    assert again.data["looks_like"] == "a1ice"
    assert again.data["witnessed"] is True


def test_the_swarm_of_a_name_is_an_option_of_its_own(cli: Cli) -> None:
    joined = cli("join", "--name", "alice@lab", "--json")
    assert (joined.code, joined.error["code"]) == (2, "wrong_usage")
    assert "--name alice --swarm lab" in joined.error["hint"]


def test_the_commands_of_the_last_line_mean_this_node(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "stays running: wws status, wws leave." in cli("join", "--name", "alice").out
    assert "wws status --node bob, wws leave --node bob." in cli("join", "--name", "bob").out
    home = f"wws --home {cli.root / 'elsewhere'}"
    carol = cli("join", "--home", str(cli.root / "elsewhere"), "--node", "carol")
    assert f"stays running: {home} status --node carol, {home} leave --node carol." in carol.out
    monkeypatch.chdir(cli.root)
    assert cli("leave", "--home", "elsewhere").code == 0
    stopped = cli("status", "--home", "elsewhere", "--node", "carol")
    assert f"Start it: wws --home {cli.root}/elsewhere join --name carol" in stopped.err


@pytest.mark.parametrize(
    "origin, advice",
    [
        ("argument", "behind '#'"),
        ("build", "wws self update"),
        ("saved", "wws network add FILE --replace"),
        ("settings", "publishers in config.toml"),
    ],
)
def test_a_list_that_nobody_known_has_signed_says_where_to_ask(origin: str, advice: str) -> None:
    """Publisher keys have changed while this node was away, or it was given the wrong one."""
    warning = {"code": "publisher_unknown", "message": "the list is signed by key 00000000"}
    join = {"tried": [], "warnings": [warning], "next_retry_s": None, "source": None, "clock_skew_s": None}
    named = {"network": "example.org", "domain": "example.org", "network_origin": origin}
    status: dict[str, object] = defaultdict(lambda: None)
    status |= {**named, "node": "alice", "joined": False, "names": [], "join": join}
    told = outcome(status, Options(), already_running=False, timeout=1, took=1, no_retry=True)
    assert told.exit_code == 8
    assert advice in told.errors[0].hint


def test_no_way_in_is_exit_9_and_the_node_goes_on(cli: Cli) -> None:
    joined = cli("join", "--json", state="failed_retrying", tried=[["dns", "example.org", "NXDOMAIN"]])
    assert (joined.code, joined.error["code"]) == (9, "no_way_in")
    assert joined.data["tried"] == [{"source": "dns", "target": "example.org", "error": "NXDOMAIN"}]
    assert "wws leave --node default" in joined.error["hint"]
    assert cli("status").code == 0
    text = cli("join", "--timeout", "0", state="failed_retrying")
    assert text.code == 9
    assert "tried dns example.org: NXDOMAIN" in text.err


def test_no_retry_stops_the_node(cli: Cli) -> None:
    joined = cli("join", "--no-retry", "--json", state="failed_retrying")
    assert joined.code == 9
    assert "background" not in joined.error["hint"]
    assert cli.home.running_nodes() == []


def test_the_time_runs_out(cli: Cli) -> None:
    joined = cli("join", "--timeout", "2", "--json", state="discovering")
    assert joined.code == 9
    assert joined.data["joined"] is False


def test_a_clock_that_differs_is_said(cli: Cli) -> None:
    assert "3 min ahead of" in cli("join", clock_skew_s=200.0).err


def test_ports_of_others_are_told_once_with_the_remedy(cli: Cli) -> None:
    warnings = [["rpc_tcp_off", "No RPC."], ["http_off", "No page."], ["start", "Look."]]
    joined = cli("join", warnings=warnings)
    looks, ports = joined.err.splitlines()
    assert looks == "warning: Look."
    assert "--rpc IP:PORT" in ports
    assert "--http IP:PORT" in ports
    assert cli("status").err == cli("join").err == "warning: Look.\n"
    assert "No RPC." in cli("status", "--verbose").err
    assert len(cli("status", "--json").data["join"]["warnings"]) == 3


@pytest.mark.parametrize(
    "code, word", [(9, "no_network"), (8, "key_file_loose"), (10, "port_taken"), (2, "config_error")]
)
def test_a_start_that_fails_is_told_in_the_nodes_words(cli: Cli, code: int, word: str) -> None:
    error = {"code": word, "message": "What happened.", "hint": "What mends it.", "exit_code": code}
    joined = cli("join", "--json", error=error)
    assert joined.code == code
    assert joined.error == {"code": word, "message": "What happened.", "hint": "What mends it."}


def test_a_word_counts_more_than_the_exit_code_of_a_process_that_knew_none(cli: Cli) -> None:
    error = {"code": "unsigned_network", "message": "m", "hint": "h", "exit_code": 1}
    assert cli("join", error=error).code == 2


def test_settings_that_cannot_be_read_are_wrong_usage(cli: Cli) -> None:
    joined = cli("join", "--listen", "nonsense", "--json")
    assert joined.code == 2
    assert "network.listen" in joined.error["message"]


def test_a_process_that_dies_without_a_word_is_told_with_its_last_words(cli: Cli) -> None:
    joined = cli("join", "--json", die=3)
    assert joined.error["code"] == "start_failed"
    assert "exit code 3" in joined.error["message"]
    assert "the last words" in joined.error["message"]
    logged = cli("logs", "--json")
    assert (logged.code, logged.data["lines"]) == (0, ["the last words"])


def test_an_old_error_is_not_taken_for_a_new_one(cli: Cli) -> None:
    error = {"code": "port_taken", "message": "Old.", "hint": "", "exit_code": 10}
    assert cli("join", error=error).code == 10
    assert cli("join", "--json", die=5).error["code"] == "start_failed"
    assert cli("join").code == 0


def test_two_joins_at_once_start_one_node(cli: Cli) -> None:
    both = [cli.start("join", "--name", "alice", "--json") for _ in range(3)]
    outcomes = [Outcome(process.wait(60), *process.communicate()) for process in both]
    assert [outcome.code for outcome in outcomes] == [0, 0, 0]
    assert sorted(outcome.data["already_running"] for outcome in outcomes) == [False, True, True]
    assert len({outcome.data["peer_id"] for outcome in outcomes}) == 1


def test_foreground_stays_until_it_is_stopped(cli: Cli) -> None:
    process = cli.start("join", "--foreground", "--json")
    assert process.stdout is not None
    joined = json.loads(process.stdout.readline())
    assert joined["data"]["joined"] is True
    process.terminate()
    assert process.wait(60) == 0
    assert cli.home.running_nodes() == []
    process.communicate()


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_foreground_stopped_before_it_has_joined_leaves_no_node(
    cli: Cli, number: signal.Signals, code: int
) -> None:
    process = cli.start("join", "--foreground", "--json", state="discovering")
    assert process.stderr is not None
    assert process.stderr.readline().endswith("is up\n")
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert json.loads(out)["data"] == {"node": "default", "joined": False}
    assert cli.home.running_nodes() == []


def test_interrupted_while_it_waits_it_says_that_the_node_goes_on(cli: Cli) -> None:
    process = cli.start("join", "--home", str(cli.home.root), state="discovering")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("identity")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The node 'default' goes on trying." in err
    assert f"wws --home {cli.home.root} leave --node default" in err
    assert [ready.node for ready in cli.home.running_nodes()] == ["default"]


def test_leave_ends_a_node_that_does_not_answer(cli: Cli) -> None:
    cli("join")
    (ready,) = cli.home.running_nodes()
    Path(ready.socket).unlink()
    paths = cli.home.node(ready.node)
    paths.ready_file.write_text(paths.ready_file.read_text().replace(json.dumps(ready.rpc), "null"))
    assert cli("leave").code == 0
    assert has_ended(ready.pid, ready.started)


DATA = {
    "status": "node peer_id did network reachability nat relays addresses connections names uptime_s "
    "traffic disk",
    "peers": "peers",
    "id": "peer_id peer_id_cid did did_key node_id path",
    "resolve alice": "name swarm did peer_id addresses expires_at stale witnessed pinned owner_changed",
    "ping alice": "target peer_id sent received replies",
    "name list": "names",
    "join": "node already_running joined network source identity_path peer_id did peers swarm_size name "
    "name_expires_at witnessed rpc socket http",
}
"""Contract, section 2: what `data` has at least."""


def test_data_members(cli: Cli) -> None:
    assert cli("join", "--name", "alice").code == 0
    assert cli("name", "claim", "alice").code == 0
    for command, members in DATA.items():
        found = cli(*command.split(), *(["--name", "alice"] if command == "join" else []), "--json")
        assert found.code == 0, found
        assert set(members.split()) <= set(found.data), command


def test_commands_on_a_running_node(cli: Cli) -> None:
    me = cli("join", "--name", "alice", "--json").data["did"]
    assert cli("name", "claim", "alice", "--json").data["registered"] is True
    assert cli("name", "list", "--json").data["names"][0]["name"] == "alice"
    assert cli("resolve", "wws:alice", "--json").data["did"] == me
    assert cli("ping", "alice", "-c", "2", "--json").data["received"] == 2
    assert "2 of 2 answered" in cli("ping", "alice", "-c", "2").out
    missing = cli("resolve", "carol", "--json")
    assert (missing.code, missing.error["code"]) == (4, "name_not_found")
    assert cli("peers").out == "No peers.\n"
    assert cli("call", "swarm.my_names", "--json").data["result"][0]["name"] == "alice"
    unknown = cli("call", "no.such", "--json")
    assert (unknown.code, unknown.error["code"]) == (2, "method_not_found")
    assert cli("name", "renew", "alice").code == 0
    assert cli("leave", "--release-name", "--json").data["released"] == ["alice"]
