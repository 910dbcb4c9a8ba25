"""A machine whose clock is wrong is told when it joins; whole nodes in one process, each with its clock."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_cli.join_story import outcome
from agent_cli.options import Options
from tests.interop.ours import until
from wws.identity.keys import Identity
from wws.rpc.api import to_json
from wws.runtime.arguments import parse_arguments, prepare
from wws.runtime.clock import SystemClock
from wws.runtime.network_choice import choose_network
from wws.runtime.node import Node
from wws.runtime.node_face import NodeFace
from wws.runtime.state_files import NetworkFiles

pytestmark = pytest.mark.net


class ShiftedClock(SystemClock):
    """This machine's clock, set wrong."""

    def __init__(self, shift: int) -> None:
        self._shift = shift

    def unix(self) -> int:
        return super().unix() + self._shift


@contextlib.asynccontextmanager
async def running(label: str, home: Path, *arguments: str, shift: int = 0) -> AsyncIterator[Node]:
    env = {"WWS_NETWORK_ENABLE_MDNS": "false", "XDG_RUNTIME_DIR": str(home)}
    options = parse_arguments(["--home", str(home), "--listen", "/ip4/127.0.0.1/tcp/0", *arguments])
    preparation = prepare(options, env)
    choice = choose_network(None, preparation.config, NetworkFiles(preparation.home), allow_unsigned=False)
    preparation.node.state.mkdir(parents=True)
    node = Node(
        preparation,
        Identity.from_label(label),
        choice,
        clock=ShiftedClock(shift),
        rng=random.Random(label),
        env=env,
    )
    try:
        await node.start()
        yield node
    finally:
        await node.stop()


@pytest.mark.parametrize("shift, said", [(0, None), (45, None), (600, "ahead of"), (-600, "behind")])
async def test_a_wrong_clock_is_said_at_join(tmp_path: Path, shift: int, said: str | None) -> None:
    async with running("bootstrap", tmp_path / "bootstrap", "--bootstrap-mode") as bootstrap:
        address = bootstrap.host.listen_addresses[0].with_peer(bootstrap.identity.peer_id)
        typed = ("--bootstrap", str(address))
        async with running("alice", tmp_path / "alice", *typed, shift=shift) as alice:
            await until(lambda: alice.clock_check.skew is not None)
            status = to_json(await NodeFace(alice, lambda: None).status())
            assert isinstance(status, dict)
            result = outcome(status, Options(), already_running=False, timeout=30, took=1, no_retry=False)
            assert abs(result.data["clock_skew_s"] - shift) <= 2
            told = [note for note in result.notes if "clock" in note]
            assert [said in note for note in told] == ([] if said is None else [True])
