"""`wws-dns manifest` as operators type it: the signed network file, and what it refuses to write."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from wws.discovery.bundle import Bundle
from wws.discovery.network import Network, parse_network_file
from wws.discovery.publishers import PublisherKey, key_id
from wws.identity.keys import Identity
from wws.runtime.keyfile import store
from wws_dns.app import run
from wws_dns.desired import MAX_NODES
from wws_dns.history import History, Publication, load_history

OLD, NEW = Identity.from_label("publisher"), Identity.from_label("new publisher")
DOMAIN = "demo.test"
LABELS = ("alice", "bob", "carol")
ADDRESSES = {
    label: [
        f"/dns/{label}.{DOMAIN}/udp/9000/quic-v1/p2p/{Identity.from_label(label).peer_id}",
        f"/dns/{label}.{DOMAIN}/tcp/9000/p2p/{Identity.from_label(label).peer_id}",
    ]
    for label in LABELS
}


class Desk:
    """A folder with records, two keys and a zone file, in which commands are typed."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def want(self, *labels: str, top: str = "") -> None:
        nodes = "".join(
            f'\n[[node]]\npeer_id = "{Identity.from_label(label).peer_id}"\nhost = "{label}.{DOMAIN}"\n'
            for label in labels
        )
        (self.folder / "records.toml").write_text(
            f'domain = "{DOMAIN}"\n{top}\n[provider]\nkind = "zone-file"\nfile = "zone.json"\n{nodes}'
        )

    def run(self, *words: str) -> tuple[int, dict[str, object], list[dict[str, str]]]:
        """Exit code, data and errors of a command."""
        self._capture.readouterr()
        code = run([*words, "--json"])
        envelope = json.loads(self._capture.readouterr().out)
        assert envelope["schema"] == f"wws-dns.{words[0]}/v1"
        return code, envelope["data"], envelope["errors"]

    def manifest(self, *words: str, key: str = "old.key") -> tuple[int, dict[str, object]]:
        code, data, errors = self.run("manifest", "--key", key, *words)
        assert errors == []
        return code, data

    def refused(self, *words: str, key: str = "old.key") -> tuple[int, str]:
        """Exit code and word of what must fail; each refusal says how to go on."""
        code, _, [error] = self.run("manifest", "--key", key, *words)
        assert error["hint"]
        return code, error["code"]

    def text(self, *words: str) -> tuple[str, str]:
        """What people see, on stdout and on stderr."""
        self._capture.readouterr()
        assert run(list(words)) == 0
        seen = self._capture.readouterr()
        return seen.out, seen.err

    @property
    def file(self) -> Path:
        return self.folder / "network.json"

    @property
    def network(self) -> Network:
        return parse_network_file(self.file.read_bytes())

    @property
    def history(self) -> History:
        return load_history(self.folder / "records.history.json", DOMAIN)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WWS_DNS_RECORDS", raising=False)
    store(OLD, tmp_path / "old.key")
    store(NEW, tmp_path / "new.key")
    made = Desk(tmp_path, capsys)
    made.want(*LABELS)
    return made


def test_the_file_says_whom_to_trust_and_where_they_are(desk: Desk) -> None:
    _, published, _ = desk.run("publish", "--key", "old.key")
    before = int(time.time())
    code, data = desk.manifest()
    assert (code, data["file"], data["changed"]) == (0, "network.json", True)
    network = desk.network
    assert (network.name, network.domain, network.swarm) == (DOMAIN, DOMAIN, "public")
    assert network.publishers == (OLD.public_key,)
    assert [str(peer) for peer in network.peers] == [each for label in LABELS for each in ADDRESSES[label]]
    assert network.min_seq == published["seq"]
    assert network.issued_at >= before
    assert not network.skipped
    assert desk.file.stat().st_mode & 0o777 == 0o644


