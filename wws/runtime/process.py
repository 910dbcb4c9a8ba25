"""The life of the node process: locks, key, node, local servers, signals, and the way out."""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace

from wws.config.kinds import parse_host_port
from wws.config.records import NodeConfig
from wws.config.reloading import reload_config
from wws.errors import LocalError, WwsError
from wws.identity.keys import Identity
from wws.rpc.api import RelayService, Warned
from wws.rpc.wire import WireConfig
from wws.runtime import keyfile, systemd
from wws.runtime.announcement import identity_lines, txt_lines
from wws.runtime.arguments import Options, Preparation, prepare
from wws.runtime.clock import SystemClock
from wws.runtime.default_network import carry_over, default_network
from wws.runtime.homes import NodePaths, Ready, process_start
from wws.runtime.homes import expand as expand_path
from wws.runtime.http_server import HttpConfig, HttpServer
from wws.runtime.logs import logger, set_level, start_logging
from wws.runtime.machine_errors import PortTaken, writing_failed
from wws.runtime.network_choice import NetworkChoice, choose_network
from wws.runtime.node import Node
from wws.runtime.node_face import NodeFace
from wws.runtime.node_metrics import NodeMetrics
from wws.runtime.own_addresses import expand
from wws.runtime.rpc_connection import ConnectionConfig
from wws.runtime.rpc_server import RpcServer, RpcServerConfig, is_loopback
from wws.runtime.state_files import NetworkFiles, StateFile
from wws.runtime.status_pages import Readiness, make_pages
from wws.runtime.whole_files import make_folder, refuse_loose


class NodeRunning(LocalError):
    """A node of this name is running already."""

    code = "node_running"
    exit_code = 7


def run(options: Options, preparation: Preparation, env: Mapping[str, str]) -> int:
    """Run a node until SIGTERM, SIGINT or `swarm.stop`; 0. Raises a `WwsError` when it cannot start."""
    paths, config = preparation.node, preparation.config
    make_folder(paths.state)
    refuse_loose(paths.home.root)
    make_folder(paths.run)
    lock = _lock(paths)
    try:
        paths.clear()
        start_logging(config.log, file=paths.log, fields={"node": paths.name})
        choice = _choice(options, preparation)
        identity, is_new = keyfile.load_or_create(preparation.identity.path, env)
        key_lock = keyfile.KeyLock(preparation.identity.path, identity.peer_id, env)
        try:
            if is_new:
                logger("node").info("identity made", path=str(preparation.identity.path))
            process = Process(options, preparation, identity, choice, env)
            _run_loop(process)
        finally:
            key_lock.release()
            paths.ready_file.unlink(missing_ok=True)
    finally:
        os.close(lock)
    return 0


