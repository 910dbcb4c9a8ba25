"""Reading what we wrote ourselves: state files carry a schema number and are read strictly.

One schema newer than ours is read too, by leaving out what is not known, so that a downgrade loses nothing.
"""

from __future__ import annotations

from wws.codec.canonical import JsonObject, JsonValue
from wws.errors import WwsError


class StateUnreadable(WwsError):
    """A state file does not hold what it must. It is left as it is."""

    code = "state_unreadable"


def state_object(what: str, value: JsonValue, schema: int, known: frozenset[str]) -> JsonObject:
    """The object of a state file."""
    if not isinstance(value, dict):
        raise StateUnreadable(f"{what} is not a JSON object")
    found = value.get("schema")
    if not isinstance(found, int) or isinstance(found, bool) or found not in (schema, schema + 1):
        raise StateUnreadable(f"{what} has schema {found!r}, this version reads {schema} and {schema + 1}")
    if found == schema:
        return value
    return {key: member for key, member in value.items() if key in known}


def state_list(what: str, value: JsonValue, limit: int) -> list[JsonValue]:
    """A list in a state file with at most `limit` entries."""
    if not isinstance(value, list):
        raise StateUnreadable(f"{what} is not a list")
    if len(value) > limit:
        raise StateUnreadable(f"{what} has {len(value)} entries, at most {limit} are read")
    return value
