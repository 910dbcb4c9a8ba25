"""A machine of the provider `local`: a folder, which is the disk of the node on it."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from wws.errors import LocalError
from wws.runtime.whole_files import make_folder, refuse_loose, write_whole
from wws_infra.dynamic.crud import Crud, DynamicResource, text
from wws_infra.dynamic.processes import stop_node

if TYPE_CHECKING:
    from wws_infra.settings import Json

MACHINE_FILE = "machine"
"""Says which machine this is, and that the folder is ours to remove."""


class FolderTaken(LocalError):
    """The folder of a host is there already, and is not one."""

    code = "folder_taken"
    exit_code = 7
    hint = "choose another place: pulumi config set --path wws:local.folder DIR"


class HostProvider(Crud):
    """Makes the folder, or takes over one that a run made which was killed."""

    replaced_by: ClassVar[tuple[str, ...]] = ("home",)

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        home = Path(text(props, "home"))
        refuse_foreign(home)
        machine = _machine(home)
        if machine is None:
            if home.exists() and any(home.iterdir()):
                raise FolderTaken(f"{home} holds other things.")
            machine = secrets.token_hex(8)
            refuse_foreign(make_folder(home))
            write_whole(home / MACHINE_FILE, machine.encode())
        return machine, {"machine": machine}

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        return {} if _machine(Path(text(props, "home"))) == id_ else None

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        home = Path(text(props, "home"))
        if _machine(home) == id_ and not home.is_symlink():
            stop_node(home)  # one that an interrupted run has left
            shutil.rmtree(home)
        remove_empty(home.parent)


def remove_empty(folder: Path) -> None:
    """Remove a folder of ours when nothing is in it any more."""
    with suppress(OSError):
        os.rmdir(folder)


def refuse_foreign(folder: Path) -> None:
    """Raises `FolderTaken` or `FolderLoose` where others could put their own files in place of ours.

    Whoever owns the folder above can put another one in its place.
    """
    if folder.is_symlink():
        raise FolderTaken(f"{folder} is a link.")
    for place in (folder.parent, folder):
        try:
            owner = place.stat().st_uid
        except FileNotFoundError:
            return
        if owner not in (0, os.geteuid()):
            raise FolderTaken(f"{place} belongs to another user.")
        refuse_loose(place)


def _machine(home: Path) -> str | None:
    try:
        return (home / MACHINE_FILE).read_text()
    except (FileNotFoundError, NotADirectoryError):
        return None


class LocalHost(DynamicResource, module="wws", name="LocalHost"):
    """One machine."""

    home: pulumi.Output[str]
    machine: pulumi.Output[str]

    def __init__(self, name: str, home: Path, opts: pulumi.ResourceOptions) -> None:
        first = pulumi.ResourceOptions(delete_before_replace=True)
        props = {"home": str(home), "machine": None}
        super().__init__(HostProvider(), name, props, pulumi.ResourceOptions.merge(opts, first))