class Process:
    """One running node with its local servers."""

    def __init__(
        self,
        options: Options,
        preparation: Preparation,
        identity: Identity,
        choice: NetworkChoice,
        env: Mapping[str, str],
    ) -> None:
        self._options = options
        self._preparation = preparation
        self._config = preparation.config
        self._identity = identity
        self._choice = choice
        self._env = env
        self._stopping = asyncio.Event()
        self._http: HttpServer | None = None

    async def main(self) -> None:
        """Start everything, wait for the end, stop everything."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_bug)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        node = Node(
            self._preparation,
            self._identity,
            self._choice,
            clock=SystemClock(),
            rng=random.Random(),
            env=self._env,
        )
        face = NodeFace(node, self._stopping.set)
        readiness = Readiness("listening", "joined")
        metrics = NodeMetrics(node)
        rpc = RpcServer(
            face,
            self._preparation.node,
            _rpc_config(self._config, self._env),
            env=self._env,
            on_refused=lambda reason: node.host.count_refusal("rpc", reason),
        )
        telling: asyncio.Task[None] | None = None
        try:
            await node.start()
            await rpc.start()
            face.warnings += rpc.warnings
            face.rpc, face.socket = rpc.tcp_address, str(rpc.socket_path)
            self._http = await self._start_http(node, face, metrics, readiness, rpc.port_shift)
            readiness.set("listening", True)
            # A bootstrap node is a way in by itself; an agent is ready once it has found one.
            readiness.set("joined", node.is_bootstrap)
            node.on_draining.append(readiness.drain)
            node.discovery.on_joined.append(lambda: readiness.set("joined", True))
            loop.add_signal_handler(signal.SIGHUP, self._reload, node)
            self._tell(node, face, rpc)
            telling = asyncio.create_task(
                systemd.keep_telling(self._env, os.getpid(), lambda: _status_line(node)), name="tell systemd"
            )
            await self._stopping.wait()
            logger("node").info("stopping")
            systemd.notify(self._env, systemd.STOPPING)
            readiness.drain()
            self._preparation.node.ready_file.unlink(missing_ok=True)
        finally:
            await node.stop()
            await rpc.close()
            if self._http is not None:
                await self._http.close()
            if telling is not None:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _start_http(
        self, node: Node, face: NodeFace, metrics: NodeMetrics, readiness: Readiness, shift: int
    ) -> HttpServer | None:
        if not self._config.rpc.http:
            return None
        host, port = parse_host_port(self._config.rpc.http)
        explicit = self._config.is_explicit("rpc.http")

        async def facts() -> Mapping[str, object]:
            status = await face.status()
            return {
                "Node": status.node,
                "PeerId": status.peer_id,
                "DID": status.did,
                "Network": status.network or "ad hoc",
                "State": status.status,
                "Peers": status.peers,
                "Swarm size": f"about {status.swarm_size.estimate}",
                "Names": [name.name for name in status.names],
                "Reachable": status.reachability,
                "NAT": status.nat,
                "Announced addresses": status.addresses,
                "Relays": [relay.peer_id for relay in status.relays],
                "Relay for": _relay_service(status.relay_service),
                "Refused most": [
                    f"{protocol} {reason}: {count}"
                    for (protocol, reason), count in node.refusals().most_common(3)
                ],
                "Version": status.version,
            }

        server = HttpServer(
            make_pages(metrics, readiness, facts),
            HttpConfig(
                hosts=self._config.rpc.http_hosts,
                clients=self._config.limits.http_clients,
                request=self._config.limits.http_request,
                timeout=self._config.limits.http_timeout,
            ),
            lambda reason: node.host.count_refusal("http", reason),
        )
        try:
            where = await server.start(host, port + (0 if explicit else shift))
        except PortTaken as error:
            if explicit:
                raise
            message = f"{error} There is no status page and no /metrics; --http IP:PORT chooses another port."
            face.warnings.append(Warned("http_off", message))
            logger("node").warning(str(error))
            return None
        face.http = f"{where[0]}:{where[1]}"
        if not is_loopback(host):
            face.warnings.append(
                Warned(
                    "http_open",
                    f"The status page and /metrics listen on {face.http}, where other machines may reach "
                    "them: they tell who this node talks with. Use --http 127.0.0.1:PORT, and SSH from "
                    "elsewhere.",
                )
            )
            logger("node").warning("http_open", address=face.http)
        return server

    def _tell(self, node: Node, face: NodeFace, rpc: RpcServer) -> None:
        """Say in `ready.json`, on stdout and to systemd that the node is up."""
        lines = identity_lines(self._identity.peer_id)
        if node.is_bootstrap:
            addresses = node.addresses or expand(node.host.listen_addresses)
            lines += txt_lines(self._identity.peer_id, addresses, self._choice.network.domain or None)
        self._preparation.node.write_ready(
            Ready(
                node=self._preparation.node.name,
                pid=os.getpid(),
                peer_id=str(self._identity.peer_id),
                did=self._identity.peer_id.did,
                listen=tuple(map(str, node.host.listen_addresses)),
                rpc=face.rpc,
                http=face.http,
                socket=str(rpc.socket_path),
                cookie=str(rpc.cookie_path),
                started=process_start(os.getpid()),
            )
        )
        # After `ready.json`, so that who waits for these lines finds it.
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
        systemd.notify(self._env, systemd.READY, systemd.status(f"listening as {self._identity.peer_id}"))
        logger("node").info(
            "listening",
            peer_id=str(self._identity.peer_id),
            addresses=[str(address) for address in node.host.listen_addresses],
        )

    def _reload(self, node: Node) -> None:
        """SIGHUP: read network and limits again; a mistake in the file leaves everything as it is."""
        systemd.notify(self._env, systemd.reloading(node.clock.monotonic()))
        try:
            self._take_over(node)
        finally:
            systemd.notify(self._env, systemd.READY)

    def _take_over(self, node: Node) -> None:
        log = logger("node")
        try:
            fresh = prepare(self._options, self._env)
        except WwsError as error:
            log.error("reload refused", error=str(error))
            return
        outcome = reload_config(self._config, fresh.config)
        self._config = outcome.config
        set_level(outcome.config.log.level)
        node.reload(outcome.config)
        if self._http is not None:
            self._http.replace_hosts(outcome.config.rpc.http_hosts)
        log.info("reloaded", changed=list(outcome.changed), needs_restart=list(outcome.needs_restart))


def _choice(options: Options, preparation: Preparation) -> NetworkChoice:
    """The network to join, with the publisher keys that hold settled where it is that of the build."""
    files, default = NetworkFiles(preparation.home), default_network()
    cached = StateFile(preparation.node.peer_cache).read() or {}
    domain = cached.get("domain")
    choice = choose_network(
        options.network,
        preparation.config,
        files,
        allow_unsigned=options.allow_unsigned,
        default=None if default is None else default.network,
        last_domain=domain if isinstance(domain, str) else None,
    )
    if choice.origin != "build" or default is None:
        return choice
    return replace(choice, warnings=choice.warnings + carry_over(default, files))


def _run_loop(process: Process) -> None:
    try:
        import uvloop
    except ImportError:  # not on every platform; asyncio's own loop does the same, slower
        asyncio.run(process.main())
        return
    uvloop.run(process.main())


def _lock(paths: NodePaths) -> int:
    """Hold the node's lock: its state folder has one owner. The kernel frees it when we die."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise writing_failed(paths.lock, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise NodeRunning(
            f"A node called {paths.name} is running already.", hint="Choose another name with --node NAME."
        ) from None
    return descriptor


