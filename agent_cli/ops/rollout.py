"""`wws-ops upgrade|rollback|backup|restore`: each runs the playbook of its name, and says what came of it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from agent_cli import text
from agent_cli.ops.inventory import Inventory, Json
from agent_cli.ops.playbooks import PlaybookFailed, PlaybookResult, run_playbook
from agent_cli.ops.sources import Hosts, Infra, InventoryFile, Stack, load_inventory
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage, failed, write_error
from agent_cli.text import printable
from wws.errors import LocalError
from wws.rpc.codes import Exit
from wws.runtime.machine_errors import reading_failed

_RELEASE = re.compile(r"wws-(?P<version>[0-9][A-Za-z0-9.+]*(-[A-Za-z0-9.+]+)*?)-linux-[a-z0-9_]+\.tar\.gz\Z")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}\Z")
_RECIPIENT = re.compile(r"age1[0-9a-z]{10,200}\Z")
_VARIABLE = re.compile(r"wws_[a-z0-9_]{1,60}\Z")
_TASK: Final = re.compile(r"TASK \[(?:[a-z_]+ : )?(?P<name>[^\]]{1,200})\]")
_SUM_FILE: Final = 4_096
"""Bytes that are read of a file with a SHA-256."""

_Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A further variable of the role, such as wws_gate_hold=30."
    ),
]
_DrainWait = Annotated[
    float | None,
    typer.Option(
        "--drain-wait", min=0, max=3600, metavar="S", help="Seconds for agents to move to other relays."
    ),
]


class ArchiveWrong(LocalError):
    """The archive has another SHA-256 than it must have."""

    code = "archive_wrong"
    exit_code = Exit.INTEGRITY


def register(app: typer.Typer) -> None:
    command(
        app,
        upgrade,
        examples=(
            "wws-ops upgrade --release wws-1.2.0-linux-x86_64.tar.gz --sha256 9f86d0… --stack prod",
            "wws-ops upgrade one --release wws-1.2.0-linux-x86_64.tar.gz --stack prod",
        ),
    )
    command(
        app,
        rollback,
        examples=("wws-ops rollback --stack prod", "wws-ops rollback one --to 1.1.0 --stack prod"),
    )
    command(
        app,
        backup,
        examples=(
            "wws-ops backup --dir backups --recipient age1… --stack prod",
            "wws-ops backup one --final --dir backups --recipient age1… --stack prod",
        ),
    )
    command(
        app,
        restore,
        examples=("wws-ops restore one --file backups/one-….age --key-file age.key --stack prod",),
    )


def upgrade(
    options: Options,
    release: Annotated[
        str, typer.Option("--release", metavar="FILE", help="wws-<version>-linux-<arch>.tar.gz")
    ],
    host: Hosts = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", metavar="HEX", help="Its SHA-256; else that in FILE.sha256."),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="VERSION", help="Else that in the name of the file.")
    ] = None,
    drain_wait: _DrainWait = None,
    variable: _Set = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Put a release on the hosts, one after the other, each tried before the next is touched.

    A host that is not well with it goes back to the release before by itself, and the upgrade ends there:
    exit code 7, and nothing is left to be done on that host.
    """
    path = Path(release)
    found = _RELEASE.fullmatch(path.name)
    chosen = version or (found["version"] if found else None)
    if chosen is None:
        raise WrongUsage(
            f"Which version {path.name} has is not in its name.", hint="Say it: --version VERSION"
        )
    digest = _sha256(path, sha256)
    known = load_inventory(inventory, stack, infra)
    variables: dict[str, Json] = {
        "wws_version": chosen,
        "wws_release_archive": str(path.absolute()),
        "wws_release_sha256": digest,
        "wws_probe_network": known.domain,
        **_given(variable, drain_wait),
    }
    return _run(options, "upgrade", known, host, variables)


def rollback(
    options: Options,
    host: Hosts = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="VERSION", help="One that is on the hosts; else the one before."),
    ] = None,
    drain_wait: _DrainWait = None,
    variable: _Set = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Go back to a release that is still on the hosts, one host after the other."""
    known = load_inventory(inventory, stack, infra)
    variables: dict[str, Json] = {"wws_probe_network": known.domain, **_given(variable, drain_wait)}
    if to is not None:
        variables["wws_version"] = to
    return _run(options, "rollback", known, host, variables)


def backup(
    options: Options,
    folder: Annotated[str, typer.Option("--dir", metavar="DIR", help="Where to, on this machine.")],
    recipient: Annotated[
        list[str],
        typer.Option("--recipient", metavar="AGE", help="A public key (age1…) that can read it; repeat it."),
    ],
    host: Hosts = None,
    final: Annotated[
        bool,
        typer.Option("--final", help="Stop and seal the node: it never runs on this host again."),
    ] = False,
    drain_wait: _DrainWait = None,
    variable: _Set = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Bring encrypted copies of identity, witness and settings here; the nodes run on meanwhile.

    What a witness has promised can be put back elsewhere from a --final backup only: of any other it knows
    less than it has signed since.
    """
    for one in recipient:
        if not _RECIPIENT.match(one):
            raise WrongUsage(
                f"{one[:80]!r} is no public key of age.", hint="age-keygen -o age.key prints one."
            )
    known = load_inventory(inventory, stack, infra)
    if final and len(known.choose(host or [])) > 1:
        raise WrongUsage("--final is for one host: it stops it for good.", hint="Name it.")
    variables: dict[str, Json] = {
        "wws_backup_recipients": list(dict.fromkeys(recipient)),
        "wws_backup_dir": str(Path(folder).absolute()),
        "wws_backup_final": final,
        **_given(variable, drain_wait),
    }
    return _run(options, "backup", known, host, variables)


