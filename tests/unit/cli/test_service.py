"""`wws service`: what is installed, what it takes over, what it leaves alone."""

import json
import os
import sys
from pathlib import Path

import pytest

from agent_cli import user_manager
from agent_cli.user_unit import parse_unit, unit_name
from tests.lab.probing import eventually
from tests.unit.cli.running import Cli
from tests.unit.cli.user_systemd import UserSystemd
from wws import __version__

NETWORK = "example.org#" + "00" * 32


@pytest.fixture
def systemd(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserSystemd:
    """A user's systemd, and nodes without a network."""
    made = UserSystemd(tmp_path / "systemd")
    monkeypatch.setenv("FAKE_JOIN", json.dumps({"status": {"version": __version__}}))
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(user_manager, "BOOTED", tmp_path)
    program = (sys.executable, "-m", "wws.testing.fake_connector")
    monkeypatch.setattr("agent_cli.service_settings.program", lambda: program)

    def service_of_process(pid: int) -> tuple[str, bool] | None:
        for file in made.state.glob("*.pid"):
            if file.read_text() == str(pid):
                return file.name.removesuffix(".pid"), True
        return None

    monkeypatch.setattr(user_manager, "service_of_process", service_of_process)
    monkeypatch.setattr("agent_cli.commands.service.service_of_process", service_of_process)
    return made


def units(cli: Cli) -> Path:
    return cli.root / ".config" / "systemd" / "user"


def test_install_status_leave_uninstall(cli: Cli, systemd: UserSystemd) -> None:
    done = cli("service", "install", "--name", "Alice", "--network", NETWORK, "--json")
    assert done.code == 0, done
    assert done.json["schema"] == "wws.service.install/v1"
    assert done.data["node"] == done.data["name"] == "alice"
    assert (done.data["unit"], done.data["changed"], done.data["taken_over"]) == (
        "wws-alice.service",
        True,
        False,
    )
    assert done.data["joined"] is True
    assert done.data["linger"] is False
    file = units(cli) / "wws-alice.service"
    assert done.data["unit_file"] == str(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert (units(cli) / "default.target.wants" / file.name).resolve() == file
    assert f"--home={cli.home.root}" in done.data["command"]
    (ready,) = cli.home.running_nodes()
    status = cli("service", "status", "--json").data
    assert (status["active"], status["enabled"], status["restarts"]) == ("active", True, 0)
    assert status["status"]["peer_id"] == ready.peer_id
    left = cli("leave", "--json")
    assert left.data == {"node": "alice", "was_running": True, "released": [], "service": "wws-alice.service"}
    assert systemd.calls()[-1] == "stop wws-alice.service"
    stopped = cli("service", "status", "--json")
    assert (stopped.code, stopped.error["code"]) == (3, "node_not_running")
    assert stopped.data["active"] == "inactive"
    removed = cli("service", "uninstall", "--json")
    assert removed.data == {
        "removed": [{"node": "alice", "unit": "wws-alice.service", "unit_file": str(file)}]
    }
    assert not file.exists()
    assert not list((units(cli) / "default.target.wants").iterdir())
    assert cli.home.named_key("alice").exists()
    assert cli("service", "uninstall").out == "No service is installed.\n"
    gone = cli("service", "status", "--json")
    assert (gone.code, gone.error["code"]) == (4, "no_service")


def test_twice_changes_nothing_and_keeps_what_was_said(cli: Cli, systemd: UserSystemd) -> None:
    cli("service", "install", "--name", "alice", "--network", NETWORK, "--swarm", "lab")
    (ready,) = cli.home.running_nodes()
    asked, text = systemd.calls(), (units(cli) / "wws-alice.service").read_text()
    for again in (("--name", "alice"), ("--node", "alice"), ()):
        done = cli("service", "install", *again, "--json")
        assert (done.code, done.data["changed"]) == (0, False), done
        assert done.data["already_running"] is True
    assert systemd.calls() == asked
    assert (units(cli) / "wws-alice.service").read_text() == text
    changed = cli("service", "install", "--listen", "/ip4/127.0.0.1/tcp/0", "--json")
    assert changed.data["changed"] is True
    assert {"--swarm=lab", f"--network={NETWORK}", "--listen=/ip4/127.0.0.1/tcp/0"} <= {
        *changed.data["command"]
    }
    (new,) = cli.home.running_nodes()
    assert new.pid != ready.pid
    assert "updated and running" in cli("service", "install", "--swarm", "public").out


def test_a_running_node_goes_on_as_the_service(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WWS_LOG_LEVEL", "debug")
    joined = cli("join", "--name", "alice", "--network", NETWORK, "--swarm", "lab", "--json")
    before = cli.home.running_nodes()[0]
    monkeypatch.setenv("WWS_RPC_HTTP", "")
    done = cli("service", "install", "--json")
    assert done.code == 0, done
    assert done.data["taken_over"] is True
    assert done.data["peer_id"] == joined.data["peer_id"]
    assert {f"--network={NETWORK}", "--swarm=lab", "--name=alice"} <= {*done.data["command"]}
    unit = parse_unit((units(cli) / "wws-alice.service").read_text())
    assert unit is not None
    assert dict(unit.environment) == {"WWS_LOG_LEVEL": "debug", "WWS_RPC_HTTP": ""}
    (after,) = cli.home.running_nodes()
    assert after.pid != before.pid
    assert cli("service", "install", "--json").data["changed"] is False


def test_after_an_upgrade_it_is_started_anew(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_JOIN", json.dumps({"status": {"version": "0.0.1"}}))
    cli("service", "install")
    (before,) = cli.home.running_nodes()
    monkeypatch.setenv("FAKE_JOIN", json.dumps({"status": {"version": __version__}}))
    assert "is running" in cli("service", "install").out
    (after,) = cli.home.running_nodes()
    assert after.pid != before.pid
    assert "nothing was changed" in cli("service", "install").out


def test_paths_and_variables_of_this_shell(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cli.root)
    monkeypatch.setenv("WWS_IDENTITY_PATH", "keys/mine.key")
    monkeypatch.setenv("WWS_LOG_LEVEL", "debug")
    monkeypatch.setenv("WWS_AGENT_NAME", "alice")
    monkeypatch.setenv("WWS_RPC_HTTP", "")
    monkeypatch.setenv("WWS_CONFIG", "own.toml")
    (cli.root / "own.toml").write_text("")
    monkeypatch.setenv("WWS_DNS_TSIG", "hmac-sha256:deploy:c2VjcmV0")
    shown = cli("--home", "elsewhere", "service", "install", "--dry-run", "--network", "lab.json", "--json")
    assert shown.code == 0, shown
    assert f"--network={cli.root}/lab.json" in shown.data["command"]
    assert f"--home={cli.root}/elsewhere" in shown.data["command"]
    assert f"--config={cli.root}/own.toml" in shown.data["command"]
    unit = parse_unit(shown.data["text"])
    assert unit is not None
    assert (unit.node, "--name=alice" in unit.arguments) == ("alice", True)
    assert dict(unit.environment) == {
        "WWS_IDENTITY_PATH": f"{cli.root}/keys/mine.key",
        "WWS_LOG_LEVEL": "debug",
        "WWS_RPC_HTTP": "",
    }
    assert not units(cli).exists()
    assert not systemd.calls()


def test_what_is_not_ours_is_left_alone(cli: Cli, systemd: UserSystemd) -> None:
    units(cli).mkdir(parents=True)
    theirs = units(cli) / "wws-alice.service"
    theirs.write_text("[Service]\nExecStart=/bin/true\n")
    refused = cli("service", "install", "--name", "alice", "--json")
    assert (refused.code, refused.error["code"]) == (7, "unit_taken")
    assert theirs.read_text() == "[Service]\nExecStart=/bin/true\n"
    assert cli("service", "uninstall", "--node", "alice").out == "No service is installed.\n"
    theirs.unlink()
    cli("service", "install", "--name", "alice")
    other = cli("--home", str(cli.root / "other"), "service", "install", "--name", "alice", "--json")
    assert (other.code, other.error["code"]) == (7, "unit_taken")
    assert str(cli.home.root) in other.error["message"]
    cli("service", "uninstall")


def test_a_node_that_another_service_runs_is_not_taken_over(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("join", "--name", "alice")
    elsewhere = ("agent.service", False)
    monkeypatch.setattr("agent_cli.commands.service.service_of_process", lambda _: elsewhere)
    refused = cli("service", "install", "--json")
    assert (refused.code, refused.error["code"]) == (7, "run_by_other_service")
    assert "sudo systemctl disable --now agent.service" in refused.error["hint"]
    assert not units(cli).exists()


def test_settings_that_a_node_refuses_change_nothing(cli: Cli, systemd: UserSystemd) -> None:
    for arguments, word in (
        (("--rpc", "nowhere"), "config_bad_value"),
        (("--name", "a_b"), "malformed_name"),
    ):
        refused = cli("service", "install", *arguments, "--json")
        assert (refused.code, refused.error["code"]) == (2, word)
    assert not systemd.calls()
    assert not units(cli).exists()


def test_a_service_that_does_not_start_is_taken_back(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = '{"error": {"code": "port_taken", "message": "Taken.", "hint": "Another.", "exit_code": 10}}'
    monkeypatch.setenv("FAKE_JOIN", failing)
    refused = cli("service", "install", "--name", "alice", "--json")
    assert (refused.code, refused.error["code"]) == (10, "port_taken")
    assert refused.error["hint"] == "Another. The service was not installed."
    assert not [path for path in units(cli).rglob("*") if not path.is_dir()]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it outlives who started it
def test_a_node_that_was_taken_over_in_vain_runs_on(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = cli("join", "--name", "alice", "--swarm", "lab", "--json")
    (before,) = cli.home.running_nodes()
    failing = '{"error": {"code": "port_taken", "message": "Taken.", "hint": "Another.", "exit_code": 10}}'
    monkeypatch.setenv("FAKE_JOIN", failing)
    refused = cli("service", "install", "--json")
    assert refused.code == 10
    assert "The service was not installed. The node runs on without it." in refused.error["hint"]
    eventually(lambda: bool(cli.home.running_nodes()), 30)
    (after,) = cli.home.running_nodes()
    assert after.pid != before.pid
    assert after.peer_id == joined.data["peer_id"]
    assert "--swarm=lab" in Path(f"/proc/{after.pid}/cmdline").read_text().split("\0")


def test_no_way_in_leaves_the_service_installed(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_JOIN", '{"state": "failed_retrying"}')
    done = cli("service", "install", "--json")
    assert (done.code, done.error["code"]) == (9, "no_way_in")
    assert done.data["unit"] == "wws.service"
    assert cli("service", "status", "--json").data["active"] == "active"


def test_another_key_than_the_node_had_is_said(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "alice ran as 12D3KooW with the key /k until now. To go on as before: --identity-path /k"
    fake = {"warnings": [["identity_changed", said]], "taken_by": "did:swarm:alice"}
    fake["own_name"] = {"way_back": "--identity-path /k"}
    monkeypatch.setenv("FAKE_JOIN", json.dumps(fake))
    done = cli("service", "install", "--name", "alice")
    assert done.code == 7
    assert f"warning: {said}" in done.err
    assert "to go on as it: --identity-path /k" in done.err


def test_several_services(cli: Cli, systemd: UserSystemd) -> None:
    cli("service", "install", "--name", "alice")
    cli("service", "install", "--name", "bob")
    for command in ("status", "uninstall"):
        which = cli("service", command, "--json")
        assert (which.code, which.error["code"]) == (2, "several_nodes")
        assert "wws-alice.service, wws-bob.service" in which.error["message"]
    assert cli("service", "status", "--node", "bob", "--json").data["node"] == "bob"
    assert len(cli("service", "uninstall", "--all", "--json").data["removed"]) == 2
    assert cli.home.running_nodes() == []


def test_lingering_is_asked_for_and_said(cli: Cli, systemd: UserSystemd) -> None:
    told = cli("service", "install")
    assert "sudo loginctl enable-linger" in told.err
    assert "starts   with your login" in cli("service", "status").out
    systemd.let("may-linger")
    again = cli("service", "install")
    assert "linger" not in again.err
    assert "starts   with the machine" in cli("service", "status").out


def test_without_systemd_the_other_way_is_named(
    cli: Cli, systemd: UserSystemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli("service", "install", "--name", "alice")
    cli("leave")
    systemd.let("unreachable")
    refused = cli("service", "install", "--json")
    assert (refused.code, refused.error["code"]) == (10, "no_systemd")
    assert "loginctl enable-linger" in refused.error["hint"]
    monkeypatch.setattr(user_manager, "BOOTED", tmp_path / "nowhere")
    for command in ("install", "status"):
        refused = cli("service", command, "--json")
        assert (refused.code, refused.error["code"]) == (10, "no_systemd")
        assert "wws join" in refused.error["hint"]
    assert cli("service", "install", "--dry-run").code == 0
    assert cli("service", "uninstall").code == 0
    assert not (units(cli) / unit_name("alice")).exists(), "removed by hand"
    assert cli("service", "uninstall").out == "No service is installed.\n"


def test_the_group_by_itself_is_wrong_usage(cli: Cli) -> None:
    assert cli("service").code == 2
    assert cli("service", "start").code == 2