def test_what_programs_are_told_is_what_the_file_says(desk: Desk) -> None:
    _, data = desk.manifest()
    said = json.loads(desk.file.read_text())
    assert {name: data[name] for name in said if name != "signatures"} == {
        name: value for name, value in said.items() if name != "signatures"
    }
    assert data["signed_by"] == [one["key_id"] for one in said["signatures"]] == [key_id(OLD.public_key)]
    assert set(data) == {*said, "file", "changed", "signed_by"} - {"signatures"}


def test_nothing_published_is_no_floor_and_is_said(desk: Desk) -> None:
    out, diagnostics = desk.text("manifest", "--key", "old.key")
    assert desk.network.min_seq == 0
    assert "lists from" not in out
    assert "publish one" in diagnostics
    assert "wws network add network.json" in diagnostics


def test_name_swarm_and_file_are_chosen(desk: Desk) -> None:
    _, data = desk.manifest("--name", "demo", "--swarm", "lab", "--out", "out/demo.json")
    network = parse_network_file((desk.folder / "out" / "demo.json").read_bytes())
    assert (network.name, network.domain, network.swarm) == ("demo", DOMAIN, "lab")
    assert data["file"] == "out/demo.json"
    assert not desk.file.exists()


@pytest.mark.parametrize(
    "words, pinned",
    [
        (("--no-pins",), ()),
        (("--pin", f"bob.{DOMAIN}"), ("bob",)),
        (
            ("--pin", str(Identity.from_label("carol").peer_id), "--pin", f"alice.{DOMAIN}"),
            ("alice", "carol"),
        ),
    ],
)
def test_pins_are_chosen(desk: Desk, words: tuple[str, ...], pinned: tuple[str, ...]) -> None:
    desk.manifest(*words)
    assert [str(peer) for peer in desk.network.peers] == [each for who in pinned for each in ADDRESSES[who]]


def test_as_many_nodes_as_a_list_can_have_fit(desk: Desk) -> None:
    desk.want(*(f"node{number}" for number in range(MAX_NODES)))
    desk.manifest()
    assert len(desk.network.peers) == 2 * MAX_NODES


def test_again_it_changes_nothing(desk: Desk) -> None:
    desk.manifest()
    older = replace(desk.network, issued_at=1_700_000_000).to_file([OLD])
    desk.file.write_bytes(older)
    _, data = desk.manifest()
    assert (data["changed"], data["issued_at"]) == (False, 1_700_000_000)
    assert desk.file.read_bytes() == older
    desk.want("alice", "bob")
    assert desk.manifest()[1]["changed"] is True
    assert len(desk.network.peers) == 4


def test_other_publishers_only_replace_when_told(desk: Desk) -> None:
    desk.manifest()
    before = desk.file.read_bytes()
    assert desk.refused(key="new.key") == (7, "manifest_of_others")
    assert desk.file.read_bytes() == before
    assert desk.manifest("--replace", key="new.key")[1]["changed"] is True
    assert desk.network.publishers == (NEW.public_key,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"my notes\n",
        b"{}",
        b"x" * 20_000,
        Network("demo", "other.test", (PublisherKey(OLD.public_key),)).to_file([OLD]),
    ],
)
def test_what_is_no_file_of_this_network_is_not_overwritten(desk: Desk, content: bytes) -> None:
    desk.file.write_bytes(content)
    assert desk.refused() == (7, "manifest_of_others")
    assert desk.file.read_bytes() == content
    desk.manifest("--replace")
    assert desk.network.domain == DOMAIN


def test_the_keys_of_the_records_file_count_and_signers_are_among_them(desk: Desk) -> None:
    both = [OLD.public_key.hex(), NEW.public_key.hex()]
    desk.want(*LABELS, top=f"publishers = {json.dumps(both)}\n")
    _, data = desk.manifest()
    assert (data["publishers"], data["signed_by"]) == (both, [key_id(OLD.public_key)])
    _, data = desk.manifest("--key", "new.key", "--key", "old.key")
    assert sorted(cast("list[str]", data["signed_by"])) == sorted(
        map(key_id, (OLD.public_key, NEW.public_key))
    )
    desk.want(*LABELS, top=f'publishers = ["{both[1]}"]\n')
    assert desk.refused("--replace") == (7, "not_a_publisher")
    assert desk.manifest("--replace", "--key", "new.key")[1]["signed_by"] == [key_id(NEW.public_key)]


