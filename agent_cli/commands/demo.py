"""`wws demo`: a whole network on this machine, with nothing simulated.

A DNS server, three bootstrap nodes and some agents run as processes of their own, started by the same
commands that an operator and a user type. They find each other through DNS, claim names and reach each
other; one bootstrap node dies, and another agent joins all the same. Then everything is taken down.
"""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agent_cli import text
from agent_cli.demo.interrupts import Interrupts
from agent_cli.demo.mesh import BOOTSTRAP_NODES, Mesh, Reached
from agent_cli.demo.processes import Processes
from agent_cli.demo.telling import Telling
from agent_cli.name_words import witnessed
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim")
MAX_AGENTS = len(NAMES) - 1
"""One name is for the agent that joins late."""


def register(app: typer.Typer) -> None:
    command(app, demo, examples=("wws demo", "wws demo --agents 5", "wws demo --keep", "wws demo --stop DIR"))


def demo(
    options: Options,
    agents: Annotated[int, typer.Option(metavar="N", min=2, max=MAX_AGENTS, help="How many agents.")] = 2,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running; says how to play with it and how to end it.")
    ] = False,
    stop: Annotated[
        Path | None, typer.Option(metavar="DIR", help="End a demo that was kept, and remove its files.")
    ] = None,
) -> Result:
    """Show a whole network on this machine: DNS, three bootstrap nodes, agents that reach each other by name.

    It needs no network and no rights, leaves your own identity and nodes alone, and takes everything down at
    its end, on Ctrl-C too. With --keep it goes on in the background until `wws demo --stop DIR`.
    """
    if stop is not None:
        Processes.find(stop).end()
        return Result({"stopped": str(stop)}, f"The demo in {stop} is over; nothing is left of it.")
    telling = Telling(options)
    with Interrupts() as interrupts:
        processes = Processes.begin(interrupts)
        is_kept = False
        try:
            interrupts.release()
            data = _show(Mesh(processes), NAMES[:agents], NAMES[agents], telling)
            interrupts.hold()
            is_kept = keep
        finally:
            interrupts.hold()
            if not is_kept:
                _take_down(processes, telling)
    data |= {"steps": telling.steps, "took_s": round(telling.took, 3), "kept": is_kept}
    how = _how_to_play(data, processes.folder) if is_kept else ""
    return Result(data, "\n".join((*_table(data), *how)))


def _show(mesh: Mesh, names: tuple[str, ...], late: str, telling: Telling) -> dict[str, Any]:
    """The story, step by step; what it has found out."""
    joined: list[dict[str, Any]] = []
    reached: list[Reached] = []

    def join(name: str) -> None:
        with telling.step(f"{name} joins") as done:
            joined.append(found := mesh.join(name))
            done(f"{name} has joined and holds wws:{name}, {witnessed(found)}")

    def reach(source: str, target: str) -> None:
        with telling.step(f"{source} looks for {target}") as done:
            reached.append(found := mesh.reach(source, target))
            done(f"{source} resolves wws:{target} and pings it: {found.rtt_ms:.1f} ms, direct")

    with telling.step("starting a DNS server") as done:
        server = mesh.start_dns()
        done(f"a DNS server for {mesh.domain} answers on {server}, with a signed list of bootstrap nodes")
    with telling.step(f"starting {BOOTSTRAP_NODES} bootstrap nodes") as done:
        mesh.start_bootstrap_nodes()
        places = ", ".join(f"{node.place.ip}:{node.place.port}" for node in mesh.bootstrap)
        done(f"{BOOTSTRAP_NODES} bootstrap nodes know each other: {places}")
    for name in names:
        join(name)
    for source, target in itertools.pairwise(names):
        reach(source, target)
        reach(target, source)
    with telling.step("killing a bootstrap node") as done:
        dead = mesh.kill_bootstrap_node()
        done(f"the bootstrap node {dead.place.ip}:{dead.place.port} is killed (SIGKILL)")
    join(late)
    reach(late, names[0])
    return {
        "domain": mesh.domain,
        "network": mesh.network,
        "dns_server": mesh.dns_server,
        "folder": str(mesh.folder),
        "bootstrap": [{"addr": node.address, "killed": node is dead} for node in mesh.bootstrap],
        "agents": joined,
        "reached": [
            {"from": found.source, "target": found.target, "addr": found.address, "rtt_ms": found.rtt_ms}
            for found in reached
        ],
    }


def _take_down(processes: Processes, telling: Telling) -> None:
    with telling.step("taking everything down") as done:
        processes.end()
        done("everything is taken down: no process and no file is left")


def _table(data: dict[str, Any]) -> list[str]:
    rows = [
        (
            f"wws:{agent['name']}",
            agent["peer_id"],
            f"{agent['took_s']:.1f} s",
            text.when(agent["name_expires_at"]),
            ", ".join(found["target"] for found in data["reached"] if found["from"] == agent["name"]),
        )
        for agent in data["agents"]
    ]
    return [
        "",
        text.table(("name", "peer id", "joined in", "name held until", "reached"), rows),
        "",
        f"{len(rows)} agents, {BOOTSTRAP_NODES} bootstrap nodes, nothing simulated, {data['took_s']:.1f} s.",
    ]


def _how_to_play(data: dict[str, Any], folder: Path) -> list[str]:
    """The commands to go on with, ready to be copied."""
    wws = _own_name()
    first, second = (agent["name"] for agent in data["agents"][:2])
    network = shlex.join(("--network", data["network"], "--dns-server", data["dns_server"]))
    lines = [
        f"{wws} --home {folder}/{first} status",
        f"{wws} --home {folder}/{second} ping {first}",
        f"{wws} --home {folder}/zoe join --name zoe {network} --listen /ip4/127.0.0.1/tcp/0",
        f"{wws} --home {folder}/zoe resolve {first}",
        f"{wws} demo --stop {folder}",
    ]
    return [
        "",
        "It goes on running. To play with it, and to end it (the last line):",
        "",
        *(f"  {line}" for line in lines),
    ]


def _own_name() -> str:
    """How this command is called here: `make demo` runs one that is not on the PATH."""
    program = Path(sys.argv[0])
    on_path = any((Path(folder) / "wws").is_file() for folder in os.environ.get("PATH", "").split(os.pathsep))
    return "wws" if on_path or program.name != "wws" else shlex.quote(str(program))
