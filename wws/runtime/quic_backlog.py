"""What has arrived for QUIC connections and waits for its turn: everybody gets one, however much others send.

A datagram of a thousand little frames costs a hundred times what a plain one does, and the peer chooses. So
connections take turns, each of about the same time, and between a few of them the event loop goes round:

    socket ──put──► one queue a connection ──take──► the next connection's slice, by what its datagrams cost
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from wws.transport.quic.engine import Address

Datagram: TypeAlias = tuple[bytes, Address]

_FALL = 0.75
"""What is left, after each slice, of a cost that was once seen: believed at once, it is forgotten slowly."""


@dataclass(frozen=True, slots=True)
class BacklogConfig:
    max_datagrams: int = 8192
    """Datagrams that wait in all; over it, those of connections with more than their share are lost."""
    max_per_connection: int = 4096
    """Datagrams that wait for one connection: more than what its windows allow an honest peer to send."""
    max_slice: int = 32
    """Datagrams of one connection that are taken at once."""
    slice_seconds: float = 0.005
    """How long one connection is worked for at once, as far as its last datagrams tell."""
    turn_seconds: float = 0.01
    """How long in one turn of the event loop."""


class Served(Protocol):
    """A connection that datagrams wait for."""

    datagram_cost: float


Connection = TypeVar("Connection", bound=Served)


class Backlog(dict[Connection, list[Datagram]]):
    """The queues, in the order of their turns."""

    def __init__(self, config: BacklogConfig) -> None:
        super().__init__()
        self._config = config
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """Datagrams in all queues."""
        return self._waiting

    def put(self, connection: Connection, datagram: Datagram) -> bool:
        """Let a datagram wait. `False`: its queue is full, and it is lost."""
        queue = self.get(connection)
        if queue is None:
            self[connection] = [datagram]
            self._waiting += 1
            return True
        config = self._config
        room = config.max_per_connection
        if self._waiting >= config.max_datagrams:
            room = min(room, config.max_datagrams // len(self))
        if len(queue) >= room:
            return False
        queue.append(datagram)
        self._waiting += 1
        return True

    def take(self) -> tuple[Connection, list[Datagram]]:
        """The next slice; whoever has more comes last again."""
        connection = next(iter(self))
        queue = self.pop(connection)
        config = self._config
        count = max(1, min(config.max_slice, int(config.slice_seconds / connection.datagram_cost)))
        if count < len(queue):
            self[connection] = queue[count:]
            queue = queue[:count]
        self._waiting -= len(queue)
        return connection, queue

    def took(self, connection: Connection, datagrams: int, seconds: float) -> None:
        """Note what a slice has cost."""
        least = self._config.slice_seconds / self._config.max_slice
        connection.datagram_cost = max(least, seconds / datagrams, connection.datagram_cost * _FALL)

    def forget(self, connection: Connection) -> None:
        """The connection is over: nothing waits for it."""
        self._waiting -= len(self.pop(connection, ()))
