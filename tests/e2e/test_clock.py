"""A machine whose clock is wrong is told when it joins; whole nodes in one process, each with its clock."""

from pathlib import Path

import pytest

from agent_cli.join_story import outcome
from agent_cli.options import Options
from tests.e2e.whole_nodes import running
from tests.interop.ours import until
from wws.rpc.api import to_json
from wws.runtime.clock import SystemClock
from wws.runtime.node_face import NodeFace

pytestmark = pytest.mark.net


class ShiftedClock(SystemClock):
    """This machine's clock, set wrong."""

    def __init__(self, shift: int) -> None:
        self._shift = shift

    def unix(self) -> int:
        return super().unix() + self._shift


@pytest.mark.parametrize("shift, said", [(0, None), (45, None), (600, "ahead of"), (-600, "behind")])
async def test_a_wrong_clock_is_said_at_join(tmp_path: Path, shift: int, said: str | None) -> None:
    async with running("bootstrap", tmp_path / "bootstrap", "--bootstrap-mode") as bootstrap:
        address = bootstrap.host.listen_addresses[0].with_peer(bootstrap.identity.peer_id)
        typed = ("--bootstrap", str(address))
        async with running("alice", tmp_path / "alice", *typed, clock=ShiftedClock(shift)) as alice:
            await until(lambda: alice.clock_check.skew is not None)
            status = to_json(await NodeFace(alice, lambda: None).status())
            assert isinstance(status, dict)
            result = outcome(status, Options(), already_running=False, timeout=30, took=1, no_retry=False)
            assert abs(result.data["clock_skew_s"] - shift) <= 2
            told = [note for note in result.notes if "clock" in note]
            assert [said in note for note in told] == ([] if said is None else [True])
