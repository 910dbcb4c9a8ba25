"""`wws network`: the networks that this home knows. Needs no node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_cli import text
from agent_cli.compose import home_of
from agent_cli.options import Options
from agent_cli.registration import command, group, make_app
from agent_cli.result import Result, WrongUsage
from wws.errors import LocalError, ParseError
from wws.rpc.codes import Exit

if TYPE_CHECKING:
    from wws.discovery.bundle_state import BundleState
    from wws.discovery.network import Network
    from wws.runtime.default_network import DefaultNetwork
    from wws.runtime.state_files import NetworkFiles

MAX_FILE = 16 * 1024
"""Bytes of a network file that are read (wire 3)."""


class KeyPinned(LocalError):
    """The network is known with other publisher keys."""

    code = "network_key_pinned"
    exit_code = Exit.REFUSED


class NetworkNotSaved(LocalError):
    """No network of that name is saved."""

    code = "network_unknown"
    exit_code = Exit.NOT_FOUND


class NetworkOfBuild(LocalError):
    """The network comes with the build, and cannot be taken out of it."""

    code = "network_of_build"
    exit_code = Exit.REFUSED
    hint = "Join another one with --network, or set [network] name in config.toml."


def register(app: typer.Typer) -> None:
    networks = make_app()
    group(networks, network, examples=("wws network show", "wws network add example.json"))
    command(networks, show, examples=("wws network show", "wws network show example --json"))
    command(networks, add, examples=("wws network add example.json",))
    command(networks, remove, examples=("wws network remove example",))
    app.add_typer(networks, name="network")


def network(options: Options, context: typer.Context) -> None:
    """Show, add and remove the networks that this home knows."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws network --help")


def show(
    options: Options,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One network only.")] = None,
) -> Result:
    """Show the networks known here: domain, publisher keys, pinned peers, the signed list in force.

    These are the saved ones, those that were joined by domain and key, and the default of this build.
    """
    files, default = _files(options), _default()
    of_build = set() if default is None else {default.network.name}
    names = sorted({*files.names(), *files.names_with_state(), *of_build})
    if name is not None and name not in names:
        raise _unknown(name)
    entries: list[dict[str, object]] = []
    notes: list[str] = []
    for saved in names if name is None else [name]:
        try:
            origin, found = _find(files, saved, default)
        except ParseError as error:
            notes.append(f"warning: the saved network {saved!r} cannot be read: {error}")
            continue
        if found is not None:
            entries.append({**_entry(files, found), "origin": origin})
    if default is None:
        notes.append("This build has no default network.")
    shown = "\n\n".join(_described(entry) for entry in entries) or "No networks are known."
    return Result({"networks": entries}, shown, notes=tuple(notes))


def add(
    options: Options,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The network file of the operator.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Take it even if the publisher keys are others than before.")
    ] = False,
) -> Result:
    """Save a network from its signed file, so that `wws join --network NAME` knows it."""
    from wws.discovery.network import parse_network_file

    data = _read_file(file)
    found = parse_network_file(data)
    files = _files(options)
    before = _conflicting(files, found, _default())
    if before is not None and not replace:
        raise KeyPinned(
            f"The network {before.name!r} ({before.domain}) is known with other publisher keys.",
            hint="If its operator has told you so over another way: add --replace",
        )
    if before is not None:
        files.remove(before.name)
    files.write_file(found.name, data)
    entry = _entry(files, found)
    notes = tuple(f"warning: a pinned peer was left out: {reason}" for reason in found.skipped)
    return Result(
        {**entry, "replaced": before is not None},
        f"The network {found.name!r} is saved: wws join --network {found.name}",
        notes=notes,
    )


def remove(options: Options, name: Annotated[str, typer.Argument(metavar="NAME")]) -> Result:
    """Forget a network: its saved file, and what its signed lists have settled."""
    files, default = _files(options), _default()
    if name not in {*files.names(), *files.names_with_state()} or not files.remove(name):
        if default is not None and default.network.name == name:
            raise NetworkOfBuild(f"The network {name!r} is the default of this build; nothing more is kept.")
        raise _unknown(name)
    notes: tuple[str, ...] = ()
    if default is not None and default.network.name == name:
        notes = (f"{name} is the default of this build: the next join begins with the keys that it names.",)
    return Result({"name": name, "removed": True}, f"The network {name!r} is forgotten.", notes=notes)


