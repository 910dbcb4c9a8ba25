"""`wws-ops status`: all nodes in one table. A node that cannot be asked is a row, too."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import typer

from agent_cli import text
from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.machines import (
    Outcome,
    ask,
    free_bytes,
    logged_in,
    on_all,
    worst,
)
from agent_cli.ops.sources import Hosts, Infra, InventoryFile, Stack, load_inventory
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Problem, Result
from agent_cli.text import one_line, printable
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit

RENEW_SOON: Final = 14 * 86_400
"""Seconds before the end of the signed list from which on it is time to sign it again."""
DISK_SHORT: Final = 0.1
"""Share of the disk that is free, below which somebody should look."""

_COPIED: Final = (
    "version",
    "peer_id",
    "status",
    "draining",
    "uptime_s",
    "connections",
    "reservations",
    "circuits",
    "bundle_seq",
    "bundle_expires_at",
    "witness_entries",
    "witness_writable",
    "witness_no_first_claims_until",
    "rss_bytes",
    "open_files",
    "pid",
    "http",
)
"""Members of what `wws-control status` says that are taken over."""
LONGEST: Final = 100
"""Characters that are shown of one."""
MOST: Final = 10**18


class PeerIdWrong(LocalError):
    """A node runs with another key than the inventory says."""

    code = "peer_id_mismatch"
    exit_code = Exit.INTEGRITY
    hint = "Was the host restored with the key of another? Stop it: one key must never run twice."


@dataclass(frozen=True, slots=True)
class NodeState:
    """What a node says of itself, and its machine of it."""

    said: Mapping[str, object]
    disk: tuple[int, int] | None


def register(app: typer.Typer) -> None:
    command(
        app,
        status,
        examples=("wws-ops status --stack prod", "wws-ops status one --inventory hosts.json --json"),
    )


def status(
    options: Options,
    host: Hosts = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Show all nodes in a table: version, state, relays, list, witness, memory, disk.

    Exit code 0 when all run and are who they should be; 3 when one does not run, 5 when one cannot be
    reached, 8 when somebody else answers.
    """
    known = load_inventory(inventory, stack, infra)
    with progress(options, "Asking the nodes…"):
        outcomes = on_all(known.choose(host or []), lambda one: _look(one, known))
    return shown(known, outcomes, time.time())


def shown(inventory: Inventory, outcomes: list[Outcome[NodeState]], unix_now: float) -> Result:
    """The table, the notes, and what is wrong."""
    errors: list[WwsError] = []
    for outcome in outcomes:
        error = outcome.error or _wrong_key(outcome)
        if error is not None:
            errors.append(error)
    rows = [_row(outcome) for outcome in outcomes]
    head = (
        "host", "region", "state", "version", "up", "peers", "reserved", "circuits", "list", "names",
        "memory", "disk free",
    )  # fmt: skip
    data = {
        "domain": inventory.domain,
        "network": inventory.network,
        "nodes": [_json(outcome) for outcome in outcomes],
    }
    return Result(
        data,
        text.table(head, rows),
        notes=_notes(outcomes, unix_now),
        errors=tuple(Problem(error.code, str(error), error.hint) for error in errors),
        exit_code=worst(errors),
    )


def _look(host: HostEntry, inventory: Inventory) -> NodeState:
    with logged_in(host, inventory) as machine:
        return NodeState(taken_over(ask(machine, "status")), free_bytes(machine))


def taken_over(said: Mapping[str, object]) -> dict[str, object]:
    """Of what a node says that we show: its host may say anything, and only about itself."""
    shown: dict[str, object] = {}
    for name in _COPIED:
        value = said.get(name)
        if isinstance(value, str):
            value = one_line(printable(value), LONGEST)
        elif isinstance(value, (int, float)):
            value = value if abs(value) < MOST else None
        else:
            value = None
        shown[name] = value
    return shown


