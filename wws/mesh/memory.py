"""How many bytes peers make this node keep, by connection, peer, prefix and in total; and who goes first.

    open ──charge(held), charge(held) …──► close: all that it was charged is free again
              '─over a bound─► shed: whom to close, from the heaviest party

What is charged is what has *arrived* or waits to leave, the moment it does, and not what peers were granted:
yamux grants 256 KiB with every stream before we are asked, so ten thousand connections of 512 streams may
send 1.3 TB at any time, and to charge that would be to refuse everybody. So the bound does not rest on
grants. It rests on each read being charged before the next one, and on closing connections at once when
that is too much: what is kept never exceeds the bound by more than one read of one socket, and a kilobyte of
each other. Grants follow where they are ours to give: windows grow only while `has_room`.

A connection is charged from its first moment for what an idle one takes, and for each of its streams, so that
ten thousand silent ones, or a million empty streams, count too.

Parties are peers and groups: the public /24 or /56 of an address, or the relay that a circuit comes through.
Over a party's own bound its heaviest connections go. Over the total those of the heaviest party go: a hundred
identities in one prefix weigh as one, and so do all who have not proven yet who they are. Whom we cannot do
without (entry points and relays in use) goes last, and is bounded as a party all the same.

What other layers keep of peers' (records, providers, addresses) has bounds of its own, and `standing` is the
sum of it: connections have what it leaves of the total, so that not every bound has to be paid for at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """Bounds on what is kept for peers, in bytes."""

    total: int = 320 * _MIB
    """For all connections together, and what other layers keep."""
    least_share: float = 0.25
    """Share of the total that connections have whatever other layers keep."""
    per_peer: int = 64 * _MIB
    """For all connections of one peer."""
    per_group: int = 128 * _MIB
    """For all connections with one IPv4 /24 or IPv6 /56, or through one relay."""
    connection: int = 12 * 1024
    """What a connection is charged that carries nothing: its keys, its tables, its place everywhere."""
    stream: int = 6 * 1024
    """What a stream is charged that carries nothing, the task of its handler included."""
    quic: int = 18 * 1024
    """What a connection over QUIC is charged beside: its state is larger."""
    quic_handshake: int = 96 * 1024
    """What it is charged beside that until its handshake is over: keys, certificates and messages."""
    growth_share: float = 0.5
    """Share of what there is for connections up to which windows grow."""
    relief: float = 0.875
    """Share of a bound down to which connections are closed once it is exceeded: closing one at a time would
    mean looking at all of them for each read."""


class Party:
    """Whoever is charged for several connections: a peer, or a group of them."""

    __slots__ = ("accounts", "held")

    def __init__(self) -> None:
        self.held = 0
        """Bytes charged to all its connections."""
        self.accounts = 0
        """How many connections it has."""


class Account:
    """What is charged to one connection. `held` is to be read only."""

    __slots__ = ("group", "group_name", "held", "key", "peer", "peer_id")

    def __init__(self, key: int) -> None:
        self.key: int | None = key
        """The connection; `None` once it is closed."""
        self.held = 0
        self.peer: Party | None = None
        self.peer_id: PeerId | None = None
        self.group: Party | None = None
        self.group_name: str | None = None


class MemoryLedger:
    """The accounts of all connections. Each `open` is answered by exactly one `close`, or by `shed`."""

    def __init__(self, config: MemoryConfig) -> None:
        self._config = config
        self._accounts: dict[int, Account] = {}
        self._peers: dict[PeerId, Party] = {}
        self._groups: dict[str, Party] = {}
        self._room = self._bound = 0
        self.standing = 0
        """Bytes that other layers keep."""
        self.total = 0
        """Bytes charged to all connections."""
        self.reconfigure(config)

    @property
    def config(self) -> MemoryConfig:
        return self._config

    def reconfigure(self, config: MemoryConfig) -> None:
        """Let other bounds hold from the next charge on."""
        self._config = config
        self.set_standing(self.standing)

    @property
    def bound(self) -> int:
        """Bytes that all connections together may be charged now."""
        return self._bound

    def set_standing(self, standing: int) -> None:
        """Other layers keep that much now."""
        config = self._config
        self.standing = standing
        self._bound = max(config.total - standing, int(config.total * config.least_share))
        self._room = int(self._bound * config.growth_share)

    def __len__(self) -> int:
        return len(self._accounts)

    def of_peer(self, peer: PeerId) -> int:
        """Bytes charged to the connections of a peer."""
        party = self._peers.get(peer)
        return 0 if party is None else party.held

    def of_group(self, name: str) -> int:
        """Bytes charged to the connections of a group."""
        party = self._groups.get(name)
        return 0 if party is None else party.held

    def has_room(self) -> bool:
        """Whether peers may be granted more than they need: windows grow only then."""
        return self.total < self._room

    # The life of an account

    def open(self, key: int, group: str | None = None) -> Account:
        """A connection has come: what it is charged from now on."""
        if key in self._accounts:
            raise LocalProtocolError(f"connection {key} has an account already")
        account = self._accounts[key] = Account(key)
        self._join(account, group)
        self._add(account, self._config.connection)
        return account

    def belongs(self, account: Account, peer: PeerId) -> None:
        """The connection is known to be that peer's."""
        if account.key is None or account.peer_id == peer:
            return
        if account.peer is not None:
            raise LocalProtocolError("a connection does not change its peer")
        party = self._peers.setdefault(peer, Party())
        account.peer, account.peer_id = party, peer
        party.accounts += 1
        party.held += account.held

    def move(self, account: Account, group: str | None) -> None:
        """The peer has another address now."""
        if account.key is None or account.group_name == group:
            return
        self._leave(account)
        self._join(account, group)

    def charge(self, account: Account, held: int) -> bool:
        """`held` bytes are kept for the connection now, beside what an idle one takes.

        `True`: a bound is exceeded, and `shed` is to be called before anything more is read. A closed account
        is charged nothing.
        """
        if account.key is None:
            return False
        more = held + self._config.connection - account.held
        if not more:
            return False
        self._add(account, more)
        return more > 0 and self.is_over(account)

    def is_over(self, account: Account) -> bool:
        """Whether a bound is exceeded that the connection counts to."""
        config = self._config
        if self.total > self._bound:
            return True
        if account.peer is not None and account.peer.held > config.per_peer:
            return True
        return account.group is not None and account.group.held > config.per_group

    def close(self, account: Account) -> None:
        """The connection is gone. Does nothing the second time."""
        if account.key is None:
            return
        del self._accounts[account.key]
        self._add(account, -account.held)
        self._leave(account)
        if account.peer is not None and account.peer_id is not None:
            account.peer.accounts -= 1
            if not account.peer.accounts:
                del self._peers[account.peer_id]
            account.peer = account.peer_id = None
        account.key = None

    # Who goes

    def shed(
        self,
        account: Account | None,
        *,
        weigh: Callable[[int], int | None],
        is_spared: Callable[[PeerId], bool],
    ) -> list[int]:
        """Close accounts until every bound that `account` counts to is kept, or that of all (`None`): their
        connections, which the caller closes at once.

        `weigh` says what is really kept for a connection (`None`: it cannot be said): sockets drain without
        a word. `is_spared`: who goes only when nobody else is left.
        """
        config = self._config
        doomed: list[int] = []
        parties = []
        if account is not None:
            parties = [(account.peer, config.per_peer), (account.group, config.per_group)]
        for party, bound in parties:
            if party is None or party.held <= bound:
                continue
            members = [one for one in self._accounts.values() if party in (one.peer, one.group)]
            self._weigh_again(members, weigh)
            members.sort(key=lambda one: -one.held)
            for member in members:
                if party.held <= bound * config.relief:
                    break
                self._doom(member, doomed)
        if self.total > self._bound:
            self._weigh_again(list(self._accounts.values()), weigh)
            self._shed_total(doomed, is_spared)
        return doomed

    def _shed_total(self, doomed: list[int], is_spared: Callable[[PeerId], bool]) -> None:
        enough = self._bound * self._config.relief
        spared: list[Account] = []
        others: list[Account] = []
        for account in self._accounts.values():
            is_last = account.peer_id is not None and is_spared(account.peer_id)
            (spared if is_last else others).append(account)
        for accounts in (others, spared):
            for account in _heaviest_first(accounts):
                if self.total <= enough:
                    return
                self._doom(account, doomed)

    def _doom(self, account: Account, doomed: list[int]) -> None:
        assert account.key is not None
        doomed.append(account.key)
        self.close(account)

    def _weigh_again(self, accounts: list[Account], weigh: Callable[[int], int | None]) -> None:
        for account in accounts:
            if account.key is not None and account.held > self._config.connection:
                held = weigh(account.key)
                if held is not None:
                    self._add(account, held + self._config.connection - account.held)

    # Inside

    def _add(self, account: Account, more: int) -> None:
        account.held += more
        self.total += more
        if account.peer is not None:
            account.peer.held += more
        if account.group is not None:
            account.group.held += more

    def _join(self, account: Account, group: str | None) -> None:
        if group is None:
            return
        party = self._groups.setdefault(group, Party())
        account.group, account.group_name = party, group
        party.accounts += 1
        party.held += account.held

    def _leave(self, account: Account) -> None:
        party, name = account.group, account.group_name
        if party is None or name is None:
            return
        party.accounts -= 1
        party.held -= account.held
        if not party.accounts:
            del self._groups[name]
        account.group = account.group_name = None


def _heaviest_first(accounts: Iterable[Account]) -> Iterable[Account]:
    """One account after the other, always the heaviest of the party that is the heaviest then."""
    members: dict[str | PeerId | None, list[Account]] = {}
    for account in accounts:
        party = None if account.peer_id is None else account.group_name or account.peer_id
        members.setdefault(party, []).append(account)
    heap: list[tuple[int, int]] = []
    lists = list(members.values())
    for index, own in enumerate(lists):
        own.sort(key=lambda one: one.held)
        heap.append((-sum(one.held for one in own), index))
    heapq.heapify(heap)
    while heap:
        weight, index = heap[0]
        account = lists[index].pop()
        if lists[index]:
            heapq.heapreplace(heap, (weight + account.held, index))
        else:
            heapq.heappop(heap)
        yield account
