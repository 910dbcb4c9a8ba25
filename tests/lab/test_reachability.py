"""What a node finds out about its own place behind real routers, by three servers and nobody else."""

from collections.abc import Iterator

import pytest

from tests.lab.internet import Internet
from tests.lab.nat import Kind, Router
from tests.lab.reaching import LabServer, looker, three_servers
from wws.addresses.multiaddr import Transport

pytestmark = [pytest.mark.root, pytest.mark.timeout(90), pytest.mark.xdist_group("lab-reachability")]

HOME = "198.18.2.2"
QUIC: list[Transport] = ["quic-v1"] * 3
TCP: list[Transport] = ["tcp"] * 3
MIXED: list[Transport] = ["quic-v1", "tcp", "quic-v1"]


@pytest.fixture
def internet() -> Iterator[Internet]:
    with Internet() as internet:
        yield internet


@pytest.fixture
def servers(internet: Internet) -> Iterator[list[LabServer]]:
    with three_servers(internet) as servers:
        yield servers


@pytest.mark.parametrize("transports", [QUIC, TCP, MIXED], ids=["quic", "tcp", "mixed"])
@pytest.mark.parametrize(
    ("kind", "reachability", "nat"),
    [
        (None, "public", "none"),
        (Kind.FULL_CONE, "public", "endpoint_independent"),
        (Kind.ADDRESS_RESTRICTED, "private", "endpoint_independent"),
        (Kind.PORT_RESTRICTED, "private", "endpoint_independent"),
        (Kind.SYMMETRIC, "private", "address_dependent"),
    ],
    ids=["open", *(kind.value for kind in Kind)],
)
def test_every_kind_of_place_is_known_for_what_it_is(
    internet: Internet,
    servers: list[LabServer],
    kind: Kind | None,
    reachability: str,
    nat: str,
    transports: list[Transport],
) -> None:
    if kind is None:
        namespace = internet.host("home", HOME).namespace
    else:
        namespace = Router(internet, "home", kind, HOME).host("alice")
    with looker(namespace) as alice:
        alice.join(servers, transports, 4)
        found = alice.wait(reachability, nat)
        assert (found.reachability, found.nat) == (reachability, nat), found
        assert found.public_ips == {HOME}
        assert all(HOME in address for address in found.observed)
