"""The command line that scripts rely on: commands, options, JSON members, exit codes, start time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_cli.app import COMMANDS, available_commands, main, run, schema_of
from wws import __version__
from wws.rpc.codes import Exit
from wws.runtime.homes import Home

GLOBAL = {"--json", "--quiet", "--verbose", "--no-color", "--config", "--home", "--node", "--help"}

OPTIONS = {
    "join": {
        "--name",
        "--network",
        "--bootstrap",
        "--identity-path",
        "--listen",
        "--dns-server",
        "--rpc",
        "--swarm",
        "--allow-unsigned",
        "--relay-only",
        "--foreground",
        "--no-retry",
        "--timeout",
    },
    "leave": {"--release-name"},
    "status": set(),
    "peers": set(),
    "logs": {"--follow"},
    "id": {"--name", "--identity-path", "--format"},
    "id new": {"--name", "--identity-path"},
    "id export": {"--name", "--identity-path"},
    "id import": {"--name", "--identity-path"},
    "resolve": set(),
    "name claim": set(),
    "name list": set(),
    "name renew": set(),
    "name release": set(),
    "name transfer": set(),
    "name accept": set(),
    "name trust": {"--owner"},
    "token create": {"--methods", "--rate", "--expires"},
    "token list": set(),
    "token revoke": set(),
    "ping": {"-c", "--require-direct"},
    "call": set(),
    "network show": set(),
    "network add": {"--replace"},
    "network remove": set(),
    "config show": set(),
    "service install": {
        "--name",
        "--network",
        "--bootstrap",
        "--identity-path",
        "--listen",
        "--dns-server",
        "--rpc",
        "--http",
        "--swarm",
        "--allow-unsigned",
        "--relay-only",
        "--timeout",
        "--dry-run",
    },
    "service uninstall": {"--all"},
    "service status": set(),
    "demo": {"--agents", "--keep"},
    "self verify": {"--prefix", "--root-key", "--staged", "--release"},
    "self update": {"--version", "--channel", "--from", "--offline", "--dry-run", "--prefix"},
    "self rollback": {"--prefix"},
    "self uninstall": {"--purge", "--yes", "--prefix"},
}
"""Contract, section 2: each command and its own options."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    tmp_path.chmod(0o700)
    for name in list(os.environ):
        if name.startswith("WWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return Home(tmp_path / ".openswarm")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", OPTIONS)
def test_each_command_has_its_options_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = help_of(command, capsys)
    for option in OPTIONS[command] | GLOBAL:
        assert option in text, option
    assert "Example" in text
    assert f"wws {command.split()[0]}" in text.partition("Example")[2]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in available_commands():
        assert f"\n  {command} " in text
    assert {command.split()[0] for command in OPTIONS} <= set(available_commands())


@pytest.mark.parametrize("name", [name for name in available_commands() if COMMANDS[name].subcommands])
def test_the_list_of_subcommands_is_that_of_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(name, capsys).partition("Commands:")[2]
    assert [line.split()[0] for line in text.splitlines() if line.strip()] == list(COMMANDS[name].subcommands)


@pytest.mark.parametrize(
    "line, schema",
    [
        ("join --name alice", "wws.join/v1"),
        ("--home x --json status", "wws.status/v1"),
        ("name list", "wws.name.list/v1"),
        ("name --json claim list", "wws.name.claim/v1"),
        ("--node join network show", "wws.network.show/v1"),
        ("id", "wws.id/v1"),
        ("id --name alice new", "wws.id.new/v1"),
        ("config show", "wws.config.show/v1"),
        ("service install --name alice", "wws.service.install/v1"),
        ("bogus", "wws/v1"),
        ("", "wws/v1"),
    ],
)
def test_schemas(line: str, schema: str) -> None:
    assert schema_of(line.split()) == schema


