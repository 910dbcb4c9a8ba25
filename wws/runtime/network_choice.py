"""Which network a node belongs to: what the command line, the settings, the home and the build say.

First that applies:

1. NET of the command line; `ad-hoc` is the network of exactly the peers typed with `--bootstrap`
2. the settings: `[network] domain` or `name`, which may be `ad-hoc`, too
3. the only saved network
4. where the build names none, the peers typed with `--bootstrap`: an ad hoc network
5. an agent comes back: the network that this node was in last, if the home still knows who signs for it
6. the network of the build, unless several are saved: then one is to be named

A bootstrap node may begin a network with none of these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from wws.addresses.multiaddr import Multiaddr
from wws.config.records import NodeConfig
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import (
    AD_HOC,
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


NetworkOrigin: TypeAlias = Literal["argument", "settings", "saved", "bootstrap", "remembered", "build"]
"""What named a network: NET, the settings, the home's files, typed peers, an earlier join, the build."""


class NoNetwork(LocalError):
    """No network is known: none was named, none is saved, no peer was given, and the build names none."""

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
    origin: NetworkOrigin


def choose_network(
    net: str | None,
    config: NodeConfig,
    files: NetworkFiles,
    *,
    allow_unsigned: bool,
    default: Network | None = None,
    last_domain: str | None = None,
) -> NetworkChoice:
    """The network to join; `default` is that of the build, `last_domain` that of the node's last one.

    Raises `NoNetwork`, `UnsignedNetwork`, `NoSuchNetwork`, `NetworkMalformed`, `NetworkBadSignature`,
    `BootstrapWithoutPeerId` or `BootstrapMalformed` when no typed peer can be used, `MachineError`.
    """
    typed, warnings, refused = _typed(config.network.bootstrap_peers)
    settings = config.network
    saved = files.names()
    network: Network | None
    origin: NetworkOrigin
    asked = net if net is not None or settings.domain is not None else settings.name
    if asked == AD_HOC and AD_HOC not in saved:
        network, origin = None, "bootstrap"
    elif net is not None:
        network, origin = _named(net, saved, files, allow_unsigned, default)
    elif settings.domain is not None:
        name = settings.name or settings.domain
        network, origin = (
            Network(name, settings.domain, tuple(map(parse_publisher_key, settings.publishers))),
            "settings",
        )
        if not network.publishers and not allow_unsigned:
            raise UnsignedNetwork(f"{settings.domain} is configured without a publisher key")
    elif settings.name is not None:
        network, origin = _saved(settings.name, files, default)
    elif len(saved) == 1:
        network, origin = _saved(saved[0], files, None)
    elif typed and default is None:
        network, origin = None, "bootstrap"
    elif not settings.bootstrap_mode and (last := _remembered(last_domain, files, default)) is not None:
        network, origin = last
    elif default is not None and not saved:
        network, origin = default, "build"
    else:
        network, origin = None, "bootstrap"
    if network is None:
        network = _ad_hoc(typed, refused, is_beginner=settings.bootstrap_mode)
    if network is None:
        if asked is not None:
            raise NoNetwork("An ad hoc network is that of the peers given with --bootstrap, and none is.")
        raise _nothing_known(saved, files, default)
    return NetworkChoice(
        network,
        typed,
        (*warnings, *network.skipped),
        is_unsigned=not network.publishers and not network.is_ad_hoc,
        origin=origin,
    )


def _ad_hoc(
    typed: tuple[Multiaddr, ...], refused: tuple[WwsError, ...], *, is_beginner: bool
) -> Network | None:
    """The network of the typed peers, or that which a bootstrap node begins; `None` where neither is."""
    if typed:
        return ad_hoc_network(typed)
    if is_beginner:
        return Network(AD_HOC, "")
    if refused:
        raise refused[0]
    return None


def _nothing_known(saved: list[str], files: NetworkFiles, default: Network | None) -> NoNetwork:
    if saved:
        further = "" if default is None or default.name in saved else f", and this build names {default.name}"
        return NoNetwork(
            f"No network was named; {len(saved)} networks are saved: {', '.join(saved)}{further}.",
            hint="Name one: wws join --network NAME",
        )
    return NoNetwork(
        "This build has no default network, and no network is known on this machine.",
        hint=_joined_before(files),
    )


def _remembered(
    domain: str | None, files: NetworkFiles, default: Network | None
) -> tuple[Network, NetworkOrigin] | None:
    """The network of the domain that this node was in last, if it is known here who signs for it."""
    if not domain or (default is not None and default.domain == domain):
        return None
    for name in files.names_with_state():
        value = files.read_state(name)
        try:
            state = None if value is None else BundleState.from_json(value)
            if state is None or state.domain != domain:
                continue
            if name in files.names():
                return _saved(name, files, None)
            return Network(name, domain, state.keys), "remembered"
        except ParseError:
            continue
    return None


def _joined_before(files: NetworkFiles) -> str:
    """The networks that this home was in, as `--network` takes them; empty: none that signs its list."""
    known = [state for name in files.names_with_state() if (state := files.read_state(name)) is not None]
    commands = []
    for state in known[:MAX_SUGGESTED]:
        domain, keys = state.get("domain"), state.get("keys")
        if isinstance(domain, str) and isinstance(keys, list):
            commands.append(f"wws join --network {domain}#{','.join(map(str, keys))}")
    return f"Where this home was before: {' or '.join(commands)}" if commands else NoNetwork.hint


def _named(
    net: str, saved: Iterable[str], files: NetworkFiles, allow_unsigned: bool, default: Network | None
) -> tuple[Network, NetworkOrigin]:
    known = {*saved, *(() if default is None else (default.name,))}
    try:
        argument = parse_net_argument(net, known, allow_unsigned=allow_unsigned)
    except NetworkUnknown as error:
        raise NoSuchNetwork(str(error)) from None
    match argument:
        case SavedNetwork(name=name):
            return _saved(name, files, default)
        case NetworkFile(path=path):
            try:
                with open(path, "rb") as file:
                    return parse_network_file(file.read(MAX_NETWORK_FILE + 1)), "argument"
            except FileNotFoundError:
                raise NoSuchNetwork(f"there is no network file {path}") from None
            except OSError as error:
                raise reading_failed(Path(path), error) from error
        case network:
            return network, "argument"


def _saved(name: str, files: NetworkFiles, default: Network | None) -> tuple[Network, NetworkOrigin]:
    """The network of that name: the home's, else that of the build."""
    data = files.read_file(name)
    if data is not None:
        return parse_network_file(data), "saved"
    if default is not None and default.name == name:
        return default, "build"
    raise NoSuchNetwork(f"no network {name!r} is saved")


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


__all__ = ["NetworkChoice", "NetworkMalformed", "NetworkOrigin", "NoNetwork", "choose_network"]
