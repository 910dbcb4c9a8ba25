"""Reads multicast DNS packets as far as we need them (RFC 1035, section 4), with a bound on the work.

dnspython reads them too, but takes a millisecond for one long name, and a packet of 4 kB can point to such a
name five hundred times: any neighbour could keep a node busy with that. Here a name has few labels, a packet
few records, and what is neither PTR nor TXT is stepped over.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias

from wws.errors import ParseError

Name: TypeAlias = tuple[bytes, ...]
"""The labels of a name in lower case, without the root."""

PTR, TXT, ANY = 12, 16, 255
_HEAD = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RECORD = struct.Struct("!2HIH")
_POINTER = 0xC0
_RESPONSE = 0x8000


@dataclass(frozen=True, slots=True)
class DnsWireConfig:
    """The bounds of one packet."""

    max_records: int = 64
    """Questions and records of all sections together."""
    max_labels: int = 40
    """Labels of a name: those for the reverse of an IPv6 address, which share our packets, have 34."""


@dataclass(frozen=True, slots=True)
class Packet:
    """What a packet asks and says. Records of the authority section are left out."""

    is_response: bool
    questions: tuple[tuple[Name, int], ...]
    """Names and types."""
    pointers: tuple[tuple[Name, Name], ...]
    """PTR records: name and target."""
    texts: tuple[tuple[Name, int, tuple[bytes, ...]], ...]
    """TXT records: name, time to live, strings."""


def read_packet(packet: bytes, config: DnsWireConfig) -> Packet:
    """What is in a packet. Raises `ParseError`; bytes behind the last record are ignored."""
    try:
        return _read(packet, config)
    except (struct.error, IndexError):
        raise ParseError("a DNS packet is cut short") from None


def _read(packet: bytes, config: DnsWireConfig) -> Packet:
    _, flags, asked, answers, authorities, additional = _HEAD.unpack_from(packet)
    if asked + answers + authorities + additional > config.max_records:
        raise ParseError(f"a DNS packet has more than {config.max_records} records")
    offset = _HEAD.size
    questions: list[tuple[Name, int]] = []
    for _ in range(asked):
        name, offset = _name(packet, offset, config.max_labels)
        questions.append((name, _QUESTION.unpack_from(packet, offset)[0]))
        offset += _QUESTION.size
    pointers: list[tuple[Name, Name]] = []
    texts: list[tuple[Name, int, tuple[bytes, ...]]] = []
    for number in range(answers + authorities + additional):
        name, offset = _name(packet, offset, config.max_labels)
        kind, _, ttl, length = _RECORD.unpack_from(packet, offset)
        offset += _RECORD.size
        end = offset + length
        if end > len(packet):
            raise ParseError("a DNS record is cut short")
        if answers <= number < answers + authorities:
            pass
        elif kind == PTR:
            pointers.append((name, _name(packet, offset, config.max_labels)[0]))
        elif kind == TXT:
            texts.append((name, ttl, _strings(packet[offset:end])))
        offset = end
    return Packet(bool(flags & _RESPONSE), tuple(questions), tuple(pointers), tuple(texts))


def _name(packet: bytes, offset: int, max_labels: int) -> tuple[Name, int]:
    """The name at `offset`, and where what follows it begins."""
    labels: list[bytes] = []
    end: int | None = None
    earliest = offset
    while length := packet[offset]:
        if length >= _POINTER:
            end = end or offset + 2
            offset = (length - _POINTER) << 8 | packet[offset + 1]
            if offset >= earliest:  # backward only, so that it ends
                raise ParseError("a DNS name points forward")
            earliest = offset
            continue
        if length > 63 or len(labels) >= max_labels:
            raise ParseError("a DNS name is malformed or too long")
        labels.append(packet[offset + 1 : offset + 1 + length].lower())
        offset += 1 + length
    return tuple(labels), end or offset + 1


def _strings(data: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    offset = 0
    while offset < len(data):
        end = offset + 1 + data[offset]
        if end > len(data):
            raise ParseError("a DNS string is cut short")
        found.append(data[offset + 1 : end])
        offset = end
    return tuple(found)