def _wrong_key(outcome: Outcome[NodeState]) -> PeerIdWrong | None:
    state, host = outcome.value, outcome.host
    if state is None or state.said.get("peer_id") == host.peer_id:
        return None
    return PeerIdWrong(f"{host.name}: {state.said.get('peer_id')} runs there, and not {host.peer_id}.")


def state_of(outcome: Outcome[NodeState]) -> str:
    """One word for the node."""
    if outcome.error is not None:
        match outcome.error.code:
            case "node_not_running":
                return "stopped"
            case "host_unreachable":
                return "unreachable"
            case code:
                return code
    assert outcome.value is not None
    if _wrong_key(outcome) is not None:
        return "wrong_key"
    return "draining" if outcome.value.said.get("draining") else str(outcome.value.said.get("status"))


def _row(outcome: Outcome[NodeState]) -> tuple[object, ...]:
    host = outcome.host
    if outcome.value is None:
        return (host.name, host.region or None, state_of(outcome), *[None] * 9)
    said, disk = outcome.value.said, outcome.value.disk
    expires, seq = said.get("bundle_expires_at"), said.get("bundle_seq")
    return (
        host.name,
        host.region or None,
        state_of(outcome),
        said.get("version"),
        text.duration(said.get("uptime_s")),
        said.get("connections"),
        said.get("reservations"),
        said.get("circuits"),
        None if seq is None else f"{seq} until {text.when(expires)}",
        said.get("witness_entries"),
        text.size(said.get("rss_bytes")),
        None if disk is None else f"{text.size(disk[0])} of {text.size(disk[1])}",
    )


def _json(outcome: Outcome[NodeState]) -> dict[str, object]:
    host, error = outcome.host, outcome.error
    data: dict[str, object] = {
        "host": host.name,
        "region": host.region,
        "address": host.address,
        "managed_by": host.managed_by,
        "state": state_of(outcome),
        "expected_peer_id": host.peer_id,
        "peer_id_matches": None,
        "error": None if error is None else error.code,
        **dict.fromkeys(_COPIED),
        "disk_free_bytes": None,
        "disk_bytes": None,
    }
    if outcome.value is not None:
        said = outcome.value.said
        data |= {name: said.get(name) for name in _COPIED}
        data["peer_id_matches"] = said.get("peer_id") == host.peer_id
        if outcome.value.disk is not None:
            data["disk_free_bytes"], data["disk_bytes"] = outcome.value.disk
    return data


def _notes(outcomes: list[Outcome[NodeState]], unix_now: float) -> tuple[str, ...]:
    """What is not an error yet."""
    notes = []
    seqs = {str(outcome.value.said.get("bundle_seq")) for outcome in outcomes if outcome.value is not None}
    if len(seqs) > 1:
        notes.append("The nodes know different lists; those behind take the newer one within the hour.")
    versions = {str(outcome.value.said.get("version")) for outcome in outcomes if outcome.value is not None}
    if len(versions) > 1:
        notes.append(f"The nodes run different versions: {', '.join(sorted(versions))}.")
    for outcome in outcomes:
        if outcome.value is None:
            continue
        name, said, disk = outcome.host.name, outcome.value.said, outcome.value.disk
        expires = said.get("bundle_expires_at")
        if isinstance(expires, (int, float)) and expires - unix_now < RENEW_SOON:
            left = "is over" if expires <= unix_now else f"ends in {text.duration(expires - unix_now)}"
            notes.append(f"{name}: the signed list {left}. Sign it again: wws-dns renew")
        if said.get("witness_writable") is False:
            notes.append(f"{name}: the witness cannot write, and gives no receipts. Is its disk full?")
        until = said.get("witness_no_first_claims_until")
        if isinstance(until, (int, float)) and until > unix_now:
            notes.append(
                f"{name}: no first claims until {text.when(until)}, for its promises as a witness were lost. "
                "Until then the others have to witness new names."
            )
        if disk is not None and disk[0] < DISK_SHORT * disk[1]:
            notes.append(f"{name}: only {text.size(disk[0])} of the disk are free.")
    return tuple(notes)
