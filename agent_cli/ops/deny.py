"""`wws-ops deny add|remove|list`: whom no node of ours deals with, the same on all of them.

The list is the file that `[deny] file` in the `config.toml` of each node names; what else is in it stays as
it is. First every node is looked at; only when all is well with all of them, the first is changed. An entry
that would cut our nodes off from each other, or the operator from them, is refused.
"""

from __future__ import annotations

import hashlib
import ipaddress
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Final

import typer

from agent_cli import text
from agent_cli.ops.inventory import HostEntry, Inventory
from agent_cli.ops.machines import Machine, ask, logged_in, on_all, worst
from agent_cli.ops.sources import Infra, InventoryFile, Stack, load_inventory
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command, group, make_app
from agent_cli.remote import RemoteError
from agent_cli.result import Problem, Result, WrongUsage
from wws.addresses.multiaddr import Multiaddr
from wws.config.deny_file import parse_deny_file
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit

CONFIG: Final = "/etc/wws/config.toml"
"""The settings of a node that Ansible has installed."""
MAX_REASON: Final = 200

_CHANGED: Final = 9
"""What `_WRITE` ends with where the list is another than the one that was read."""
# Whole or not at all, and for whom the settings beside it are; of two operators at once the second is told.
_WRITE: Final = """\
set -eu
umask 077
exec 9<"$2"
flock 9
if test -e "$1"; then found=$(sha256sum <"$1"); else found=$(sha256sum </dev/null); fi
test "${found%% *}" = "$3" || exit 9
cat >"$1.new"
chown --reference="$2" "$1.new"
chmod --reference="$2" "$1.new"
mv "$1.new" "$1"
"""

_Entry = Annotated[
    list[str], typer.Argument(metavar="ENTRY", help="A network or address, a PeerId, or wws:NAME.")
]
_Host = Annotated[
    list[str] | None, typer.Option("--host", metavar="HOST", help="This host only; may be repeated.")
]


class DenyRefused(LocalError):
    """The entry would shut out who must not be shut out."""

    code = "deny_refused"
    exit_code = Exit.REFUSED


class DenyFileMissing(RemoteError):
    """The settings of the node name no file with a deny list."""

    code = "deny_file_missing"
    exit_code = Exit.REFUSED


class DenyFileChanged(RemoteError):
    """Somebody else has changed the list since it was read."""

    code = "deny_file_changed"
    exit_code = Exit.REFUSED
    hint = "Nothing was changed there. Run it again."


@dataclass(frozen=True, slots=True)
class _Listed:
    """The list of one node as it is."""

    path: str
    config: str
    content: str
    operator: str
    """The address from which we are logged in, as the host sees it; empty on this machine."""
    entries: tuple[str, ...]


def register(app: typer.Typer) -> None:
    deny_app = make_app()
    group(deny_app, deny, examples=("wws-ops deny list --stack prod",))
    command(
        deny_app,
        add,
        examples=(
            "wws-ops deny add 198.51.100.0/24 --reason 'flood' --stack prod",
            "wws-ops deny add 12D3KooW…",
        ),
    )
    command(deny_app, remove, examples=("wws-ops deny remove 198.51.100.0/24 --stack prod",))
    command(deny_app, list_entries, name="list", examples=("wws-ops deny list --stack prod --json",))
    app.add_typer(deny_app, name="deny")


def deny(options: Options, context: typer.Context) -> None:
    """Keep peers, networks and names out of all nodes."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws-ops deny --help")


def add(
    options: Options,
    entry: _Entry,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Stands beside the entry.")] = "",
    host: _Host = None,
    stolen: Annotated[
        bool, typer.Option("--stolen", help="It is the key of a node of ours: deny it on the others.")
    ] = False,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Put entries on the list of every node, and have them read it. Their connections are closed at once."""
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise WrongUsage(f"A reason is printable, and has at most {MAX_REASON} characters.")
    wanted = tuple(dict.fromkeys(map(_canonical, entry)))
    note = f"{datetime.now(UTC):%Y-%m-%d} {reason.replace('#', '')}".strip()

    def change(listed: _Listed) -> str:
        new = [one for one in wanted if one not in listed.entries]
        return _ended(listed.content) + "".join(f"{one}   # {note}\n" for one in new)

    known = load_inventory(inventory, stack, infra)
    if stolen:
        return _apply(options, known, _others(known, host or [], wanted), change, wanted)
    for one in wanted:
        _refuse_own(one, known)
    return _apply(options, known, host or [], change, wanted)


