"""A crowd of honest peers in one process, each with a key of its own, that connect to one node and stay.

    python -m tests.hosts.crowd '{"host": …, "port": …, "peer_id": …, "from": [address, …], "count": 1000}'

It comes from many addresses, as limits by prefix hold for a crowd, too. Prints a JSON object when all are in
and identified, and again (with how many are still there) after each line on standard input; ends with it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys

import uvloop

from wws.errors import WwsError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.mesh.admission import AdmissionConfig
from wws.runtime.clock import SystemClock
from wws.runtime.connection import Connection
from wws.runtime.host import Host, HostConfig
from wws.runtime.identify_service import IdentifyConfig, IdentifyService
from wws.runtime.ping import PingConfig, PingService

PARALLEL = 16
PATIENCE = 60.0
TRIES = 5


async def _connect(settings: dict[str, object], source: str) -> tuple[Host, Connection]:
    identity = Identity.generate()
    host = Host(
        identity, HostConfig(admission=AdmissionConfig()), clock=SystemClock(), rng=random.Random(source)
    )
    IdentifyService(host, IdentifyConfig(), lambda: ())
    PingService(host, PingConfig(), random.Random(source))
    connection = host.new_outbound(PeerId.parse(str(settings["peer_id"])))
    async with asyncio.timeout(PATIENCE):
        await asyncio.get_running_loop().create_connection(
            lambda: connection,
            str(settings["host"]),
            int(str(settings["port"])),
            local_addr=(source, 0),
        )
        await connection.established()
        await connection.wait_identified()
    return host, connection


async def _crowd(settings: dict[str, object]) -> None:
    sources = settings["from"]
    assert isinstance(sources, list)
    turns = iter(range(int(str(settings["count"]))))
    held: list[tuple[Host, Connection]] = []
    errors: list[str] = []

    async def worker() -> None:
        for turn in turns:
            for again in range(TRIES):
                try:
                    held.append(await _connect(settings, sources[turn % len(sources)]))
                    break
                except (WwsError, OSError, TimeoutError) as error:
                    errors.append(f"{type(error).__name__}: {error}"[:200])
                    await asyncio.sleep(0.2 * (again + 1))  # over its rate a node resets: dialers come again

    await asyncio.gather(*(worker() for _ in range(PARALLEL)))
    loop = asyncio.get_running_loop()
    while True:
        there = sum(not connection.is_closed for _, connection in held)
        print(json.dumps({"there": there, "errors": len(errors), "last_error": errors[-1:]}), flush=True)
        if not await loop.run_in_executor(None, sys.stdin.readline):
            return


if __name__ == "__main__":
    uvloop.run(_crowd(json.loads(sys.argv[1])))
