"""`wws name`: the names of the local node's identity, and whom the names of others are believed to be."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Annotated, Any, Final

import typer

from agent_cli import text
from agent_cli.compose import STATUS_TIMEOUT, call, home_of
from agent_cli.known_names import looks_like, warning
from agent_cli.name_words import label, warnings_about, way_back, why_unwitnessed, witnessed
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command, group, make_app
from agent_cli.result import Problem, Result, WrongUsage, write_error
from agent_cli.targets import check_name, owner_of, public_key_of
from wws.errors import LocalError
from wws.rpc.codes import Exit, exit_code

MAX_ENTRY: Final = 16 * 1024
"""Characters of an entry that are read; one has some 600."""

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="3 to 32 of a-z, 0-9 and '-'; NAME@SWARM for another swarm."),
]


def register(app: typer.Typer) -> None:
    names = make_app()
    group(names, name, examples=("wws name claim alice", "wws name list", "wws name transfer alice bob"))
    command(names, claim, examples=("wws name claim alice", "wws name claim alice@lab --json"))
    command(names, list_names, name="list", examples=("wws name list", "wws name list --json"))
    command(names, renew, examples=("wws name renew alice",))
    command(names, release, examples=("wws name release alice",))
    command(
        names,
        transfer,
        examples=("wws name transfer alice bob > entry.json", "wws name transfer alice 12D3KooW..."),
    )
    command(names, accept, examples=("wws name accept - < entry.json", """wws name accept '{"from": ...}'"""))
    command(
        names, trust, examples=("wws name trust alice", "wws name trust alice --owner 12D3KooW... --json")
    )
    app.add_typer(names, name="name")


def name(options: Options, context: typer.Context) -> None:
    """Claim, keep and hand on the names of this identity; accept a changed owner of another's."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws name --help")


def claim(options: Options, name: Name) -> Result:
    """Claim a name; this node keeps renewing it.

    The network's witnesses say whose a name is: the bootstrap nodes of a signed network, by majority. While
    they are away the name is claimed unwitnessed, and is covered by itself when they are back.
    """
    wanted = check_name(name)
    with progress(options, f"claiming wws:{wanted}"):
        data: dict[str, Any] = call(options, "swarm.register_name", {"name": wanted})
    names = _names(options)
    entry = {**_own(names, data), **data}
    if not data["registered"] and entry.get("state") != "transferring":
        return _refused(data, entry)
    alike = looks_like(home_of(options), entry["name"], entry["swarm"], names)
    given = (_STILL_GIVEN.format(label(entry)),) if entry.get("state") == "transferring" else ()
    notes = _unwitnessed(entry) + warning(label(entry), alike) + given
    told = {key: entry.get(key) for key in ("problem", "receipts", "witnesses")}
    return Result({**data, **told, "looks_like": alike}, _held(entry), notes=notes)


def list_names(options: Options) -> Result:
    """List this node's names and how each stands."""
    names = _names(options)
    head = ["name", "swarm", "state", "until", "witnessed", "holder or problem"]
    rows = [
        [
            entry["name"],
            entry["swarm"],
            entry["state"],
            text.when(entry["expires_at"]),
            _by(entry),
            entry.get("holder") or entry.get("problem"),
        ]
        for entry in names
    ]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    shown = text.table(head, rows) if rows else "No names. Claim one: wws name claim NAME"
    return Result({"names": names}, options.exact(shown))


def renew(options: Options, name: Name) -> Result:
    """Extend the lease of a name now.

    The node does so by itself, at a third of the lease's life.
    """
    wanted = check_name(name)
    with progress(options, f"renewing wws:{wanted}"):
        data: dict[str, Any] = call(options, "swarm.renew_name", {"name": wanted})
    entry = {**_own(_names(options), data), **data}
    if not data["renewed"]:
        is_ours = entry.get("state") in ("held", "transferring")
        return _not_renewed(data, entry) if is_ours else _refused(data, entry)
    until = text.when(data["new_expires_at"])
    return Result(
        data, f"{label(entry)} is renewed until {until}, {witnessed(entry)}.", notes=_unwitnessed(entry)
    )


