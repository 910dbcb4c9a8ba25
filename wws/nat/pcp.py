"""The messages of the Port Control Protocol (RFC 6887): MAP, and ANNOUNCE as a sign of life.

    request    version 2 | opcode | 0 0 | lifetime | our address, 16 bytes
    response   version 2 | 128 + opcode | 0 | result | lifetime | epoch | 12 bytes of 0
    MAP        nonce, 12 bytes | IP protocol | 0 0 0 | internal port | external port | external address

An address has 16 bytes, IPv4 in its mapped form. The nonce is ours and random, and the response repeats
it: who does not sit on the way cannot forge one. Options and the PEER opcode are left
out: nothing here needs them.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

from wws.errors import LocalProtocolError, ParseError
from wws.nat.gateway_requests import (
    IP_NUMBERS,
    TRANSPORTS,
    Address,
    Answer,
    AskAddress,
    Mapped,
    MapPort,
    Port,
    Refused,
    Request,
    Unmapped,
    UnmapPort,
)

VERSION = 2
MAX_MESSAGE = 1100
"""The longest message there is (section 7)."""
NONCE_LENGTH = 12

_REQUEST = struct.Struct("!BBHI16s")
_RESPONSE = struct.Struct("!BBBBII12x")
_MAP = struct.Struct("!12sB3xHH16s")
_ANNOUNCE, _MAP_OPCODE, _IS_RESPONSE = 0, 1, 0x80
_RESULTS = {
    1: "unsupported_version",
    2: "not_authorized",
    3: "malformed_request",
    4: "unsupported_opcode",
    5: "unsupported_option",
    6: "malformed_option",
    7: "network_failure",
    8: "no_resources",
    9: "unsupported_protocol",
    10: "quota_exceeded",
    11: "cannot_provide_external",
    12: "address_mismatch",
    13: "too_many_remote_peers",
}  # section 7.4


def encode(request: Request, *, nonce: bytes, client: str) -> bytes:
    """The request of a client at the IP `client`, which must be the source of the datagram."""
    match request:
        case AskAddress():
            return _head(_ANNOUNCE, 0, client)
        case MapPort(port=port, external_port=external_port, external_ip=external_ip, lifetime=lifetime):
            return _head(_MAP_OPCODE, lifetime, client) + _map(nonce, port, external_port, external_ip)
        case UnmapPort(port=port):  # section 15: lifetime 0, and nothing is suggested
            return _head(_MAP_OPCODE, 0, client) + _map(nonce, port, 0, None)
        case _:
            raise LocalProtocolError(f"PCP has no {type(request).__name__}")


def decode(data: bytes, *, nonce: bytes) -> Answer:
    """The response of a router to the holder of `nonce`. Raises `ParseError`.

    A router that only knows another version (NAT-PMP: version 0) is `Refused("unsupported_version")`.
    """
    if not 4 <= len(data) <= MAX_MESSAGE or not data[1] & _IS_RESPONSE:
        raise ParseError("not a PCP response")
    if data[0] != VERSION:
        return Refused("unsupported_version")
    if len(data) % 4 or len(data) < _RESPONSE.size:
        raise ParseError("a PCP response is cut short")
    _, opcode, _, result, lifetime, epoch = _RESPONSE.unpack_from(data)
    opcode &= ~_IS_RESPONSE
    if opcode == _ANNOUNCE:
        return Refused(_reason(result), epoch=epoch) if result else Address(None, epoch)
    if opcode != _MAP_OPCODE:
        raise ParseError(f"PCP opcode {opcode} was not asked for")
    if len(data) < _RESPONSE.size + _MAP.size:
        if _reason(result) == "unsupported_version":  # it may not know what would follow
            return Refused("unsupported_version", epoch=epoch)
        raise ParseError("a PCP MAP response is cut short")
    echoed, number, internal, external, packed = _MAP.unpack_from(data, _RESPONSE.size)
    if echoed != nonce:
        raise ParseError("a PCP response has a nonce that is not ours")
    if number not in TRANSPORTS:
        raise ParseError(f"IP protocol {number} was not asked for")
    port = Port(TRANSPORTS[number], internal)
    if result:
        return Refused(_reason(result), port, epoch)
    if lifetime == 0:
        return Unmapped(port, epoch)
    if external == 0:
        raise ParseError("a PCP response maps to port 0")
    return Mapped(port, external, _unpack_ip(packed), lifetime, epoch)


def has_lost_state(before: int, after: int, elapsed: float) -> bool:
    """Whether a router whose epoch was `before`, `elapsed` seconds ago, has forgotten since (section 8.5)."""
    if after < before - 1:
        return True
    said = after - before
    return elapsed + 2 < said - said / 16 or said + 2 < elapsed - elapsed / 16


def _head(opcode: int, lifetime: int, client: str) -> bytes:
    return _REQUEST.pack(VERSION, opcode, 0, lifetime, _pack_ip(client))


def _map(nonce: bytes, port: Port, external_port: int, external_ip: str | None) -> bytes:
    # Without an address to suggest, all zeros in the family that is wanted: ours is IPv4 (section 11.1).
    packed = _pack_ip(external_ip or "0.0.0.0")  # noqa: S104 - not bound to
    return _MAP.pack(nonce, IP_NUMBERS[port.transport], port.number, external_port, packed)


def _reason(result: int) -> str:
    return _RESULTS.get(result, "unknown_result")


def _pack_ip(text: str) -> bytes:
    address = ip_address(text)
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def _unpack_ip(packed: bytes) -> str:
    address = IPv6Address(packed)
    mapped: IPv4Address | None = address.ipv4_mapped
    return str(mapped or address)
