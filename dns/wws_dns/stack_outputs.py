"""What the stack knows of a network, as something to be published.

    {"schema": 1, "domain": "example.org", "network": "example.org#<key>", "hosts": [
        {"name": "one", "peer_id": "12D3KooW…", "multiaddrs": ["/ip4/192.0.2.1/tcp/9000", …]}, …]}

That is the output `inventory`; members that are of no use here are passed over: it is for others as well.
"""

from __future__ import annotations

import json
from typing import Final

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import TransportMark
from wws.discovery.publishers import parse_domain
from wws.errors import ParseError
from wws.identity.peer_id import PeerId
from wws_dns.desired import DEFAULT_LIFETIME_DAYS, DEFAULT_TTL, Desired, DesiredMalformed, Node
from wws_dns.records_file import parse_keys

MAX_FILE: Final = 256 * 1024
"""Largest output that is read, in bytes."""
MAX_ADDRESSES: Final = 64
"""Most multiaddrs of one host."""


def parse_inventory(
    data: bytes | str, *, ttl: int = DEFAULT_TTL, lifetime_days: int = DEFAULT_LIFETIME_DAYS
) -> Desired:
    """What the inventory of a stack wants to be published. Raises `DesiredMalformed`."""
    if len(data) > MAX_FILE:
        raise DesiredMalformed(f"The inventory is larger than {MAX_FILE} bytes.")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DesiredMalformed(f"The inventory is no JSON: {error}.") from None
    if not isinstance(value, dict) or not isinstance(value.get("hosts"), list):
        raise DesiredMalformed("The inventory has no list of hosts.")
    domain, network = value.get("domain"), value.get("network", "")
    if not isinstance(domain, str) or not isinstance(network, str):
        raise DesiredMalformed("The inventory lacks its domain or its network.")
    _, mark, keys = network.partition("#")
    try:
        nodes = tuple(node for host in value["hosts"] for node in _nodes(host))
        domain = parse_domain(domain)
    except ParseError as error:
        raise DesiredMalformed(f"The inventory: {error}.") from None
    return Desired(domain, nodes, ttl, lifetime_days, parse_keys(keys.split(",")) if mark else None)


def nodes_of(peer_id: PeerId, addresses: tuple[Multiaddr, ...]) -> tuple[Node, ...]:
    """The entries of a peer that can be dialled at these addresses: one a host and port."""
    transports: dict[tuple[str, int], set[str]] = {}
    for address in addresses:
        if address.port and address.transport is not None and not address.is_circuit:
            transports.setdefault((address.host, address.port), set()).add(address.transport)
    nodes: list[Node] = []
    for (host, port), offered in transports.items():
        mark: TransportMark = "" if len(offered) > 1 else "/t" if "tcp" in offered else "/q"
        nodes.append(Node(peer_id, host, port, mark))
    return tuple(nodes)


def _nodes(host: object) -> tuple[Node, ...]:
    """Raises `ParseError`."""
    if not isinstance(host, dict):
        raise ParseError("a host is no object")
    peer, texts = host.get("peer_id"), host.get("multiaddrs")
    if not isinstance(peer, str) or not isinstance(texts, list) or len(texts) > MAX_ADDRESSES:
        raise ParseError("a host lacks its peer_id or its multiaddrs")
    addresses = [Multiaddr.parse(text) for text in texts if isinstance(text, str)]
    if len(addresses) != len(texts):
        raise ParseError("a multiaddr is no text")
    peer_id = PeerId.parse(peer)
    if any(address.peer_id not in (None, peer_id) for address in addresses):
        raise ParseError(f"a multiaddr of {peer_id} leads to another peer")
    nodes = nodes_of(peer_id, tuple(addresses))
    if not nodes:
        raise ParseError(f"{peer_id} has no address that can be dialled")
    return nodes
