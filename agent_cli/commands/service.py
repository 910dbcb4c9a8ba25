"""`wws service`: the node as a service of its user, kept running by systemd.

    install     plan the unit ─► take over a node that runs ─► write, enable, start ─► wait for the join
    uninstall   stop, disable, remove; keys and state stay
    status      `wws status`, and what systemd says

Running `install` twice changes nothing. One that does not come up is taken back: what was there before is
there again.
"""

from __future__ import annotations

import os
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_cli import joining_options, text
from agent_cli.commands.join import POLL, claimed_name, is_settled
from agent_cli.commands.status import describe, warnings_of
from agent_cli.compose import STATUS_TIMEOUT, asked_node, home_of
from agent_cli.join_story import Story, outcome
from agent_cli.options import Options
from agent_cli.progress import Progress, progress
from agent_cli.registration import command, group, make_app
from agent_cli.result import Result, WrongUsage
from agent_cli.service_settings import make_unit
from agent_cli.services import ServiceRun
from agent_cli.user_manager import (
    STOPS_WITHIN,
    Installed,
    NoUserManager,
    UnitState,
    UserManager,
    find_manager,
    installed_units,
    is_of_home,
    let_linger,
    lingers,
    read_unit,
    remove_by_hand,
    service_of_process,
    unit_folder,
    unit_home,
    user_name,
)
from agent_cli.user_unit import UserUnit, unit_name
from wws.client import NodeNotRunning, RpcError, call_once
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.arguments import Options as NodeOptions
from wws.runtime.homes import NodePaths, Ready, SeveralNodes, parse_node_name


class UnitTaken(LocalError):
    """Another unit has the name that this one would get."""

    code = "unit_taken"
    exit_code = Exit.REFUSED


class RunElsewhere(LocalError):
    """Another service manager runs this node, and would start it again."""

    code = "run_by_other_service"
    exit_code = Exit.REFUSED


class NoService(LocalError):
    """No service is installed."""

    code = "no_service"
    exit_code = Exit.NOT_FOUND


def register(app: typer.Typer) -> None:
    services = make_app()
    group(services, service, examples=("wws service install --name alice", "wws service status"))
    command(
        services,
        install,
        examples=("wws service install", "wws service install --name alice --network example.org#<key>"),
    )
    command(services, uninstall, examples=("wws service uninstall", "wws service uninstall --node alice"))
    command(services, status, examples=("wws service status", "wws service status --json"))
    app.add_typer(services, name="service")


