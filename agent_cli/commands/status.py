"""`wws status`: how the local node is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent_cli import text
from agent_cli.compose import STATUS_TIMEOUT, call
from agent_cli.name_words import standing
from agent_cli.options import Options
from agent_cli.result import Result

if TYPE_CHECKING:
    import typer


WITHOUT_PORTS: Final = {
    "rpc_tcp_off": "no RPC on TCP (the unix socket works; --rpc IP:PORT chooses another port)",
    "http_off": "no status page (--http IP:PORT chooses another port)",
}
"""Warnings about default ports that somebody else has → what is missing, and the remedy."""


NATS: Final = {
    "none": "none",
    "endpoint_independent": "endpoint-independent mapping (hole punching works with most peers)",
    "address_dependent": "address-dependent mapping (hole punching works only with peers that filter little)",
    "unknown": "not known yet",
}
"""The NAT kinds (RFC 4787, section 4.1) for people."""


def register(app: typer.Typer) -> None:
    from agent_cli.registration import command  # `wws status` itself does without Typer

    command(app, status, examples=("wws status", "wws status --node alice --json"))


def status(options: Options) -> Result:
    """Show how the local node is: identity, network, reachability, connections, names."""
    data: dict[str, Any] = call(options, "swarm.get_status", timeout=STATUS_TIMEOUT)
    return Result(data, describe(data), notes=warnings_of(data, options))


def describe(data: dict[str, Any]) -> str:
    """The status for people."""
    traffic, tried = data.get("traffic", {}), data.get("join", {}).get("tried", ())
    relays = "\n".join(_relay(relay) for relay in data.get("relays", ()))
    own_end = f"/p2p/{data.get('peer_id')}"
    return text.pairs(
        [
            ("node", data.get("node")),
            ("state", _state(data)),
            ("tried", "" if data.get("joined") else "\n".join(map(text.tried, tried))),
            ("network", network_of(data)),
            ("peer id", data.get("peer_id")),
            ("did", data.get("did")),
            ("names", "\n".join(map(standing, data.get("names", ())))),
            ("peers", _peers(data)),
            ("swarm", text.swarm_size(data.get("swarm_size"))),
            ("reachable", reachability_of(data)),
            ("nat", None if data.get("relay_only") else NATS.get(str(data.get("nat")), data.get("nat"))),
            ("external", "\n".join(map(_external, data.get("external", ())))),
            # Circuits are named by their relays, below; --json has every address whole.
            (
                "addresses",
                "\n".join(
                    address.removesuffix(own_end)
                    for address in data.get("addresses", ())
                    if "/p2p-circuit" not in address
                ),
            ),
            ("relays", relays),
            ("relay for", _relay_service(data.get("relay_service"))),
            ("punching", _hole_punching(data.get("hole_punching"))),
            (
                "traffic",
                f"{text.size(traffic.get('in_bytes'))} in, {text.size(traffic.get('out_bytes'))} out",
            ),
            ("clock", _clock(data.get("join", {}).get("clock_skew_s"))),
            ("banned", _counted(data.get("bans"), "peer or prefix", "peers and prefixes", "swarm.bans")),
            (
                "proofs",
                _counted(data.get("equivocations"), "contradiction", "contradictions", "swarm.equivocations"),
            ),
            ("up", text.duration(data.get("uptime_s"))),
            ("rpc", data.get("rpc") or data.get("socket")),
            ("http", data.get("http")),
        ]
    )


def network_of(data: dict[str, Any]) -> str:
    """The network in words, with what is unusual about it."""
    if data.get("ad_hoc"):
        return "ad hoc (the peers given with --bootstrap)"
    name, domain = data.get("network"), data.get("domain")
    shown = str(name) if domain in (None, "", name) else f"{name} ({domain})"
    if data.get("network_origin") == "build":
        shown += ", the default of this build"
    if data.get("network_origin") == "remembered":
        shown += ", where this node was before"
    if data.get("unsigned"):
        shown += ", unsigned"
    if data.get("lan_only"):
        shown += ", only the local network is reachable"
    return shown


def reachability_of(data: dict[str, Any]) -> str:
    """Whether others can connect to the node, in words."""
    match data.get("reachability"):
        case "public":
            mapped = data.get("port_mapping")
            how = f", through a port opened by {mapped}" if mapped in ("pcp", "nat-pmp", "upnp") else ""
            return f"public (others connect directly{how})"
        case "private" if data.get("relay_only"):
            return "only through relays, as asked for (--relay-only)"
        case "private":
            through = "through a relay first" if data.get("relays") else "not at all: no relay was found yet"
            return f"private (others connect {through})"
        case _:
            return "unknown (not judged yet by enough peers)"


def warnings_of(data: dict[str, Any], options: Options) -> tuple[str, ...]:
    """The node's warnings, as notes. A port that is not there was told at the join."""
    return tuple(
        f"warning: {warning['message']}"
        for warning in data.get("join", {}).get("warnings", ())
        if options.verbose or warning["code"] not in WITHOUT_PORTS
    )


def _peers(data: dict[str, Any]) -> str:
    connections = data.get("connections", {})
    direct, relayed = connections.get("direct", 0), connections.get("relayed", 0)
    ways = f"{direct} direct, {relayed} relayed"
    peers = data.get("peers", direct + relayed)
    return ways if peers == direct + relayed else f"{peers} ({direct + relayed} connections: {ways})"


def _clock(skew: float | None) -> str | None:
    """How this machine's clock stands to those of its peers; None before any has told its time."""
    if skew is None:
        return None
    if abs(skew) < 1:
        return "as those of the peers"
    return f"{text.duration(abs(skew))} {'ahead of' if skew > 0 else 'behind'} those of the peers"


def _counted(count: int | None, one: str, several: str, method: str) -> str | None:
    return f"{count} {one if count == 1 else several} (wws call {method})" if count else None


def _relay(relay: dict[str, Any]) -> str:
    where = relay["addr"].partition("/p2p/")[0]
    return f"{relay['peer_id']} at {where}, until {text.when(relay['expires_at'])}"


def _external(address: dict[str, Any]) -> str:
    return f"{address['addr']} {address['verdict']}, {address['source']}"


def _relay_service(service: dict[str, Any] | None) -> str:
    if service is None:
        return ""
    budget = service.get("bytes_per_day")
    of = "" if budget is None else f" of {text.size(budget)}"
    return (
        f"{service['reservations']} reservations, {service['circuits']} circuits, "
        f"{text.size(service['bytes_today'])}{of} today"
    )


def _hole_punching(punching: dict[str, Any] | None) -> str:
    if punching is None or not punching["attempted"]:
        return ""
    return f"{punching['succeeded']} of {punching['attempted']} became direct"


def _state(data: dict[str, Any]) -> str:
    wait = data.get("join", {}).get("next_retry_s")
    again = "" if wait is None else f", tries again in {text.duration(wait)}"
    match data.get("status"):
        case "failed_retrying":
            return f"found no way in{again}"
        case "lost":
            return f"lost all peers{again or ', reconnecting'}"
        case "discovering":
            return f"looking for a way in{again}"
        case state:
            return str(state)
