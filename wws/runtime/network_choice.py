"""Which network a node belongs to: what the command line, the settings and the saved networks say.

First that applies: NET of the command line; the settings (`[network] name` or `domain`); the only saved
network; the peers typed with `--bootstrap` (an ad hoc network). A bootstrap node may begin a network with
none of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wws.addresses.multiaddr import Multiaddr
from wws.config.records import NodeConfig
from wws.discovery.network import (
    BootstrapWithoutPeerId,
    Network,
    NetworkFile,
    NetworkMalformed,
    NetworkUnknown,
    SavedNetwork,
    UnsignedNetwork,
    ad_hoc_network,
    parse_net_argument,
    parse_network_file,
)
from wws.discovery.publishers import parse_publisher_key
from wws.errors import LocalError, ParseError, WwsError
from wws.runtime.machine_errors import reading_failed
from wws.runtime.state_files import NetworkFiles

MAX_NETWORK_FILE = 16 * 1024
MAX_SUGGESTED = 3
"""Networks that the hint of a join names."""


class NoNetwork(LocalError):
    """No network is known: none was named, none is saved, and no peer was given."""

    code = "no_network"
    exit_code = 9
    hint = (
        "Name one: --network <domain>#<publisher key>, or --network FILE.json, "
        "or a peer: --bootstrap /ip4/…/tcp/9000/p2p/<PeerId>"
    )


class NoSuchNetwork(NetworkUnknown, LocalError):
    """The network that was named is not known here, so there is no way in."""

    exit_code = 9


class BootstrapMalformed(LocalError):
    """What was typed with --bootstrap is no address, and there is no other way to a network."""

    code = "bootstrap_malformed"
    exit_code = 2
    hint = (
        "Write it in this form: --bootstrap /ip4/127.0.0.1/tcp/9000/p2p/<PeerId>; "
        "wws-bootstrap prints its whole address when it starts."
    )


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """The network, and what else was typed."""

    network: Network
    typed: tuple[Multiaddr, ...]
    """Peers named with `--bootstrap`: pinned for this node, not part of the network's definition."""
    warnings: tuple[str, ...]
    is_unsigned: bool
    """Whether hints are believed although nobody signs for them."""


def choose_network(
    net: str | None, config: NodeConfig, files: NetworkFiles, *, allow_unsigned: bool
) -> NetworkChoice:
    """The network to join.

    Raises `NoNetwork`, `UnsignedNetwork`, `NoSuchNetwork`, `NetworkMalformed`, `NetworkBadSignature`,
    `BootstrapWithoutPeerId` or `BootstrapMalformed` when no typed peer can be used, `MachineError`.
    """
    typed, warnings, refused = _typed(config.network.bootstrap_peers)
    settings = config.network
    saved = files.names()
    if net is not None:
        network = _named(net, saved, files, allow_unsigned)
    elif settings.domain is not None:
        name = settings.name or settings.domain
        network = Network(
            name, settings.domain, tuple(parse_publisher_key(key) for key in settings.publishers)
        )
        if not network.publishers and not allow_unsigned:
            raise UnsignedNetwork(f"{settings.domain} is configured without a publisher key")
    elif settings.name is not None:
        network = _saved(settings.name, files)
    elif len(saved) == 1:
        network = _saved(saved[0], files)
    elif typed:
        network = ad_hoc_network(typed)
    elif settings.bootstrap_mode:
        network = Network("ad-hoc", "")
    elif refused:
        raise refused[0]
    else:
        several = f" {len(saved)} networks are saved: {', '.join(saved)}." if saved else ""
        raise NoNetwork(f"No network is known on this machine.{several}", hint=_joined_before(files))
    return NetworkChoice(
        network,
        typed,
        (*warnings, *network.skipped),
        is_unsigned=not network.publishers and not network.is_ad_hoc,
    )


def _joined_before(files: NetworkFiles) -> str:
    """The networks that this home was in, as `--network` takes them; empty: none that signs its list."""
    known = [state for name in files.names_with_state() if (state := files.read_state(name)) is not None]
    commands = []
    for state in known[:MAX_SUGGESTED]:
        domain, keys = state.get("domain"), state.get("keys")
        if isinstance(domain, str) and isinstance(keys, list):
            commands.append(f"wws join --network {domain}#{','.join(map(str, keys))}")
    return f"Where this home was before: {' or '.join(commands)}" if commands else NoNetwork.hint


def _named(net: str, saved: Iterable[str], files: NetworkFiles, allow_unsigned: bool) -> Network:
    try:
        argument = parse_net_argument(net, frozenset(saved), allow_unsigned=allow_unsigned)
    except NetworkUnknown as error:
        raise NoSuchNetwork(str(error)) from None
    match argument:
        case SavedNetwork(name=name):
            return _saved(name, files)
        case NetworkFile(path=path):
            try:
                with open(path, "rb") as file:
                    return parse_network_file(file.read(MAX_NETWORK_FILE + 1))
            except FileNotFoundError:
                raise NoSuchNetwork(f"there is no network file {path}") from None
            except OSError as error:
                raise reading_failed(Path(path), error) from error
        case network:
            return network


def _saved(name: str, files: NetworkFiles) -> Network:
    data = files.read_file(name)
    if data is None:
        raise NoSuchNetwork(f"no network {name!r} is saved")
    return parse_network_file(data)


def _typed(texts: Iterable[str]) -> tuple[tuple[Multiaddr, ...], tuple[str, ...], tuple[WwsError, ...]]:
    """The typed peers, warnings about those that are skipped, and why each of these cannot be used."""
    good: list[Multiaddr] = []
    warnings: list[str] = []
    refused: list[WwsError] = []
    for text in texts:
        try:
            address = Multiaddr.parse(text)
        except ParseError as error:
            warnings.append(f"skipped a --bootstrap address: {error}")
            refused.append(BootstrapMalformed(f"{text[:200]!r} is not the address of a peer: {error}."))
            continue
        if address.peer_id is None:
            missing = BootstrapWithoutPeerId(f"skipped {address}: it does not end in /p2p/<PeerId>")
            warnings.append(f"{missing} ({missing.hint})")
            refused.append(BootstrapWithoutPeerId(f"{address} does not end in /p2p/<PeerId>"))
            continue
        good.append(address)
    return tuple(dict.fromkeys(good)), tuple(warnings), tuple(refused)


__all__ = ["NetworkChoice", "NetworkMalformed", "NoNetwork", "choose_network"]