@pytest.mark.parametrize(
    "line, code, word",
    [
        ("bogus", 2, "wrong_usage"),
        ("--bogus", 2, "wrong_usage"),
        ("join --bogus", 2, "wrong_usage"),
        ("join --timeout soon", 2, "wrong_usage"),
        ("join --name no_underscore", 2, "malformed_name"),
        ("ping", 2, "wrong_usage"),
        ("ping a b", 2, "wrong_usage"),
        ("ping bob -c 0", 2, "wrong_usage"),
        ("resolve a_b", 2, "malformed_name"),
        ("name", 2, "wrong_usage"),
        ("name claim did", 2, "malformed_name"),
        ("name claim wws:did:swarm:00", 2, "malformed_target"),
        ("name claim alice@", 2, "malformed_name"),
        ("name transfer alice", 2, "wrong_usage"),
        ("name transfer alice b_b", 2, "malformed_name"),
        ("name accept {", 2, "wrong_usage"),
        ("name trust alice --owner bob", 2, "wrong_usage"),
        ("join --name alice@lab", 2, "wrong_usage"),
        ("token create --rate fast", 2, "wrong_usage"),
        ("token create --expires 30", 2, "wrong_usage"),
        ("token create --methods read,", 2, "wrong_usage"),
        ("token revoke", 2, "wrong_usage"),
        ("id --format nonsense", 2, "wrong_usage"),
        ("call m {", 2, "wrong_usage"),
        ("call m 5", 2, "wrong_usage"),
        ("network add /nonexistent", 2, "wrong_usage"),
        ("config show --config /nonexistent", 2, None),
        ("--node .. status", 2, "bad_node_name"),
        ("status", 3, "node_not_running"),
        ("peers", 3, "node_not_running"),
        ("logs", 3, "node_not_running"),
        ("ping bob", 3, "node_not_running"),
        ("resolve bob", 3, "node_not_running"),
        ("name list", 3, "node_not_running"),
        ("name transfer alice bob", 3, "node_not_running"),
        ("name trust alice", 3, "node_not_running"),
        ("token list", 3, "node_not_running"),
        ("token create", 3, "node_not_running"),
        ("call swarm.get_status", 3, "node_not_running"),
        ("status --node alice", 3, "node_not_running"),
        ("id", 4, "no_identity"),
        ("id export -", 4, "no_identity"),
        ("network remove example", 4, "network_unknown"),
        ("self", 2, "wrong_usage"),
        ("self verify", 7, "installed_otherwise"),
        ("self update", 7, "installed_otherwise"),
        ("self rollback", 7, "installed_otherwise"),
        ("self uninstall", 7, "installed_otherwise"),
        ("self verify --prefix /nonexistent", 4, "not_installed"),
        ("network show example", 4, "network_unknown"),
    ],
)
@pytest.mark.parametrize("position", ["before", "after"])
def test_a_failure_is_one_object_with_its_code(
    line: str, code: int, word: str | None, position: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = line.split()
    assert run(["--json", *words] if position == "before" else [*words, "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    (text,) = out.splitlines()
    value = json.loads(text)
    assert list(value) == ["schema", "ok", "data", "errors"]
    assert value["ok"] is False
    assert value["schema"] == schema_of(words)
    assert [list(error) for error in value["errors"]] == [["code", "message", "hint"]]
    assert word is None or value["errors"][0]["code"] == word


@pytest.mark.parametrize(
    "line, code",
    [("status", 3), ("peers", 3), ("ping bob", 3), ("name list", 3), ("leave", 0), ("logs", 2)],
)
def test_nodes_that_have_ended_are_not_running(
    home: Home, line: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("alice", "bob"):
        home.node(name).state.mkdir(parents=True)
    assert run(line.split()) == code
    assert code != 2 or "--node alice or --node bob" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, shown",
    [
        ("network list", "Did you mean 'show'?"),
        ("network ad", "Did you mean 'add'?"),
        ("name delete alice", "Did you mean 'release'?"),
        ("stop", "Did you mean 'leave'?"),
        ("statsu", "Did you mean 'status'?"),
        ("call swarm.ping target=bob", """wws call swarm.ping '{"target": "bob"}'"""),
        ("call swarm.ping bob", """wws call swarm.ping '{"name": "alice"}'"""),
    ],
)
def test_wrong_usage_shows_the_right_one(line: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(line.split()) == Exit.USAGE
    assert shown in capsys.readouterr().err


@pytest.mark.parametrize("line", ["status", "ping bob", "id", "bogus", "name list"])
def test_without_json_the_error_is_on_stderr_and_names_what_mends_it(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) != 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "wws" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "line, members",
    [
        ("leave", {"node", "was_running"}),
        ("network show", {"networks"}),
        ("id new", {"peer_id", "peer_id_cid", "did", "did_key", "node_id", "path"}),
        ("config show", {"home", "file", "settings"}),
        ("--version", {"version"}),
    ],
)
def test_data_members_without_a_node(
    line: str, members: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*line.split(), "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["ok"] is True
    assert members <= set(value["data"])


def test_the_identity_in_each_form_and_never_replaced(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["id", "new", "--name", "alice"]) == 0
    assert home.named_key("alice").stat().st_mode & 0o777 == 0o600
    assert run(["id", "new", "--name", "alice", "--json"]) == 7
    assert run(["id", "--name", "alice", "new", "--json"]) == 7
    capsys.readouterr()
    for form, start in [
        ("peer-id", "12D3KooW"),
        ("did", "did:swarm:"),
        ("did-key", "did:key:z6Mk"),
        ("peer-id-cid", "bafz"),
    ]:
        assert run(["id", "--name", "alice", "--format", form]) == 0
        assert capsys.readouterr().out.startswith(start)


def test_a_loose_key_is_integrity(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    run(["id", "new"])
    home.identity_key.chmod(0o644)
    assert run(["id"]) == Exit.INTEGRITY
    assert "chmod 600" in capsys.readouterr().err


def test_export_and_import_are_encrypted_and_replace_nothing(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passphrase, wrong, sealed = tmp_path / "pass", tmp_path / "wrong", tmp_path / "alice.wwskey"
    passphrase.write_text("correct horse\n")
    wrong.write_text("wrong horse\n")
    run(["id", "new", "--name", "alice"])
    assert run(["id", "export", str(sealed), "--name", "alice", "--passphrase-file", str(passphrase)]) == 0
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert home.named_key("alice").read_bytes() not in sealed.read_bytes()
    assert run(["id", "export", str(sealed), "--name", "alice", "--passphrase-file", str(passphrase)]) == 7
    assert run(["id", "import", str(sealed), "--name", "bob", "--passphrase-file", str(wrong)]) == 8
    assert run(["id", "import", str(sealed), "--name", "bob", "--passphrase-file", str(passphrase)]) == 0
    assert home.named_key("bob").read_bytes() == home.named_key("alice").read_bytes()
    assert run(["id", "import", str(sealed), "--name", "bob", "--passphrase-file", str(passphrase)]) == 7
    capsys.readouterr()


def test_a_bug_ends_in_a_report_and_not_in_a_traceback(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("agent_cli.commands.status.call", broken)
    assert run(["status"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    path = Path(next(word for word in err.split() if "report-" in word).rstrip("."))
    assert "ZeroDivisionError: by nothing" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(["status", "--json"]) == 1
    assert Path(json.loads(capsys.readouterr().out)["data"]["report"]).exists()


def test_interruption_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agent_cli.commands.status.call", interrupted)
    monkeypatch.setattr("agent_cli.commands.peers.call", interrupted)
    assert run(["status", "--json"]) == 130
    assert run(["peers", "--json"]) == 130
    for line in capsys.readouterr().out.splitlines():
        assert json.loads(line)["errors"][0]["code"] == "interrupted"


def test_interruption_while_modules_are_loaded_is_130_and_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("agent_cli.app.run", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(["join"])
    assert ended.value.code == Exit.INTERRUPTED
    assert capsys.readouterr() == ("", "")


def test_exit_codes() -> None:
    assert {code.name: code.value for code in Exit} == {
        "DONE": 0,
        "BUG": 1,
        "USAGE": 2,
        "NO_NODE": 3,
        "NOT_FOUND": 4,
        "UNREACHABLE": 5,
        "RELAYED_ONLY": 6,
        "REFUSED": 7,
        "INTEGRITY": 8,
        "NO_WAY_IN": 9,
        "MACHINE": 10,
        "INTERRUPTED": 130,
    }


# --- fast paths: what is imported is what is measured -------------------------------------------

HEAVY = ("pydantic", "pydantic_settings", "nacl", "cryptography", "asyncio", "typer", "rich", "structlog")
PATHS = [
    ("--version", HEAVY),
    ("status", HEAVY),
    ("status --json", HEAVY),
    ("--home /nonexistent status", HEAVY),
    ("--help", ("pydantic_settings", "nacl", "cryptography", "asyncio", "rich", "structlog", "pydantic")),
    ("status --help", ("pydantic_settings", "nacl", "cryptography", "asyncio", "rich", "structlog")),
    ("status --node alice --no-color", HEAVY),
]


@pytest.mark.parametrize("line, heavy", PATHS, ids=[line for line, _ in PATHS])
def test_fast_paths_import_nothing_heavy(line: str, heavy: tuple[str, ...]) -> None:
    script = (
        "import sys\nfrom agent_cli.app import run\nrun(sys.argv[1:])\n"
        "print(' '.join(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *line.split()], capture_output=True, text=True, check=True
    )
    assert not set(heavy) & set(found.stderr.splitlines()[-1].split())


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "agent_cli.dispatch", raising=False)
    assert run(["join", "--json"]) == Exit.MACHINE
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "extra_missing"
    assert run(["--help"]) == Exit.MACHINE
    install = f"pip install --editable '{Path(__file__).parents[2]}[agent]'"
    assert capsys.readouterr().err == f"error: wws needs the extra: {install}\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"wws {__version__}\n"


def test_completion_knows_the_commands() -> None:
    environment = {**os.environ, "_WWS_COMPLETE": "complete_bash", "COMP_WORDS": "wws re", "COMP_CWORD": "1"}
    found = subprocess.run(
        [sys.executable, "-c", "from agent_cli.app import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "resolve" in found.stdout


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from agent_cli.app import main; main()", "config", "show", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_this_machines_fault() -> None:
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [sys.executable, "-c", "from agent_cli.app import main; main()", "config", "show", "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert found.returncode == 10
    assert "No space" in found.stderr
