"""Where a node listens: what was asked for, or every interface at the port kept from its first start."""

from __future__ import annotations

from wws.addresses.multiaddr import Multiaddr
from wws.config.records import NodeConfig
from wws.errors import LocalError, ParseError
from wws.runtime.host import Host, ListenFailed
from wws.runtime.logs import logger
from wws.runtime.machine_errors import PortTaken
from wws.runtime.state_files import PortFile


class CannotListen(LocalError):
    """None of the listen addresses can be used."""

    code = "cannot_listen"
    exit_code = 2


async def open_listeners(host: Host, config: NodeConfig, port_file: PortFile) -> list[str]:
    """Open the listeners; what the user should be told about them.

    An address of a transport that is unavailable or disabled is skipped with a warning. Raises `CannotListen`
    when none is left, `PortTaken` when a port that was asked for is in use.
    """
    asked = config.network.listen
    if not asked:
        return await _listen_anywhere(host, port_file)
    warnings: list[str] = []
    for text in asked:
        try:
            address = Multiaddr.parse(text)
        except ParseError as error:
            raise CannotListen(str(error), hint="Write it as /ip4/0.0.0.0/tcp/9000") from None
        if address.transport != "tcp" or address.is_circuit or not config.network.enable_tcp:
            warnings.append(f"skipped {address}: {_why_not(address, config)}")
            continue
        try:
            await host.listen(address.without_peer())
        except ListenFailed as error:
            if error.in_use:
                raise PortTaken(
                    f"{address} is taken by another program.",
                    hint="Stop that program, or choose another port with --listen.",
                ) from error
            if config.is_explicit("network.listen"):
                raise CannotListen(str(error), hint="Choose an address of this machine.") from error
            warnings.append(f"skipped {address}: {error}")  # a default, such as IPv6 where there is none
    if not host.listen_addresses:
        raise CannotListen(
            "no listen address can be used: " + "; ".join(warnings), hint="Give one with --listen."
        )
    for warning in warnings:
        logger("node").warning(warning)
    return warnings


async def _listen_anywhere(host: Host, port_file: PortFile) -> list[str]:
    kept = port_file.read() or 0
    warnings: list[str] = []
    try:
        bound = await host.listen(Multiaddr.of("0.0.0.0", kept))  # noqa: S104 - reachable is what a node is for
    except ListenFailed as error:
        if not kept:
            raise CannotListen(str(error)) from error
        bound = await host.listen(Multiaddr.of("0.0.0.0", 0))  # noqa: S104
        warnings.append(f"port {kept} of the last start is taken; listening on {bound.port} from now on")
        logger("node").warning(warnings[0])
    port = bound.port or 0
    if port != kept:
        port_file.write(port)
    try:
        await host.listen(Multiaddr.of("::", port))
    except ListenFailed as error:
        logger("node").info("no IPv6", reason=str(error))
    return warnings


def _why_not(address: Multiaddr, config: NodeConfig) -> str:
    if address.is_circuit:
        return "a circuit is reserved at a relay, not listened on"
    if address.transport == "quic-v1":
        return "QUIC is not available in this version" if config.network.enable_quic else "QUIC is disabled"
    return "TCP is disabled"
