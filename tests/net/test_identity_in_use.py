"""One key on two machines: the first one finds in the DHT what only the other can have signed."""

import random

import pytest

from tests.interop.ours import until
from tests.net.mesh_node import MeshNode, node
from wws.addresses.multiaddr import Multiaddr
from wws.machine import Command
from wws.names.events import IdentityInUse, Start
from wws.names.peer_keeper import PeerRecordKeeper
from wws.names.schedule import UpkeepConfig
from wws.names.twins import Twins, TwinsConfig
from wws.runtime.machine_driver import MachineDriver
from wws.runtime.witness.client import WitnessClient

pytestmark = [pytest.mark.net, pytest.mark.timeout(60)]

HERE = Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")
THERE = Multiaddr.parse("/ip4/198.51.100.9/tcp/9000")
OFTEN = UpkeepConfig(check_interval=0.2)


def keep(on: MeshNode, at: Multiaddr, reports: list[Command]) -> MachineDriver:
    """Keep the peer record of a node published, which says it is there."""
    keeper = PeerRecordKeeper(
        on.host.identity,
        rng=random.Random(1),
        config=OFTEN,
        addresses=(at.with_peer(on.peer_id),),
        twins=Twins(TwinsConfig(start_slack=0)),
    )
    nobody = WitnessClient(on.host, on.dialer, lambda: (frozenset(), frozenset()), lambda _: ())
    driver = MachineDriver(keeper, on.host, on.dht, nobody, reports.append)
    driver.feed(Start())
    return driver


async def test_a_copied_key_is_noticed_by_the_records_it_signs() -> None:
    async with node("carol") as carol, node("alice") as first, node("alice") as second:
        assert first.peer_id == second.peer_id
        for alice in (first, second):
            await alice.join(carol)
        said: tuple[list[Command], list[Command]] = ([], [])
        drivers = [keep(first, HERE, said[0])]
        held = carol.dht.machine.records
        await until(lambda: len(held) > 0)
        drivers.append(keep(second, THERE, said[1]))
        await until(lambda: any(isinstance(report, IdentityInUse) for report in (*said[0], *said[1])))
        for driver in drivers:
            driver.close()
        found = next(report for report in (*said[0], *said[1]) if isinstance(report, IdentityInUse))
        assert [address.without_peer() for address in found.addresses] in ([HERE], [THERE])


async def test_a_node_alone_says_nothing() -> None:
    async with node("carol") as carol, node("alice") as alice:
        await alice.join(carol)
        said: list[Command] = []
        driver = keep(alice, HERE, said)
        looks = alice.dht.operations
        await until(lambda: sum(looks.values()) >= 4)  # stored, and looked at several times
        driver.close()
        assert not any(isinstance(report, IdentityInUse) for report in said)
