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

_ROWS: Final[tuple[tuple[int, Exit, str], ...]] = (
    (
        INVALID_PARAMS,
        Exit.USAGE,
        (
            "invalid_params wrong_usage malformed truncated too_large malformed_name malformed_target "
            "address_refused bad_node_name several_nodes "
            "other_network config_error config_unreadable config_unknown_key "
            "config_bad_value network_malformed unsigned_network bootstrap_without_peer_id cannot_listen"
        ),
    ),
    (PARSE_ERROR, Exit.USAGE, "parse_error line_too_long too_deep too_many_values"),
    (INVALID_REQUEST, Exit.USAGE, "invalid_request batch_too_large malformed_signed_request"),
    (METHOD_NOT_FOUND, Exit.USAGE, "method_not_found"),
    (INTERNAL_ERROR, Exit.BUG, "internal_error local_protocol_error"),
    (UNREACHABLE, Exit.NO_NODE, "node_not_running"),
    (
        NOT_FOUND,
        Exit.NOT_FOUND,
        (
            "not_found name_not_found name_released name_not_held peer_not_found network_unknown "
            "name_not_pinned no_identity no_log"
        ),
    ),
    (
        REFUSED,
        Exit.REFUSED,
        (
            "name_taken name_contested contested not_allowed refused busy too_many_clients wrong_network "
            "key_exists identity_in_use network_exists network_key_pinned too_many_names node_running "
            "transfer_refused double_transfer tier_too_low work_too_weak too_many_agents too_many_tokens "
            "peer_banned peer_denied name_denied pins_full not_a_bootstrap_node"
        ),
    ),
    (
        UNAUTHORISED,
        Exit.REFUSED,
        (
            "unauthorised token_expired agent_unknown two_credentials timestamp_off nonce_seen "
            "not_canonical other_node request_signature_wrong"
        ),
    ),
    (RATE_LIMITED, Exit.REFUSED, "rate_limited nonce_window_full"),
    (TIMEOUT, Exit.UNREACHABLE, "timeout"),
    (
        UNREACHABLE,
        Exit.UNREACHABLE,
        (
            "peer_unreachable unreachable connection_refused network_unreachable no_addresses "
            "handshake_failed handshake_timeout phase_timeout connection_lost connection_closed stream_reset "
            "protocol_not_supported negotiation_failed peer_id_mismatch wrong_echo resolve_failed "
            "wrong_peer remote_protocol_error "
            "not_renewed relay_no_reservation relay_refused relay_unreachable relay_limit"
        ),
    ),
    (UNREACHABLE, Exit.RELAYED_ONLY, "relayed_only relay_limited"),
    (UNREACHABLE, Exit.NO_WAY_IN, "not_joined no_network no_way_in lookup_unanswered"),
    (
        INTEGRITY,
        Exit.INTEGRITY,
        (
            "integrity owner_changed bad_signature network_bad_signature publisher_unknown bundle_refused "
            "bundle_malformed bundle_too_large bundle_bad_signature bundle_rotation_refused "
            "bundle_seq_low bundle_seq_future bundle_not_yet_valid bundle_expired bundle_equivocation "
            "bundle_missing cookie_unsafe folder_loose "
            "key_file_refused key_file_loose key_file_size key_file_symlink"
        ),
    ),
    (
        INTERNAL_ERROR,
        Exit.MACHINE,
        (
            "machine_error cannot_write cannot_read no_space port_taken state_damaged state_too_new "
            "start_failed stop_failed"
        ),
    ),
)
"""Number, exit code, and the words that travel under them."""

WORDS: Final[dict[str, tuple[int, Exit]]] = {
    word: (number, code) for number, code, words in _ROWS for word in words.split()
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
