"""A node that was started with another key than the last time says so, and how to go back."""

import json
from pathlib import Path

import pytest

from wws.errors import ParseError
from wws.identity.keys import Identity
from wws.runtime.former_identities import (
    MAX_IDENTITIES,
    MAX_PATH,
    FormerIdentities,
    RanAs,
    parse_identities,
    to_json,
)
from wws.runtime.homes import Home, NodePaths
from wws.runtime.keyfile import IdentityPath, store
from wws.runtime.whole_files import write_whole

ALICE = Identity.from_label("alice")
BOB = Identity.from_label("bob")


@pytest.fixture
def node(tmp_path: Path) -> NodePaths:
    return Home(tmp_path / "home").node("carl")


def start(node: NodePaths, identity: Identity, path: Path, source: str = "--name") -> FormerIdentities:
    """A start of the node with this key, which comes up."""
    if not path.exists():
        store(identity, path)
    former = FormerIdentities(node, IdentityPath(path, source), identity.peer_id, {})
    former.remember()
    return former


def test_the_first_start_and_those_like_it_say_nothing(node: NodePaths, tmp_path: Path) -> None:
    for _ in range(2):
        former = start(node, ALICE, tmp_path / "a.key")
        assert (former.warning, former.way_back(ALICE.peer_id)) == (None, None)
    assert node.identities.stat().st_mode & 0o777 == 0o600
    assert json.loads(node.identities.read_bytes()) == {
        "schema": 1,
        "identities": [{"peer_id": str(ALICE.peer_id), "path": str(tmp_path / "a.key")}],
    }


def test_another_key_is_said_once_and_the_way_back_is_known_after_that(
    node: NodePaths, tmp_path: Path
) -> None:
    before = tmp_path / "my keys" / "a.key"
    start(node, ALICE, before)
    changed = start(node, BOB, tmp_path / "b.key")
    assert changed.warning == (
        f"carl ran as {ALICE.peer_id} with the key {before} until now; this is another agent. "
        f"To go on as before: --identity-path '{before}'"
    )
    same = start(node, BOB, tmp_path / "b.key")
    assert same.warning is None
    for former in (changed, same):
        assert former.way_back(ALICE.peer_id) == f"--identity-path '{before}'"
        assert former.way_back(BOB.peer_id) is None
        assert former.way_back(None) is None


def test_the_variable_beats_the_option_so_the_way_back_is_the_variable(
    node: NodePaths, tmp_path: Path
) -> None:
    start(node, ALICE, tmp_path / "a.key")
    changed = start(node, BOB, tmp_path / "b.key", "environment WWS_IDENTITY_PATH")
    assert changed.way_back(ALICE.peer_id) == f"WWS_IDENTITY_PATH={tmp_path / 'a.key'}"


def test_a_key_that_moves_is_the_same_agent(node: NodePaths, tmp_path: Path) -> None:
    start(node, ALICE, tmp_path / "a.key")
    (tmp_path / "a.key").rename(tmp_path / "moved.key")
    assert start(node, ALICE, tmp_path / "moved.key").warning is None
    changed = start(node, BOB, tmp_path / "b.key")
    assert changed.way_back(ALICE.peer_id) == f"--identity-path {tmp_path / 'moved.key'}"


def test_no_way_back_to_a_key_that_is_gone(node: NodePaths, tmp_path: Path) -> None:
    """The option would make a third agent there."""
    path = tmp_path / "a.key"
    start(node, ALICE, path)
    path.unlink()
    changed = start(node, BOB, path)
    assert changed.warning is not None
    assert "--identity-path" not in changed.warning
    assert "That key is not there any more" in changed.warning
    assert changed.way_back(ALICE.peer_id) is None


def test_a_relative_path_holds_in_any_folder(
    node: NodePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    start(node, ALICE, Path("a.key"))
    monkeypatch.chdir("/")
    changed = start(node, BOB, tmp_path / "b.key")
    assert changed.way_back(ALICE.peer_id) == f"--identity-path {tmp_path / 'a.key'}"


def test_the_last_ones_are_kept(node: NodePaths, tmp_path: Path) -> None:
    many = [Identity.from_label(f"{number}") for number in range(MAX_IDENTITIES + 1)]
    for number, identity in enumerate(many):
        start(node, identity, tmp_path / f"{number}.key")
    kept = [entry["peer_id"] for entry in json.loads(node.identities.read_bytes())["identities"]]
    assert kept == [str(identity.peer_id) for identity in reversed(many[1:])]


GOOD = {"peer_id": str(ALICE.peer_id), "path": "/a.key"}


@pytest.mark.parametrize(
    "identities",
    [
        None,
        {},
        [None],
        [{**GOOD, "peer_id": 1}],
        [{**GOOD, "peer_id": "12D3KooW"}],
        [{**GOOD, "path": None}],
        [{**GOOD, "path": "a.key"}],
        [{**GOOD, "path": "/a\0.key"}],
        [{**GOOD, "path": "/" * (MAX_PATH + 1)}],
        [GOOD, {}],
    ],
)
def test_what_is_none_of_ours_is_refused_and_forgotten(
    node: NodePaths, tmp_path: Path, identities: object
) -> None:
    value = {"schema": 1, "identities": identities}
    with pytest.raises(ParseError):
        parse_identities(json.loads(json.dumps(value)))
    write_whole(node.identities, json.dumps(value).encode())
    assert start(node, BOB, tmp_path / "b.key").warning is None
    assert start(node, ALICE, tmp_path / "a.key").warning is not None, "it is remembered anew"


def test_no_more_is_read_than_is_kept() -> None:
    ran = (RanAs(ALICE.peer_id, Path("/" + "a" * (MAX_PATH - 1))),) * (MAX_IDENTITIES + 1)
    assert parse_identities(to_json(ran)) == ran[1:]


def test_a_disk_that_takes_nothing_costs_only_the_memory(node: NodePaths, tmp_path: Path) -> None:
    former = FormerIdentities(node, IdentityPath(tmp_path / "a.key", "--name"), ALICE.peer_id, {})
    node.home.root.write_text("in the place of the folder")
    former.remember()