def release(options: Options, name: Name) -> Result:
    """Give a name up; after a cool-down others may claim it.

    Until then only this node can take it up again, by claiming it.
    """
    wanted = check_name(name)
    before = _own(_names(options), {"name": wanted})
    with progress(options, f"releasing wws:{wanted}"):
        data: dict[str, Any] = call(options, "swarm.release_name", {"name": wanted})
    if not data["released"]:
        return _refused(data, {**_own(_names(options), data), **data})
    free = f" It is free for others from {text.when(data['free_at'])}." if data.get("free_at") else ""
    given = before.get("state") == "transferring"
    notes = (_STILL_GIVEN.format(label(data)),) if given else ()
    return Result(data, f"{label(data)} is released.{free}", notes=notes)


def transfer(
    options: Options,
    name: Name,
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="The new owner: a name, DID, PeerId, or public key in hex."),
    ],
) -> Result:
    """Sign a name over to another key, for good.

    Prints the entry, one line of JSON, with which the new owner takes the name up: wws name accept. Until
    then the name stays yours. It cannot be signed over to anybody else after that.
    """
    wanted = check_name(name)
    with progress(options, f"signing wws:{wanted} over to {target}"):
        key, answer = public_key_of(options, target)
        alike = answer.get("looks_like") or _known_like(options, answer)
        if alike is not None:
            raise Unsure(wanted, answer, alike)
        data: dict[str, Any] = call(options, "swarm.transfer_name", {"name": wanted, "new_pubkey": key})
    named = label(data)
    told = (
        f"{named} is signed over to {data['to']}.",
        "Give the entry (the line on stdout) to its new owner, who pastes it into: wws name accept -",
        "Until then it stays yours, and this node keeps it. It cannot be signed over to anybody else.",
    )
    line = json.dumps(data["entry"], separators=(",", ":"))
    return Result(data, line, notes=warnings_about(answer, target), for_others=told)


def accept(
    options: Options,
    entry: Annotated[
        str, typer.Argument(metavar="ENTRY|-", help="The entry, one line of JSON; - reads stdin.")
    ],
) -> Result:
    """Take up a name that was signed over to this node.

    The entry is what the owner's wws name transfer printed. This node keeps the name from then on.
    """
    parsed = _entry(_pasted() if entry == "-" else entry)
    with progress(options, f"taking up wws:{parsed.get('name')}"):
        data: dict[str, Any] = call(options, "swarm.accept_name", {"entry": parsed})
    known = {**_own(_names(options), data), **data}
    if not data["accepted"]:
        return _refused(data, known)
    return Result(data, _held(known), notes=_unwitnessed(known))


def trust(
    options: Options,
    name: Name,
    owner: Annotated[
        str | None,
        typer.Option(
            metavar="PEERID", help="The key to believe (or its DID); without it: who holds the name now."
        ),
    ] = None,
) -> Result:
    """Accept a changed owner of a name.

    A name is pinned to the key that it had when it was first used here. When another key shows it, it is
    refused (owner_changed) until you say that this is right: ask its owner over another channel first, and
    name the key that you were told with --owner.
    """
    wanted = check_name(name)
    params = {"name": wanted} | ({} if owner is None else {"owner": owner_of(owner)})
    with progress(options, f"looking wws:{wanted} up"):
        data: dict[str, Any] = call(options, "swarm.trust_name", params)
    before, now = data["before"], data["did"]
    rows = [
        ("name", label(data)),
        ("before", "not known here" if before is None else before),
        ("now", f"{now} (unchanged)" if before == now else now),
        ("peer id", data["peer_id"]),
    ]
    return Result(data, text.pairs(rows))


_STILL_GIVEN: Final = (
    "warning: the entry by which you signed {} over still holds: "
    "who it names can take the name up while it is yours."
)


class Unsure(LocalError):
    """The new owner's name looks like one that is known, and a transfer cannot be taken back."""

    code = "looks_like"
    exit_code = Exit.REFUSED

    def __init__(self, name: str, answer: dict[str, Any], alike: str) -> None:
        super().__init__(
            f"{label(answer)} looks like wws:{alike}, which is known here, and a transfer is for good.",
            hint=f"If it is the one that you mean, say its key: wws name transfer {name} {answer['peer_id']}",
        )
        self.details = {"looks_like": alike, "peer_id": answer["peer_id"]}