def remove(
    options: Options,
    entry: _Entry,
    host: _Host = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Take entries off the list of every node, and have them read it."""
    wanted = tuple(dict.fromkeys(map(_canonical, entry)))

    def change(listed: _Listed) -> str:
        kept = [line for line in listed.content.splitlines() if _entry_of(line) not in wanted]
        return "".join(f"{line}\n" for line in kept)

    known = load_inventory(inventory, stack, infra)
    return _apply(options, known, host or [], change, wanted)


def list_entries(
    options: Options,
    host: _Host = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Show what is on the lists, and where they differ."""
    known = load_inventory(inventory, stack, infra)
    with progress(options, "Reading the lists…"):
        outcomes = on_all(known.choose(host or []), partial(_read_at, inventory=known))
    read = {outcome.host.name: outcome.value for outcome in outcomes if outcome.value is not None}
    entries = dict.fromkeys(one for listed in read.values() for one in listed.entries)
    rows = []
    for one in entries:
        where = [name for name, listed in read.items() if one in listed.entries]
        rows.append((one, "all" if len(where) == len(read) else ", ".join(where)))
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    data = {"hosts": [{"host": name, "entries": list(listed.entries)} for name, listed in read.items()]}
    shown = text.table(("entry", "on"), rows) if rows else "Nobody is on the lists."
    return Result(data, shown, errors=_problems(errors), exit_code=worst(errors))


def _apply(
    options: Options,
    inventory: Inventory,
    hosts: list[str],
    change: Callable[[_Listed], str],
    wanted: tuple[str, ...],
) -> Result:
    """Read all, look whether nothing is in the way, then write where something changes."""
    with progress(options, "Reading the lists…") as shown:
        read = on_all(inventory.choose(hosts), partial(_read_at, inventory=inventory))
        errors = [outcome.error for outcome in read if outcome.error is not None]
        if errors:
            note = "Nothing was changed anywhere. Name those that are well: --host HOST"
            return Result({"hosts": []}, notes=(note,), errors=_problems(errors), exit_code=worst(errors))
        lists = {outcome.host.name: outcome.value for outcome in read if outcome.value is not None}
        texts = {name: change(listed) for name, listed in lists.items()}
        for name, listed in lists.items():
            parse_deny_file(texts[name], listed.path)
            if set(texts[name].split()) - set(listed.content.split()):
                for one in wanted:
                    _refuse_operator(one, listed.operator)
        to_change = [
            outcome.host for outcome in read if texts[outcome.host.name] != lists[outcome.host.name].content
        ]
        shown.say("Writing the lists…")
        written = on_all(
            to_change,
            lambda host: _write_at(host, inventory, lists[host.name], texts[host.name]),
        )
    failed = {outcome.host.name: outcome.error for outcome in written if outcome.error is not None}
    changed = {host.name for host in to_change} - failed.keys()
    words = {
        name: "failed" if name in failed else "changed" if name in changed else "unchanged" for name in lists
    }
    data = {
        "entries": list(wanted),
        "hosts": [{"host": name, "result": word} for name, word in words.items()],
    }
    left = list(failed.values())
    return Result(
        data, text.table(("host", "list"), words.items()), errors=_problems(left), exit_code=worst(left)
    )


# One node


def _read_at(host: HostEntry, inventory: Inventory) -> _Listed:
    with logged_in(host, inventory) as machine:
        config = f"{host.home}/config.toml" if host.is_local else CONFIG
        settings = machine.run(["cat", config], as_root=True)
        if settings.exit_code != 0:
            raise DenyFileMissing(host, f"its settings cannot be read: {settings.errors.strip()[-200:]}")
        path = _deny_file(host, config, settings.output)
        # One that is not there yet is empty.
        ran = machine.run(["sh", "-c", '! test -e "$1" || cat "$1"', "sh", path], as_root=True)
        if ran.exit_code != 0:
            raise DenyFileMissing(host, f"its deny list cannot be read: {ran.errors.strip()[-200:]}")
        operator = "" if host.is_local else _operator_at(machine)
    return _Listed(path, config, ran.output, operator, _entries(ran.output, f"{host.name}:{path}"))


def _deny_file(host: HostEntry, config: str, settings: str) -> str:
    """The path of the list, relative to the folder of the settings. Raises `DenyFileMissing`."""
    try:
        section = tomllib.loads(settings).get("deny", {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DenyFileMissing(host, f"{config} cannot be read: {error}") from None
    named = section.get("file") if isinstance(section, dict) else None
    if not isinstance(named, str) or not named:
        by_hand = f'[deny] file = "deny.txt" in {config}'
        hint = by_hand if host.is_local else 'The variable of the role: wws_deny: {file: "deny.txt"}'
        raise DenyFileMissing(host, f"{config} names no file with a deny list", hint=hint)
    return str(PurePosixPath(config).parent / named)


def _operator_at(machine: Machine) -> str:
    words = machine.run(["sh", "-c", 'echo "${SSH_CONNECTION:-}"']).output.split()
    return words[0] if words else ""


def _write_at(host: HostEntry, inventory: Inventory, listed: _Listed, content: str) -> None:
    digest = hashlib.sha256(listed.content.encode()).hexdigest()
    with logged_in(host, inventory) as machine:
        ran = machine.run(
            ["sh", "-c", _WRITE, "sh", listed.path, listed.config, digest],
            as_root=True,
            given=content.encode(),
        )
        if ran.exit_code == _CHANGED:
            raise DenyFileChanged(host, "its deny list is not the one that was read")
        if ran.exit_code != 0:
            raise DenyFileMissing(host, f"its deny list cannot be written: {ran.errors.strip()[-200:]}")
        ask(machine, "reload")


# Entries


def _canonical(entry: str) -> str:
    """The entry in its one spelling. Raises `WrongUsage`."""
    try:
        found = _entries(entry.replace("\n", " "), "the command line")
    except WwsError as error:
        raise WrongUsage(str(error).rpartition("command line:1: ")[2], hint=error.hint) from None
    if len(found) != 1:
        raise WrongUsage(f"{entry[:80]!r} is no entry of a deny list.")
    return found[0]


def _entries(content: str, name: str) -> tuple[str, ...]:
    """What a list has, each in its one spelling. Raises `ConfigBadValue` with the line."""
    listed = parse_deny_file(content, name)
    return (*listed.peers, *listed.prefixes, *(f"wws:{name}" for name in listed.names))


def _entry_of(line: str) -> str | None:
    """The entry in a line of the file; `None` for comments."""
    return _canonical(entry) if (entry := line.partition("#")[0].strip()) else None


def _others(inventory: Inventory, hosts: list[str], stolen: tuple[str, ...]) -> list[str]:
    """The nodes that keep their keys. Raises `WrongUsage` where that is not what was meant."""
    ours = {host.peer_id for host in inventory.hosts}
    for one in stolen:
        if one not in ours:
            raise WrongUsage(f"{one} is the PeerId of no node in the inventory.", hint="Leave --stolen out.")
    others = [host.name for host in inventory.choose(hosts) if host.peer_id not in stolen]
    if not others:
        raise WrongUsage("There is no other node to deny it.")
    return others


def _refuse_own(entry: str, inventory: Inventory) -> None:
    """Raises `DenyRefused` for a node of ours."""
    for host in inventory.hosts:
        own = {host.address, *(Multiaddr.parse(address).host for address in host.multiaddrs)}
        if entry == host.peer_id or any(_covers(entry, address) for address in own):
            raise DenyRefused(
                f"{entry} is, or has in it, the node {host.name}: the others would not talk to it any more.",
                hint="Is its key stolen? Then deny its PeerId on the others: --stolen"
                if entry == host.peer_id
                else "Deny a smaller network, or single addresses.",
            )


def _refuse_operator(entry: str, address: str) -> None:
    """Raises `DenyRefused` for where this command comes from."""
    if address and _covers(entry, address):
        raise DenyRefused(
            f"{entry} has your own address in it, {address}: you could not probe the nodes any more."
        )


def _covers(entry: str, address: str) -> bool:
    try:
        network, ip = ipaddress.ip_network(entry, strict=False), ipaddress.ip_address(address)
    except ValueError:
        return False  # a peer or a name; or a host that is called by a name
    mapped = getattr(ip, "ipv4_mapped", None)
    return any(one.version == network.version and one in network for one in (ip, mapped) if one is not None)


def _ended(content: str) -> str:
    return content if not content or content.endswith("\n") else content + "\n"


def _problems(errors: Iterable[WwsError]) -> tuple[Problem, ...]:
    return tuple(Problem(error.code, str(error), error.hint) for error in errors)
