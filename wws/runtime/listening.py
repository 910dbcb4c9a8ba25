"""Where a node listens: what was asked for, or every interface at the port kept from its first start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wws.addresses.multiaddr import Multiaddr, Transport
from wws.config.records import NodeConfig
from wws.errors import LocalError, ParseError
from wws.runtime.host import Host, ListenFailed
from wws.runtime.logs import logger
from wws.runtime.machine_errors import PortTaken
from wws.runtime.state_files import PortFile
from wws.runtime.udp_socket import free_udp_port

_ANY_IPV4: Final = "0.0.0.0"  # noqa: S104 - to be reachable is what a node is for
_ANY_IPV6: Final = "::"
_ATTEMPTS: Final = 8
"""Ports that are tried until TCP and UDP are both free."""


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
        return await _listen_anywhere(host, config, port_file)
    warnings: list[str] = []
    for text in asked:
        try:
            address = Multiaddr.parse(text)
        except ParseError as error:
            raise CannotListen(str(error), hint="Write it as /ip4/0.0.0.0/tcp/9000") from None
        if (reason := _why_not(address, host, config)) is not None:
            warnings.append(f"skipped {address}: {reason}")
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


async def _listen_anywhere(host: Host, config: NodeConfig, port_file: PortFile) -> list[str]:
    """Every interface, TCP and QUIC at one port: the one kept, or a new one that is then kept."""
    wanted: list[Transport] = ["tcp"] if config.network.enable_tcp else []
    if config.network.enable_quic and host.quic is not None:
        wanted.append("quic-v1")
    if not wanted:
        raise CannotListen("every transport is disabled", hint="Enable TCP or QUIC in [network].")
    kept = port_file.read() or 0
    warnings: list[str] = []
    try:
        port = await _listen_at(host, _ANY_IPV4, kept, wanted)
    except ListenFailed as error:
        if not kept:
            raise CannotListen(str(error)) from error
        port = await _listen_at(host, _ANY_IPV4, 0, wanted)
        warnings.append(f"port {kept} of the last start is taken; listening on {port} from now on")
        logger("node").warning(warnings[0])
    if port != kept:
        port_file.write(port)
    try:
        await _listen_at(host, _ANY_IPV6, port, wanted)
    except ListenFailed as error:
        logger("node").info("no IPv6", reason=str(error))
    return warnings


async def _listen_at(host: Host, ip: str, port: int, wanted: Sequence[Transport]) -> int:
    """Listen with all transports at one port of this IP; with port 0 at one that all can have. Raises
    `ListenFailed`, then nothing is open."""
    for attempt in range(_ATTEMPTS):
        try:
            at = port
            if "quic-v1" in wanted:  # asked first: a TCP listener cannot be taken back
                try:
                    at = free_udp_port(ip, port)
                except OSError as error:
                    raise ListenFailed(Multiaddr.of(ip, port, "quic-v1"), error) from error
            for transport in wanted:
                at = (await host.listen(Multiaddr.of(ip, at, transport))).port or 0
            return at
        except ListenFailed as error:
            if port or not error.in_use or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the loop above returns or raises")


def _why_not(address: Multiaddr, host: Host, config: NodeConfig) -> str | None:
    """Why an address is not listened at; `None` when it is."""
    if address.is_circuit:
        return "a circuit is reserved at a relay, not listened on"
    if address.transport == "quic-v1":
        return None if config.network.enable_quic and host.quic is not None else "QUIC is disabled"
    if address.transport != "tcp":
        return "it names no transport"
    return None if config.network.enable_tcp else "TCP is disabled"
