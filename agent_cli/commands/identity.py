"""`wws id`: the identity of an agent, and making, exporting and importing one. Needs no node."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_cli import text
from agent_cli.compose import STATUS_TIMEOUT, call, home_of, node_of
from agent_cli.options import Options
from agent_cli.registration import command, group, make_app
from agent_cli.result import Result, WrongUsage
from wws.client import NodeNotRunning, RpcError
from wws.runtime.homes import SeveralNodes

if TYPE_CHECKING:
    from wws.identity.keys import Identity

MAX_EXPORT = 64 * 1024
"""Bytes of an exported identity that are read."""

Name = Annotated[str | None, typer.Option("--name", metavar="N", help="The identity of this name's key.")]
KeyPath = Annotated[str | None, typer.Option("--identity-path", metavar="P", help="The key file.")]
PassphraseFile = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help="Read the passphrase from its first line; - is stdin. Else it is asked for.",
    ),
]


class Format(StrEnum):
    """One form of the identity alone, for scripts."""

    all = "all"
    peer_id = "peer-id"
    peer_id_cid = "peer-id-cid"
    did = "did"
    did_key = "did-key"
    node_id = "node-id"
    path = "path"


def register(app: typer.Typer) -> None:
    ids = make_app()
    group(ids, identity, examples=("wws id", "wws id --name alice --format did"))
    command(ids, new, examples=("wws id new", "wws id new --name alice"))
    command(
        ids,
        export,
        examples=("wws id export alice.wwskey", "wws id export - --passphrase-file pass > alice.wwskey"),
    )
    command(ids, import_identity, name="import", examples=("wws id import alice.wwskey --name alice",))
    app.add_typer(ids, name="id")


def identity(
    options: Options,
    context: typer.Context,
    name: Name = None,
    identity_path: KeyPath = None,
    form: Annotated[
        Format, typer.Option("--format", help="Print one form alone.", show_default=False)
    ] = Format.all,
) -> Result | None:
    """Show the identity in each of its forms. Never makes one."""
    if context.invoked_subcommand is not None:
        # `wws id --name alice new` means the same as `wws id new --name alice`.
        options.before_command = {"name": name, "identity_path": identity_path}
        return None
    from wws.runtime.keyfile import load

    path = _path_of_running_node(options, name, identity_path) or key_path(options, name, identity_path)
    return _shown(load(path, os.environ), path, form)


def new(options: Options, name: Name = None, identity_path: KeyPath = None) -> Result:
    """Make a new identity. Never replaces one (exit 7)."""
    from wws.runtime.keyfile import create

    path = key_path(options, name, identity_path)
    return _shown(create(path), path, Format.all)


def export(
    options: Options,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to write it; - is stdout.")],
    name: Name = None,
    identity_path: KeyPath = None,
    passphrase_file: PassphraseFile = None,
) -> Result:
    """Write the identity, encrypted under a passphrase, to move or keep it. Never replaces a file."""
    from wws.identity.export import export_identity
    from wws.runtime.keyfile import load

    path = key_path(options, name, identity_path)
    found = load(path, os.environ)
    sealed = export_identity(found, _passphrase(passphrase_file, again=True))
    data = {"peer_id": str(found.peer_id), "path": str(path), "file": file}
    if file == "-":
        if options.json:
            return Result({**data, "export": sealed})
        return Result(data, sealed.rstrip("\n"))
    _write_new(Path(file), sealed)
    return Result(data, f"The identity {found.peer_id} is in {file}, encrypted.")


def import_identity(
    options: Options,
    file: Annotated[str, typer.Argument(metavar="FILE", help="What `wws id export` wrote; - is stdin.")],
    name: Name = None,
    identity_path: KeyPath = None,
    passphrase_file: PassphraseFile = None,
) -> Result:
    """Take up an exported identity as this key file. Never replaces one (exit 7)."""
    from wws.identity import export as exported
    from wws.runtime.keyfile import store

    path = key_path(options, name, identity_path)
    sealed = _read(file)
    found = exported.import_identity(sealed, _passphrase(passphrase_file, again=False))
    store(found, path)
    return _shown(found, path, Format.all)


def key_path(options: Options, name: str | None, flag: str | None) -> Path:
    """Where the key lies, by the same rule as the node's (contract, section 3).

    Without a name, the node that the command acts as gives its own where it has a key of that name.
    """
    from wws.runtime.arguments import Options as ConnectorOptions
    from wws.runtime.arguments import prepare

    name = name or options.before_command.get("name")
    flag = flag or options.before_command.get("identity_path")
    if name is None and flag is None and not os.environ.get("WWS_AGENT_NAME"):
        name = _name_with_key(options)
    asked = ConnectorOptions(
        config=options.config, home=options.home, node=options.node, name=name, identity_path=flag
    )
    return prepare(asked, os.environ).identity.path


def _name_with_key(options: Options) -> str | None:
    try:
        node = node_of(options)
    except SeveralNodes:
        return None
    return node.name if node is not None and home_of(options).named_key(node.name).is_file() else None


def _path_of_running_node(options: Options, name: str | None, flag: str | None) -> Path | None:
    """The key of the node that runs: it may have been given a path of its own."""
    if name is not None or flag is not None:
        return None
    try:
        path = call(options, "swarm.get_identity", {}, timeout=STATUS_TIMEOUT).get("path")
    except (NodeNotRunning, SeveralNodes, RpcError):
        return None
    return Path(path) if path else None


def _shown(identity: Identity, path: Path, form: Format) -> Result:
    peer_id = identity.peer_id
    data = {
        "peer_id": str(peer_id),
        "peer_id_cid": peer_id.cid,
        "did": peer_id.did,
        "did_key": peer_id.did_key,
        "node_id": peer_id.node_id,
        "path": str(path),
    }
    if form is not Format.all:
        return Result(data, data[form.value.replace("-", "_")])
    return Result(data, text.pairs((label.replace("_", " "), value) for label, value in data.items()))


def _passphrase(file: str | None, *, again: bool) -> str:
    """From the first line of a file or stdin, else asked for twice (`again`) or once at the terminal."""
    if file is not None:
        return _read(file).split("\n", 1)[0].rstrip("\r")
    if not sys.stdin.isatty():
        raise WrongUsage("A passphrase is needed.", hint="Give it with --passphrase-file FILE (- is stdin).")
    from getpass import getpass

    first = getpass("Passphrase: ")
    if again and getpass("Again: ") != first:
        raise WrongUsage("The two passphrases differ.")
    return first


def _read(file: str) -> str:
    try:
        if file == "-":
            return sys.stdin.read(MAX_EXPORT)
        with open(file, encoding="utf-8") as stream:
            return stream.read(MAX_EXPORT)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text"
        raise WrongUsage(f"Cannot read {file}: {reason}.") from None


def _write_new(path: Path, content: str) -> None:
    """A new file, 0600; raises `KeyExists` where something is already."""
    from wws.runtime.keyfile import KeyExists
    from wws.runtime.whole_files import create_whole

    try:
        create_whole(path, content.encode())
    except FileExistsError:
        raise KeyExists(
            f"{path} exists already; it is never replaced.", hint="Choose another name."
        ) from None
