"""What a command works with: what is wanted, through whom, with which keys, and what was published before.

Files are read once, here. Paths on the command line are relative to where it is typed, those inside of
`records.toml` to that file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from wws.errors import LocalError
from wws.identity.keys import Identity
from wws.rpc.codes import Exit
from wws.runtime.keyfile import NoIdentity, load
from wws.runtime.machine_errors import reading_failed
from wws_dns.desired import Desired, DesiredMalformed
from wws_dns.history import History, load_history
from wws_dns.provider import Provider
from wws_dns.providers import open_provider
from wws_dns.publishing import Publisher
from wws_dns.records_file import RecordsFile, parse_records
from wws_dns.stack_outputs import parse_inventory

USUAL: Final = ("records.toml", "dns/records.toml")
"""Where `records.toml` is looked for when it is not named."""
VARIABLE: Final = "WWS_DNS_RECORDS"
"""The environment variable that names it."""

RecordsOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--records", metavar="FILE", help="What is wanted, and the provider (records.toml, $WWS_DNS_RECORDS)."
    ),
]
InventoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--inventory",
        metavar="FILE",
        help="Take the nodes from the inventory of the stack; the records file says through whom.",
    ),
]
KeyOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--key", metavar="FILE", help="A publisher key to sign with; may repeat.")
]
HistoryOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--history", metavar="FILE", help="What was published (beside the records file)."),
]
ForceOption: TypeAlias = Annotated[
    bool, typer.Option("--force-unsafe", help="Publish even what was found unsafe; clients may be harmed.")
]


class RecordsMissing(LocalError):
    """There is no file that says what is to be published."""

    code = "records_missing"
    exit_code = Exit.USAGE
    hint = "Name it: --records FILE. It says domain and provider, with --inventory too: wws-dns plan --help"


@dataclass(frozen=True, slots=True)
class Workspace:
    """What a command works with."""

    records: RecordsFile
    """As the file says; with `--inventory`, `desired` has its nodes."""
    folder: Path
    """Of the records file."""
    history: History
    signers: tuple[Identity, ...]
    environ: Mapping[str, str]

    @property
    def desired(self) -> Desired:
        return self.records.desired

    def believe_publishers(self) -> None:
        """Where the history knows no keys, because it was lost, take those of the records file for known."""
        self.history.publishers = self.history.publishers or self.desired.keys or ()

    def provider(self) -> Provider:
        """Through whom is published. Raises `DesiredMalformed` where none is named, or as opening does."""
        if self.records.provider is None:
            raise DesiredMalformed(
                "The records file names no provider.",
                hint='Add: [provider] with kind = "rfc2136", "cloudflare" or "zone_file".',
            )
        return open_provider(self.records.provider, self.folder, self.environ)

    def publisher(self, clock: Callable[[], float] | None = None) -> Publisher:
        """The publisher over all of it."""
        trusted = self.desired.keys or ()
        return Publisher(self.provider(), self.history, clock or time.time, trusted=trusted)


def open_workspace(
    records: str | None = None,
    *,
    inventory: str | None = None,
    keys: Sequence[str] | None = None,
    history: str | None = None,
    environ: Mapping[str, str] | None = None,
    with_keys: bool = True,
    signs_here: bool = True,
) -> Workspace:
    """Read what the command line names; without `with_keys` no key file, for they may lie elsewhere.

    Where nothing is signed here, keys that only the records file names need not be on this machine.

    Raises `RecordsMissing`, `DesiredMalformed`, `HistoryMalformed`, `NoIdentity`, `KeyFileRefused` and
    `MachineError`.
    """
    environ = os.environ if environ is None else environ
    path = _find_records(records, environ)
    file = parse_records(read_bounded(path, RecordsMissing))
    if inventory is not None:
        wanted = parse_inventory(
            read_bounded(Path(inventory), RecordsMissing),
            ttl=file.desired.ttl,
            lifetime_days=file.desired.lifetime_days,
        )
        if wanted.domain != file.desired.domain:
            raise DesiredMalformed(
                f"The inventory is of {wanted.domain}, the records file of {file.desired.domain}."
            )
        file = replace(file, desired=replace(wanted, keys=file.desired.keys or wanted.keys))
    folder = path.parent
    named = Path(history) if history else folder / (file.history or f"{path.stem}.history.json")
    listed = [folder / key for key in file.key_files]
    key_files = [Path(key) for key in keys] if keys else [one for one in listed if signs_here or one.exists()]
    return Workspace(
        file,
        folder,
        load_history(named, file.desired.domain),
        load_signers(key_files if with_keys else [], environ),
        environ,
    )


def load_signers(paths: Sequence[Path], environ: Mapping[str, str]) -> tuple[Identity, ...]:
    """The keys in these files. Raises `NoIdentity`, `KeyFileRefused`, `MachineError`."""
    signers: list[Identity] = []
    for path in paths:
        try:
            signers.append(load(path.expanduser(), environ))
        except NoIdentity as error:
            raise NoIdentity(str(error), hint=f"Make one with: wws-dns keygen {path}") from None
    return tuple(signers)


def read_bounded(path: Path, missing: type[LocalError], *, most: int = 256 * 1024) -> bytes:
    """The bytes of a small file. Raises `missing` where there is none, `MachineError`."""
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise missing(f"There is no file {path}.") from None
    except OSError as error:
        raise reading_failed(path, error) from error


def _find_records(named: str | None, environ: Mapping[str, str]) -> Path:
    given = named or environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    found = next((Path(usual) for usual in USUAL if Path(usual).is_file()), None)
    if found is None:
        raise RecordsMissing(f"There is neither {USUAL[0]} nor {USUAL[1]} here.")
    return found
