"""All parsers of the product in one table, and those that need no row, each with its reason.

`unlisted()` walks the packages, so a parser that is written tomorrow fails a test until it stands here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from typing import Any

import wws
import wws_dns
from tests.fuzz.codecs import CODECS
from tests.fuzz.local import LOCAL
from tests.fuzz.local_network import LOCAL_NETWORK
from tests.fuzz.machines import MACHINES
from tests.fuzz.messages import MESSAGES
from tests.fuzz.networks import NETWORKS
from tests.fuzz.operators import OPERATORS
from tests.fuzz.releases import RELEASES
from tests.fuzz.signed_names import SIGNED_NAMES
from tests.fuzz.target import Target

TARGETS: tuple[Target, ...] = (
    *CODECS,
    *NETWORKS,
    *SIGNED_NAMES,
    *MESSAGES,
    *MACHINES,
    *LOCAL_NETWORK,
    *LOCAL,
    *OPERATORS,
    *RELEASES,
)

PARSER = re.compile(
    r"(parse|decode|loads?|read|open|receive|restore|import|from)(_\w+)?\Z|data_received\Z|datagram_received\Z"
)
"""How a public function or method is called that turns what comes from outside into values."""

_DATA = re.compile(r"\b(bytes|str|Json\w*|memoryview)\b")
"""How the annotation of a parameter reads that may hold what came from outside."""

_OPENS = "opens something of ours; the text names a protocol or a path"
_HANDS_ON = "hands each datagram or chunk on to the row of its machine, after a look at the sender"
_INNER = "called by the row of the object that holds it"
EXEMPT: dict[str, str] = {
    "wws.names.kinds.NameRecords.read": "NameRecord.parse behind a memory",
    "wws.names.kinds.PeerRecords.read": "PeerRecord.parse behind a memory",
    "wws.names.kinds.ParsedRecords.parse": "the memory in front of both",
    "wws.names.rules.read_object": _INNER,
    "wws.runtime.arguments.parse_arguments": "argparse, over what the user of this shell types",
    "wws.mesh.memory.MemoryLedger.open": _OPENS,
    "wws.runtime.kept_memory.KeptMemory.open": _OPENS,
    "wws.runtime.nat.probe.NatProbe.open": _OPENS,
    "wws.runtime.witness.rows.read_log": "LogEntry.parse over the rows of a database",
    "wws.runtime.connection.Connection.open_stream": _OPENS,
    "wws.runtime.dns_exchange._Answers.datagram_received": _HANDS_ON,
    "wws.runtime.mdns._Link.datagram_received": _HANDS_ON,
    "wws.runtime.nat.port_mapping._Receiver.datagram_received": _HANDS_ON,
    "wws.runtime.nat.upnp._Search.datagram_received": _HANDS_ON,
    "wws.runtime.socket_connection.SocketConnection.data_received": _HANDS_ON,
    "wws.runtime.streams.Stream.data_received": _HANDS_ON,
    "wws.runtime.keyfile.load_or_create": "load, or a new key",
    "wws.runtime.state_files.NetworkFiles.read_file": "bytes of a file, for the row network.json",
    "wws.runtime.state_files.NetworkFiles.read_state": "StateFile.read, at another path",
    "wws.transport.quic.engine.Engine.receive_datagram": "the inside of QuicMachine.receive_datagrams",
    "wws_dns.cloudflare_token.read_token": "a form of letters; nothing is taken apart",
    "wws_dns.commands.publish.read_signed": "signing.parse_request over a file",
    "wws_dns.commands.verify.parse_servers": "parse_server, over what the user of this shell types",
    "wws_dns.desired.from_bundle": "takes a bundle that was parsed",
    "wws_dns.history.load_history": "parse_history over a file",
    "wws_dns.providers.open_provider": _OPENS,
    "wws_dns.tsig.read_tsig": "parse_tsig over a file or a variable",
    "wws_dns.workspace.load_signers": "keyfile.load, for each path",
    "wws_dns.workspace.open_workspace": _OPENS,
}
"""Called like a parser and in no row: why."""


def parsers() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every function and method of the packages that is called like a parser, with its whole name."""
    for info in (
        *pkgutil.walk_packages(wws.__path__, "wws."),
        *pkgutil.walk_packages(wws_dns.__path__, "wws_dns."),
    ):
        if info.name.startswith("wws.testing") or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        for name, found in vars(module).items():
            if getattr(found, "__module__", None) != info.name:
                continue
            if inspect.isfunction(found) and _is_parser(name, found):
                yield f"{info.name}.{name}", found
            elif inspect.isclass(found) and not getattr(found, "_is_protocol", False):
                yield from _methods(f"{info.name}.{found.__qualname__}", found)


def _methods(name: str, found: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for member, raw in vars(found).items():
        function = raw.__func__ if isinstance(raw, (classmethod, staticmethod)) else raw
        if inspect.isfunction(function) and _is_parser(member, function):
            yield f"{name}.{member}", function


def _is_parser(name: str, function: Callable[..., Any]) -> bool:
    annotations = [str(kind) for at, kind in function.__annotations__.items() if at != "return"]
    return PARSER.match(name) is not None and any(map(_DATA.search, annotations))


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under a class method or a method."""
    return getattr(function, "__func__", function)


def unlisted() -> list[str]:
    """The parsers that are in no row and not exempt."""
    covered = {plain(function) for target in TARGETS for function in target.covers}
    return sorted(name for name, found in parsers() if found not in covered and name not in EXEMPT)


def find(name: str) -> Target:
    """The row of this name. Raises `KeyError`."""
    return {target.name: target for target in TARGETS}[name]
