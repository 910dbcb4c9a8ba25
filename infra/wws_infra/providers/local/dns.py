"""The DNS server of the provider `local`: `wws.testing.dns_server` as a process, its zone a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from wws.runtime.whole_files import make_folder, write_whole
from wws_infra.dynamic.crud import Crud, DynamicResource, number, text
from wws_infra.dynamic.processes import Running, start
from wws_infra.providers.local.address import free_port
from wws_infra.providers.local.host import refuse_foreign, remove_empty

if TYPE_CHECKING:
    from wws_infra.settings import Json

IP = "127.0.0.1"
ZONE_FILE = "zone.json"
PID_FILE = "pid"
PROCESS_FILE = "process.json"
"""Which process serves, for a run that takes over what a killed one began."""


class DnsProvider(Crud):
    """Starts, restarts and stops the server. Its port stays, and so does what is in the zone."""

    replaced_by: ClassVar[tuple[str, ...]] = ("folder",)

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        folder = Path(text(props, "folder"))
        refuse_foreign(folder)
        refuse_foreign(make_folder(folder))
        _left_behind(folder).stop()
        return str(folder), _started(folder, free_port(IP))

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        if not (Path(id_) / ZONE_FILE).exists():
            return None
        return {"running": _process(props).is_there}

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        return olds.get("running") is not True

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        _process(olds).stop()
        _left_behind(Path(id_)).stop()
        return _started(Path(id_), number(olds, "port"))

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        _process(props).stop()
        folder = Path(id_)
        if all((folder / name).exists() for name in (ZONE_FILE, PROCESS_FILE)) and not folder.is_symlink():
            shutil.rmtree(folder)
        remove_empty(folder.parent)


def _started(folder: Path, port: int) -> dict[str, Json]:
    zone, log = folder / ZONE_FILE, folder / "log"
    if not zone.exists():
        write_whole(zone, b"{}")
    running = start(
        ["wws.testing.dns_server", f"--zone={zone}", f"--host={IP}", f"--port={port}"],
        folder=folder,
        log=log,
        is_up=lambda _: b"\n" in log.read_bytes() and b'"ready"' in log.read_bytes(),
        what="The DNS server",
    )
    process: dict[str, Json] = {"pid": running.pid, "started": running.started}
    write_whole(folder / PROCESS_FILE, json.dumps(process).encode(), durable=False)
    began = "" if running.started is None else f" {running.started}"
    write_whole(folder / PID_FILE, f"{running.pid}{began}\n".encode(), durable=False)
    return {
        **process,
        "running": True,
        "port": port,
        "address": f"{IP}:{port}",
        "zone_file": str(zone),
        "pid_file": str(folder / PID_FILE),
    }


def _left_behind(folder: Path) -> Running:
    try:
        return _process(json.loads((folder / PROCESS_FILE).read_bytes()))
    except (FileNotFoundError, ValueError, AttributeError, KeyError, OverflowError, TypeError):
        return Running(0, None)  # nothing, or nothing of ours


def _process(props: Mapping[str, Json]) -> Running:
    started = props.get("started")
    return Running(number(props, "pid"), None if started is None else number(props, "started"))


class LocalDns(DynamicResource, module="wws", name="LocalDns"):
    """One DNS server."""

    address: pulumi.Output[str]
    """`IP:PORT`."""
    zone_file: pulumi.Output[str]
    pid_file: pulumi.Output[str]

    def __init__(self, name: str, folder: Path, opts: pulumi.ResourceOptions) -> None:
        outputs = dict.fromkeys(("address", "zone_file", "pid_file", "pid", "started", "running", "port"))
        super().__init__(DnsProvider(), name, {"folder": str(folder), **outputs}, opts)
