"""`python -m wws.testing.fake_connector`: a node process without a network.

Takes the command line of `wws-connector`, keeps its promises about files, socket and signals
(`ready.json`, `error.json`, RPC, SIGTERM), and has a `FakeNode` behind them. How its join goes is set
in the environment variable FAKE_JOIN, as JSON: `{"state", "tried", "taken_by", "name_state",
"warnings", "clock_skew_s"}`, or `{"error": {"code", "message", "hint", "exit_code"}}` for a start that
fails, or `{"die": 3}` for one that ends without a word. What it says later:

    {"others": {"bob": "bob"}}                      further nodes: label → the name that it has, or null
    {"own_name": {"witnessed": true, …}}            members of its own name's entry
    {"renewed": false}                              what renewing its name comes to
    {"status": {"bans": 2}, "resolved": {"looks_like": "alice"}}
    {"refusals": {"resolve": {"code", "message", "hint", "details"}}}      method of `NodeApi` → its error

Keys are true ones: that of a label is `Identity.from_label`. A transfer is signed, and checked at its taker.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wws.codec.canonical import JsonObject
from wws.errors import LocalError, ParseError
from wws.identity.keys import Identity
from wws.identity.peer_id import PeerId
from wws.names.transfers import Transfer
from wws.rpc import api
from wws.runtime.arguments import parse_arguments, prepare
from wws.runtime.homes import Ready, process_start
from wws.runtime.keyfile import load_or_create
from wws.runtime.rpc_server import RpcServer, RpcServerConfig
from wws.runtime.whole_files import make_folder
from wws.testing.fake_node import NOW, FakeError, FakeNode


class SetFailure(LocalError):
    """A failure that the environment asked for."""

    def __init__(self, code: str, message: str, hint: str, exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.code = code  # type: ignore[misc]  # one class stands for every failure here
        self.exit_code = exit_code  # type: ignore[misc]


class _Node(FakeNode):
    """A fake node with a true identity and the state of join that was asked for."""

    def __init__(self, label: str, name: str | None, setting: dict[str, Any]) -> None:
        super().__init__(label)
        self._claimed = name
        self._setting = setting
        self.identity_key = Identity.from_label(label)
        self.ready: Ready | None = None
        self.network: str | None = None
        self.publishers: tuple[str, ...] = ()
        state = setting.get("state", "joined")
        self.join = api.JoinProgress(
            state,
            source="pinned" if state == "joined" else None,
            tried=tuple(api.Tried(*entry) for entry in setting.get("tried", ())),
            next_retry_s=60.0 if state == "failed_retrying" else None,
            warnings=tuple(api.Warned(*entry) for entry in setting.get("warnings", ())),
            clock_skew_s=setting.get("clock_skew_s", 0.0),
        )

    def take_identity(self, identity: Identity, path: str) -> None:
        """Be this peer, and let those be in the swarm that the environment asked for."""
        self._path = path
        self.identity_key = identity
        self._be(self, identity)
        for label, name in self._setting.get("others", {}).items():
            other = FakeNode(label, self.swarm)
            self._be(other, Identity.from_label(label))
            if name is not None:
                self.swarm.owners[name] = other.peer_id
        if self._claimed is not None and "taken_by" not in self._setting:
            self.swarm.owners[self._claimed] = self.peer_id

    def _be(self, node: FakeNode, identity: Identity) -> None:
        del self.swarm.nodes[node.peer_id]
        node.peer_id, node.did = str(identity.peer_id), identity.peer_id.did
        self.swarm.nodes[node.peer_id] = node

    def _refuse(self, method: str) -> None:
        refusal = self._setting.get("refusals", {}).get(method)
        if refusal is not None:
            error = FakeError(refusal["code"], refusal["message"], **refusal.get("details", {}))
            error.hint = refusal.get("hint", "")
            raise error

    async def register_name(self, name: str) -> api.NameRegistered:
        self._refuse("register_name")
        answer = await super().register_name(name)
        return replace(answer, witnessed=self._setting.get("own_name", {}).get("witnessed", False))

    async def renew_name(self, name: str) -> api.NameRenewed:
        answer = await super().renew_name(name)
        return replace(
            answer,
            witnessed=self._setting.get("own_name", {}).get("witnessed", False),
            renewed=self._setting.get("renewed", True),
        )

    async def resolve(self, target: str) -> api.Resolved:
        self._refuse("resolve")
        return replace(await super().resolve(target), **self._setting.get("resolved", {}))

    async def names(self) -> Sequence[api.LeasedName]:
        names = [*await super().names()]
        holder = self._setting.get("taken_by")
        if self._claimed is not None and holder is not None and self.join.state == "joined":
            state: api.NameState = self._setting.get("name_state", "taken")
            names.append(api.LeasedName(self._claimed, "public", None, False, state, holder))
        return [replace(name, **self._setting.get("own_name", {})) for name in names]

    async def transfer_name(self, name: str, new_pubkey: str) -> api.NameTransferred:
        self._refuse("transfer_name")
        lease, taker = self._lease(name), PeerId(bytes.fromhex(new_pubkey))
        before = self.swarm.transfers.get(lease.name)
        if before is not None and before["to"] != str(taker):
            raise FakeError("double_transfer", f"wws:{lease.name} was signed over to {before['to']} before.")
        entry = Transfer.sign(
            self.identity_key, taker, name=lease.name, swarm=lease.swarm, seq=NOW, at=NOW
        ).to_members()
        self.swarm.transfers[lease.name] = entry
        return api.NameTransferred(
            name=lease.name, swarm=lease.swarm, transferred=True, entry=entry, to=taker.did
        )

    async def accept_name(self, entry: JsonObject) -> api.NameAccepted:
        try:
            transfer = Transfer.parse(entry)
        except ParseError as error:
            raise FakeError("transfer_refused", f"This is no entry: {error}.") from None
        if str(transfer.to_peer) != self.peer_id or not transfer.is_signed_by_giver():
            raise FakeError("transfer_refused", f"The entry gives wws:{transfer.name} to another key.")
        self.swarm.transfers[transfer.name] = entry
        return await super().accept_name(entry)

    async def status(self) -> api.NodeStatus:
        status = await super().status()
        shown = replace(
            status,
            name=self._claimed,
            names=tuple(await self.names()) if status.joined else (),
            network=self.network,
            domain=self.network,
            publishers=self.publishers,
            rpc=None if self.ready is None else self.ready.rpc,
            socket=None if self.ready is None else self.ready.socket,
        )
        return replace(shown, **self._setting.get("status", {}))


async def serve(arguments: list[str], setting: dict[str, Any]) -> int:
    """Run until SIGTERM or `swarm.stop`; the exit code."""
    options = parse_arguments(arguments)
    preparation = prepare(options, os.environ)
    paths = preparation.node
    make_folder(paths.run)
    paths.clear()
    if "error" in setting:
        paths.write_error(SetFailure(**setting["error"]))
        return int(setting["error"]["exit_code"])
    if "die" in setting:
        sys.stderr.write("the last words\n")
        return int(setting["die"])
    identity, _ = load_or_create(preparation.identity.path, os.environ)
    node = _Node(paths.name, options.wws_name or options.name, setting)
    node.take_identity(identity, str(preparation.identity.path))
    node.network, _, keys = (options.network or "test").partition("#")
    node.publishers = tuple(keys.split(",")) if keys else ()
    server = RpcServer(node, paths, RpcServerConfig(port=0, port_is_default=False), env=os.environ)
    await server.start()
    node.ready = Ready(
        node=paths.name,
        pid=os.getpid(),
        peer_id=node.peer_id,
        did=node.did,
        listen=(),
        rpc=server.tcp_address,
        http=None,
        socket=str(server.socket_path),
        cookie=str(server.cookie_path),
        started=process_start(os.getpid()),
    )
    paths.write_ready(node.ready)
    sys.stderr.write(f"{node.peer_id} is up\n")
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stopped.set)
    await node.stopped.wait()
    paths.clear()
    await server.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(serve(sys.argv[1:], json.loads(os.environ.get("FAKE_JOIN", "{}")))))
