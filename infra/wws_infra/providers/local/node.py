"""A node of the provider `local`: `wws-bootstrap` as a process in the folder of its host."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pulumi
from typing_extensions import override

from wws import __version__
from wws.identity.keys import Identity
from wws.runtime.homes import Home
from wws.runtime.whole_files import make_folder, write_whole
from wws_infra.dynamic.crud import Crud, DynamicResource, number, text, texts
from wws_infra.dynamic.processes import NODE, Running, start, stop_node
from wws_infra.dynamic.promises import tell_of_lost

if TYPE_CHECKING:
    from wws_infra.settings import Json

LOST = b"lost"
"""What stands in place of a witness's store when its promises are gone: no first claims for a while."""
FILES = {"network_file"}
"""Inputs that a running node takes over without a restart."""


class NodeProvider(Crud):
    """Starts, restarts and stops the process. Its state stays in the home through all of that."""

    replaced_by: ClassVar[tuple[str, ...]] = ("home", "machine", "peer_id")
    not_compared: ClassVar[tuple[str, ...]] = ("seed", "witness_lost")

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        home = Path(text(props, "home"))
        stop_node(home)  # one that a run has started which was killed before it could say so
        return text(props, "peer_id"), _started(home, props)

    @override
    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        return {"running": _process(props).is_there}

    @override
    def has_drifted(self, olds: dict[str, Json]) -> bool:
        return olds.get("running") is not True

    @override
    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        home, process = Path(text(news, "home")), _process(olds)
        differing = {name for name, value in self._compared(news).items() if olds.get(name) != value}
        if process.is_there and differing <= FILES:
            _write_network(home, news)
            process.send(signal.SIGHUP)
            return {name: olds[name] for name in ("pid", "started", "running", "state")}
        process.stop()
        stop_node(home)
        return _started(home, news)

    @override
    def removed(self, id_: str, props: dict[str, Json]) -> None:
        _process(props).stop()
        stop_node(Path(text(props, "home")))


def _started(home: Path, props: Mapping[str, Json]) -> dict[str, Json]:
    identity = Identity(base64.b64decode(text(props, "seed")))
    make_folder(home)
    write_whole(home / "identity.key", identity.seed)
    write_whole(home / "config.toml", _config(props).encode())
    paths = Home(home).node(NODE)
    if props.get("witness_lost") is True and not paths.witness.exists():
        make_folder(paths.state)
        write_whole(paths.witness, LOST)
        tell_of_lost(home.name)
    network = _write_network(home, props)
    ip, port = text(props, "ip"), number(props, "port")

    def is_up(pid: int) -> bool:
        ready = paths.read_ready()
        return ready is not None and ready.pid == pid

    running = start(
        [
            "bootstrap_node",
            f"--home={home}",
            f"--identity-path={home / 'identity.key'}",
            f"--listen=/ip4/{ip}/tcp/{port}",
            f"--listen=/ip4/{ip}/udp/{port}/quic-v1",
            f"--network={network}",
            *(f"--dns-server={server}" for server in texts(props, "dns_servers")),
            "--rpc=",
            f"--http={text(props, 'http')}",
        ],
        folder=home,
        log=home / "output.log",
        is_up=is_up,
        what=f"The bootstrap node at {ip}:{port}",
    )
    state: Json = {"peer_id": str(identity.peer_id), "version": __version__}
    return {"pid": running.pid, "started": running.started, "running": True, "state": state}


def _write_network(home: Path, props: Mapping[str, Json]) -> str:
    """NET for the command line: the signed file when there is one, which also says where the others are."""
    file = text(props, "network_file")
    if not file:
        return text(props, "network")
    path = home / "network.json"
    write_whole(path, file.encode())
    return str(path)


def _config(props: Mapping[str, Json]) -> str:
    """`config.toml`: nothing is told to the local network, and the limits that are set."""
    limits = props.get("limits")
    lines = (
        [f"{name} = {json.dumps(value)}" for name, value in (limits or {}).items()]
        if isinstance(limits, dict)
        else []
    )
    return "\n".join(["[network]", "enable_mdns = false", "", "[limits]", *lines, ""])


def _process(props: Mapping[str, Json]) -> Running:
    started = props.get("started")
    return Running(number(props, "pid"), None if started is None else number(props, "started"))


class LocalNode(DynamicResource, module="wws", name="LocalNode"):
    """One node."""

    state: pulumi.Output[dict[str, str]]
    """`peer_id` and `version`."""
    pid: pulumi.Output[int]
    running: pulumi.Output[bool]

    def __init__(self, name: str, props: pulumi.Inputs, opts: pulumi.ResourceOptions) -> None:
        outputs = {"state": None, "pid": None, "running": None, "started": None}
        super().__init__(NodeProvider(), name, {**props, **outputs}, opts)