def test_introduced_keys_are_in_it(desk: Desk) -> None:
    desk.run("publish", "--key", "old.key")
    code, _, errors = desk.run("rotate", "introduce", "new.key", "--key", "old.key", "--key", "new.key")
    assert (code, errors) == (0, [])
    desk.manifest()
    assert set(desk.network.publishers) == {OLD.public_key, NEW.public_key}
    last = desk.history.last
    assert last is not None
    assert desk.network.min_seq == last.bundle.seq


def test_a_lost_key_begins_anew(desk: Desk) -> None:
    """The history is of the lost key: the file for the new one takes no floor from it."""
    desk.run("publish", "--key", "old.key")
    assert desk.refused(key="new.key") == (7, "not_a_publisher")
    desk.want(*LABELS, top=f'publishers = ["{NEW.public_key.hex()}"]\n')
    desk.manifest(key="new.key")
    assert (desk.network.publishers, desk.network.min_seq) == ((NEW.public_key,), 0)


def test_a_key_that_only_the_history_knows_is_not_signed_for(desk: Desk) -> None:
    desk.run("publish", "--key", "old.key")
    path = desk.folder / "records.history.json"
    written = json.loads(path.read_text())
    written["publishers"].append(NEW.public_key.hex())
    path.write_text(json.dumps(written))
    assert desk.refused() == (7, "unvouched")
    assert not desk.file.exists()


def test_a_list_that_others_have_signed_sets_no_floor(desk: Desk) -> None:
    desk.run("publish", "--key", "old.key")
    last = desk.history.last
    assert last is not None
    for seq in (last.bundle.seq + 60, last.bundle.seq + 10 * 86_400):
        signer = NEW if seq < last.bundle.seq + 86_400 else OLD  # the second is ahead of every clock
        bundle = Bundle(seq, last.bundle.not_before, last.bundle.expires_at, None, last.bundle.entries).sign(
            DOMAIN, [signer]
        )
        desk.history.add(Publication(bundle, last.at))
    desk.manifest()
    assert desk.network.min_seq == last.bundle.seq


@pytest.mark.parametrize(
    "words, code, word",
    [
        (("--pin", "nowhere.test"), 2, "wrong_usage"),
        (("--pin", f"bob.{DOMAIN}", "--no-pins"), 2, "wrong_usage"),
        (("--name", "../demo"), 2, "wrong_usage"),
        (("--name", "demo.json"), 2, "wrong_usage"),
        (("--swarm", "A Swarm"), 2, "wrong_usage"),
        (("--records", "nowhere.toml"), 2, "records_missing"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    desk: Desk, words: tuple[str, ...], code: int, word: str
) -> None:
    assert desk.refused(*words) == (code, word)
    assert not desk.file.exists()


def test_without_a_key_nothing_is_signed(desk: Desk) -> None:
    code, _, [error] = desk.run("manifest")
    assert (code, error["code"]) == (2, "wrong_usage")
    assert "--key" in error["hint"]


def test_nodes_from_the_stack(desk: Desk) -> None:
    inventory = {
        "schema": 1,
        "domain": DOMAIN,
        "network": f"{DOMAIN}#{OLD.public_key.hex()}",
        "hosts": [
            {
                "name": "one",
                "peer_id": str(Identity.from_label("alice").peer_id),
                "multiaddrs": ["/ip4/192.0.2.1/tcp/9000"],
            }
        ],
    }
    (desk.folder / "inventory.json").write_text(json.dumps(inventory))
    desk.manifest("--inventory", "inventory.json")
    assert [str(peer) for peer in desk.network.peers] == [
        f"/ip4/192.0.2.1/tcp/9000/p2p/{Identity.from_label('alice').peer_id}"
    ]
