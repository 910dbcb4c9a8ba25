"""multistream-select 1.0: two peers agree on a protocol before they speak it.

    > /multistream/1.0.0        < /multistream/1.0.0
    > /yamux/2.0.0              < na
    > /yamux/1.0.0              < /yamux/1.0.0          … and from here on both speak yamux

Every message is a varint length, the text, and a newline that the length counts. The initiator sends the
header and its first proposal in one write. With one proposal only it may send data of that protocol right
behind (the responder agrees or all is lost anyway); its FIN has to wait for the answer, because js-libp2p
loses an end of stream that arrives together with the negotiation: `may_finish`.

Source: libp2p specification "Connection Establishment", and multistream-select's own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from wws.codec import varint
from wws.errors import LocalProtocolError, RemoteProtocolError, Truncated

HEADER = "/multistream/1.0.0"
NOT_AVAILABLE = "na"
LIST = "ls"


class NegotiationFailed(RemoteProtocolError):
    """The peers did not agree on a protocol, or the peer does not speak multistream-select."""

    code = "negotiation_failed"


class ProtocolNotSupported(NegotiationFailed):
    """The peer speaks none of the protocols that were proposed."""

    code = "protocol_not_supported"


@dataclass(frozen=True, slots=True)
class MultistreamConfig:
    """The bounds of one negotiation."""

    max_line: int = 1024
    """Bytes of one message from the peer, its newline included."""
    max_proposals: int = 32
    """Messages that a responder answers, `ls` and refused proposals included."""


DEFAULT_CONFIG = MultistreamConfig()


def encode_line(text: str) -> bytes:
    """One message: length, text, newline."""
    return varint.frame(text.encode() + b"\n")


_HEADER_LINE = encode_line(HEADER)
_NOT_AVAILABLE_LINE = encode_line(NOT_AVAILABLE)


class Negotiator:
    """One negotiation, either side. Made by `propose` or `answer`; done when `protocol` is set.

    `receive_data` returns the protocol as soon as it is agreed. What arrived behind the negotiation already
    belongs to that protocol and is fetched once with `take_leftover`.
    """

    __slots__ = (
        "_answered",
        "_buffer",
        "_config",
        "_header_seen",
        "_out",
        "_proposals",
        "_supported",
        "is_initiator",
        "protocol",
    )

    protocol: str | None
    """What was agreed, or `None` so far."""

    def __init__(
        self,
        *,
        is_initiator: bool,
        proposals: Sequence[str] = (),
        supported: Collection[str] = (),
        config: MultistreamConfig = DEFAULT_CONFIG,
    ) -> None:
        if is_initiator and not proposals:
            raise LocalProtocolError("an initiator has to propose at least one protocol")
        self.is_initiator = is_initiator
        self.protocol = None
        self._config = config
        self._proposals = list(proposals)
        self._supported = supported
        self._header_seen = False
        self._answered = 0
        self._buffer = bytearray()
        self._out = _HEADER_LINE + encode_line(self._proposals[0]) if is_initiator else b""

    @classmethod
    def propose(cls, *protocols: str, config: MultistreamConfig = DEFAULT_CONFIG) -> Negotiator:
        """The initiator's side; the protocols in order of preference."""
        return cls(is_initiator=True, proposals=protocols, config=config)

    @classmethod
    def answer(cls, supported: Collection[str], config: MultistreamConfig = DEFAULT_CONFIG) -> Negotiator:
        """The responder's side. `supported` is only read, and may be shared by all negotiations of a node."""
        return cls(is_initiator=False, supported=supported, config=config)

    @property
    def may_send(self) -> bool:
        """Whether data of the protocol may be written behind `data_to_send`.

        True once agreed; for an initiator that has one protocol left to propose, from the start (lazily).
        """
        return self.protocol is not None or (self.is_initiator and len(self._proposals) == 1)

    @property
    def may_finish(self) -> bool:
        """Whether our side of the stream may be closed: never in the flight of the proposal itself."""
        return self.protocol is not None

    def receive_data(self, data: bytes | bytearray | memoryview) -> str | None:
        """Take what the peer sent; the protocol once it is agreed.

        Raises `NegotiationFailed` when the peer breaks the rules or supports nothing of what was proposed.
        """
        self._buffer += data
        if not self._header_seen and not _HEADER_LINE.startswith(self._buffer[: len(_HEADER_LINE)]):
            # Said at the first wrong byte: a browser's or a scanner's next one may never come.
            raise NegotiationFailed(
                f"the peer does not speak multistream-select: {bytes(self._buffer[:40])!r}"
            )
        while self.protocol is None:
            line = self._next_line()
            if line is None:
                break
            if not self._header_seen:
                self._header_seen = True
                if not self.is_initiator:
                    self._out += _HEADER_LINE
            elif self.is_initiator:
                self._hear_answer(line)
            else:
                self._hear_proposal(line)
        return self.protocol

    def data_to_send(self) -> bytes:
        """What is to be sent now, only once."""
        out, self._out = self._out, b""
        return out

    def take_leftover(self) -> bytes:
        """The bytes that came behind the negotiation, only once."""
        leftover = bytes(self._buffer)
        self._buffer.clear()
        return leftover

    def _next_line(self) -> str | None:
        try:
            length, start = varint.decode(self._buffer)
        except Truncated:
            # A length that fits the bound takes two bytes.
            if len(self._buffer) > 2:
                raise NegotiationFailed("the length of a multistream message is out of bounds") from None
            return None
        except RemoteProtocolError as error:
            raise NegotiationFailed(f"the length of a multistream message is malformed: {error}") from None
        if not 0 < length <= self._config.max_line:
            raise NegotiationFailed(f"a multistream message of {length} bytes is out of bounds")
        end = start + length
        if len(self._buffer) < end:
            return None
        raw = bytes(self._buffer[start:end])
        del self._buffer[:end]
        if raw[-1] != 0x0A:
            raise NegotiationFailed("a multistream message does not end with a newline")
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            raise NegotiationFailed("a multistream message is not UTF-8") from None

    def _hear_answer(self, line: str) -> None:
        if line == self._proposals[0]:
            self.protocol = line
            return
        if line != NOT_AVAILABLE:
            raise NegotiationFailed(f"{line[:80]!r} is no answer to the proposal {self._proposals[0]!r}")
        refused = self._proposals.pop(0)
        if not self._proposals:
            raise ProtocolNotSupported(f"the peer does not support {refused}")
        self._out += encode_line(self._proposals[0])

    def _hear_proposal(self, line: str) -> None:
        self._answered += 1
        if self._answered > self._config.max_proposals:
            raise NegotiationFailed(f"more than {self._config.max_proposals} proposals")
        if line in self._supported:
            self._out += encode_line(line)
            self.protocol = line
        elif line == LIST:
            # One message that holds the protocols as messages, and a newline of its own.
            lines = b"".join(map(encode_line, sorted(self._supported)))
            self._out += varint.frame(lines + b"\n")
        else:
            self._out += _NOT_AVAILABLE_LINE
