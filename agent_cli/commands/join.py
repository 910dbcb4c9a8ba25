"""`wws join`: become part of the mesh, and leave the node running.

Starts the node process unless it runs already, then watches it through `ready.json` and
`swarm.get_status`, telling each fact as it becomes known, until the node has joined and its name is
settled, or the time is up. The node goes on either way; `--no-retry` stops it when it found no way in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from agent_cli import joining_options
from agent_cli.already_running import check_network, check_relay_only, without_effect
from agent_cli.commands.status import network_of
from agent_cli.compose import STATUS_TIMEOUT, asked_node, home_of
from agent_cli.connector import spawn, start_failure, start_lock, wait_until_ended, wait_until_ready
from agent_cli.foreground import Foreground
from agent_cli.join_story import Story, outcome, own_name
from agent_cli.known_names import looks_like
from agent_cli.options import Options
from agent_cli.progress import Progress, progress
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from agent_cli.services import start_installed
from agent_cli.targets import check_name
from agent_cli.user_manager import service_of_node
from wws.client import NodeNotRunning, RpcError, call_once
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit
from wws.runtime.homes import NodePaths, Ready, parse_node_name

POLL = 0.1
"""Seconds between two questions to the node."""
CLOCK_PATIENCE = 1.0
"""Seconds after the join that the first peer gets to tell its clock; one that is no WWS node never does."""
SETTLED = ("held", "transferring", "taken", "lost", "released", "transferred")
"""States of a name that will not change by waiting. A contested one may: who wins shows within some tries."""


def register(app: typer.Typer) -> None:
    command(
        app,
        join,
        examples=(
            "wws join",
            "wws join --name alice --network example.org#<publisher key>",
            "wws join --bootstrap /ip4/203.0.113.7/tcp/9000/p2p/12D3KooW... --json",
        ),
    )


def join(
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
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until stopped.")] = False,
    no_retry: Annotated[
        bool, typer.Option("--no-retry", help="Stop the node when it finds no way in.")
    ] = False,
    timeout: joining_options.Timeout = 30.0,
) -> Result:
    """Join the mesh: make or load the identity, find peers, claim the name. The node stays running."""
    started_at = time.monotonic()
    deadline = started_at + timeout
    wanted = claimed_name(name)
    node = home_of(options).node(_node_name(options, wanted))
    story = Story(options)
    given = {
        "--name": wanted if name is not None else None,
        "--network": network,
        "--identity-path": identity_path,
        "--rpc": rpc,
        "--http": http,
        "--swarm": swarm,
        "--bootstrap": bootstrap,
        "--listen": listen,
        "--announce": announce,
        "--dns-server": dns_server,
        "--allow-unsigned": allow_unsigned,
        "--relay-only": relay_only,
    }
    arguments = _arguments(options, node, given)
    front = Foreground() if foreground else None
    ready: Ready | None = None
    try:
        with progress(options, f"starting {node.name}") as shown:
            ready, process, is_new = _running(node, arguments, deadline, front, timeout)
            status = _follow(
                ready,
                network,
                story,
                shown,
                deadline,
                node=node,
                process=process,
                arguments=arguments,
                started=is_new,
            )
    except WwsError:
        if front is None or front.stopped_by is None:
            raise
        return front.stopped_early(node.name)
    except KeyboardInterrupt:
        if ready is None:
            raise
        raise Interrupted(
            f"Interrupted. The node {node.name!r} goes on trying.",
            hint=f"Stop it: {options.again('leave', node=node.name)}",
        ) from None
    result = outcome(
        status,
        options,
        already_running=not is_new,
        notes=_too_late(ready, given, status, options) if process is None else (),
        called=node.name if options.node or _others_run(node) else None,
        looks_like=_looks_like(node, status),
        timeout=timeout,
        took=time.monotonic() - started_at,
        no_retry=no_retry,
    )
    if no_retry and result.exit_code in (Exit.NO_WAY_IN, Exit.INTEGRITY):
        _stop(ready)
        if process is not None:
            process.wait()
        return result
    if front is not None and process is not None:
        return front.stay(result, options)
    return result


def _running(
    node: NodePaths, arguments: list[str], deadline: float, front: Foreground | None, timeout: float
) -> tuple[Ready, subprocess.Popen[bytes] | None, bool]:
    """The node, its process if that is ours, and whether it had to be started.

    A node that has a service is started as that. Raises `StartFailed`, `NotReadyInTime`.
    """
    ready = node.read_ready()
    if ready is not None:
        return ready, None, False
    with start_lock(node, deadline):
        ready = node.read_ready()
        if ready is not None:
            return ready, None, False
        ready = start_installed(node, deadline, timeout) if front is None else None
        if ready is not None:
            return ready, None, True
        if front is None:
            process = spawn(node, arguments, foreground=False)
        else:
            process = front.start(lambda: spawn(node, arguments, foreground=True))
        try:
            ready = wait_until_ready(node, process, deadline, arguments)
        except BaseException:
            _end_unready(process)
            raise
    if ready is None:
        _end_unready(process)
        raise NotReadyInTime(node, timeout)
    return ready, process, True


def _too_late(
    ready: Ready, given: Mapping[str, object], status: dict[str, Any], options: Options
) -> tuple[str, ...]:
    """What was said here and does not count, for the node was started with other words."""
    return without_effect(given, status, options, unit=service_of_node(ready))


class Interrupted(LocalError):
    """Who waited for the join does not want to wait any longer."""

    code = "interrupted"
    exit_code = Exit.INTERRUPTED


class NotReadyInTime(LocalError):
    """The node process did not open its listeners in time."""

    code = "start_failed"
    exit_code = Exit.MACHINE

    def __init__(self, node: NodePaths, timeout: float) -> None:
        super().__init__(
            f"The node {node.name!r} was not up after {timeout:g} s and was stopped.",
            hint=f"Look at its log: wws logs --node {node.name}",
        )


def claimed_name(flag: str | None) -> str | None:
    """The name to claim, from the flag or the seed's variable, in its one spelling."""
    text = flag if flag is not None else os.environ.get("WWS_AGENT_NAME") or None
    if text is None:
        return None
    name, at, swarm = check_name(text).partition("@")
    if at:
        raise WrongUsage(f"{text!r} names a swarm too.", hint=f"Say: --name {name} --swarm {swarm}")
    return name


