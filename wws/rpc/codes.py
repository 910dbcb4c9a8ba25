"""What an error's word means to a program: its JSON-RPC number and its exit code.

Every error of WWS carries a stable word (`WwsError.code`). This is the one table that says which
JSON-RPC error number the word travels under (contract, section 6) and with which code a command
ends when it meets it (contract, section 2). It imports nothing, so that the CLI can afford it.

A word that is not in the table falls back on its number, and a number on its own row: new words can
be added anywhere in WWS without touching this file, and still end in a sensible exit code.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Exit(IntEnum):
    """The exit codes of `wws`, by what they mean to a script."""

    DONE = 0
    BUG = 1
    USAGE = 2
    NO_NODE = 3
    NOT_FOUND = 4
    UNREACHABLE = 5
    RELAYED_ONLY = 6
    REFUSED = 7
    INTEGRITY = 8
    NO_WAY_IN = 9
    MACHINE = 10
    INTERRUPTED = 130


PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
UNAUTHORISED: Final = -32001
NOT_FOUND: Final = -32002
REFUSED: Final = -32003
RATE_LIMITED: Final = -32004
TIMEOUT: Final = -32005
UNREACHABLE: Final = -32006
INTEGRITY: Final = -32007

EXIT_BY_NUMBER: Final[dict[int, Exit]] = {
    PARSE_ERROR: Exit.USAGE,
    INVALID_REQUEST: Exit.USAGE,
    METHOD_NOT_FOUND: Exit.USAGE,
    INVALID_PARAMS: Exit.USAGE,
    INTERNAL_ERROR: Exit.BUG,
    UNAUTHORISED: Exit.REFUSED,
    NOT_FOUND: Exit.NOT_FOUND,
    REFUSED: Exit.REFUSED,
    RATE_LIMITED: Exit.REFUSED,
    TIMEOUT: Exit.UNREACHABLE,
    UNREACHABLE: Exit.UNREACHABLE,
    INTEGRITY: Exit.INTEGRITY,
}

WORDS: Final[dict[str, tuple[int, Exit]]] = {
    "parse_error": (PARSE_ERROR, Exit.USAGE),
    "invalid_request": (INVALID_REQUEST, Exit.USAGE),
    "method_not_found": (METHOD_NOT_FOUND, Exit.USAGE),
    "invalid_params": (INVALID_PARAMS, Exit.USAGE),
    "usage": (INVALID_PARAMS, Exit.USAGE),
    "malformed": (INVALID_PARAMS, Exit.USAGE),
    "malformed_name": (INVALID_PARAMS, Exit.USAGE),
    "name_malformed": (INVALID_PARAMS, Exit.USAGE),
    "name_reserved": (INVALID_PARAMS, Exit.USAGE),
    "reserved_name": (INVALID_PARAMS, Exit.USAGE),
    "malformed_target": (INVALID_PARAMS, Exit.USAGE),
    "address_refused": (INVALID_PARAMS, Exit.USAGE),
    "config_error": (INVALID_PARAMS, Exit.USAGE),
    "node_ambiguous": (INVALID_PARAMS, Exit.USAGE),
    "other_network": (INVALID_PARAMS, Exit.USAGE),
    "no_listen_address": (INVALID_PARAMS, Exit.USAGE),
    "internal_error": (INTERNAL_ERROR, Exit.BUG),
    "local_protocol_error": (INTERNAL_ERROR, Exit.BUG),
    "node_not_running": (UNREACHABLE, Exit.NO_NODE),
    "unauthorised": (UNAUTHORISED, Exit.REFUSED),
    "not_found": (NOT_FOUND, Exit.NOT_FOUND),
    "name_not_found": (NOT_FOUND, Exit.NOT_FOUND),
    "name_released": (NOT_FOUND, Exit.NOT_FOUND),
    "name_not_held": (NOT_FOUND, Exit.NOT_FOUND),
    "peer_not_found": (NOT_FOUND, Exit.NOT_FOUND),
    "network_not_found": (NOT_FOUND, Exit.NOT_FOUND),
    "no_identity": (NOT_FOUND, Exit.NOT_FOUND),
    "no_log": (NOT_FOUND, Exit.NOT_FOUND),
    "name_taken": (REFUSED, Exit.REFUSED),
    "name_contested": (REFUSED, Exit.REFUSED),
    "contested": (REFUSED, Exit.REFUSED),
    "not_allowed": (REFUSED, Exit.REFUSED),
    "refused": (REFUSED, Exit.REFUSED),
    "busy": (REFUSED, Exit.REFUSED),
    "too_many_clients": (REFUSED, Exit.REFUSED),
    "wrong_network": (REFUSED, Exit.REFUSED),
    "identity_exists": (REFUSED, Exit.REFUSED),
    "identity_in_use": (REFUSED, Exit.REFUSED),
    "network_exists": (REFUSED, Exit.REFUSED),
    "network_key_pinned": (REFUSED, Exit.REFUSED),
    "rate_limited": (RATE_LIMITED, Exit.REFUSED),
    "timeout": (TIMEOUT, Exit.UNREACHABLE),
    "peer_unreachable": (UNREACHABLE, Exit.UNREACHABLE),
    "unreachable": (UNREACHABLE, Exit.UNREACHABLE),
    "no_addresses": (UNREACHABLE, Exit.UNREACHABLE),
    "wrong_peer": (UNREACHABLE, Exit.UNREACHABLE),
    "remote_protocol_error": (UNREACHABLE, Exit.UNREACHABLE),
    "relayed_only": (UNREACHABLE, Exit.RELAYED_ONLY),
    "relay_limited": (UNREACHABLE, Exit.RELAYED_ONLY),
    "not_joined": (UNREACHABLE, Exit.NO_WAY_IN),
    "no_network": (UNREACHABLE, Exit.NO_WAY_IN),
    "no_way_in": (UNREACHABLE, Exit.NO_WAY_IN),
    "integrity": (INTEGRITY, Exit.INTEGRITY),
    "owner_changed": (INTEGRITY, Exit.INTEGRITY),
    "bad_signature": (INTEGRITY, Exit.INTEGRITY),
    "publisher_unknown": (INTEGRITY, Exit.INTEGRITY),
    "bundle_equivocation": (INTEGRITY, Exit.INTEGRITY),
    "port_taken": (REFUSED, Exit.MACHINE),
    "not_writable": (INTERNAL_ERROR, Exit.MACHINE),
    "no_space": (INTERNAL_ERROR, Exit.MACHINE),
    "start_failed": (INTERNAL_ERROR, Exit.MACHINE),
}


def rpc_number(word: str) -> int | None:
    """The JSON-RPC error number that the word travels under, or None where the table has no row."""
    row = WORDS.get(word)
    return row[0] if row else None


def exit_code(word: str, number: int | None = None) -> Exit:
    """The exit code for an error's word; a word without a row falls back on its JSON-RPC number."""
    row = WORDS.get(word)
    if row is not None:
        return row[1]
    if number is not None and number in EXIT_BY_NUMBER:
        return EXIT_BY_NUMBER[number]
    return Exit.BUG
