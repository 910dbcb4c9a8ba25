"""What lies on this machine: settings, keys, state files. A crash or an editor damages them, no enemy."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PosixPath
from unittest import mock

from tests.fuzz.networks import DOMAIN, PUBLISHER_KEY, bundles
from tests.fuzz.target import Form, Target, text_of
from wws import client
from wws.addresses.multiaddr import Multiaddr
from wws.codec.canonical import JsonObject
from wws.config import load_config
from wws.config.deny_file import parse_deny_file
from wws.config.errors import ConfigError
from wws.config.kinds import parse_host_port
from wws.config.loading import OTHER_NAMES, all_settings
from wws.config.toml_file import read_toml
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState
from wws.discovery.peer_cache import PeerCache
from wws.discovery.witness_sets import WitnessesBefore
from wws.errors import LocalError, ParseError, WwsError
from wws.identity import export
from wws.identity.export import export_identity, import_identity
from wws.mesh.deny import DenyList, parse_denied_name, parse_peer, parse_prefix
from wws.names.equivocation import Equivocations
from wws.names.lease_state import LeaseState
from wws.names.pins import Pins
from wws.names.state import StateUnreadable
from wws.relay.budget import DailyBudget
from wws.runtime import keyfile, state_files
from wws.runtime.dns_exchange import system_servers
from wws.runtime.former_identities import MAX_IDENTITIES, RanAs, parse_identities, to_json
from wws.runtime.homes import Home, NodePaths, parse_node_name
from wws.runtime.nat.gateway import linux_gateway, route_gateway
from wws.runtime.state_files import PortFile, StateFile
from wws.testing.names import NOW, name_record, person, transfer


@cache
def folder() -> Path:
    """Of this process alone, gone with it."""
    memory = Path("/dev/shm")  # where there is one: the disk is not what is tested
    path = Path(tempfile.mkdtemp(prefix="wws-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


class FileOf(PosixPath):
    """A path that holds a case, without a disk under it."""

    content: bytes = b""

    def open(self, *_: object, **__: object) -> io.BytesIO:  # type: ignore[override]
        return io.BytesIO(self.content)


# Settings

CONFIGS = [
    b'[network]\nlisten = ["/ip4/0.0.0.0/tcp/9000"]\nmax_peers = 10\n[limits]\ndials = 4\n',
    b"[rpc]\ntcp = \"127.0.0.1:9370\"\nhttp = ''\n",
    b'[agent]\nwws_name = "alice" # me\n[log]\nlevel = "info"\n',
    b'[network]\ndomain = "example.org"\ndns_servers = ["[::1]:53"]\nbootstrap_peers = []\n',
    b"limits.dials = 0x10\n",
    b'[network]\nenable_tcp = true\n"listen" = [\n]\n',
]


def _toml(data: bytes) -> None:
    file = FileOf("/nowhere/config.toml")
    file.content = data
    read_toml(file, required=True)


def _settings(data: bytes) -> None:
    file = FileOf("/nowhere/config.toml")
    file.content = data
    load_config({}, {}, file=file)


def _environments() -> list[bytes]:
    values = {
        "WWS_NETWORK_LISTEN": '["/ip4/0.0.0.0/tcp/9000"]',
        "WWS_NETWORK_MAX_PEERS": "10",
        "WWS_RPC_TCP": "127.0.0.1:9370",
        "WWS_LIMITS_DIALS": "4",
        "WWS_LIMITS_PREFIX_EXEMPT": "10.0.0.0/8, fe80::/10",
        "WWS_AGENT_WWS_NAME": "alice",
        "WWS_NETWORK_DNS_SERVERS": "1.1.1.1:53,[::1]:53",
        "WWS_NETWORK_DOH_SERVERS": "https://dns.example/dns-query",
        "WWS_NETWORK_ENABLE_TCP": "true",
        "WWS_LIMITS_PHASE_TIMEOUT": "2.5",
        "WWS_LOG_LEVEL": "debug",
    }
    return [f"{name}={value}".encode() for name, value in values.items()]


def _variables() -> set[str]:
    return {f"WWS_{setting.replace('.', '_').upper()}" for setting in all_settings()} | set(OTHER_NAMES)


def _environment() -> Callable[[bytes], None]:
    known = _variables()

    def read(data: bytes) -> None:
        name, _, value = text_of(data).partition("=")
        if name not in known:  # unknown ones only make a warning, by a search that costs more than all else
            name = "WWS_NETWORK_LISTEN"
        load_config({}, {name: value.replace("\x00", "")}, file=folder() / "none.toml")

    return read


def _host_port(data: bytes) -> None:
    host, port = parse_host_port(text_of(data))
    assert host
    assert 0 <= port <= 65535
    parse_host_port(text_of(data), 53)


# Keys


def _key(data: bytes) -> None:
    path = folder() / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    assert keyfile.load(path, {}).seed == data


@cache
def _exports() -> list[bytes]:
    with mock.patch.object(export, "stretch", _cheap):
        text = export_identity(person("alice"), "secret", passes=1, memory=8_192)
    return [text.encode(), text.replace("\n", "\r\n").encode()]


def _cheap(passphrase: str, salt: bytes, *, passes: int, memory: int) -> bytes:
    return hashlib.sha256(f"{passphrase}{passes}{memory}".encode() + salt).digest()


def _import(data: bytes) -> None:
    """Without the cost of Argon2id, which is there to be high."""
    with mock.patch.object(export, "stretch", _cheap):
        import_identity(text_of(data), "secret")


# State files


def state(read: Callable[[JsonObject], object]) -> Callable[[bytes], None]:
    """Bytes to JSON as `StateFile` does it, then the reader of one kind of file."""

    def checked(data: bytes) -> None:
        read(state_files._parse(data))

    return checked


def _state_file(data: bytes) -> None:
    path = folder() / "state.json"
    path.write_bytes(data)
    file = StateFile(path, warn=lambda _: None)
    value = file.read()
    if value is not None:
        file.write({"port": 1}, durable=False)
        assert file.read() is not None


def _written(*values: Mapping[str, object]) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value).encode() for value in values]


def _pins() -> list[bytes]:
    pins = Pins()
    pins.observe("", name_record("alice"), NOW)
    pins.observe(DOMAIN, name_record("bob", name="bob", swarm="lab"), NOW)
    return [json.dumps(value).encode() for value in (pins.to_json(), Pins().to_json())]


def _leases() -> list[bytes]:
    plain = LeaseState.of(name_record("alice"))
    given = LeaseState.of(
        name_record("bob", issued_at=NOW + 9, transfers=[transfer("alice", "bob", seq=NOW)])
    )
    return [json.dumps({**each.to_json()}).encode() for each in (plain, given)]


def _peers() -> list[bytes]:
    cache = PeerCache(DOMAIN)
    cache.record(
        person("bob").peer_id,
        [Multiaddr.parse("/ip4/203.0.113.7/tcp/9000")],
        through=person("w0").peer_id,
        met_at=NOW,
        unix_now=NOW,
    )
    return [json.dumps(cache.to_json()).encode()]


def _bundle_states() -> list[bytes]:
    fresh = BundleState(DOMAIN, [PUBLISHER_KEY], min_seq=7)
    last = BundleState(DOMAIN, [PUBLISHER_KEY], last=Bundle.parse(bundles()[0].decode()))
    return [json.dumps(each.to_json()).encode() for each in (fresh, last)]


def _denied() -> list[bytes]:
    entries = [
        str(person("bob").peer_id),
        "203.0.113.0/24",
        "2001:db8::/32",
        "198.51.100.7",
        "alice",
        "bob@lab",
    ]
    return [entry.encode() for entry in entries]


def _deny_files() -> list[bytes]:
    lines = [line if line[:1] not in (b"a", b"b") else b"wws:" + line for line in _denied()]
    return [b"# who is not wanted\n" + b"  # why\n".join(lines) + b"\n", *lines]


def _equivocations() -> list[bytes]:
    pair = sorted(name_record("alice", addresses=(), lifetime=life).value.decode() for life in (60, 61))
    proofs = [{"found_at": NOW, "records": pair}]
    return [json.dumps({"schema": 1, "equivocations": proofs}).encode(), b'{"schema":1,"equivocations":[]}']


def _deny(data: bytes) -> None:
    """One entry, as each of the three kinds."""
    text = text_of(data)
    refused = 0
    for peers, prefixes, names in (((text,), (), ()), ((), (text,), ()), ((), (), (text,))):
        try:
            found = DenyList.parse(peers, prefixes, names, lambda name, swarm: f"{name}@{swarm}")
        except ParseError:
            refused += 1
            continue
        assert found
        found.denies_ip("203.0.113.7")
        found.denies_ip(text)
        found.denies_name(text)
    if refused == 3:
        raise ParseError("none of the three")


def _identities(data: bytes) -> None:
    read = parse_identities(state_files._parse(data))
    assert len(read) <= MAX_IDENTITIES
    assert parse_identities(to_json(read)) == read


def _port(data: bytes) -> None:
    node = Home(folder()).node("alice")
    node.port_file.parent.mkdir(parents=True, exist_ok=True)
    node.port_file.write_bytes(data)
    port = PortFile(node, warn=lambda _: None).read()
    assert port is None or 0 < port <= 65535


def _ready(data: bytes) -> None:
    node = Home(folder()).node("bob")
    node.ready_file.parent.mkdir(parents=True, exist_ok=True)
    for path in (node.ready_file, node.error_file):
        path.write_bytes(data)
    node.read_ready()
    node.read_error()


READY = {
    "node": "bob",
    "pid": 1,
    "peer_id": "12D3KooW",
    "did": "did:swarm:0",
    "listen": ["/ip4/127.0.0.1/tcp/9000"],
    "rpc": "127.0.0.1:9370",
    "http": None,
    "socket": "/tmp/x",
    "cookie": "/tmp/c",
    "started": 7,
}
FORMER = (
    RanAs(person("alice").peer_id, Path("/srv/alice.key")),
    RanAs(person("bob").peer_id, Path("/media/stick/my keys/a.key")),
)
FAILED = {"code": "port_taken", "message": "The port is taken.", "hint": "", "exit_code": 4}


def _resolv_conf(data: bytes) -> None:
    path = folder() / "resolv.conf"
    path.write_bytes(data)
    for _, port in system_servers(path):
        assert port == 53


def _routes(data: bytes) -> None:
    text = data.decode("ascii", "replace")
    linux_gateway(text)
    route_gateway(text)


def _node_name(data: bytes) -> None:
    assert parse_node_name(text_of(data))


ROUTES = (
    b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    b"eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
)

LOCAL = (
    Target("config TOML", lambda: CONFIGS, _toml, (ConfigError,), (read_toml,), Form.TEXT),
    Target(
        "config settings",
        lambda: CONFIGS,
        _settings,
        (ConfigError,),
        (load_config,),
        Form.TEXT,
        largest=8_192,
        share=0.3,
    ),
    Target(
        "config environment",
        _environments,
        _environment(),
        (ConfigError,),
        (load_config,),
        Form.TEXT,
        share=0.3,
    ),
    Target(
        "host and port",
        lambda: [b"127.0.0.1:9370", b"[::1]:9370", b"::1", b"[fe80::1%eth0]:53"],
        _host_port,
        (ValueError,),
        (parse_host_port,),
        Form.TEXT,
    ),
    Target(
        "key file",
        lambda: [bytes(range(32)), bytes(33), b""],
        _key,
        (LocalError,),
        (keyfile.load,),
        share=0.2,
    ),
    Target("exported identity", _exports, _import, (LocalError,), (import_identity,), Form.TEXT),
    Target("pins", _pins, state(Pins.from_json), (StateUnreadable, ValueError), (Pins.from_json,), Form.JSON),
    Target(
        "lease state",
        _leases,
        state(LeaseState.from_json),
        (StateUnreadable, ValueError),
        (LeaseState.from_json,),
        Form.JSON,
    ),
    Target(
        "peer cache",
        _peers,
        state(lambda value: PeerCache.from_json(value, DOMAIN, NOW)),
        (ParseError, ValueError),
        (PeerCache.from_json,),
        Form.JSON,
    ),
    Target(
        "former identities",
        lambda: [json.dumps({"schema": 1, **to_json(each)}).encode() for each in (FORMER, FORMER[:1], ())],
        _identities,
        (ParseError, ValueError),
        (parse_identities,),
        Form.JSON,
    ),
    Target(
        "bundle state",
        _bundle_states,
        state(BundleState.from_json),
        (ParseError, ValueError),
        (BundleState.from_json,),
        Form.JSON,
    ),
    Target(
        "relay budget",
        _written({"schema": 1, "day": 20_000, "bytes": 7}),
        state(lambda value: DailyBudget(1).restore(value)),
        (ParseError, ValueError),
        (DailyBudget.restore,),
        Form.JSON,
    ),
    Target(
        "witnesses before",
        _written(
            WitnessesBefore(frozenset({person("w0").peer_id}), NOW).to_json(), WitnessesBefore().to_json()
        ),
        state(WitnessesBefore.from_json),
        (ParseError, ValueError),
        (WitnessesBefore.from_json,),
        Form.JSON,
    ),
    Target(
        "deny file",
        _deny_files,
        lambda data: parse_deny_file(text_of(data), "deny.txt"),
        (ConfigError,),
        (parse_deny_file,),
        Form.TEXT,
    ),
    Target(
        "equivocations",
        _equivocations,
        state(lambda value: Equivocations().load(value)),
        (StateUnreadable, ValueError),
        (Equivocations.load,),
        Form.JSON,
    ),
    Target(
        "deny list",
        _denied,
        _deny,
        (ParseError,),
        (DenyList.parse, parse_peer, parse_prefix, parse_denied_name),
        Form.TEXT,
    ),
    Target(
        "state file",
        lambda: [*_pins(), *_leases(), *_peers()],
        _state_file,
        (LocalError,),
        (StateFile.read,),
        Form.JSON,
        share=0.2,
    ),
    Target(
        "port file",
        _written({"schema": 1, "port": 9000}),
        _port,
        (LocalError,),
        (PortFile.read,),
        Form.JSON,
        share=0.2,
    ),
    Target(
        "ready and error",
        _written(READY, FAILED),
        _ready,
        (),
        (NodePaths.read_ready, NodePaths.read_error),
        Form.JSON,
        share=0.2,
    ),
    Target(
        "resolv.conf",
        lambda: [b"nameserver 127.0.0.1\nnameserver ::1\nsearch x\n"],
        _resolv_conf,
        (),
        (),
        Form.TEXT,
        share=0.2,
    ),
    Target("routes", lambda: [ROUTES, b"   gateway: 192.168.0.1\n"], _routes, (), (), Form.TEXT),
    Target(
        "node name", lambda: [b"alice", b"a.b-c_d"], _node_name, (WwsError,), (parse_node_name,), Form.TEXT
    ),
    Target(
        "answer to a client",
        lambda: [b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"error":{"code":1,"data":{}}}'],
        client._parse,
        (ValueError,),
        (client._parse,),
        Form.JSON,
    ),
)
