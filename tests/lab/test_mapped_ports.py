"""What a router that opens ports is worth: behind the worst of NATs, where no hole can be punched."""

from pathlib import Path

import pytest

from tests.lab.conftest import Tell
from tests.lab.internet import Internet
from tests.lab.matrix import Patience, reach
from tests.lab.miniupnpd import MappingDaemon
from tests.lab.nat import Kind, Router
from tests.lab.nodes import Json, Swarm
from tests.prerequisites import require

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(240)]

OUTSIDE = "11.0.1.2"
"""No documentation address: miniupnpd takes those for private ones."""
SETTLED_WITHIN = 60.0


@pytest.fixture(autouse=True)
def _prerequisites() -> None:
    require("miniupnpd")


def test_behind_two_symmetric_nats_a_mapped_port_makes_it_direct(tmp_path: Path, tell: Tell) -> None:
    with Internet() as internet, Swarm.of(internet) as swarm:
        generous = Router(internet, "generous-home", Kind.SYMMETRIC, OUTSIDE)
        strict = Router(internet, "strict-home", Kind.SYMMETRIC, "198.18.2.2")
        with MappingDaemon(generous.namespace, tmp_path, "pcp") as daemon:
            alice = swarm.agent("alice", generous.host("alice"))
            bob = swarm.agent("bob", strict.host("bob"))
            swarm.wait_joined()

            def is_mapped(status: Json) -> bool:
                outside = [
                    address for address in status["addresses"] if address.startswith(f"/ip4/{OUTSIDE}/")
                ]
                return status["port_mapping"] == "pcp" and len(outside) == 2

            took = swarm.wait(alice, "mapped address", is_mapped, SETTLED_WITHIN)
            found = reach(swarm, bob, alice, Patience())
            assert (found.path, found.exit_code) == ("direct", 0), f"{found}\n{bob.log_end()}"
            way = f"bob reaches alice {found.path}ly by {found.transport}"
            tell("Port mapping (PCP)", f"announced {took:.1f} s after the join; {way}")
            swarm.wait(
                bob, "verdict of its router", lambda status: status["port_mapping"] == "not_offered", 30
            )
            alice.stop()
            assert daemon.mapped() == 0