def _files(options: Options) -> NetworkFiles:
    from wws.runtime.state_files import NetworkFiles

    return NetworkFiles(home_of(options))


def _default() -> DefaultNetwork | None:
    from wws.runtime.default_network import default_network

    return default_network()


def _find(files: NetworkFiles, name: str, default: DefaultNetwork | None) -> tuple[str, Network | None]:
    """Where a network is known from, and what is known of it."""
    found = _read(files, name)
    if found is not None:
        return "saved", found
    if default is not None and default.network.name == name:
        return "build", default.network
    return "joined", _of_state(files, name)


def _read(files: NetworkFiles, name: str) -> Network | None:
    from wws.discovery.network import parse_network_file

    data = files.read_file(name, max_bytes=MAX_FILE)
    return None if data is None else parse_network_file(data)


def _of_state(files: NetworkFiles, name: str) -> Network | None:
    """A network that was joined by its domain and key: what its signed lists have settled is all there is."""
    from wws.discovery.bundle_state import BundleState
    from wws.discovery.network import Network

    remembered = files.read_state(name)
    if remembered is None:
        return None
    state = BundleState.from_json(remembered)
    return Network(name, state.domain, state.keys)


def _conflicting(files: NetworkFiles, new: Network, default: DefaultNetwork | None) -> Network | None:
    """The known network of this name or domain whose publisher keys are not those of the new one."""
    of_build = () if default is None else (default.network.name,)
    for name in dict.fromkeys((*files.names(), *of_build)):
        try:
            _, known = _find(files, name, default)
        except ParseError:
            continue
        if known is None or (known.name != new.name and known.domain != new.domain):
            continue
        trusted = (set(known.publishers), set(_state(files, known).keys))
        if known.domain != new.domain or set(new.publishers) not in trusted:
            return known
    return None


def _entry(files: NetworkFiles, found: Network) -> dict[str, object]:
    state = _state(files, found)
    bundle = None if state.last is None else {"seq": state.last.seq, "exp": state.last.expires_at}
    return {
        "name": found.name,
        "domain": found.domain,
        "publishers": [key.hex() for key in state.keys],
        "bundle": bundle,
        "peers": [str(peer) for peer in found.peers],
        "swarm": found.swarm,
    }


def _state(files: NetworkFiles, found: Network) -> BundleState:
    """What its signed lists have settled; the beginning where that cannot be read."""
    from wws.discovery.bundle_state import BundleState

    try:
        return BundleState.of(found, files.read_state(found.name))
    except ParseError:
        return BundleState.of(found, None)


def _described(entry: dict[str, object]) -> str:
    is_default = entry.get("origin") == "build"
    bundle, publishers, peers = entry["bundle"], entry["publishers"], entry["peers"]
    assert isinstance(publishers, list)
    assert isinstance(peers, list)
    listed = (
        f"number {bundle['seq']}, until {text.when(bundle['exp'])}" if isinstance(bundle, dict) else "none"
    )
    return text.pairs(
        [
            ("network", f"{entry['name']} (the default of this build)" if is_default else entry["name"]),
            ("domain", entry["domain"]),
            ("publishers", "\n            ".join(publishers) or "none: unsigned"),
            ("signed list", listed),
            ("pinned peers", "\n              ".join(peers)),
        ]
    )


def _read_file(file: str) -> bytes:
    try:
        with Path(file).open("rb") as stream:
            return stream.read(MAX_FILE + 1)
    except OSError as error:
        raise WrongUsage(f"Cannot read {file}: {error.strerror or error}.") from None


def _unknown(name: str) -> NetworkNotSaved:
    return NetworkNotSaved(f"No network {name[:80]!r} is saved.", hint="wws network show lists them.")