def _rpc_config(config: NodeConfig, env: Mapping[str, str]) -> RpcServerConfig:
    limits = config.limits
    host, port = parse_host_port(config.rpc.tcp) if config.rpc.tcp else ("127.0.0.1", None)
    return RpcServerConfig(
        unix_socket=expand_path(config.rpc.socket, env) if config.rpc.socket else None,
        host=host,
        port=port,
        port_is_default=not config.is_explicit("rpc.tcp"),
        swarm=config.agent.swarm,
        max_clients=limits.rpc_clients,
        connection=ConnectionConfig(
            idle_timeout=limits.rpc_idle_timeout,
            max_calls=limits.rpc_pending,
            drain_timeout=limits.drain_timeout,
        ),
        wire=WireConfig(max_line=limits.rpc_line, max_depth=limits.rpc_depth, max_batch=limits.rpc_batch),
    )


def _status_line(node: Node) -> str:
    """What `systemctl status` shows."""
    parts = [node.discovery.view.state, f"connections {len(node.host.table)}"]
    if (relay := node.nat.relay_server) is not None:
        parts += [f"reservations {relay.reservations}", f"circuits {relay.circuits}"]
    if node.is_draining:
        parts.insert(0, "draining")
    return ", ".join(parts)


def _relay_service(service: RelayService | None) -> str | None:
    """What we do as a relay, on the status page; `None`: we are none."""
    if service is None:
        return None
    of = "" if service.bytes_per_day is None else f" of {service.bytes_per_day:,}"
    carried = f"{service.bytes_today:,}{of} bytes today"
    return f"{service.reservations} reservations, {service.circuits} circuits, {carried}"


def _log_bug(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    logger("node").error(
        str(context.get("message", "bug")), exc_info=error if isinstance(error, BaseException) else None
    )