def service(options: Options, context: typer.Context) -> Result | None:
    """Keep the node running by systemd: it starts with the machine or login, and again when it has failed."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws service --help")
    return None


def install(
    options: Options,
    name: joining_options.Name = None,
    network: joining_options.Network = None,
    bootstrap: joining_options.Bootstrap = None,
    identity_path: joining_options.IdentityPath = None,
    listen: joining_options.Listen = None,
    announce: joining_options.Announce = None,
    dns_server: joining_options.DnsServer = None,
    rpc: joining_options.Rpc = None,
    http: joining_options.Http = None,
    swarm: joining_options.Swarm = None,
    allow_unsigned: joining_options.AllowUnsigned = False,
    relay_only: joining_options.RelayOnly = False,
    timeout: joining_options.Timeout = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the unit; change nothing.")] = False,
) -> Result:
    """Install the node as a systemd user service, start it, and wait until it has joined.

    Takes the options of `wws join`. What is not said stays as the service has it, or else as the node that
    runs now was started. That node is stopped first, and goes on as the service.
    """
    began = time.monotonic()
    deadline = began + timeout
    given = NodeOptions(
        config=options.config,
        name=claimed_name(name),
        network=network,
        bootstrap=tuple(bootstrap or ()),
        identity_path=identity_path,
        listen=tuple(listen or ()),
        announce=tuple(announce or ()),
        dns_server=tuple(dns_server or ()),
        rpc=rpc,
        http=http,
        swarm=swarm,
        allow_unsigned=allow_unsigned,
        relay_only=relay_only,
    )
    node = _node(options, given.name)
    manager = _manager_unless(dry_run)
    folder = unit_folder(os.environ) if manager is None else manager.folder()
    path = folder / unit_name(node.name)
    before = _ours(path, node)
    running = node.read_ready()
    unit = make_unit(node, given, os.environ, before=None if before is None else before.unit, running=running)
    content = unit.text(None if manager is None else manager.version)
    plan = {
        "node": node.name,
        "unit": unit.name,
        "unit_file": str(path),
        "command": [*unit.program, *unit.arguments],
    }
    if manager is None or dry_run:
        return Result({**plan, "dry_run": True, "text": content}, f"{path}:\n\n{content.rstrip()}")
    if running is not None:
        _check_takeover(running, unit)
    run = ServiceRun(manager, node, unit, path, content, before)
    story = Story(options)
    with progress(options, f"starting {unit.name}") as shown:
        is_changed, taken_over = run.bring_up(running)
        ready = run.wait(deadline, timeout)
        answer = _follow(ready, story, shown, deadline, started=is_changed)
    joined = outcome(
        answer,
        options,
        already_running=not is_changed,
        called=node.name,
        timeout=timeout,
        took=time.monotonic() - began,
        no_retry=False,
    )
    linger = _linger()
    data = {
        **joined.data,
        **plan,
        "changed": is_changed,
        "taken_over": taken_over,
        "linger": linger,
    }
    said = _said(run, is_changed, taken_over)
    again = "" if joined.errors else f" {_commands(options, node)}"
    return Result(
        data,
        f"{said}{again}",
        notes=(*joined.notes, *_linger_note(linger)),
        errors=joined.errors,
        exit_code=joined.exit_code,
    )


def uninstall(
    options: Options,
    every: Annotated[bool, typer.Option("--all", help="All services of this home.")] = False,
) -> Result:
    """Stop the service, disable and remove it. Keys, names and state stay; none installed is fine."""
    manager = _manager_or_none()
    folder = unit_folder(os.environ) if manager is None else manager.folder()
    if every:
        found = installed_units(folder, home_of(options))
    else:
        one = _installed(options, folder)
        found = [] if one is None else [one]
    with progress(options, "stopping"):
        for one in found:
            _remove(manager, one)
    removed = [{"node": one.unit.node, "unit": one.unit.name, "unit_file": str(one.path)} for one in found]
    said = "\n".join(
        f"The service {one.unit.name} is removed, and the node {one.unit.node!r} has stopped. "
        f"Its key and state stay. Without a service: {options.again('join')}{_named(one.unit)}"
        for one in found
    )
    return Result({"removed": removed}, said or "No service is installed.")


def _remove(manager: UserManager | None, found: Installed) -> None:
    if manager is None:
        remove_by_hand(found)
        return
    manager.control("disable", found.unit.name)
    manager.control("stop", found.unit.name, within=STOPS_WITHIN)
    found.path.unlink(missing_ok=True)
    manager.control("daemon-reload")


def status(options: Options) -> Result:
    """Show what systemd says of the service, and how its node is."""
    manager = find_manager(os.environ)
    found = _installed(options, manager.folder())
    if found is None:
        raise NoService("No service is installed.", hint="Install one: wws service install")
    unit, state = found.unit, manager.state(found.unit.name)
    linger = lingers(os.environ)
    data: dict[str, Any] = {
        "node": unit.node,
        "unit": unit.name,
        "unit_file": str(found.path),
        "command": [*unit.program, *unit.arguments],
        "active": state.active,
        "sub_state": state.sub,
        "enabled": state.enabled,
        "restarts": state.restarts,
        "result": state.result,
        "linger": linger,
        "status": None,
    }
    rows = text.pairs(
        [
            ("service", f"{unit.name}, {_state_words(state)}"),
            ("starts", _starts(state, linger)),
            ("program", shlex.join(unit.program)),
            ("restarts", state.restarts or None),
        ]
    )
    ready = home_of(options).node(unit.node).read_ready()
    if ready is None or state.is_down:
        problem = NodeNotRunning(f"The service {unit.name} is {_state_words(state)}.")
        problem.hint = f"Start it: wws service install --node {unit.node}. What it said: {_journal(unit)}"
        from agent_cli.result import failed

        return failed(problem, data=data, text=rows)
    answer: dict[str, Any] = call_once(ready, "swarm.get_status", timeout=STATUS_TIMEOUT)
    data["status"] = answer
    return Result(
        data, f"{rows}\n\n{describe(answer)}", notes=(*warnings_of(answer, options), *_linger_note(linger))
    )


def _node(options: Options, name: str | None) -> NodePaths:
    """The node that was named; else the one that runs or has run here; else the first of this home."""
    home, asked = home_of(options), asked_node(options) or name
    if asked is not None:
        return home.node(parse_node_name(asked))
    return home.pick_node(None) or home.node("default")


def _manager_unless(dry_run: bool) -> UserManager | None:
    return _manager_or_none() if dry_run else find_manager(os.environ)


def _manager_or_none() -> UserManager | None:
    try:
        return find_manager(os.environ)
    except NoUserManager:
        return None


def _ours(path: Path, node: NodePaths) -> Installed | None:
    """The unit of this node at `path`. Raises `UnitTaken` where it is another's."""
    found = read_unit(path)
    if found is None and path.exists():
        raise UnitTaken(
            f"{path} was not made by this wws, and is left alone.",
            hint="Move it away, or choose another node: --node NAME",
        )
    if found is not None and not is_of_home(found.unit, node.home):
        raise UnitTaken(
            f"The service {path.name} is that of the home {unit_home(found.unit)}.",
            hint="Choose another node: --node NAME",
        )
    return found


