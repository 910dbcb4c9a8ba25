"""Put, get and register at 1,000 simulated nodes: 80 ms round trip, 1 % loss, churn."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def run(nodes: int) -> dict[str, Any]:
    """The figures of one run, as the simulation prints them."""
    print(f"simulating {nodes} nodes …", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "wws.testing.simulation", "--nodes", str(nodes)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return {"nodes": nodes, "text": finished.stdout}


def table(results: dict[str, Any]) -> str:
    text: str = results["text"]
    return "DHT, simulated (the shipped machines on virtual time)\n" + text