def restore(
    options: Options,
    host: Annotated[str, typer.Argument(metavar="HOST", help="The host, where no node may run.")],
    file: Annotated[str, typer.Option("--file", metavar="FILE", help="The backup.")],
    key_file: Annotated[
        str,
        typer.Option("--key-file", metavar="FILE", help="The private key of age; it stays on this machine."),
    ],
    variable: _Set = None,
    inventory: InventoryFile = None,
    stack: Stack = None,
    infra: Infra = None,
) -> Result:
    """Put a backup on a host where no node runs. A backup of another node is refused."""
    for path in (file, key_file):
        if not Path(path).is_file():
            raise WrongUsage(f"There is no file {path}.")
    known = load_inventory(inventory, stack, infra)
    variables: dict[str, Json] = {
        "wws_backup_file": str(Path(file).absolute()),
        "wws_backup_identity_file": str(Path(key_file).absolute()),
        **_given(variable, None),
    }
    return _run(options, "restore", known, [host], variables)


def _run(
    options: Options, name: str, inventory: Inventory, hosts: list[str] | None, variables: Mapping[str, Json]
) -> Result:
    """Run the playbook; its tasks are the progress, with --verbose its whole output is shown."""
    names = [host.name for host in inventory.choose(hosts or [])]
    with progress(options, f"{name}: beginning…") as shown:

        def on_line(line: str) -> None:
            if options.verbose and not options.json:
                with shown.paused():
                    write_error(printable(line))
            elif task := _TASK.match(line):
                shown.say(f"{name}: {task['name']}")

        try:
            result = run_playbook(
                f"{name}.yml", inventory, limit=names if hosts else (), variables=variables, on_line=on_line
            )
        except PlaybookFailed as error:
            return failed(error, data=_data(names, error.result), text=_table(names, error.result))
    return Result(_data(names, result), "\n".join([_table(names, result), *_not_installed(result)]))


def _not_installed(result: PlaybookResult) -> list[str]:
    """What is to be done where a backup was put back, and no release can run it yet."""
    return [
        f"{name}: the backup is put back, and no node is installed there that could start. Install it: "
        "pulumi up --refresh (or site.yml by hand)"
        for name, facts in result.facts.items()
        if facts.get("result") == "restored" and facts.get("installed") is False
    ]


def _word(name: str, result: PlaybookResult) -> str:
    """What came of a host, in one word: the playbook's own, where it reported one."""
    said, stats = result.facts.get(name, {}).get("result"), result.hosts.get(name)
    if isinstance(said, str) and said:
        return said
    if stats is None:
        return "not finished" if result.is_interrupted else "not reached"
    if stats.unreachable:
        return "unreachable"
    return "failed" if stats.failed else "changed" if stats.changed else "unchanged"


def _table(names: list[str], result: PlaybookResult) -> str:
    rows = []
    for name in names:
        facts = result.facts.get(name, {})
        before, after = facts.get("from"), facts.get("version")
        way = f"{before} → {after}" if before and after and before != after else after or facts.get("file")
        if facts.get("book"):
            way = f"promises as a witness: {facts['book']}"
        # The first line; an error below the table has all of it.
        reason = str(facts.get("reason") or "").partition("\n")[0]
        rows.append((name, _word(name, result), way, text.duration(facts.get("seconds")), reason or None))
    return text.table(("host", "result", "", "took", "why"), rows)


def _data(names: list[str], result: PlaybookResult) -> dict[str, object]:
    return {
        "hosts": [
            {
                "host": name,
                "result": _word(name, result).replace(" ", "_"),
                "changed_tasks": result.hosts[name].changed if name in result.hosts else 0,
                "report": dict(result.facts.get(name, {})),
            }
            for name in names
        ]
    }


def _given(variables: list[str] | None, drain_wait: float | None) -> dict[str, Json]:
    """`NAME=VALUE` as variables: JSON where it is some, else text. Raises `WrongUsage`."""
    found: dict[str, Json] = {} if drain_wait is None else {"wws_drain_wait": drain_wait}
    for one in variables or []:
        name, equals, value = one.partition("=")
        if not equals or not _VARIABLE.match(name):
            raise WrongUsage(f"{one[:80]!r} sets no variable.", hint="Write it like: --set wws_gate_hold=30")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _sha256(path: Path, given: str | None) -> str:
    """The SHA-256 that the archive must have, and has. Raises `WrongUsage`, `ArchiveWrong`, `CannotRead`."""
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise reading_failed(path, error) from error
    if given is None:
        beside = path.with_name(f"{path.name}.sha256")
        try:
            with open(beside, encoding="ascii") as sums:
                given = sums.read(_SUM_FILE).split(maxsplit=1)[0]
        except (OSError, ValueError, IndexError):
            raise WrongUsage(
                "Which archive is the right one is not said.",
                hint=f"Say it: --sha256 HEX, as its builder printed it. This one has {found}.",
            ) from None
    if not _SHA256.match(given):
        raise WrongUsage(f"{given[:80]!r} is no SHA-256.")
    if found != given.lower():
        raise ArchiveWrong(
            f"{path} is another archive than the one that was meant.",
            hint=f"It has the SHA-256 {found}. Get it again: sha256sum {shlex.quote(str(path))}",
        )
    return found
