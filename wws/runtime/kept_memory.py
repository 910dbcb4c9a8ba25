"""Charges every connection with what is kept for it, and closes those that are too heavy (`wws.mesh.memory`).

Each read, each write and each message in the hands of a handler ends here as `weigh`, before anything more is
read. What other layers keep of peers (records, addresses, reservations) is bounded there: `docs/memory.md`.
"""

from __future__ import annotations

from collections.abc import Callable

from wws.identity.peer_id import PeerId
from wws.mesh.memory import Account, MemoryConfig, MemoryLedger
from wws.runtime.connection import Connection, ConnectionLost
from wws.runtime.streams import StreamReset

_TOO_MUCH = "too much was kept for it"


class KeptMemory:
    """The accounts of one host's connections."""

    def __init__(
        self,
        config: MemoryConfig,
        *,
        connection: Callable[[int], Connection | None],
        is_spared: Callable[[PeerId], bool],
        refused: Callable[[Connection], None],
    ) -> None:
        """`connection` finds one by its id, `is_spared` says whom we cannot do without, `refused` is told of
        each that is closed."""
        self.ledger = MemoryLedger(config)
        self._connection = connection
        self._is_spared = is_spared
        self._refused = refused
        self.has_room = self.ledger.has_room
        self.elsewhere: dict[str, Callable[[], int]] = {}
        """What other layers keep of peers', by its name: functions that say how many bytes that is now."""

    def open(self, connection: Connection, group: str | None) -> bool:
        """Begin to charge a connection; whether it may stay."""
        config = self.ledger.config
        if connection.transport == "quic-v1" and connection.circuit is None:
            connection.extra_weight = config.quic + config.quic_handshake
        connection.account = self.ledger.open(connection.connection_id, group)
        return self._joined(connection, connection.account)

    def move(self, connection: Connection, group: str | None) -> None:
        """The connection counts to another group from now on."""
        if connection.account is not None:
            self.ledger.move(connection.account, group)
            self._joined(connection, connection.account)

    def belongs(self, connection: Connection, peer: PeerId) -> None:
        """The peer has proven who it is."""
        if connection.account is not None:
            if connection.extra_weight:
                connection.extra_weight = self.ledger.config.quic
            self.ledger.belongs(connection.account, peer)
            self._joined(connection, connection.account)

    def weigh(self, connection: Connection) -> None:
        """Charge a connection with what is kept for it now, and close whoever is too heavy for that."""
        account = connection.account
        if account is not None and self.ledger.charge(account, self._kept(connection)):
            self._shed(account)

    def look_elsewhere(self) -> None:
        """Leave to connections what other layers have not taken."""
        self.ledger.set_standing(sum(kept() for kept in self.elsewhere.values()))
        if self.ledger.total > self.ledger.bound:
            self._shed(None)

    def weigh_idle(self, connections: list[Connection]) -> None:
        """Charge connections again that nothing has happened on: a socket drains without a word."""
        for connection in connections:
            self.weigh(connection)

    def close(self, connection: Connection) -> None:
        """The connection is gone."""
        if connection.account is not None:
            self.ledger.close(connection.account)
            connection.account = None

    def _kept(self, connection: Connection) -> int:
        return connection.kept + connection.extra_weight + self.ledger.config.stream * len(connection.streams)

    def _joined(self, connection: Connection, account: Account) -> bool:
        """Charge a connection that counts to a party anew; whether it stays."""
        self.ledger.charge(account, self._kept(connection))
        if self.ledger.is_over(account):
            self._shed(account)
        return account.key is not None

    def _shed(self, account: Account | None) -> None:
        for key in self.ledger.shed(account, weigh=self._weight, is_spared=self._is_spared):
            self._close(key)

    def _weight(self, key: int) -> int | None:
        connection = self._connection(key)
        return None if connection is None else self._kept(connection)

    def _close(self, key: int) -> None:
        connection = self._connection(key)
        if connection is None:
            return
        self._refused(connection)
        connection.abort(ConnectionLost(_TOO_MUCH))
        for stream in list(
            connection.streams.values()
        ):  # what they hold is to be free now, not in a turn or two
            stream.fail(StreamReset(_TOO_MUCH))
