"""`wws join` where the node runs already: is it the one that was asked for, and what comes too late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agent_cli.commands.status import network_of
from agent_cli.options import Options
from agent_cli.result import WrongUsage
from wws.errors import LocalError
from wws.rpc.codes import Exit

CHECKED: Final = ("--name", "--network", "--relay-only")
"""Options that are compared with what the node does; all others count at its start only."""


class OtherNetwork(LocalError):
    """The node runs already, in another network than the one that was asked for."""

    code = "other_network"
    exit_code = Exit.USAGE


def check_network(asked: str, status: dict[str, Any], *, unit: str | None = None) -> None:
    """Raises `OtherNetwork` unless the running node is in the network that was asked for.

    The same domain with a publisher key that the node does not believe is another network: somebody else
    would say who is in it. `unit` is the service that the node runs as.
    """
    from wws.discovery.network import AD_HOC

    if asked == status.get("network") or (asked == AD_HOC and status.get("ad_hoc")):
        return
    domain, publishers = _network(asked)
    believed = set(status.get("publishers", ()))
    if domain != status.get("domain"):
        described = network_of(status)
    elif not publishers <= believed:
        keys = ", ".join(sorted(believed)) or "no publisher key"
        described = f"{network_of(status)} with {keys}"
    else:
        return
    raise OtherNetwork(
        f"The node {status['node']!r} runs already, in the network {described}.",
        hint=f"{_other_settings(status, unit, '--network NET')}, or join as another node: --node NAME",
    )


class NotHidden(LocalError):
    """The node runs already and shows its addresses, and now it is asked not to."""

    code = "not_relay_only"
    exit_code = Exit.USAGE


def check_relay_only(wanted: bool, status: dict[str, Any], *, unit: str | None = None) -> None:
    """Raises `NotHidden` when a running node announces its addresses and now is asked not to."""
    if wanted and not status.get("relay_only"):
        raise NotHidden(
            f"The node {status['node']!r} runs already, and announces its own addresses.",
            hint=f"{_other_settings(status, unit, '--relay-only')}.",
        )


def _other_settings(status: dict[str, Any], unit: str | None, said: str) -> str:
    """How to run the node with what was said here."""
    if unit is not None:
        return f"Change its service: wws service install --node {status['node']} {said}"
    return f"Stop it first (wws leave --node {status['node']}), then join with {said.partition(' ')[0]}"


def without_effect(
    given: Mapping[str, object], status: dict[str, Any], options: Options, *, unit: str | None = None
) -> tuple[str, ...]:
    """A warning that names the options which count only when a node is started; `unit` is its service."""
    late = [flag for flag, value in given.items() if (value or value == "") and flag not in CHECKED]
    if given.get("--name") not in (None, status.get("name")):
        late.insert(0, "--name")
    if not late:
        return ()
    verb = "has" if len(late) == 1 else "have"
    if unit is not None:
        install = options.again("service install", node=status["node"])
        return (f"warning: {', '.join(late)} {verb} no effect on the service {unit}; say it to: {install}",)
    leave = options.again("leave", node=status["node"])
    return (
        f"warning: {', '.join(late)} {verb} no effect on a node that runs already; stop it first: {leave}",
    )


def _network(asked: str) -> tuple[str, set[str]]:
    """Domain and publisher keys (hex) of a NET. Raises `WrongUsage`, `NetworkMalformed`."""
    from wws.discovery.network import NetworkMalformed, parse_network_file
    from wws.discovery.publishers import parse_publisher_key
    from wws.errors import ParseError

    if asked.endswith(".json"):
        try:
            with open(asked, "rb") as file:
                network = parse_network_file(file.read())
        except OSError as error:
            raise WrongUsage(f"Cannot read {asked}: {error.strerror or error}.") from None
        return network.domain, {key.hex() for key in network.publishers}
    domain, mark, keys = asked.partition("#")
    try:
        publishers = [parse_publisher_key(key) for key in keys.split(",")] if mark else []
    except ParseError as error:
        raise NetworkMalformed(str(error)) from None
    return domain.lower().rstrip("."), {key.hex() for key in publishers}