def _looks_like(node: NodePaths, status: dict[str, Any]) -> str | None:
    """The name known here that the node's own could be taken for."""
    own = own_name(status)
    if own is None:
        return None
    return looks_like(node.home, own["name"], own["swarm"], status["names"])


def _node_name(options: Options, name: str | None) -> str:
    return parse_node_name(asked_node(options) or name or "default")


def _others_run(node: NodePaths) -> bool:
    return any(ready.node != node.name for ready in node.home.running_nodes())


def _arguments(
    options: Options, node: NodePaths, given: Mapping[str, str | list[str] | bool | None]
) -> list[str]:
    """The command line of the node process: what was said here, passed through."""
    arguments = ["--node", node.name]
    if options.home is not None:
        arguments += ["--home", str(node.home.root.absolute())]
    if options.config is not None:
        arguments += ["--config", options.config]
    for flag, value in given.items():
        match value:
            case bool():
                arguments += [flag] if value else []
            case str():
                arguments += [f"{flag}={value}"]
            case list():
                arguments += [f"{flag}={entry}" for entry in value]
    return arguments


def _follow(
    ready: Ready,
    network: str | None,
    story: Story,
    shown: Progress,
    deadline: float,
    *,
    node: NodePaths,
    process: subprocess.Popen[bytes] | None,
    arguments: list[str],
    started: bool,
) -> dict[str, Any]:
    """Ask the node how far it is until it has arrived or the time is up; the last answer."""
    clock_until: float | None = None
    has_asked = False
    while True:
        try:
            status: dict[str, Any] = call_once(ready, "swarm.get_status", timeout=STATUS_TIMEOUT)
        except RpcError as error:
            if error.code != "timeout" or time.monotonic() >= deadline:
                raise
            continue  # a machine under load: the node is there and will answer
        except NodeNotRunning:
            if process is not None and process.poll() is not None:
                raise start_failure(node, process.returncode, arguments) from None
            raise
        if process is None and network is not None:
            check_network(network, status, unit=service_of_node(ready))
        if process is None:
            check_relay_only("--relay-only" in arguments, status, unit=service_of_node(ready))
        if not started and not has_asked and status["status"] in ("failed_retrying", "lost"):
            os.kill(ready.pid, signal.SIGHUP)  # who joins again does not want to wait for the next try
            has_asked = True
        story.tell(status, shown, running_already=not started)
        shown.say(_doing(status))
        now = time.monotonic()
        if is_settled(status, started_here=started):
            clock_until = min(now + CLOCK_PATIENCE, deadline) if clock_until is None else clock_until
            if not status["joined"] or status["join"]["clock_skew_s"] is not None or now >= clock_until:
                return status
        if now >= deadline:
            return status
        time.sleep(POLL)


def is_settled(status: dict[str, Any], *, started_here: bool) -> bool:
    """Whether waiting longer will change nothing soon."""
    if status["joined"]:
        name = status.get("name")
        states = [entry["state"] for entry in status["names"] if entry["name"] == name]
        return name is None or any(state in SETTLED for state in states)
    return started_here and status["status"] == "failed_retrying"


def _doing(status: dict[str, Any]) -> str:
    if status["joined"]:
        return f"claiming wws:{status.get('name')}"
    return f"looking for a way into {network_of(status)}"


def _stop(ready: Ready) -> None:
    try:
        call_once(ready, "swarm.stop", {}, timeout=STATUS_TIMEOUT)
    except (NodeNotRunning, RpcError):
        try:
            os.kill(ready.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
    wait_until_ended(ready.pid, ready.started, STATUS_TIMEOUT)


def _end_unready(process: subprocess.Popen[bytes]) -> None:
    """End a process that was given up on before it was ready: nobody would ever find it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STATUS_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
