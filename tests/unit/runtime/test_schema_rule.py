"""Upgrades and ways back (contract section 3): each state file of a node, old → new → old, in one table.

A newer version is stood in for by a file with the next schema number and members that nobody knows, on every
level. Today's reader finds in it what it found before, and what today's writer puts in its place keeps what
is not its own, so that the newer version finds it again. Then its own tables of a witness.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from wws.codec.canonical import JsonObject, JsonValue
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network
from wws.discovery.peer_cache import PeerCache
from wws.discovery.publishers import PublisherKey
from wws.errors import LocalError
from wws.identity.keys import Identity
from wws.names.equivocation import Equivocations
from wws.names.lease_state import LeaseState
from wws.names.pins import Pins
from wws.names.witness.decision import Changes
from wws.names.witness.entry import Counted, Entry, EntryChange
from wws.names.witness.log import Kind, LogEntry
from wws.relay.budget import DailyBudget
from wws.runtime.former_identities import FormerIdentities
from wws.runtime.homes import Home, NodePaths, Ready
from wws.runtime.keyfile import IdentityPath
from wws.runtime.pin_store import PinStore
from wws.runtime.rpc_state import AGENTS, TOKENS, RpcState
from wws.runtime.state_files import NetworkFiles, PortFile, StateFile, StateTooNew
from wws.runtime.witness.reading import open_for_reading, witness_of
from wws.runtime.witness.rows import SCHEMA, read_entries, read_log
from wws.runtime.witness.store import WitnessStore
from wws.testing.names import ADDRESS, NOW, name_record, person, receipt, transfer
from wws.testing.rpc import make_access

ALICE, BOB = person("alice").peer_id, person("bob").peer_id
DOMAIN = "example.org"
INVENTED = "invented_later"
SIGNED = {"transfers", "receipts", "given", "accepting"}
"""Members whose content is signed, and means what wire.md says whoever keeps it."""


@dataclass(frozen=True)
class Row:
    """One state file: where it is, what is in it, and the code that reads and writes it."""

    name: str
    path: Callable[[NodePaths], Path]
    content: JsonObject
    reread: Callable[[NodePaths], JsonValue]
    """What today's reader finds, in its own words; and today's writer saves again what it has found."""


def members_of(value: object) -> JsonValue:
    found: JsonValue = json.loads(json.dumps(value))
    return found


# How each is read and written


def _fail(error: LocalError) -> None:
    pytest.fail(str(error))


def _port(node: NodePaths) -> JsonValue:
    file = PortFile(node, warn=_fail)
    port = file.read()
    assert port is not None
    file.write(port)
    return port


def _peers(node: NodePaths) -> JsonValue:
    file = StateFile(node.peer_cache, warn=_fail)
    value = file.read()
    assert value is not None
    cache = PeerCache.from_json(value, DOMAIN, NOW)
    assert cache.skipped == 0
    file.write(cache.to_json())
    return cache.to_json()


def _leases(node: NodePaths) -> JsonValue:
    file = StateFile(node.leases, warn=_fail)
    leases = (file.read() or {})["leases"]
    assert isinstance(leases, list)
    states: list[JsonValue] = [LeaseState.from_json(one).to_json() for one in leases]
    file.write({"leases": states})
    return states


def _identities(node: NodePaths) -> JsonValue:
    chosen = IdentityPath(Path("/keys/bob.key"), "flag --identity-path")
    former = FormerIdentities(node, chosen, BOB, {})
    former.remember()
    return [former.warning is not None, sorted(map(str, former._ways_back))]


def _equivocations(node: NodePaths) -> JsonValue:
    file = StateFile(node.equivocations, warn=_fail)
    kept = Equivocations()
    assert kept.load(file.read()) == 0
    file.write(kept.to_json())
    return kept.to_json()


def _relay(node: NodePaths) -> JsonValue:
    file, budget = StateFile(node.relay, warn=_fail), DailyBudget(10**9, 0.25, 16)
    value = file.read()
    assert value is not None
    budget.restore(value)
    file.write(budget.to_json(), durable=False)
    return budget.to_json()


def _rpc(node: NodePaths) -> JsonValue:
    access, state = make_access(ALICE), RpcState(node)
    state.load(access)
    state._tokens.write(access.tokens_to_json())
    state._books.write(access.books_to_json())
    return [access.tokens_to_json(), access.books_to_json()]


def _pins(node: NodePaths) -> JsonValue:
    def look(pins: Pins) -> JsonValue:
        found = members_of(pins.to_json())
        assert pins.trust(DOMAIN, "public", "carol", BOB, NOW)  # so that it is saved
        return found

    found = PinStore(node.home).use(look)
    PinStore(node.home).use(lambda pins: pins.forget(DOMAIN, "public", "carol"))
    return found


def _network(node: NodePaths) -> JsonValue:
    files = NetworkFiles(node.home, warn=_fail)
    value = files.read_state(DOMAIN)
    assert value is not None
    state = BundleState.from_json(value)
    files.raise_state(DOMAIN, state.to_json())
    return state.to_json()


def _ready(node: NodePaths) -> JsonValue:
    ready = node.read_ready()
    assert ready is not None
    return members_of([ready.node, ready.pid, ready.peer_id, ready.listen, ready.socket])


# What is in each


def _bundle_state() -> JsonObject:
    publisher = Identity.from_label("publisher")
    entry = BundleEntry(BOB, "203.0.113.1", 9000)
    bundle = Bundle(NOW, NOW, NOW + 86_400, None, (entry,)).sign(DOMAIN, [publisher])
    state = BundleState.of(Network(DOMAIN, DOMAIN, (PublisherKey(publisher.public_key),), ()), None)
    state.accept(bundle.text, NOW)
    return state.to_json()


def _peer_cache() -> JsonObject:
    cache = PeerCache(DOMAIN)
    assert cache.record(BOB, [ADDRESS], through=ALICE, met_at=NOW, unix_now=NOW)
    return cache.to_json()


def _proofs() -> JsonObject:
    kept = Equivocations()
    for port in (1, 2):
        kept.saw(name_record("alice", addresses=(ADDRESS.with_port(port),)), NOW)
    assert len(kept.all()) == 1
    return kept.to_json()


def _known_names() -> JsonObject:
    pins = Pins()
    assert pins.trust(DOMAIN, "public", "alice", ALICE, NOW)
    return pins.to_json()


_LEASE = LeaseState.of(
    name_record("alice", witnesses=["w1", "w2"], transfers=[transfer("bob", "alice", seq=5)])
)
_TOKEN: JsonObject = {
    "id": "0123456789ab",
    "label": "bot",
    "methods": ["swarm.peers"],
    "rate": 60,
    "created_at": NOW,
    "expires_at": NOW + 86_400,
    "last_used": None,
    "sha256": "ab" * 32,
}
_AGENT: JsonObject = {
    "public_key": BOB.public_key.hex(),
    "registered_at": NOW,
    "expires_at": NOW + 86_400,
    "vouched": True,
    "token": None,
}
_READY = Ready("bootstrap", 1, str(ALICE), ALICE.did, ("/ip4/127.0.0.1/tcp/9000",), None, None, "/s", "/c")

TABLE = [
    Row("port", lambda node: node.port_file, {"schema": 1, "port": 9000}, _port),
    Row("peers.json", lambda node: node.peer_cache, _peer_cache(), _peers),
    Row("leases.json", lambda node: node.leases, {"schema": 1, "leases": [_LEASE.to_json()]}, _leases),
    Row(
        "identities.json",
        lambda node: node.identities,
        {"schema": 1, "identities": [{"peer_id": str(peer), "path": "/keys/a.key"} for peer in (BOB, ALICE)]},
        _identities,
    ),
    Row("equivocations.json", lambda node: node.equivocations, _proofs(), _equivocations),
    Row("relay.json", lambda node: node.relay, {"schema": 1, "day": NOW // 86_400, "bytes": 77}, _relay),
    Row("tokens.json", lambda node: node.state / TOKENS, {"schema": 1, "tokens": [_TOKEN]}, _rpc),
    Row(
        "agents.json",
        lambda node: node.state / AGENTS,
        {
            "schema": 1,
            "agents": [_AGENT],
            "new_names": [["alice", "public", NOW]],
            "latest": [[BOB.did, NOW * 1000]],
        },
        _rpc,
    ),
    Row("known_names.json", lambda node: node.home.known_names, _known_names(), _pins),
    Row("the network's state", lambda node: node.home.network_state(DOMAIN), _bundle_state(), _network),
]


def newer(value: JsonValue) -> JsonValue:
    """As a version after ours might write it."""
    if isinstance(value, list):
        return [newer(member) for member in value]
    if not isinstance(value, dict):
        return value
    grown = {key: member if key in SIGNED else newer(member) for key, member in value.items()}
    if isinstance(schema := value.get("schema"), int):
        grown["schema"] = schema + 1
    return {**grown, INVENTED: [1, {"x": None}]}


def put(path: Path, content: JsonValue) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    path.chmod(0o600)


def lists_grown(value: JsonValue) -> JsonValue:
    """Lists that stand for records, with one more place at their end."""
    if isinstance(value, dict):
        return {key: lists_grown(member) for key, member in value.items()}
    if isinstance(value, list):
        is_record = bool(value) and isinstance(value[0], str) and any(isinstance(one, int) for one in value)
        return [*value, "more"] if is_record else [lists_grown(member) for member in value]
    return value


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_there_and_back(tmp_path: Path, row: Row) -> None:
    node = Home(tmp_path).node("bootstrap")
    path = row.path(node)
    put(path, row.content)
    before = row.reread(node)
    ours = json.loads(path.read_text())
    put(path, newer(ours))
    assert row.reread(node) == before, "the one before finds what it knows"
    kept = json.loads(path.read_text())
    assert kept[INVENTED] == [1, {"x": None}], "and leaves the rest where it is"
    assert kept["schema"] == ours["schema"] + 1
    assert row.reread(node) == before, "more than once"
    put(path, lists_grown(members_of(ours)))
    assert row.reread(node) == before
    # Two versions on is too far: nothing is guessed, and nothing is lost.
    put(path, newer(newer(ours)))
    content = path.read_bytes()
    with pytest.raises(StateTooNew):
        row.reread(node)
    assert path.read_bytes() == content


def test_the_table_has_every_state_file(tmp_path: Path) -> None:
    """What `wws.runtime.state_files` names; the network file is signed, and its form a matter of wire.md."""
    from wws.runtime import state_files

    named = {
        line.split()[0].rpartition("/")[2]
        for line in (state_files.__doc__ or "").splitlines()
        if line.startswith("    ")
    }
    in_table = {row.path(Home(tmp_path).node("bootstrap")).name for row in TABLE}
    assert named - {"<name>.state", "<name>.json"} == in_table - {f"{DOMAIN}.state"}


def test_what_a_newer_node_says_of_itself_is_understood(tmp_path: Path) -> None:
    node = Home(tmp_path).node("bootstrap")
    node.run.mkdir(parents=True)
    node.write_ready(_READY)
    before = _ready(node)
    put(node.ready_file, newer(json.loads(node.ready_file.read_text())))
    assert _ready(node) == before


# The file of a witness


ENTRY = Entry("public", "alice", ALICE, NOW, NOW, NOW + 86_400, True, prefix="203.0.113.0/24")
LOGGED = LogEntry(NOW, Kind.CLAIMED, receipt("witness", "alice"))
COUNTED = Counted(ALICE, ("public", "alice"), "203.0.113.0/24", NOW)
LATER = f"""
ALTER TABLE entries ADD COLUMN {INVENTED} TEXT DEFAULT 'x';
ALTER TABLE log ADD COLUMN {INVENTED} TEXT;
ALTER TABLE counted ADD COLUMN {INVENTED} INTEGER NOT NULL DEFAULT 0;
CREATE TABLE {INVENTED} (key TEXT PRIMARY KEY, value TEXT);
INSERT INTO {INVENTED} VALUES ('a', 'b');
INSERT INTO meta VALUES ('{INVENTED}', '1');
CREATE INDEX {INVENTED}_index ON entries (owner);
PRAGMA user_version = {{version}};
"""


def change(name: str) -> Changes:
    entry = Entry("public", name, BOB, NOW, NOW, NOW + 600)
    return Changes(
        log=[LOGGED],
        entries=[EntryChange(entry.key, None, entry)],
        counted=[Counted(BOB, entry.key, None, NOW)],
    )


async def test_the_book_of_a_witness_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    witness = person("witness").peer_id
    store = WitnessStore(path)
    await store.open(witness, NOW)
    await store.commit(
        [Changes(log=[LOGGED], entries=[EntryChange(ENTRY.key, None, ENTRY)], counted=[COUNTED])]
    )
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(LATER.format(version=SCHEMA + 1))

    back = WitnessStore(path)  # the version before: it reads, promises on, and tidies up
    restored = await back.open(witness, NOW)
    assert (restored.entries, restored.counted, restored.log_rows) == ((ENTRY,), (COUNTED,), 1)
    assert restored.claims_from == 0
    await back.commit([change("bobby")])
    await back.compact(NOW + 10)
    await back.close()
    assert not list(tmp_path.glob("*.damaged-*"))

    with open_for_reading(path) as database:
        assert witness_of(database) == str(witness)
        assert [entry.name for entry in read_entries(database)] == ["alice", "bobby"]
        assert len(list(read_log(database))) == 2
        # The newer version finds its own.
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA + 1,)
        assert database.execute(f"SELECT value FROM {INVENTED}").fetchall() == [("b",)]
        assert database.execute(f"SELECT {INVENTED} FROM entries ORDER BY name").fetchall() == [
            ("x",),
            ("x",),
        ]
        assert database.execute("SELECT value FROM meta WHERE key = ?", (INVENTED,)).fetchone() == ("1",)


async def test_a_book_two_versions_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "witness.sqlite"
    store = WitnessStore(path)
    await store.open(ALICE, NOW)
    await store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(LATER.format(version=SCHEMA + 2))
    again = WitnessStore(path)
    with pytest.raises(StateTooNew):
        await again.open(ALICE, NOW)
    await again.close()
    with pytest.raises(StateTooNew), open_for_reading(path):
        pass
