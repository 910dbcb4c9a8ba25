"""The messages of NAT-PMP (RFC 6886), which PCP succeeds and many routers still speak.

    request    version 0 | opcode 0: what is your address outside?
               version 0 | 1 UDP, 2 TCP | 0 0 | internal port | external port | lifetime
    response   version 0 | 128 + opcode | result, 2 bytes | epoch | address
                                                                    or internal | external | lifetime

There is no nonce: who can send under the router's address can tell us anything. What is mapped is therefore
only a candidate, which others confirm by dialling it before we announce it.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from typing import Final

from wws.errors import LocalProtocolError, ParseError
from wws.nat.gateway_requests import (
    Address,
    Answer,
    AskAddress,
    Mapped,
    MapPort,
    Port,
    Refused,
    Request,
    Transport,
    Unmapped,
    UnmapPort,
)

PORT = 5351
"""Where routers answer, PCP likewise."""

_VERSION, _IS_RESPONSE = 0, 0x80
_OPCODES: Final[dict[Transport, int]] = {"udp": 1, "tcp": 2}
_TRANSPORTS: Final[dict[int, Transport]] = {opcode: name for name, opcode in _OPCODES.items()}
_MAP = struct.Struct("!BBHHHI")
_HEAD = struct.Struct("!BBHI")
_MAPPED = struct.Struct("!HHI")
_RESULTS = {
    1: "unsupported_version",
    2: "not_authorized",
    3: "network_failure",
    4: "no_resources",
    5: "unsupported_opcode",
}  # section 3.5


def encode(request: Request) -> bytes:
    """A request in bytes."""
    match request:
        case AskAddress():
            return bytes((_VERSION, 0))
        case MapPort(port=port, external_port=external_port, lifetime=lifetime):
            return _MAP.pack(_VERSION, _OPCODES[port.transport], 0, port.number, external_port, lifetime)
        case UnmapPort(port=port):  # section 3.4: lifetime 0, and external port 0
            return _MAP.pack(_VERSION, _OPCODES[port.transport], 0, port.number, 0, 0)
        case _:
            raise LocalProtocolError(f"NAT-PMP has no {type(request).__name__}")


def decode(data: bytes) -> Answer:
    """A router's response. Raises `ParseError`."""
    if not _HEAD.size <= len(data) <= 16:
        raise ParseError("not a NAT-PMP response")
    version, opcode, result, epoch = _HEAD.unpack_from(data)
    if version != _VERSION:
        return Refused("unsupported_version")
    opcode ^= _IS_RESPONSE
    if opcode == 0 and not result and len(data) == 12:
        return Address(str(IPv4Address(data[8:12])), epoch)
    if opcode == 0 and result:
        return Refused(_reason(result), epoch=epoch)
    transport = _TRANSPORTS.get(opcode)
    if transport is None:
        raise ParseError("a NAT-PMP response is to no question of ours")
    if len(data) != 16:
        if result:  # some routers send the head alone
            return Refused(_reason(result), epoch=epoch)
        raise ParseError("a NAT-PMP response is cut short")
    internal, external, lifetime = _MAPPED.unpack_from(data, _HEAD.size)
    port = Port(transport, internal)
    if result:
        return Refused(_reason(result), port, epoch)
    if lifetime == 0:
        return Unmapped(port, epoch)
    if external == 0:
        raise ParseError("a NAT-PMP response maps to port 0")
    return Mapped(port, external, None, lifetime, epoch)


def has_lost_state(before: int, after: int, elapsed: float) -> bool:
    """Whether a router whose epoch was `before`, `elapsed` seconds ago, has forgotten since (section 3.6).

    Its clock may run an eighth slow, and two seconds are forgiven.
    """
    return after < before + elapsed * 7 / 8 - 2


def _reason(result: int) -> str:
    return _RESULTS.get(result, "unknown_result")
