"""The command line of `wws-ops` that operators' scripts rely on: commands, options, schemas, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent_cli.ops.app import COMMANDS, run, schema_of
from wws.identity.keys import Identity

GLOBAL = {"--json", "--quiet", "--verbose", "--no-color", "--config", "--home", "--node", "--help"}
SOURCES = {"--inventory", "--stack", "--infra"}

OPTIONS = {
    "status": SOURCES,
    "logs": SOURCES | {"--follow", "--since", "--lines"},
    "drain": SOURCES | {"--undo", "--wait"},
    "exec": SOURCES | {"--root", "--timeout"},
    "deny add": SOURCES | {"--reason", "--host", "--stolen"},
    "deny remove": SOURCES | {"--host"},
    "deny list": SOURCES | {"--host"},
    "upgrade": SOURCES | {"--release", "--sha256", "--version", "--drain-wait", "--set"},
    "rollback": SOURCES | {"--to", "--drain-wait", "--set"},
    "backup": SOURCES | {"--dir", "--recipient", "--final", "--drain-wait", "--set"},
    "restore": SOURCES | {"--file", "--key-file", "--set"},
    "destroy": {"--stack", "--infra", "--yes", "--keep-identities", "--give-up-identities", "--retire-dns"},
    "probe": {
        "--address",
        "--peer-id",
        "--network",
        "--metrics",
        "--expect-version",
        "--dns-server",
        "--skip",
        "--retry",
        "--timeout",
    },
    "witness list": {"--db", "--most"},
    "witness log": {"--db", "--last"},
    "witness conflicts": {"--db"},
}
"""Each command and its own options."""

ARCHIVE = "wws-1.0.0-linux-x86_64.tar.gz"
PEER = str(Identity.from_label("alice").peer_id)


def ask(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    code = run([*line.split(), "--json"])
    envelope = json.loads(capsys.readouterr().out)
    assert set(envelope) == {"schema", "ok", "data", "errors"}
    assert envelope["ok"] is (code == 0)
    for error in envelope["errors"]:
        assert set(error) == {"code", "message", "hint"}
        assert error["code"].replace("_", "").isalnum()
    return code, envelope


@pytest.mark.parametrize("command", OPTIONS)
def test_each_command_has_its_options_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    for option in OPTIONS[command] | GLOBAL:
        assert option in text, option
    examples = text.partition("Example")[2]
    assert f"wws-ops {command}" in examples
    for example in (line.strip() for line in examples.splitlines() if line.startswith("  wws-ops ")):
        given = {word for word in example.split(" -- ")[0].split() if word.startswith("--")}
        assert given <= OPTIONS[command] | GLOBAL, example


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out.partition("Commands:")[2]
    listed = {line.split()[0] for line in text.splitlines() if line.strip()}
    assert listed == set(COMMANDS) == {command.split()[0] for command in OPTIONS}
    for name, subcommands in COMMANDS.items():
        below = [command.split()[1] for command in OPTIONS if command.startswith(f"{name} ")]
        assert below == list(subcommands)


@pytest.mark.parametrize(
    "line, schema",
    [
        ("status --stack prod", "wws-ops.status/v1"),
        ("--json deny add 192.0.2.1", "wws-ops.deny.add/v1"),
        ("deny", "wws-ops.deny/v1"),
        ("exec one -- status", "wws-ops.exec/v1"),
        ("destroy", "wws-ops.destroy/v1"),
        ("bogus", "wws-ops/v1"),
        ("", "wws-ops/v1"),
    ],
)
def test_schemas(line: str, schema: str) -> None:
    assert schema_of(line.split()) == schema


@pytest.mark.parametrize(
    "line, code, word",
    [
        ("bogus", 2, "wrong_usage"),
        ("deny", 2, "wrong_usage"),
        ("status --bogus", 2, "wrong_usage"),
        ("status", 2, "wrong_usage"),
        ("status --inventory missing.json", 10, "cannot_read"),
        ("status --inventory bad.json", 2, "inventory_malformed"),
        ("status nobody --inventory good.json", 4, "host_unknown"),
        ("status --stack prod --infra nowhere", 2, "wrong_usage"),
        ("drain", 2, "wrong_usage"),
        ("exec one --inventory good.json", 2, "wrong_usage"),
        ("deny add nonsense --inventory good.json", 2, "wrong_usage"),
        ("deny add 192.0.2.1 --inventory good.json", 7, "deny_refused"),
        (f"deny add {PEER} --inventory good.json", 7, "deny_refused"),
        ("deny add 192.0.2.1 --stolen --inventory good.json", 2, "wrong_usage"),
        (f"deny add {PEER} --stolen --inventory good.json", 2, "wrong_usage"),
        ("status --inventory good.json", 8, "host_key_unknown"),
        ("logs --inventory good.json", 8, "host_key_unknown"),
        ("drain one --inventory good.json", 8, "host_key_unknown"),
        ("exec --inventory good.json -- true", 8, "host_key_unknown"),
        ("upgrade --inventory good.json", 2, "wrong_usage"),
        ("upgrade --release missing-1.0.0.tar.gz --inventory good.json", 2, "wrong_usage"),
        (f"upgrade --release {ARCHIVE} --inventory good.json", 2, "wrong_usage"),
        (f"upgrade --release {ARCHIVE} --sha256 {'0' * 64} --inventory good.json", 8, "archive_wrong"),
        ("upgrade --release wws-2.0.0-linux-x86_64.tar.gz --inventory good.json", 10, "cannot_read"),
        ("rollback --set version=1 --inventory good.json", 2, "wrong_usage"),
        ("backup --dir b --recipient me --inventory good.json", 2, "wrong_usage"),
        ("restore one --file missing --key-file missing --inventory good.json", 2, "wrong_usage"),
        ("rollback --inventory local.json", 2, "host_is_local"),
        ("destroy", 2, "wrong_usage"),
        ("destroy --stack prod --keep-identities --give-up-identities", 2, "wrong_usage"),
        ("probe --address /ip4/192.0.2.1/tcp/9000", 2, "wrong_usage"),
    ],
)  # fmt: skip
def test_what_goes_wrong_has_its_word_and_code(
    line: str,
    code: int,
    word: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WWS_INVENTORY", raising=False)
    host = {"name": "one", "address": "192.0.2.1", "peer_id": PEER, "multiaddrs": []}
    members = {"schema": 1, "domain": "example.org", "network": "example.org", "hosts": [host]}
    Path("good.json").write_text(json.dumps(members))
    Path("local.json").write_text(json.dumps({**members, "hosts": [{**host, "managed_by": "local"}]}))
    Path("bad.json").write_text("{}")
    Path(ARCHIVE).write_bytes(b"archive")
    before, dashes, behind = line.partition(" -- ")
    got = run([*before.split(), "--json", *(["--", behind] if dashes else [])])
    envelope = json.loads(capsys.readouterr().out)
    assert (got, envelope["errors"][0]["code"]) == (code, word)
    assert envelope["schema"] == schema_of(before.split())


def test_data_of_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A host that cannot be asked has all members, empty."""
    host = {"name": "one", "address": "192.0.2.1", "peer_id": PEER, "multiaddrs": []}
    path = tmp_path / "inventory.json"
    path.write_text(json.dumps({"schema": 1, "domain": "", "network": "n.json", "hosts": [host]}))
    _, envelope = ask(f"status --inventory {path}", capsys)
    assert set(envelope["data"]) == {"domain", "network", "nodes"}
    assert set(envelope["data"]["nodes"][0]) == {
        "host", "region", "address", "managed_by", "state", "expected_peer_id", "peer_id_matches", "error",
        "version", "peer_id", "status", "draining", "uptime_s", "connections", "reservations", "circuits",
        "bundle_seq", "bundle_expires_at", "witness_entries", "witness_writable",
        "witness_no_first_claims_until", "rss_bytes", "open_files", "pid", "http",
        "disk_free_bytes", "disk_bytes",
    }  # fmt: skip
