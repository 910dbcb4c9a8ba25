"""`wws-ops witness`: what operators see of a witness, while it writes and after."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent_cli.ops.app import COMMANDS, main, run, schema_of
from wws import __version__
from wws.identity.peer_id import PeerId
from wws.names.receipts import Receipt
from wws.names.witness.decision import Changes
from wws.names.witness.entry import Entry, EntryChange
from wws.names.witness.log import Kind, LogEntry
from wws.runtime.homes import Home
from wws.runtime.witness.store import WitnessStore
from wws.testing.names import NOW, person, receipt, transfer

WITNESS = person("witness").peer_id
FAR = 4_000_000_000
"""A Unix time that the clock of no test machine has passed."""


def entry(name: str, owner: PeerId, swarm: str = "public", **more: object) -> Changes:
    held = Entry(swarm, name, owner, NOW, NOW, FAR, **more)  # type: ignore[arg-type]
    return Changes(entries=[EntryChange(held.key, None, held)])


def logged(kind: Kind, given: Receipt, **more: object) -> Changes:
    return Changes(log=[LogEntry(NOW, kind, given, **more)])  # type: ignore[arg-type]


LIES = (receipt("witness", "alice"), receipt("witness", "bob", registered_at=NOW + 5))


async def write(path: Path, *changes: Changes) -> WitnessStore:
    store = WitnessStore(path)
    await store.open(WITNESS, NOW)
    await store.commit(changes)
    return store


def answer(line: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, object]:
    assert run([*line.split(), "--json"]) == code
    value = json.loads(capsys.readouterr().out)
    assert value["schema"] == schema_of(line.split())
    assert value["ok"] is (code == 0)
    assert isinstance(value["data"], dict)
    return {**value["data"], "errors": value["errors"]}


async def test_it_reads_while_the_witness_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alice, bob = person("alice").peer_id, person("bob").peer_id
    path = Home(tmp_path).node("bootstrap").witness
    given = transfer("bob", "alice", seq=3)
    store = await write(
        path,
        entry("alice", alice, "lab", chain=(given.digest,)),
        entry("bob", bob, provisional=True, held_since=NOW),
        entry("carol", bob, given_up=True),
        logged(Kind.CLAIMED, receipt("witness", "bob", name="bob")),
        logged(Kind.TRANSFERRED, receipt("witness", "alice", swarm="lab"), transfers=(given,)),
    )
    home = f"--home {tmp_path}"
    try:
        data = answer(f"witness list {home}", capsys)
        assert data["witness"] == str(WITNESS)
        assert data["file"] == str(path)
        assert data["count"] == 3
        entries = data["entries"]
        assert isinstance(entries, list)
        assert [(one["name"], one["swarm"], one["state"], one["owner"]) for one in entries] == [
            ("alice", "lab", "held", str(alice)),
            ("bob", "public", "first_claim", str(bob)),
            ("carol", "public", "given_up", str(bob)),
        ]
        assert entries[0]["transfers"] == [given.digest]
        assert entries[0]["free_at"] == FAR + 87_000
        log = answer(f"witness log {home}", capsys)["log"]
        assert isinstance(log, list)
        assert [one["kind"] for one in log] == ["claimed", "transferred"]
        assert Receipt.parse(log[1]["receipt"]).is_signed_by_witness
        assert log[1]["transfers"] == [given.to_members()]
        for name, found in (("bob", 1), ("alice", 0), ("alice@lab", 1), ("Alice@LAB", 1)):
            assert len(answer(f"witness log {name} {home}", capsys)["log"]) == found  # type: ignore[arg-type]
        assert len(answer(f"witness log --last 1 {home}", capsys)["log"]) == 1  # type: ignore[arg-type]
        assert answer(f"witness conflicts {home}", capsys)["conflicts"] == []
        assert run(["witness", "list", "--db", str(path), "--most", "1"]) == 0
        shown = capsys.readouterr()
        assert "alice@lab" in shown.out
        assert "2 more" in shown.err
        await store.commit([entry("dave", bob)])  # a reader holds nobody up
    finally:
        await store.close()
    assert answer(f"witness list --db {path}", capsys)["count"] == 4
    assert run(["witness", "log", "--db", str(path)]) == 0
    assert "transferred" in capsys.readouterr().out


async def test_a_lie_in_the_log_is_shown_as_proof(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.sqlite"
    store = await write(path, *(logged(Kind.CLAIMED, lie) for lie in LIES))
    await store.close()
    data = answer(f"witness conflicts --db {path}", capsys, code=8)
    assert data["conflicts"] == [{"one": LIES[0].to_members(), "other": LIES[1].to_members()}]
    errors = data["errors"]
    assert isinstance(errors, list)
    assert errors[0]["code"] == "receipts_contradict"
    assert run(["witness", "conflicts", "--db", str(path)]) == 8
    assert str(person("bob").peer_id) in capsys.readouterr().err


def test_receipts_from_anywhere_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, both, forged = tmp_path / "one.json", tmp_path / "both.json", tmp_path / "forged.json"
    one.write_text(json.dumps(LIES[0].to_members()))
    both.write_text(json.dumps([lie.to_members() for lie in LIES]))
    forged.write_text(json.dumps({**LIES[1].to_members(), "registered_at": NOW + 6}))
    assert answer(f"witness conflicts {both}", capsys, code=8)["receipts"] == 2
    assert answer(f"witness conflicts {one} {forged}", capsys)["conflicts"] == []
    assert len(answer(f"witness conflicts {forged} {both}", capsys, code=8)["conflicts"]) == 1  # type: ignore[arg-type]
    for bad in ("{}", "[1]", "nothing", "[" * 100_000, '{"data": {"log": [{}]}}', '{"data": {"log": 1}}'):
        one.write_text(bad)
        (problem,) = answer(f"witness conflicts {one}", capsys, code=2)["errors"]  # type: ignore[misc]
        assert problem["code"] == "wrong_usage"  # type: ignore[index]
    answer(f"witness conflicts {both} --db {one}", capsys, code=2)
    answer(f"witness conflicts {tmp_path / 'none'}", capsys, code=10)


async def test_the_printed_log_of_a_name_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, printed, loose = tmp_path / "w.sqlite", tmp_path / "log.json", tmp_path / "loose.json"
    store = await write(path, logged(Kind.CLAIMED, LIES[0]))
    await store.close()
    assert run(["witness", "log", "alice", "--db", str(path), "--json"]) == 0
    printed.write_text(capsys.readouterr().out)
    loose.write_text(json.dumps(LIES[1].to_members()))
    data = answer(f"witness conflicts {printed} {loose}", capsys, code=8)
    assert (data["receipts"], len(data["conflicts"])) == (2, 1)  # type: ignore[arg-type]
    assert answer(f"witness conflicts {printed}", capsys)["receipts"] == 1


@pytest.mark.parametrize(
    "shown, code",
    [
        ((receipt("w2", "bob", registered_at=NOW + 5),), 0),
        ((), 8),
        ((receipt("w2", "carol", registered_at=NOW + 5),), 8),
        ((LIES[1],), 8),
    ],
    ids=["another witness had it", "nothing", "another owner", "its own word"],
)
async def test_a_take_over_counts_where_the_log_shows_it(
    shown: tuple[Receipt, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, printed, loose = tmp_path / "w.sqlite", tmp_path / "log.json", tmp_path / "loose.json"
    store = await write(path, logged(Kind.CLAIMED, LIES[0]), logged(Kind.TAKEN_OVER, LIES[1], receipts=shown))
    await store.close()
    assert run(["witness", "log", "--db", str(path), "--json"]) == 0
    printed.write_text(capsys.readouterr().out)
    loose.write_text(json.dumps(LIES[1].to_members()))
    answer(f"witness conflicts {loose} {printed}", capsys, code=code)


async def test_a_witness_that_lost_its_promises_says_until_when(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "w.sqlite"
    path.write_text("lost")
    store = WitnessStore(path)
    restored = await store.open(WITNESS, FAR)
    await store.close()
    assert answer(f"witness list --db {path}", capsys)["no_first_claims_until"] == restored.claims_from > FAR
    assert run(["witness", "list", "--db", str(path)]) == 0
    assert "No first claims until 20" in capsys.readouterr().out
    path.write_text("lost again, and long ago")
    await store.open(WITNESS, 1_000_000)
    await store.close()
    assert answer(f"witness list --db {path}", capsys)["no_first_claims_until"] is None
    assert run(["witness", "list", "--db", str(path)]) == 0
    assert "No first claims" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, code",
    [
        ("witness list --home HOME", 10),
        ("witness list --db HOME/none", 10),
        ("witness list --most 0", 2),
        ("witness", 2),
        ("witness steal", 2),
        ("nothing", 2),
    ],
)
def test_what_cannot_be_done_is_said(
    line: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = answer(line.replace("HOME", str(tmp_path)), capsys, code)["errors"]
    assert isinstance(errors, list)
    assert errors[0]["message"]
    if code == 10:
        assert errors[0]["hint"]


@pytest.mark.parametrize(
    "command", [f"{group} {name}" for group, names in COMMANDS.items() for name in names]
)
def test_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"wws-ops {command}" in text
    assert "--json" in text


def test_the_program_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"wws-ops {__version__}\n"
    assert run(["--help"]) == 0
    assert "witness" in capsys.readouterr().out
