"""Put and get at 1,000 simulated nodes, 80 ms round trip, 1 % loss, half of them leaving within two hours."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Any

from wws.testing import simulation
from wws.testing.simulated_network import NetworkConfig

LOSS, HALF_LIFE = 0.01, 7_200.0


def run(nodes: int) -> dict[str, Any]:
    print(f"simulating {nodes} nodes …", file=sys.stderr, flush=True)
    began = time.perf_counter()
    swarm = simulation.Simulation(
        simulation.SimulationConfig(
            nodes=nodes, seed=1, half_life=HALF_LIFE, network=NetworkConfig(loss=LOSS)
        )
    )
    swarm.join_all()
    swarm.churn()
    figures = swarm.measure(1_000)
    wall = time.perf_counter() - began
    return {
        "figures": dataclasses.asdict(figures),
        "wall": wall,
        "text": simulation.table(figures, LOSS, HALF_LIFE, wall),
    }


def table(results: dict[str, Any]) -> str:
    return "DHT, simulated (the shipped machines on virtual time)\n" + results["text"]
