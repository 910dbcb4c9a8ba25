"""What may be typed as a TARGET or a name: refused before any node is asked, so that the error is ours."""

from __future__ import annotations


def check_target(target: str) -> None:
    """Raises `TargetError` (exit 2) for what can name no node."""
    from wws.names.uri import parse_target

    parse_target(target)


def check_name(name: str) -> str:
    """The name in its one spelling. Raises `MalformedName` (exit 2)."""
    from wws.names.uri import NameTarget, TargetError, parse_target

    target = parse_target(name)
    if not isinstance(target, NameTarget):
        raise TargetError(f"{name[:80]!r} is not a name.", hint="A name looks like: alice")
    return target.name
