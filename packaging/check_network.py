"""Checks the network file that a release is to name as its default network, before it is stamped into builds.

    python packaging/check_network.py packaging/network.json [--publisher KEY]… [--max-age DAYS]

Everybody who installs the build and types `wws join` goes where this file says, so more is asked of it than
of a file that somebody saves by hand: it is signed by its publishers, was issued lately, not in the future,
pins at least three nodes on different hosts, and each of them is where anybody can reach it: no loopback, no
private, no documentation address, no name that is reserved. `--publisher` insists that these, and no
others, are its publisher keys: who reviews the file got them over another way.

`--allow-unreachable` takes addresses that nobody outside a test network reaches, and is for test networks.

Prints what the build will name. Exit codes: 0, 2 wrong usage, 8 it must not be stamped, 10 it cannot be read.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout is enough to run this

from wws.addresses.multiaddr import Multiaddr
from wws.addresses.scope import Scope, scope_of_ip, unwrap
from wws.discovery.network import MAX_FILE, Network, parse_network_file
from wws.discovery.publishers import PublisherKey, key_id, parse_publisher_key
from wws.errors import LocalError, ParseError, WwsError
from wws.runtime.machine_errors import reading_failed

DAY = 86_400
CLOCK_SLACK = 300
"""Seconds that the file may be ahead of this machine's clock."""

_DOCUMENTATION = tuple(
    ip_network(text)
    for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20")
)
"""RFC 5737, RFC 3849, RFC 9637: nobody is there, so what names one is an example."""
_RESERVED = frozenset(
    {"localhost", "local", "internal", "test", "example", "invalid", "onion", "lan", "home", "corp"}
)
"""Last labels that public DNS does not have (RFC 6761, RFC 6762), or that differ from house to house."""
_EXAMPLES = ("example.org", "example.com", "example.net", "home.arpa")


class NotFit(LocalError):
    """The file must not be stamped into a build; each line of the message is a reason."""

    code = "network_not_fit"
    exit_code = 8


@dataclass(frozen=True, slots=True)
class Demands:
    """What a default network has to be."""

    max_age: int = 90 * DAY
    """Seconds since it was issued; a signed list lives no longer either (wire.md section 3)."""
    min_hosts: int = 3
    """Different nodes, and different hosts: with one down and one lost there is still a way in."""
    publishers: tuple[PublisherKey, ...] = ()
    """Exactly these keys; empty: whichever the file lists."""
    unreachable: bool = False
    """Whether addresses will do that nobody reaches outside a test network."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Check one file; the exit code. What is wrong with it is said on stderr."""
    options = _parser().parse_args(arguments)
    try:
        demands = Demands(
            max_age=options.max_age * DAY,
            publishers=tuple(map(parse_publisher_key, options.publisher)),
            unreachable=options.allow_unreachable,
        )
    except ParseError as error:
        sys.stderr.write(f"check_network.py: {error}\n")
        return 2
    try:
        network = check(_read(options.file), demands, int(time.time()))
    except WwsError as error:
        sys.stderr.write(f"check_network.py: {options.file}: {error}\n")
        return error.exit_code if isinstance(error, LocalError) else 8
    keys = ", ".join(map(key_id, network.publishers))
    nodes = len({peer.peer_id for peer in network.peers})
    sys.stdout.write(f"{network.name} ({network.domain}): publishers {keys}; {nodes} nodes pinned\n")
    return 0


def check(data: bytes, demands: Demands, unix_now: int) -> Network:
    """The network of the file, if it is fit to be a build's default. Raises `NotFit` with every reason."""
    try:
        network = parse_network_file(data)
    except ParseError as error:
        raise NotFit(str(error)) from None
    reasons = list(_reasons(network, demands, unix_now))
    if reasons:
        raise NotFit("\n  ".join(reasons))
    return network


def _reasons(network: Network, demands: Demands, unix_now: int) -> Iterator[str]:
    if not network.publishers:
        yield "it has no publisher key, so nobody has signed it"
    if demands.publishers and set(demands.publishers) != set(network.publishers):
        listed = ", ".join(key.hex() for key in network.publishers) or "none"
        yield f"its publishers are others than those that were expected: {listed}"
    age = unix_now - network.issued_at
    if age > demands.max_age:
        yield f"it was issued {age // DAY} days ago; at most {demands.max_age // DAY} are taken: sign it anew"
    if age < -CLOCK_SLACK:
        yield "it was issued in the future"
    for skipped in network.skipped:
        yield f"it pins an address that cannot be used: {skipped}"
    for what, count in (
        ("nodes", len({peer.peer_id for peer in network.peers})),
        ("hosts", len({peer.host for peer in network.peers})),
    ):
        if count < demands.min_hosts:
            yield f"it pins {count} {what}; at least {demands.min_hosts} are expected"
    if demands.unreachable:
        return
    if _is_reserved(network.domain):
        yield f"its domain {network.domain} is reserved: it is an example, or of one house"
    for peer in network.peers:
        why = _unreachable(peer)
        if why is not None:
            yield f"nobody reaches {peer}: {why}"


def _unreachable(address: Multiaddr) -> str | None:
    """Why an address leads nowhere for most people; `None` if it may lead to a node."""
    if address.is_circuit:
        return "it leads through a relay"
    if not address.port:
        return "it has no port"
    if not address.is_ip:
        return f"{address.host} is a reserved name" if _is_reserved(address.host) else None
    try:
        scope = scope_of_ip(address.host)
    except ParseError as error:
        return str(error)
    if scope is not Scope.PUBLIC:
        return f"{address.host} is of {scope.name.lower()} scope"
    ip = ip_address(str(unwrap(address.host)))
    if any(ip in network for network in _DOCUMENTATION if network.version == ip.version):
        return f"{address.host} is there for documentation"
    return None


def _is_reserved(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    return (
        len(labels) < 2
        or labels[-1] in _RESERVED
        or any(name == one or name.endswith(f".{one}") for one in _EXAMPLES)
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE + 1)
    except OSError as error:
        raise reading_failed(path, error) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="check_network.py", description="Check the network file that a build is to name as its default."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a network file, as the stack puts it out")
    parser.add_argument(
        "--publisher",
        action="append",
        default=[],
        metavar="KEY",
        help="insist on this publisher key (repeats: on exactly these)",
    )
    parser.add_argument(
        "--max-age", type=int, default=90, metavar="DAYS", help="days since it was issued (90)"
    )
    parser.add_argument(
        "--allow-unreachable",
        action="store_true",
        help="take addresses that nobody reaches outside a test network",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
