"""Bring a lab up by hand: an internet, three bootstrap nodes, and an agent wherever you say.

    python -m tests.lab alice=port-restricted bob=symmetric carol=open
    python -m tests.lab --matrix

The first form prints how to enter each machine and how to ask each agent, and stays until Ctrl-C. The second
measures every kind of place to every kind of place, prints the matrix and ends. Needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys

from tests.lab.internet import Internet
from tests.lab.matrix import KINDS, OPEN, Patience, Punching, Town, matrix_text, times_text
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Swarm
from tests.prerequisites import missing

VERDICTS_WITHIN = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.lab", description="A small internet with real NATs and real nodes."
    )
    parser.add_argument("agents", nargs="*", metavar="NAME=KIND", help=f"KIND: {', '.join(_kinds())}")
    parser.add_argument("--matrix", action="store_true", help="measure all pairs of kinds and end")
    options = parser.parse_args()
    gaps = [
        gap
        for need in ("root", "/dev/net/tun", "nft", "conntrack", "ip", "setpriv")
        if (gap := missing(need))
    ]
    if gaps:
        print(f"the lab cannot run: {'; '.join(gaps)}", file=sys.stderr)
        return 1
    wanted = [text.partition("=")[::2] for text in options.agents]
    for name, kind in wanted:
        if kind not in _kinds():
            parser.error(f"{name}={kind}: KIND is one of {', '.join(_kinds())}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), Internet() as internet, Swarm.of(internet) as swarm:
        if options.matrix:
            _show_matrix(internet, swarm)
        else:
            _stay(internet, swarm, wanted)
    return 0


def _kinds() -> list[str]:
    return [OPEN, *(kind.value for kind in Kind)]


def _show_matrix(internet: Internet, swarm: Swarm) -> None:
    town = Town.settle(internet, swarm)
    swarm.wait_joined()
    town.wait_verdicts(swarm, VERDICTS_WITHIN)
    town.forget_connections(swarm)
    found = town.reach_all(swarm, Patience())
    print(f"{matrix_text(found)}\n\n{times_text([*found.values()])}\n{Punching.of(swarm.agents)}")
    print(f"\n{sum(one.path == 'direct' for one in found.values())} of {len(KINDS) ** 2} direct")


def _stay(internet: Internet, swarm: Swarm, wanted: list[tuple[str, str]]) -> None:
    for number, (name, kind) in enumerate(wanted, start=1):
        address = f"198.18.{number}.2"
        if kind == OPEN:
            namespace = internet.host(name, address).namespace
        else:
            namespace = Router(internet, f"{name}-router", Kind(kind), address).host(name)
        swarm.agent(name, namespace)
    if wanted:
        swarm.wait_joined()
    for node in (*swarm.bootstraps, *swarm.agents):
        print(f"{node.name}: wws --home {node.paths.home.root} --node {node.paths.name} status")
    print()
    for namespace in internet.namespaces:
        print(f"{namespace.label}: nsenter --net={namespace.path}")
    print("\nCtrl-C takes everything down.", flush=True)
    signal.pause()


if __name__ == "__main__":
    sys.exit(main())
