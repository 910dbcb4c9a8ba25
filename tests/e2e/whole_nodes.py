"""Whole nodes in the process of the test: what a program would run, without its local servers."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

from wws.identity.keys import Identity
from wws.runtime.arguments import parse_arguments, prepare
from wws.runtime.clock import Clock, SystemClock
from wws.runtime.network_choice import choose_network
from wws.runtime.node import Node
from wws.runtime.state_files import NetworkFiles


@contextlib.asynccontextmanager
async def running(label: str, home: Path, *arguments: str, clock: Clock | None = None) -> AsyncIterator[Node]:
    """A node with the key of the label, on loopback, in an ad hoc network unless `arguments` name one."""
    env = {"WWS_NETWORK_ENABLE_MDNS": "false", "XDG_RUNTIME_DIR": str(home)}
    options = parse_arguments(["--home", str(home), "--listen", "/ip4/127.0.0.1/tcp/0", *arguments])
    preparation = prepare(options, env)
    choice = choose_network(None, preparation.config, NetworkFiles(preparation.home), allow_unsigned=False)
    preparation.node.state.mkdir(parents=True)
    node = Node(
        preparation,
        Identity.from_label(label),
        choice,
        clock=clock or SystemClock(),
        rng=random.Random(label),
        env=env,
    )
    try:
        await node.start()
        yield node
    finally:
        await node.stop()
