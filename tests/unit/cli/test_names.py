"""`wws name`, `wws resolve` and `wws ping`: what people and scripts are told of names."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from agent_cli.known_names import looks_like
from tests.unit.cli.running import Cli
from wws.client import RpcError
from wws.identity.keys import Identity
from wws.rpc.codes import rpc_number
from wws.runtime.homes import Home

BOB = Identity.from_label("bob").peer_id
MALLORY = Identity.from_label("mallory").peer_id
WITNESSED = {"witnessed": True, "receipts": 2, "witnesses": 3}
SWARM = {"others": {"bob": "bob", "mallory": None}}


def refusal(code: str, message: str, hint: str = "", **details: object) -> dict[str, object]:
    return {"code": code, "message": message, "hint": hint, "details": details}


def test_a_claim_says_by_how_many_it_is_witnessed(cli: Cli) -> None:
    cli.know("a1ice")
    cli("join", own_name=WITNESSED)
    claimed = cli("name", "claim", "Alice")
    assert claimed.code == 0
    assert claimed.out.startswith("wws:alice is yours until ")
    assert claimed.out.endswith(", witnessed by 2 of 3.\n")
    assert claimed.err == (
        "warning: wws:alice looks like wws:a1ice, which is known here: people may take one for the other.\n"
    )
    assert cli("name", "claim", "alice", "--json").data["looks_like"] == "a1ice"
    head, row = cli("name", "list").out.splitlines()
    assert head.split() == ["name", "swarm", "state", "until", "witnessed"]
    assert row.split()[:3] == ["alice", "public", "held"]
    assert row.endswith("2 of 3")
    assert "witnessed by 2 of 3." in cli("name", "renew", "wws:alice").out
    released = cli("name", "release", "wws://alice")
    assert "wws:alice is released. It is free for others from " in released.out
    assert cli("name", "renew", "alice", "--json").error["code"] == "name_not_held"


def test_an_unwitnessed_claim_works_and_says_why(cli: Cli) -> None:
    away = {"witnesses": 3, "problem": "witnesses_away: 2 of 3 could not be asked"}
    cli("join", own_name=away)
    claimed = cli("name", "claim", "alice")
    assert claimed.code == 0
    assert ", unwitnessed." in claimed.out
    assert claimed.err.startswith("warning: wws:alice is unwitnessed: witnesses_away: 2 of 3 could not be")
    assert claimed.err.endswith("whoever reaches the witnesses first gets it.\n")
    assert cli("name", "claim", "alice", "--json").data["problem"] == away["problem"]
    listed = cli("name", "list").out
    assert "holder or problem" in listed
    assert "2 of 3 could not be asked" in listed
    assert cli("name", "list", "--json").data["names"][0]["problem"] == away["problem"]


@pytest.mark.parametrize(
    "refused, code, said",
    [
        (refusal("name_taken", "wws:bob belongs to X", "Choose another.", holder="X"), 7, "belongs to X"),
        (refusal("name_contested", "wws:bob is contested by X", holder="X", retry_after=5.0), 7, "by X"),
        (refusal("rate_limited", "5 new names a day", retry_after=7000), 7, "Try again in 1 h 57 min."),
        (refusal("rate_limited", "too often: again in 9 s", retry_after=9), 7, "again in 9 s"),
        (refusal("not_joined", "no peer is connected"), 9, "no peer"),
    ],
)
def test_a_refused_claim_names_holder_or_time(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, refused: dict[str, Any], code: int, said: str
) -> None:
    def call(*_: object, **__: object) -> None:
        data = {**refused["details"], "code": refused["code"], "hint": refused["hint"]}
        raise RpcError(rpc_number(refused["code"]) or 0, refused["message"], data)

    monkeypatch.setattr("agent_cli.commands.name.call", call)
    claimed = cli("name", "claim", "bob")
    assert (claimed.code, claimed.out) == (code, "")
    assert said in claimed.err
    assert claimed.err.count("again in") <= 1
    told = cli("name", "claim", "bob", "--json")
    assert told.error["code"] == refused["code"]
    assert told.data == refused["details"]


def test_a_name_changes_hands(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("join", "--name", "alice")
    bob = cli("join", "--name", "bob", "--json").data["peer_id"]
    cli("name", "claim", "alice", "--node", "alice")
    given = cli("name", "transfer", "alice", bob, "--node", "alice")
    assert given.code == 0
    (line,) = given.out.splitlines()
    entry = json.loads(line)
    assert set(entry) == {"from", "to", "name", "swarm", "seq", "at", "signature"}
    assert entry["to"] == bob
    assert "pastes it into: wws name accept -\n" in given.err
    assert "cannot be signed over to anybody else" in given.err
    assert "transferring" in cli("name", "list", "--node", "alice").out
    assert cli("name", "transfer", "alice", bob, "--node", "alice", "--quiet").out == given.out
    again = cli("name", "transfer", "alice", str(MALLORY), "--node", "alice", "--json")
    assert (again.code, again.error["code"]) == (7, "double_transfer")
    assert cli("name", "accept", line, "--node", "alice", "--json").error["code"] == "transfer_refused"
    monkeypatch.setattr("sys.stdin", io.StringIO(given.out))
    taken = cli("name", "accept", "-", "--node", "bob", "--json")
    assert taken.code == 0
    assert (taken.data["name"], taken.data["accepted"]) == ("alice", True)


def test_an_entry_in_its_envelope_is_taken_too(cli: Cli) -> None:
    cli("join", "--name", "alice")
    bob = cli("join", "--name", "bob", "--json").data["peer_id"]
    cli("name", "claim", "alice", "--node", "alice")
    envelope = cli("name", "transfer", "alice", bob, "--node", "alice", "--json").out
    taken = cli("name", "accept", envelope, "--node", "bob")
    assert taken.code == 0
    assert taken.out.startswith("wws:alice is yours until ")


@pytest.mark.parametrize(
    "target",
    [
        "bob",
        "wws:bob",
        "wws://bob",
        "WWS:Bob",
        BOB.did,
        f"wws:{BOB.did}",
        str(BOB),
        f"wws://{BOB}",
        BOB.cid,
        BOB.did_key,
        BOB.node_id,
        BOB.node_id.upper(),
        f"/ip4/203.0.113.7/tcp/9000/p2p/{BOB}",
    ],
)
def test_each_way_to_say_who_takes_a_name(
    target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, object]] = []

    def call(_: object, method: str, params: dict[str, object], **__: object) -> dict[str, object]:
        asked.append((method, params))
        if method == "swarm.resolve_name":
            return {"name": None, "peer_id": str(BOB)}
        return {"name": "alice", "swarm": "public", "entry": {"to": str(BOB)}, "to": BOB.did}

    monkeypatch.setattr("agent_cli.targets.call", call)
    monkeypatch.setattr("agent_cli.commands.name.call", call)
    from agent_cli.app import run

    assert run(["name", "transfer", "alice", target]) == 0
    assert asked[-1] == ("swarm.transfer_name", {"name": "alice", "new_pubkey": BOB.node_id})
    asks_network = target.lower().endswith(":bob") or target in ("bob", "wws://bob") or BOB.did in target
    assert len(asked) == 1 + asks_network
    capsys.readouterr()


@pytest.mark.parametrize(
    "entry, why",
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("5", "not the entry"),
        ("{}", "not the entry"),
        ('{"data": {}}', "not the entry"),
        ("[" * 20_000, "more than"),
    ],
)
def test_what_is_no_entry_is_wrong_usage(entry: str, why: str, cli: Cli) -> None:
    refused = cli("name", "accept", entry)
    assert refused.code == 2
    assert why in refused.err
    assert "`name transfer`" in refused.err


def test_a_changed_owner_is_refused_until_it_is_trusted(cli: Cli) -> None:
    changed = refusal("owner_changed", "wws:bob belonged to A", "…", pinned="A", found=str(MALLORY))
    cli("join", **SWARM, refusals={"resolve": changed})
    for command in (("resolve", "bob"), ("ping", "bob"), ("name", "transfer", "alice", "bob")):
        refused = cli(*command, "--json")
        assert (refused.code, refused.error["code"]) == (8, "owner_changed")
        assert f"wws name trust bob --owner {MALLORY}" in refused.error["hint"]
        assert "found" in refused.data


def test_trust_shows_what_it_changes(cli: Cli) -> None:
    cli("join", **SWARM)
    first = cli("name", "trust", "bob")
    assert first.code == 0
    rows = dict(line.split(maxsplit=1) for line in first.out.splitlines() if not line.startswith("peer id"))
    assert rows == {"name": "wws:bob", "before": "not known here", "now": BOB.did}
    assert cli("name", "trust", "wws:bob").out.splitlines()[2].endswith(f"{BOB.did} (unchanged)")
    other = cli("name", "trust", "bob", "--owner", str(MALLORY), "--json").data
    assert (other["before"], other["peer_id"]) == (BOB.did, str(MALLORY))


@pytest.mark.parametrize("owner", ["bob", "12D3KooWnonsense", "did:swarm:00"])
def test_an_owner_is_a_key(owner: str, cli: Cli) -> None:
    assert cli("name", "trust", "bob", "--owner", owner).code == 2


def test_a_renewal_that_came_to_nothing_is_no_success(cli: Cli) -> None:
    cli("join", own_name={"witnesses": 3, "problem": "2 of 3 witnesses could not be asked"}, renewed=False)
    cli("name", "claim", "alice")
    refused = cli("name", "renew", "alice")
    assert refused.code == 5
    assert "wws:alice is not renewed: 2 of 3 witnesses could not be asked. It lasts until " in refused.err
    assert cli("name", "renew", "alice", "--json").error["code"] == "not_renewed"


def test_a_file_with_an_entry_is_said_to_be_one(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "entry.json"
    file.write_text("{}")
    refused = cli("name", "accept", str(file))
    assert refused.code == 2
    assert "is a file" in refused.err
    assert "name accept - < " in refused.err


@pytest.mark.parametrize(
    "resolved, said",
    [
        ({"looks_like": "b0b"}, "wws:bob looks like wws:b0b, which is known here. Is it the one that you"),
        ({"stale": True}, "its lease has run out"),
        ({"stale": True, "warnings": ["stale"]}, "its lease has run out"),
        ({"first_pin": True, "warnings": ["unwitnessed_first_pin"]}, "seen for the first time"),
        ({"owner_changed": True, "warnings": ["pin_moved"]}, "was transferred to this owner"),
        ({"warnings": ["equivocation"]}, "wws call swarm.equivocations"),
        ({"warnings": ["something_new"]}, "wws:bob: something new."),
        ({"witnessed": True}, ""),
    ],
)
def test_what_to_look_at_twice_in_a_name(
    resolved: dict[str, object], said: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"name": "bob", "swarm": "public", "peer_id": str(BOB), "sent": 1, "received": 1}
    answer |= {"replies": [{"seq": 1, "rtt_ms": 1.0, "path": "direct", "relay": None, "reason": None}]}
    monkeypatch.setattr("agent_cli.targets.call", lambda *_: answer | resolved)
    for command in ("resolve", "ping"):
        answered = cli(command, "bob")
        assert answered.code == 0
        assert said in answered.err
        assert len(answered.err.splitlines()) == bool(said)
    assert cli("ping", str(BOB)).err == ""


def test_resolve_says_who_vouches(cli: Cli) -> None:
    cli("join", **SWARM, resolved={"witnessed": True})
    assert cli("resolve", "bob").out.splitlines()[0] == "name       wws:bob, witnessed"


@pytest.mark.parametrize(
    "target",
    [
        "bob",
        "wws:bob",
        "wws://bob",
        "WWS://Bob",
        "bob@lab",
        "wws:bob@lab",
        BOB.did,
        f"wws:{BOB.did}",
        f"wws://{BOB.did}",
        str(BOB),
        f"wws:{BOB}",
        f"wws://{BOB}",
        BOB.cid,
        BOB.did_key,
        f"/ip4/203.0.113.7/udp/9000/quic-v1/p2p/{BOB}",
    ],
)
@pytest.mark.parametrize("command", ["resolve", "ping"])
def test_every_form_of_a_target_reaches_the_node_as_it_was_typed(
    command: str, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    answer = {"peer_id": str(BOB), "sent": 1, "received": 1}
    answer |= {"replies": [{"seq": 1, "rtt_ms": 1.0, "path": "direct", "relay": None, "reason": None}]}

    def call(_: object, method: str, params: dict[str, object]) -> dict[str, object]:
        asked.append(params.get("target", params.get("name")))
        return answer

    monkeypatch.setattr("agent_cli.targets.call", call)
    from agent_cli.app import run

    assert run([command, target]) == 0
    assert set(asked) == {target}
    capsys.readouterr()


def test_a_name_is_not_signed_over_to_a_name_that_looks_like_another(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"name": "b0b", "swarm": "public", "peer_id": str(MALLORY), "looks_like": "bob"}
    monkeypatch.setattr("agent_cli.targets.call", lambda *_: answer)
    refused = cli("name", "transfer", "alice", "b0b", "--json")
    assert (refused.code, refused.error["code"]) == (7, "looks_like")
    assert refused.error["hint"].endswith(f"wws name transfer alice {MALLORY}")


def test_names_of_ours_look_like_no_other_but_one_that_we_could_not_have_does(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.known_names.write_text(json.dumps({"schema": 1, "pins": [{"swarm": "public", "name": "alice"}, 5]}))
    assert looks_like(home, "a1ice", "public") == "alice"
    assert looks_like(home, "a1ice", "lab") is None
    assert looks_like(home, "a1ice", "public", [{"name": "alice", "state": "held"}]) is None
    assert looks_like(home, "a1ice", "public", [{"name": "alice", "state": "taken"}]) == "alice"


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"pins": 5}', '{"pins": [{}]}', "[" * 100_000])
def test_known_names_that_cannot_be_read_warn_of_nothing(tmp_path: Path, content: str | None) -> None:
    home = Home(tmp_path)
    if content is not None:
        home.known_names.write_text(content)
    assert looks_like(home, "a1ice", "public") is None


def test_who_pastes_an_entry_need_not_end_the_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("{\nmore"))
    refused = cli("name", "accept", "-")
    assert refused.code == 2
    assert refused.err.startswith("Paste the entry, one line:\nerror: The entry is not JSON.\n")
