"""`wws-dns` as operators type it: keygen, plan, sign, publish, rollback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wws import __version__
from wws.discovery.bundle import Bundle
from wws.discovery.network import Network, parse_net_argument
from wws.identity.keys import Identity
from wws.runtime.keyfile import load, store
from wws_dns.app import COMMANDS, run

RECORDS = """\
domain = "demo.test"

[provider]
kind = "zone_file"
path = "zone.json"
"""


def node(label: str) -> str:
    return f'\n[[node]]\npeer_id = "{Identity.from_label(label).peer_id}"\nhost = "{label}.demo.test"\n'


class Shell:
    """A folder in which commands are typed."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capture = capture

    def write(self, *labels: str, top: str = "") -> None:
        (self.folder / "records.toml").write_text(top + RECORDS + "".join(map(node, labels)))

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code, stdout and stderr."""
        self._capture.readouterr()
        code = run(list(arguments))
        out, err = self._capture.readouterr()
        return code, out, err

    def json(self, *arguments: str) -> tuple[int, dict[str, object], list[dict[str, str]]]:
        """The exit code, data and errors."""
        code, out, _ = self.run(*arguments, "--json")
        envelope = json.loads(out)
        assert envelope["schema"] == f"wws-dns.{arguments[0]}/v1"
        assert envelope["ok"] == (not envelope["errors"])
        return code, envelope["data"], envelope["errors"]

    @property
    def bundle(self) -> Bundle:
        zone = json.loads((self.folder / "zone.json").read_text())
        (text,) = zone["_wws-bundle._tcp.demo.test"]["TXT"]
        return Bundle.parse(text)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WWS_DNS_RECORDS", raising=False)
    shell = Shell(tmp_path, capsys)
    shell.write("alice", "bob", "carol")
    return shell


def test_the_version_is_quick(shell: Shell) -> None:
    assert shell.run("--version")[:2] == (0, f"wws-dns {__version__}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(shell: Shell, name: str) -> None:
    code, out, _ = shell.run(name, "--help")
    assert code == 0
    assert "Example" in out
    assert f"wws-dns {name}" in out


def test_help_lists_all_commands(shell: Shell) -> None:
    code, out, _ = shell.run("--help")
    assert code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in out


def test_a_key_is_made_once_and_joins_a_network(shell: Shell) -> None:
    code, data, _ = shell.json("keygen", "publisher.key", "--domain", "demo.test")
    assert code == 0
    identity = load(shell.folder / "publisher.key", {})
    assert data["public_key"] == identity.public_key.hex()
    network = parse_net_argument(str(data["network"]))
    assert isinstance(network, Network)
    assert network.publishers == (identity.public_key,)
    code, _, errors = shell.json("keygen", "publisher.key")
    assert (code, errors[0]["code"]) == (7, "key_exists")
    assert "--show" in errors[0]["hint"]
    assert shell.json("keygen", "publisher.key", "--show")[1]["public_key"] == data["public_key"]
    assert identity.seed.hex() not in json.dumps(data)


def test_plan_publish_publish_again_and_roll_back(shell: Shell) -> None:
    shell.run("keygen", "publisher.key")
    code, data, _ = shell.json("plan", "--key", "publisher.key")
    assert code == 0
    assert not data["empty"]
    assert not (shell.folder / "zone.json").exists()
    code, data, _ = shell.json("publish", "--key", "publisher.key")
    assert (code, data["changed"]) == (0, True)
    first = shell.bundle
    code, data, _ = shell.json("publish")  # without a key: nothing is to be signed
    assert (code, data["changed"], data["seq"]) == (0, False, first.seq)
    shell.write("alice", "bob", "dave")
    code, out, _ = shell.run("plan", "--key", "publisher.key")
    assert code == 0
    assert any(line.startswith("+ ") and "dave" in line for line in out.splitlines())
    assert any(line.startswith("- ") and "carol" in line for line in out.splitlines())
    shell.run("publish", "--key", "publisher.key")
    assert shell.bundle.peers != first.peers
    code, data, _ = shell.json("rollback", "--key", "publisher.key", "--dry-run")
    assert (code, data["empty"]) == (0, False)
    code, data, _ = shell.json("rollback", "--key", "publisher.key")
    assert code == 0
    assert shell.bundle.peers == first.peers
    assert shell.bundle.seq > first.seq
    code, data, _ = shell.json("rollback", "--list")
    published = data["published"]
    assert isinstance(published, list)
    assert len(published) == 3


def test_an_unsafe_plan_ends_with_7_until_it_is_forced(shell: Shell) -> None:
    shell.run("keygen", "publisher.key")
    shell.run("publish", "--key", "publisher.key")
    first = shell.bundle
    shell.write("alice")
    code, data, errors = shell.json("plan", "--key", "publisher.key")
    assert code == 7
    assert [error["code"] for error in errors] == ["removes_too_many"]
    assert data["unsafe"]
    code, _, errors = shell.json("publish", "--key", "publisher.key")
    assert (code, errors[0]["code"]) == (7, "unsafe_plan")
    assert "--force-unsafe" in errors[0]["hint"]
    assert shell.bundle == first
    assert shell.run("publish", "--key", "publisher.key", "--force-unsafe")[0] == 0
    assert len(shell.bundle.peers) == 1


def test_signing_on_another_machine(shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    safe = tmp_path_factory.mktemp("safe")
    public = []
    for label in ("one", "two"):
        store(Identity.from_label(label), safe / f"{label}.key")
        public.append(Identity.from_label(label).public_key.hex())
    shell.write("alice", "bob", "carol", top=f"publishers = {json.dumps(public)}\n")
    assert shell.run("plan", "--request", "to-sign.json")[0] == 0
    code, _, errors = shell.json("publish", "--signed", "to-sign.json")
    assert (code, errors[0]["code"]) == (2, "request_malformed")
    for label in ("one", "two"):
        code, data, _ = shell.json("sign", "to-sign.json", "--key", str(safe / f"{label}.key"))
        assert code == 0
    bundle = data["bundle"]
    assert isinstance(bundle, dict)
    assert len(bundle["signed_by"]) == 2
    code, data, _ = shell.json("publish", "--signed", "to-sign.json")
    assert (code, data["changed"]) == (0, True)
    assert shell.bundle.text == bundle["text"]
    assert shell.json("publish", "--signed", "to-sign.json")[1]["changed"] is False


def test_keys_that_the_records_file_names_need_not_be_where_nothing_is_signed(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = tmp_path_factory.mktemp("safe") / "publisher.key"
    store(Identity.from_label("one"), key)
    public = Identity.from_label("one").public_key.hex()
    shell.write("alice", "bob", "carol", top=f'publishers = ["{public}"]\nkey_files = ["publisher.key"]\n')
    assert shell.run("plan", "--request", "to-sign.json")[0] == 0
    assert shell.run("sign", "to-sign.json", "--key", str(key))[0] == 0
    assert shell.run("plan", "--signed", "to-sign.json")[0] == 0
    assert shell.run("publish", "--signed", "to-sign.json")[0] == 0
    assert shell.run("publish", "--prepare")[0] == 0
    assert shell.run("rollback", "--list")[0] == 0
    code, _, errors = shell.json("publish")
    assert (code != 0, errors[0]["code"]) == (True, "no_identity")


def test_signing_from_the_records_file(shell: Shell) -> None:
    shell.run("keygen", "publisher.key")
    public = load(shell.folder / "publisher.key", {}).public_key.hex()
    shell.write("alice", "bob", "carol", top=f'publishers = ["{public}"]\n')
    assert shell.run("sign", "--key", "publisher.key", "--out", "signed.json")[0] == 0
    assert shell.run("publish", "--signed", "signed.json")[0] == 0
    shell.write("alice", "bob", "dave", top=f'publishers = ["{public}"]\n')
    code, _, errors = shell.json("publish", "--signed", "signed.json")
    assert (code, errors[0]["code"]) == (7, "signed_differs")


def test_a_plan_without_a_key_shows_what_would_be(shell: Shell) -> None:
    code, data, _ = shell.json("plan")
    assert (code, data["needs_signature"]) == (0, True)
    code, _, errors = shell.json("publish")
    assert (code, errors[0]["code"]) == (7, "signature_missing")


def test_preparing_a_change(shell: Shell) -> None:
    shell.run("keygen", "publisher.key")
    shell.run("publish", "--key", "publisher.key")
    code, data, _ = shell.json("publish", "--prepare")
    assert (code, data["changed"], data["new_bundle"]) == (0, True, False)
    added = data["add"]
    assert isinstance(added, list)
    assert {record["ttl"] for record in added} == {60}


def test_the_nodes_of_the_stack_need_a_records_file_beside_them(shell: Shell) -> None:
    (shell.folder / "inventory.json").write_text('{"domain": "demo.test", "hosts": []}')
    (shell.folder / "records.toml").unlink()
    code, _, errors = shell.json("plan", "--inventory", "inventory.json")
    assert (code, errors[0]["code"]) == (2, "records_missing")
    assert "provider" in errors[0]["hint"]
    assert "--records records.toml --inventory inventory.json" in shell.run("plan", "--help")[1]


def test_nodes_from_the_stack(shell: Shell) -> None:
    shell.run("keygen", "publisher.key")
    hosts = [
        {
            "name": label,
            "peer_id": str(Identity.from_label(label).peer_id),
            "multiaddrs": [f"/ip4/127.0.0.{n}/tcp/9000", f"/ip4/127.0.0.{n}/udp/9000/quic-v1"],
        }
        for n, label in enumerate(("alice", "bob"), 1)
    ]
    inventory = {"schema": 1, "domain": "demo.test", "network": "demo.test", "hosts": hosts}
    (shell.folder / "inventory.json").write_text(json.dumps(inventory))
    code, _, _ = shell.json("publish", "--inventory", "inventory.json", "--key", "publisher.key")
    assert code == 0
    assert [(entry.host, entry.mark) for entry in shell.bundle.entries] == [
        ("127.0.0.1", ""),
        ("127.0.0.2", ""),
    ]


@pytest.mark.parametrize(
    "arguments, code, word",
    [
        (("plan", "--records", "nowhere.toml"), 2, "records_missing"),
        (("plan", "--key", "nowhere.key"), 4, "no_identity"),
        (("plan", "--sgined", "x"), 2, "wrong_usage"),
        (("sign", "nowhere.json", "--key", "k"), 2, "request_malformed"),
        (("sign",), 2, "wrong_usage"),
        (("rollback",), 4, "not_published"),
        (("publish", "--signed", "nowhere.json"), 2, "request_malformed"),
    ],
)
def test_mistakes_are_told_with_a_mend(
    shell: Shell, arguments: tuple[str, ...], code: int, word: str
) -> None:
    got, _, errors = shell.json(*arguments)
    assert (got, errors[0]["code"]) == (code, word)
    assert errors[0]["hint"]


def test_a_key_that_others_can_read_is_refused(shell: Shell) -> None:
    shell.run("keygen", "publisher.key")
    (shell.folder / "publisher.key").chmod(0o644)
    code, _, errors = shell.json("publish", "--key", "publisher.key")
    assert (code, errors[0]["code"]) == (8, "key_file_loose")


def test_a_typo_in_the_records_file_names_the_nearest(shell: Shell) -> None:
    (shell.folder / "records.toml").write_text(RECORDS.replace("path =", "paht ="))
    code, _, errors = shell.json("plan")
    assert (code, errors[0]["code"]) == (2, "records_malformed")
    assert "Did you mean path?" in errors[0]["message"]


def test_no_secret_is_an_option(shell: Shell) -> None:
    """TSIG keys and tokens come from files and the environment: what is typed, everybody can see."""
    for name in ("plan", "publish", "sign", "rollback", "keygen"):
        out = shell.run(name, "--help")[1].lower()
        assert "--secret" not in out
        assert "--token" not in out
        assert "--tsig" not in out
