"""The frames of yamux version 0, its numbers, and the errors that a peer can make with them.

    version (1 byte, 0) | type (1) | flags (2) | stream id (4) | length (4), big-endian, then data if any

Source: the libp2p specification "yamux", a copy of HashiCorp's.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from wws.errors import RemoteProtocolError

HEADER: Final = struct.Struct(">BBHII")
HEADER_LENGTH: Final = 12
INITIAL_WINDOW: Final = 256 * 1024
"""What each side of a stream may send before the first window update."""
MAX_WINDOW: Final = 2**32 - 1

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8
ALL_FLAGS: Final = SYN | ACK | FIN | RST


class GoAwayCode(IntEnum):
    """Why a side takes no more streams."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class YamuxError(RemoteProtocolError):
    """The peer broke the yamux protocol. It is told so by a go-away, and the connection ends."""

    code = "yamux_error"


class InvalidFrame(YamuxError):
    """A yamux frame has an unknown version, type or flag, or a combination that means nothing."""

    code = "yamux_invalid_frame"


class InvalidStreamId(YamuxError):
    """The peer opened a stream under an id that is not its to open, or not any more."""

    code = "yamux_invalid_stream_id"


class UnknownStream(YamuxError):
    """The peer sent a frame for a stream that was never opened."""

    code = "yamux_unknown_stream"


class WindowExceeded(YamuxError):
    """The peer sent more than it was granted."""

    code = "yamux_window_exceeded"


class WindowOverflow(YamuxError):
    """The peer granted more than a window can hold."""

    code = "yamux_window_overflow"


class StreamHasEnded(YamuxError):
    """The peer sent data on a stream that it had ended before."""

    code = "yamux_stream_has_ended"


class FrameFlood(YamuxError):
    """The peer sends more control frames than any honest use needs."""

    code = "yamux_frame_flood"


class KeepAliveTimeout(RemoteProtocolError):
    """The peer did not answer a ping and sent nothing else."""

    code = "keep_alive_timeout"
