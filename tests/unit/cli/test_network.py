"""`wws network`: saved networks, and that a known publisher key is not replaced unasked."""

import json
import time
from pathlib import Path

import pytest

from agent_cli.app import run
from tests.stamped import stamp_of
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws.stamp import Stamp, parse_stamp

ALICE, BOB = Identity.from_label("alice"), Identity.from_label("bob")


def network_file(
    path: Path, *publishers: Identity, name: str = "example", domain: str = "example.org"
) -> Path:
    keys = tuple(publisher.public_key for publisher in publishers)
    path.write_bytes(Network(name, domain, keys, issued_at=1).to_file(publishers))  # type: ignore[arg-type]
    return path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WWS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stamp:
    """A build whose default network is `example`, signed by alice."""
    data = network_file(tmp_path / "of-build.json", ALICE).read_bytes()
    of_build = parse_stamp(json.dumps(stamp_of(commit="0123456", network=data)).encode())
    monkeypatch.setattr("wws.runtime.default_network.stamp", lambda: of_build)
    return of_build


def show(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    capsys.readouterr()
    assert run(["network", "show", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["data"]["networks"]


def test_add_show_remove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = network_file(tmp_path / "n.json", ALICE)
    assert run(["network", "add", str(file)]) == 0
    (entry,) = show(capsys)
    assert entry == {
        "name": "example",
        "domain": "example.org",
        "publishers": [ALICE.public_key.hex()],
        "bundle": None,
        "peers": [],
        "swarm": "public",
        "origin": "saved",
    }
    assert run(["network", "add", str(file)]) == 0
    assert run(["network", "show", "example"]) == 0
    assert "example.org" in capsys.readouterr().out
    assert run(["network", "remove", "example"]) == 0
    assert show(capsys) == []
    assert run(["network", "remove", "example"]) == 4


def test_a_network_that_was_joined_by_its_key_is_shown(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was saved but what its signed list has settled."""
    now = int(time.time())
    entries = (BundleEntry(BOB.peer_id, "203.0.113.1", 9000),)
    bundle = Bundle(now, now - 60, now + 86_400, None, entries).sign("example.org", [ALICE])
    state = BundleState("example.org", [PublisherKey(ALICE.public_key)], last=bundle)
    folder = home / "networks"
    folder.mkdir(parents=True)
    (folder / "example.org.state").write_text(json.dumps(state.to_json()))
    (entry,) = show(capsys)
    assert (entry["name"], entry["publishers"]) == ("example.org", [ALICE.public_key.hex()])
    assert entry["origin"] == "joined"
    assert entry["bundle"] == {"seq": now, "exp": now + 86_400}
    assert run(["network", "show", "example.org"]) == 0
    assert f"number {now}, until " in capsys.readouterr().out
    assert run(["network", "remove", "example.org"]) == 0
    assert show(capsys) == []


@pytest.mark.parametrize("name", ["example", "another"])
def test_another_key_for_a_known_name_or_domain_needs_consent(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["network", "add", str(network_file(tmp_path / "n.json", ALICE))])
    other = network_file(tmp_path / "m.json", BOB, name=name)
    capsys.readouterr()
    assert run(["network", "add", str(other), "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "network_key_pinned"
    assert show(capsys)[0]["publishers"] == [ALICE.public_key.hex()]
    assert run(["network", "add", str(other), "--replace"]) == 0
    assert [entry["publishers"] for entry in show(capsys)] == [[BOB.public_key.hex()]]


def test_a_changed_file_is_integrity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = network_file(tmp_path / "n.json", ALICE)
    file.write_bytes(file.read_bytes().replace(b"example.org", b"evil123.org"))
    assert run(["network", "add", str(file), "--json"]) == 8
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "network_bad_signature"
    file.write_text("{}")
    assert run(["network", "add", str(file)]) == 2
    file.write_text("x" * 20_000)
    assert run(["network", "add", str(file)]) == 2
    assert show(capsys) == []


def test_a_saved_file_that_was_damaged_does_not_hide_the_others(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["network", "add", str(network_file(tmp_path / "n.json", ALICE))])
    (home / "networks" / "broken.json").write_text("{")
    assert [entry["name"] for entry in show(capsys)] == ["example"]


def test_the_network_of_the_build_is_shown_and_stays(
    build: Stamp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (entry,) = show(capsys)
    assert (entry["name"], entry["origin"]) == ("example", "build")
    assert run(["network", "show"]) == 0
    assert "example (the default of this build)" in capsys.readouterr().out
    assert run(["network", "remove", "example", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "network_of_build"
    assert run(["config", "show", "--json"]) == 0
    of_join = json.loads(capsys.readouterr().out)["data"]["network"]
    assert of_join == {"name": "example", "domain": "example.org", "source": "build"}
    assert run(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["default_network"] == "example"


def test_a_file_of_the_home_beats_the_build_and_needs_consent_for_other_keys(
    build: Stamp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(network_file(tmp_path / "m.json", BOB))
    assert run(["network", "add", other]) == 7
    assert show(capsys)[0]["publishers"] == [ALICE.public_key.hex()]
    assert run(["network", "add", other, "--replace"]) == 0
    (entry,) = show(capsys)
    assert (entry["origin"], entry["publishers"]) == ("saved", [BOB.public_key.hex()])
    assert run(["network", "remove", "example"]) == 0
    assert "default of this build" in capsys.readouterr().err
    assert show(capsys)[0]["origin"] == "build"


def test_a_build_without_a_default_network_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["network", "show"]) == 0
    said = capsys.readouterr()
    assert "This build has no default network." in said.out + said.err
    assert run(["config", "show"]) == 0
    assert "This build has no default network" in capsys.readouterr().out
    assert run(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["default_network"] is None
