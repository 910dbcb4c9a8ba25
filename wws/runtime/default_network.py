"""The network that a build names by itself: a signed network file that its release has stamped into it.

It is verified when the release is made (`packaging/check_network.py`) and again here, each time that it is
used. What the home has settled of the same network is believed before what the build says:

    keys pinned here are those of the build           nothing to do
    the build's file is older than the last list      the home knows better: its keys stay
    min(2, pinned) of the pinned keys signed the file the network has changed its keys: they are taken up
    anything else                                     the pinned keys stay, and that is said

So an update carries a change of keys only as far as a signed list could have; whoever can publish a build
cannot take a network away from those who are in it already.
"""

from __future__ import annotations

from dataclasses import dataclass

from wws.codec import canonical
from wws.discovery.bundle_state import BundleState
from wws.discovery.network import Network, file_signers, parse_network_file
from wws.discovery.publishers import PublisherKey, key_id
from wws.errors import LocalError, ParseError
from wws.runtime.state_files import NetworkFiles
from wws.stamp import Stamp, stamp


class DefaultNetworkRefused(LocalError):
    """The network that this build names is not what its publishers have signed."""

    code = "default_network_refused"
    exit_code = 8
    hint = "This build is damaged or was made wrongly: install wws again, or name a network with --network."


@dataclass(frozen=True, slots=True)
class DefaultNetwork:
    """The network of a build, verified, and the bytes that were signed."""

    network: Network
    data: bytes


def default_network(of: Stamp | None = None) -> DefaultNetwork | None:
    """The network that this build names, or `None`. Raises `DefaultNetworkRefused`, `StampMalformed`."""
    value = (stamp() if of is None else of).network
    if value is None:
        return None
    try:
        data = canonical.dumps(value)
        network = parse_network_file(data)
    except (ParseError, ValueError, RecursionError) as error:
        raise DefaultNetworkRefused(f"The default network of this build is refused: {error}.") from None
    if not network.publishers:
        raise DefaultNetworkRefused("The default network of this build is refused: nobody has signed it.")
    return DefaultNetwork(network, data)


def carry_over(default: DefaultNetwork, files: NetworkFiles) -> tuple[str, ...]:
    """Settle, before the network of the build is joined, which publisher keys hold; warnings about it.

    Raises `MachineError`.
    """
    network = default.network
    remembered = files.read_state(network.name)
    if remembered is None:
        return ()
    try:
        state = BundleState.of(network, remembered)
    except ParseError:
        return ()  # whoever reads it for the join says so, and starts without it
    pinned, listed = set(state.keys), set(network.publishers)
    if pinned == listed or (state.seq is not None and network.issued_at <= state.seq):
        return ()
    if len(_signers(default, state)) >= min(2, len(pinned)):
        state.keys = network.publishers
        files.raise_state(network.name, state.to_json())
        return ()
    here, there = (", ".join(sorted(map(key_id, keys))) for keys in (pinned, listed))
    warning = (
        f"this build names other publisher keys for {network.name} ({there}) than this home has pinned "
        f"({here}), and those pinned have not signed for them: the pinned ones count. If its operator has "
        f"told you of new keys: wws network remove {network.name}, and join again"
    )
    return (warning,)


def _signers(default: DefaultNetwork, state: BundleState) -> frozenset[PublisherKey]:
    try:
        return file_signers(default.data, state.keys)
    except ParseError:
        return frozenset()  # a bad signature in the name of a pinned key: nobody vouches for the change
