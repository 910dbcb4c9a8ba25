"""What may be typed as a TARGET or a name: refused before any node is asked, so that the error is ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import typer

from agent_cli.compose import call
from agent_cli.options import Options
from agent_cli.result import WrongUsage
from wws.client import RpcError

TARGET_HELP = "A name or wws: URI, a DID, a PeerId, or a multiaddr with /p2p/."
Target: TypeAlias = Annotated[str, typer.Argument(metavar="TARGET", help=TARGET_HELP)]


def check_target(target: str) -> None:
    """Raises `TargetError` (exit 2) for what can name no node."""
    from wws.names.uri import parse_target

    parse_target(target)


def is_name(target: str) -> bool:
    """Whether a TARGET is a name, which somebody may have taken, and no key."""
    from wws.names.uri import NameTarget, parse_target

    return isinstance(parse_target(target), NameTarget)


def check_name(name: str) -> str:
    """The name in its one spelling, with its swarm where one was typed. Raises `MalformedName` (exit 2)."""
    from wws.names.uri import NameTarget, TargetError, parse_target

    target = parse_target(name)
    if not isinstance(target, NameTarget):
        raise TargetError(f"{name[:80]!r} is not a name.", hint="A name looks like: alice")
    return f"{target.name}@{target.swarm}" if "@" in name else target.name


def call_about(options: Options, target: str, method: str, params: Mapping[str, object]) -> Any:  # noqa: ANN401
    """Ask the node something about a target. A name that has another owner now is told with what to do.

    Raises what `compose.call` does.
    """
    try:
        return call(options, method, params)
    except RpcError as error:
        found = error.details.get("found")
        if error.code == "owner_changed" and isinstance(found, str):
            error.hint = (
                "Ask its owner over another channel which key is right. If it is the new one: "
                f"wws name trust {target} --owner {found}"
            )
        raise


def public_key_of(options: Options, target: str) -> tuple[str, dict[str, Any]]:
    """The public key of whoever `target` means, in hex, and what the network answered for it.

    A key itself, a PeerId, a did:key or a multiaddr says it; a name or a DID is asked for in the network.
    """
    from wws.identity.peer_id import PeerId
    from wws.names.uri import AddressTarget, PeerTarget, parse_target

    if len(target) == 64 and set(target.lower()) <= set("0123456789abcdef"):
        return target.lower(), {}
    parsed = parse_target(target)
    if isinstance(parsed, PeerTarget | AddressTarget):
        return parsed.peer_id.node_id, {}
    answer: dict[str, Any] = call_about(options, target, "swarm.resolve_name", {"name": target})
    return PeerId.parse(answer["peer_id"]).node_id, answer


def owner_of(text: str) -> str:
    """The owner that `--owner` says: a PeerId, or a DID, which the node looks up. Raises `WrongUsage`."""
    from wws.names.uri import DidTarget, PeerTarget, parse_target

    match parse_target(text):
        case PeerTarget(peer_id=peer_id):
            return str(peer_id)
        case DidTarget(did=did):
            return did
    raise WrongUsage(
        f"{text[:80]!r} is no key.", hint="A PeerId begins with 12D3KooW; the owner's `status` shows it."
    )
