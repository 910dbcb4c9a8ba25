"""The command line of `wws-connector` and `wws-bootstrap` (contract section 1), and what follows from it.

    arguments ──parse_arguments──► Options ──prepare──► Preparation (home, settings, key path, node name)

`--bootstrap-mode` makes a bootstrap node of either program: its key is `./bootstrap-identity.key`, its node
is called `bootstrap`, it listens on port 9000, unless something else is asked for; it never claims a name.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from wws import __version__
from wws.errors import LocalError
from wws.runtime.homes import Home, NodePaths, choose_home, expand, parse_node_name
from wws.runtime.keyfile import IdentityPath, choose_identity_path

if TYPE_CHECKING:
    from wws.config.records import NodeConfig

BOOTSTRAP_KEY = "bootstrap-identity.key"
"""Where a bootstrap node keeps its key, in the folder it is started in."""
BOOTSTRAP_NODE = "bootstrap"
DEFAULT_NODE = "default"


class WrongUsage(LocalError):
    """The command line cannot be understood."""

    code = "wrong_usage"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `None` and empty mean: not said."""

    config: str | None = None
    home: str | None = None
    node: str | None = None
    name: str | None = None
    network: str | None = None
    """NET: a saved network, a `.json` file, `<domain>#<key>[,<key>…]` or a bare domain."""
    bootstrap: tuple[str, ...] = ()
    listen: tuple[str, ...] = ()
    announce: tuple[str, ...] = ()
    dns_server: tuple[str, ...] = ()
    rpc: str | None = None
    """`IP:PORT`; empty: off."""
    http: str | None = None
    identity_path: str | None = None
    wws_name: str | None = None
    swarm: str | None = None
    relay_only: bool = False
    bootstrap_mode: bool = False
    allow_unsigned: bool = False
    log_format: str | None = None

    def flags(self) -> dict[str, object]:
        """The settings that were given as flags, by dotted name, as `load_config` takes them."""
        given: dict[str, object] = {
            "name": self.name,
            "network.bootstrap_peers": self.bootstrap or None,
            "network.listen": self.listen or None,
            "network.announce": self.announce or None,
            "network.dns_servers": self.dns_server or None,
            "network.relay_only": self.relay_only or None,
            "network.bootstrap_mode": self.bootstrap_mode or None,
            "rpc.tcp": self.rpc,
            "rpc.http": self.http,
            "identity.path": self.identity_path,
            "agent.wws_name": self.wws_name,
            "agent.swarm": self.swarm,
            "log.format": self.log_format,
        }
        return {setting: value for setting, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Preparation:
    """All that a node needs to know before it touches anything."""

    home: Home
    node: NodePaths
    config: NodeConfig
    identity: IdentityPath


def parse_arguments(arguments: Sequence[str], *, program: str = "wws-connector") -> Options:
    """The options on the command line. `--help` and `--version` print and raise `SystemExit`.

    Raises `WrongUsage`.
    """
    found = _parser(program).parse_args(list(arguments))
    return Options(
        config=found.config,
        home=found.home,
        node=found.node,
        name=found.name,
        network=found.network,
        bootstrap=tuple(found.bootstrap),
        listen=tuple(found.listen),
        announce=tuple(found.announce),
        dns_server=tuple(found.dns_server),
        rpc=found.rpc,
        http=found.http,
        identity_path=found.identity_path,
        wws_name=found.wws_name,
        swarm=found.swarm,
        relay_only=found.relay_only,
        bootstrap_mode=found.bootstrap_mode,
        allow_unsigned=found.allow_unsigned,
        log_format=found.log_format,
    )


def prepare(options: Options, env: Mapping[str, str]) -> Preparation:
    """Read the settings and settle home, node and key path.

    Changes nothing, so it may be done again (SIGHUP).
    Raises `ConfigError`, `BadNodeName`.
    """
    from wws.config import load_config  # not needed to answer --help

    home = choose_home(options.home, env)
    chosen = options.config or env.get("WWS_CONFIG")
    file = expand(chosen, env) if chosen else home.config_file
    config = load_config(options.flags(), env, file=file, file_required=bool(chosen))
    name = parse_node_name(config.name) if config.name else None
    if config.network.bootstrap_mode:
        # A bootstrap node has no part in the life of an agent on the same machine: not its key, nor its name.
        config = replace(config, agent=replace(config.agent, wws_name=None))
        called = options.node or options.name or BOOTSTRAP_NODE
        configured = config.identity.path if config.is_explicit("identity.path") else BOOTSTRAP_KEY
        identity = choose_identity_path(env, options.identity_path, configured, None, home)
        if identity.path == Path(BOOTSTRAP_KEY):
            identity = replace(identity, source="default (bootstrap mode)")
    else:
        called = options.node or env.get("WWS_NODE") or name or DEFAULT_NODE
        identity = choose_identity_path(env, options.identity_path, _configured_path(config), name, home)
    return Preparation(home, home.node(called), config, identity)


def _configured_path(config: NodeConfig) -> str | None:
    # The flag and the variable have their own places in the order; here only the file counts.
    source = config.sources.get("identity.path", "default")
    return None if source.startswith(("flag", "environment")) else config.identity.path


class _Parser(argparse.ArgumentParser):
    """Raises instead of exiting, so that the caller prints all errors alike."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise WrongUsage(f"{message}.", hint=f"See: {self.prog} --help")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=program,
        description="Run a WWS node in the foreground. SIGTERM drains it and exits 0; SIGHUP reads networks "
        "and limits again.",
        epilog="Flags beat the environment (WWS_<SECTION>_<FIELD>), which beats config.toml.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    parser.add_argument("--config", metavar="FILE", help="settings (default: config.toml in the home)")
    parser.add_argument(
        "--home", metavar="DIR", help="where everything lies (default: ~/.openswarm, $WWS_HOME)"
    )
    parser.add_argument("--node", metavar="NAME", help="what this node is called on this machine")
    parser.add_argument("--name", metavar="N", help="name to claim; also chooses the key file and the node")
    parser.add_argument(
        "--network",
        metavar="NET",
        help="saved network, file.json, domain#key[,key...], a bare domain, or ad-hoc",
    )
    parser.add_argument(
        "--bootstrap", metavar="ADDR", action="append", default=[], help="entry point to pin (repeats)"
    )
    parser.add_argument(
        "--listen", metavar="ADDR", action="append", default=[], help="multiaddr to listen on (repeats)"
    )
    parser.add_argument(
        "--announce", metavar="ADDR", action="append", default=[], help="multiaddr to announce (repeats)"
    )
    parser.add_argument(
        "--dns-server", metavar="IP[:PORT]", action="append", default=[], help="DNS server to ask (repeats)"
    )
    parser.add_argument("--rpc", metavar="IP:PORT", help="RPC server on TCP; empty: off")
    parser.add_argument("--http", metavar="IP:PORT", help="health, metrics and status page; empty: off")
    parser.add_argument("--identity-path", metavar="P", help="key file")
    parser.add_argument("--wws-name", metavar="N", help="name to claim, without choosing the key file by it")
    parser.add_argument("--swarm", metavar="ID", help="swarm that names belong to (default: public)")
    parser.add_argument("--relay-only", action="store_true", help="announce relayed addresses only")
    parser.add_argument(
        "--bootstrap-mode",
        action="store_true",
        help="serve as bootstrap, relay and witness node",
    )
    parser.add_argument(
        "--allow-unsigned",
        action="store_true",
        help="believe unsigned DNS: whoever answers decides",
    )
    parser.add_argument("--log-format", choices=["text", "json"], help="form of the log on stderr")
    return parser