def _known_like(options: Options, answer: dict[str, Any]) -> str | None:
    """The known name that the new owner's could be taken for, also where that one was used before."""
    if not answer.get("name"):
        return None
    return looks_like(home_of(options), answer["name"], answer["swarm"])


def _names(options: Options) -> list[dict[str, Any]]:
    names: list[dict[str, Any]] = call(options, "swarm.my_names", timeout=STATUS_TIMEOUT)
    return names


def _own(names: list[dict[str, Any]], data: dict[str, Any]) -> dict[str, Any]:
    """How it stands with one of our names: who vouches for it, and what is wrong."""
    swarm = data.get("swarm")
    found = (entry for entry in names if entry["name"] == data["name"] and swarm in (None, entry["swarm"]))
    return next(found, {})


def _held(entry: dict[str, Any]) -> str:
    return f"{label(entry)} is yours until {text.when(entry['expires_at'])}, {witnessed(entry)}."


def _unwitnessed(entry: dict[str, Any]) -> tuple[str, ...]:
    if entry.get("witnessed"):
        return ()
    return (f"warning: {label(entry)} is unwitnessed: {why_unwitnessed(entry)}",)


def _by(entry: dict[str, Any]) -> str:
    if not entry["witnessed"]:
        return "no"
    receipts, witnesses = entry.get("receipts"), entry.get("witnesses")
    return f"{receipts} of {witnesses}" if receipts and witnesses else "yes"


def _refused(data: dict[str, Any], entry: dict[str, Any]) -> Result:
    """The node has answered, and the name is not as was asked for."""
    state, holder = entry.get("state", "claiming"), entry.get("holder") or "another peer"
    code, message = {
        "contested": ("name_contested", f"{label(entry)} is contested by {holder}."),
        "taken": ("name_taken", f"{label(entry)} belongs to {holder}."),
        "lost": ("name_taken", f"{label(entry)} belongs to {holder}."),
    }.get(state, ("timeout", f"{label(entry)} is not settled yet: {entry.get('problem') or state}."))
    problem = Problem(code, message, f"{way_back(entry)}How it stands: wws name list")
    return Result({**data, "holder": entry.get("holder")}, errors=(problem,), exit_code=exit_code(code))


def _not_renewed(data: dict[str, Any], entry: dict[str, Any]) -> Result:
    """The name is ours, and lasts no longer than before."""
    reason = entry.get("problem") or "too few witnesses answered"
    message = f"{label(entry)} is not renewed: {reason}. It lasts until {text.when(data['new_expires_at'])}."
    problem = Problem("not_renewed", message, "This node goes on trying by itself.")
    return Result(data, errors=(problem,), exit_code=exit_code("not_renewed"))


def _pasted() -> str:
    """The entry from stdin: all of a file or pipe, one line of somebody who types."""
    if not sys.stdin.isatty():
        return sys.stdin.read(MAX_ENTRY + 1)
    write_error("Paste the entry, one line:")
    return sys.stdin.readline(MAX_ENTRY + 1)


def _entry(typed: str) -> dict[str, object]:
    """What `wws name transfer` printed, also with --json. Raises `WrongUsage`."""
    hint = "It is the one line that its owner got on stdout from `name transfer`."
    if len(typed) > MAX_ENTRY:
        raise WrongUsage(f"An entry of more than {MAX_ENTRY} characters is none.", hint=hint)
    try:
        value = json.loads(typed)
    except (ValueError, RecursionError):
        if os.path.exists(typed):
            raise WrongUsage(
                f"{typed} is a file, and the entry is what stands in it.",
                hint=f"wws name accept - < {shlex.quote(typed)}",
            ) from None
        raise WrongUsage("The entry is not JSON.", hint=hint) from None
    for member in ("data", "entry"):
        if isinstance(value, dict) and isinstance(value.get(member), dict):
            value = value[member]
    if not isinstance(value, dict) or "signature" not in value:
        raise WrongUsage("The JSON is not the entry of a transfer.", hint=hint)
    return value
