"""What aioquic keeps of a connection, and how to do with less: thousands of them are idle most of the time.

Some of it is the same for all connections, and some is of no use once the handshake is confirmed: the TLS
context with its keys and certificates, the buffers for its messages, the packet spaces and keys of the
handshake. Where aioquic still looks at them later, it finds ones that are empty and shared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from aioquic import tls
from aioquic.quic.connection import QuicConnection, QuicConnectionError
from aioquic.quic.crypto import CryptoPair, NoCallback
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.recovery import QuicPacketSpace

from wws.transport.tls import ALPN

if TYPE_CHECKING:
    from wws.transport.quic.engine import Engine

_Handler: TypeAlias = Callable[..., None]
_HANDLERS: Final = "_QuicConnection__frame_handlers"

_table: dict[int, tuple[_Handler, frozenset[tls.Epoch]]] = {}

_DEAD_KEYS: Final = CryptoPair()
_DEAD_SPACE: Final = QuicPacketSpace()
_DEAD_SPACE.discarded = True


class _SpentTls:
    """Stands for aioquic's TLS context after the handshake, which is large and has nothing left to do.

    What a server may still send are session tickets: they are not wanted and passed over. A client may send
    nothing.
    """

    __slots__ = ("_left", "state")

    alpn_negotiated = ALPN
    _MOST: Final = 64 * 1024

    def __init__(self, *, is_client: bool) -> None:
        self._left = self._MOST if is_client else 0
        self.state = tls.State.CLIENT_POST_HANDSHAKE if is_client else tls.State.SERVER_POST_HANDSHAKE

    def handle_message(self, data: bytes, output: object) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise tls.AlertUnexpectedMessage("TLS messages after the handshake")


class _Handlers:
    """aioquic's table from the type of a frame to the method for it, bound only when one is called.

    The one place where all frames pass by: so they are counted here.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Engine) -> None:
        self._connection = connection

    def __getitem__(self, frame_type: int) -> tuple[_Handler, frozenset[tls.Epoch]]:
        connection = self._connection
        connection.frames_left -= 1
        if connection.frames_left < 0:
            raise QuicConnectionError(
                error_code=QuicErrorCode.PROTOCOL_VIOLATION,
                frame_type=frame_type,
                reason_phrase="too many frames in one datagram",
            )
        function, epochs = _table[frame_type]
        return function.__get__(connection), epochs


def share_handlers(connection: Engine) -> None:
    """Let all connections share the table of their frame handlers, 8 kB of each."""
    if not _table:
        own = cast(dict[int, tuple[Any, frozenset[tls.Epoch]]], getattr(connection, _HANDLERS))
        _table.update({kind: (handler.__func__, epochs) for kind, (handler, epochs) in own.items()})
    setattr(connection, _HANDLERS, _Handlers(connection))


def free_handshake(connection: QuicConnection) -> None:
    """Drop what only the handshake needed, once it is confirmed."""
    connection.tls = cast(tls.Context, _SpentTls(is_client=connection._is_client))
    connection._crypto_buffers = {}
    connection._crypto_streams = {tls.Epoch.ONE_RTT: connection._crypto_streams[tls.Epoch.ONE_RTT]}
    keys = connection._cryptos[tls.Epoch.ONE_RTT]
    for context in (keys.recv, keys.send):
        context._setup_cb = context._teardown_cb = NoCallback
    connection._cryptos = dict.fromkeys(tls.Epoch, _DEAD_KEYS) | {tls.Epoch.ONE_RTT: keys}
    connection._cryptos_initial = dict.fromkeys(connection._cryptos_initial, _DEAD_KEYS)
    space = connection._spaces[tls.Epoch.ONE_RTT]
    connection._spaces = dict.fromkeys(tls.Epoch, _DEAD_SPACE) | {tls.Epoch.ONE_RTT: space}
    connection._loss.spaces = [space]