def _installed(options: Options, folder: Path) -> Installed | None:
    """The service that is meant: of the named node, else the only one. Raises `SeveralNodes`."""
    found, asked = installed_units(folder, home_of(options)), asked_node(options)
    if asked is not None:
        return next((one for one in found if one.unit.node == parse_node_name(asked)), None)
    if len(found) > 1:
        nodes = [one.unit.node for one in found]
        raise SeveralNodes(
            f"{len(nodes)} services are installed: {', '.join(one.path.name for one in found)}.",
            hint=f"Say which one: {' or '.join(f'--node {node}' for node in nodes)}",
        )
    return found[0] if found else None


def _check_takeover(running: Ready, unit: UserUnit) -> None:
    """Raises `RunElsewhere` where the node that runs would be started again behind our back."""
    found = service_of_process(running.pid)
    if found is None or found == (unit.name, True):
        return
    name, is_users = found
    if is_users and not name.startswith("wws"):
        return  # a terminal, say: what was started there has no service of its own
    control = "systemctl --user" if is_users else "sudo systemctl"
    raise RunElsewhere(
        f"The node {running.node!r} runs already, as the service {name}.",
        hint=f"Stop that one first ({control} disable --now {name}), or choose another node: --node NAME",
    )


def _follow(ready: Ready, story: Story, shown: Progress, deadline: float, *, started: bool) -> dict[str, Any]:
    """Tell how far the node is until it has arrived or the time is up; the last answer."""
    while True:
        try:
            answer: dict[str, Any] = call_once(ready, "swarm.get_status", timeout=STATUS_TIMEOUT)
        except RpcError as error:
            if error.code != "timeout" or time.monotonic() >= deadline:
                raise
            continue
        story.tell(answer, shown, running_already=not started)
        if is_settled(answer, started_here=started) or time.monotonic() >= deadline:
            return answer
        time.sleep(POLL)


def _linger() -> bool | None:
    """Whether the service outlives the login; asked for where it costs no password."""
    found = lingers(os.environ)
    return let_linger(os.environ) if found is False else found


def _linger_note(linger: bool | None) -> tuple[str, ...]:
    if linger is not False:
        return ()
    note = (
        "note: the service runs while you are logged in. To start it with the machine, and keep it after you "
        f"have logged out, somebody with the rights runs: sudo loginctl enable-linger {user_name()}"
    )
    return (note,)


def _said(run: ServiceRun, is_changed: bool, taken_over: bool) -> str:
    if not is_changed:
        return f"The service {run.unit.name} is installed and running already; nothing was changed."
    if run.before is None:
        what = "installed and running"
    else:
        what = "running" if run.before.text == run.text else "updated and running"
    how = ", and has taken over the node that was running" if taken_over else ""
    return f"The service {run.unit.name} is {what}{how}."


def _commands(options: Options, node: NodePaths) -> str:
    words = ("service status", "service uninstall")
    return f"Next: {', '.join(options.again(word, node=node.name) for word in words)}."


def _state_words(state: UnitState) -> str:
    match state.active:
        case "active":
            return "running"
        case "activating" if state.sub == "auto-restart":
            return f"waiting to be started again (it ended: {state.result})"
        case "activating":
            return "starting"
        case "deactivating":
            return "stopping"
        case "failed":
            return f"failed ({state.result})"
        case _:
            return "stopped"


def _starts(state: UnitState, linger: bool | None) -> str:
    if not state.enabled:
        return "by hand only: it is not enabled"
    return "with the machine" if linger else "with your login"


def _journal(unit: UserUnit) -> str:
    return f"journalctl --user -u {unit.name}"


def _named(unit: UserUnit) -> str:
    """How the node of a service is called on the command line."""
    names = [word.removeprefix("--name=") for word in unit.arguments if word.startswith("--name=")]
    if names == [unit.node]:
        return f" --name {unit.node}"
    return "" if unit.node == "default" else f" --node {unit.node}"
