"""Dialling: from a PeerId and what is known of its addresses to one authenticated connection.

Names are resolved, addresses that make no sense in this mesh are left out, and the rest is tried with a
stagger (RFC 8305, Happy Eyeballs): the next attempt starts after 250 ms or as soon as one has failed, and the
first that proves to be the peer wins. Dials to one peer that run at the same time are one dial.

In the order of the addresses, families in turn; of one host in public scope QUIC first, for it opens a way
through NATs that hole punching can use, and below it TCP, which carries more. Circuits come last.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from wws.addresses.dial_order import in_dial_order
from wws.addresses.multiaddr import Multiaddr
from wws.errors import RemoteProtocolError, WwsError
from wws.identity.peer_id import PeerId
from wws.mesh.reach import reaches
from wws.runtime import refusals
from wws.runtime.connection import Connection, HandshakeFailed
from wws.runtime.host import Host
from wws.runtime.socket_connection import SocketConnection
from wws.runtime.sockets import dialling_socket, is_taken_way
from wws.transport.multistream import NegotiationFailed
from wws.transport.noise import NoiseHandshakeFailed

Resolver: TypeAlias = Callable[[Multiaddr], Awaitable[Sequence[Multiaddr]]]
"""From an address with a name to the addresses it stands for; raises a `WwsError` when there are none."""
DialCircuit: TypeAlias = Callable[[PeerId, Multiaddr], Awaitable[Connection]]
"""Opens a connection to a peer through the relay that the address names."""


@dataclass(frozen=True, slots=True)
class DialerConfig:
    timeout: float = 10.0
    """Seconds for a whole dial."""
    stagger: float = 0.25
    """Seconds between the starts of two attempts."""
    resolve_timeout: float = 5.0
    """Seconds of it for names; then the dial goes on with the addresses that are known."""
    max_addresses: int = 8
    """Addresses tried in one dial, after resolution."""
    max_ports: int = 2
    """Of them at one IP: nobody needs more, and who names a victim's ports to many gets it few visits."""
    max_names: int = 4
    """DNS names looked up in one dial: each may cost its servers several questions."""
    max_concurrent: int = 64
    """Dials under way at once; further ones wait."""
    retries: int = 2
    """Further attempts at an address that reset us at once: a peer over its accept rate does that."""
    retry_wait: tuple[float, float] = (0.2, 1.0)
    """Seconds to wait before such an attempt, drawn evenly."""
    circuit_wait: float = 1.0
    """Seconds that the direct addresses get before a circuit is tried too."""
    reuse_port: bool = True
    """Dial TCP from the port that we listen at, so that the peer sees the outer address of our listener."""
    punch_gap: float = 0.05
    """Seconds between the first two attempts of a TCP hole punch; each further gap is half as long again."""
    punch_max_gap: float = 0.5
    """The longest gap: the other side names the target, which may be somebody who never asked for SYNs."""
    punch_connect: float = 2.0
    """Seconds for one of them: the kernel repeats a lost SYN after one."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One address that was tried, and why it did not do."""

    address: Multiaddr
    code: str
    message: str


class DialFailed(WwsError):
    """No address of the peer led to it."""

    code = "peer_unreachable"

    def __init__(self, peer: PeerId, attempts: Sequence[Attempt]) -> None:
        self.peer = peer
        self.attempts = tuple(attempts)
        self.tried = frozenset(attempt.address.without_peer() for attempt in attempts)
        # Of a relay with several addresses one line says enough.
        tried = "; ".join(dict.fromkeys(map(_described, attempts)))
        super().__init__(self.message(tried))

    def message(self, tried: str) -> str:
        """What to say, given what was tried."""
        return f"cannot reach {self.peer}: {tried or 'no address of it is known'}"


class PeerBanned(DialFailed):
    """This node talks to the peer no more for a while: it has broken the rules too often."""

    code = "peer_banned"

    def message(self, tried: str) -> str:
        return f"{self.peer} is banned: it has broken the rules too often"

    hint = "swarm.bans says until when, swarm.unban lifts it."


class PeerDenied(DialFailed):
    """The deny list of this node has the peer."""

    code = "peer_denied"

    def message(self, tried: str) -> str:
        return f"{self.peer} is on the deny list of this node"

    hint = "The list is [deny] in config.toml."


def _described(attempt: Attempt) -> str:
    address = attempt.address
    way = f"through relay {address.relay_id}" if address.is_circuit else str(address.without_peer())
    return f"{way}: {attempt.message}"


class Dialer:
    """Opens connections for a host."""

    def __init__(self, host: Host, resolver: Resolver, config: DialerConfig) -> None:
        self._host = host
        self._resolver = resolver
        self._config = config
        self.dial_circuit: DialCircuit | None = None
        """Opens circuits; set by whoever uses relays."""
        self.neighbour_addresses: Callable[[PeerId], Sequence[Multiaddr]] = lambda _: ()
        """Where a peer is inside our own network, below the scope of the mesh; set by whoever knows."""
        self._under_way: dict[tuple[PeerId, bool], asyncio.Task[Connection]] = {}
        self._room = asyncio.Semaphore(config.max_concurrent)
        self.succeeded = 0
        self.failed = 0

    async def connect(
        self,
        peer: PeerId,
        addresses: Sequence[Multiaddr] = (),
        *,
        any_scope: bool = False,
        timeout: float | None = None,
        direct: bool = False,
    ) -> Connection:
        """An established connection to `peer`: the one there is, or a new one.

        Tries `addresses` first, then those remembered. `any_scope` is for addresses that the user or a signed
        bundle named; with `direct` a circuit neither counts nor is tried. Raises `DialFailed` with every
        attempt. A cancelled caller leaves the dial to the others that wait for it.
        """
        connection = self._host.connection_to(peer, direct=direct)
        if connection is not None:
            return connection
        self._check_wanted(peer)
        known = tuple(dict.fromkeys((*addresses, *self._host.peers.addresses(peer))))
        if direct:
            known = tuple(address for address in known if not address.is_circuit)
        task = self._under_way.get((peer, direct))
        if task is not None:
            try:
                return await asyncio.shield(task)
            except DialFailed as failure:
                # That dial may have been led astray by lies about the peer; ours may know better.
                if {address.without_peer() for address in addresses} <= failure.tried:
                    raise
            if (connection := self._host.connection_to(peer, direct=direct)) is not None:
                return connection
            task = self._under_way.get((peer, direct))
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._dial(peer, known, any_scope, timeout or self._config.timeout, self._room),
                name=f"dial {peer}",
            )
            self._under_way[peer, direct] = task
            task.add_done_callback(lambda done: self._done((peer, direct), done))
        return await asyncio.shield(task)

    async def connect_at(self, peer: PeerId, address: Multiaddr, timeout: float) -> Connection:
        """A connection to `peer` at this address and no other, of any scope: what discovery tries one by one.

        Takes no part in `max_concurrent`: discovery has a bound of its own, and whom the DHT names must not
        keep us from an entry point. The connection there is already, if there is one. Raises `DialFailed`.
        """
        connection = self._host.connection_to(peer, direct=True)
        if connection is not None:
            return connection
        self._check_wanted(peer)
        try:
            connection = await self._dial(peer, (address,), True, timeout, asyncio.Semaphore(1))
        except DialFailed:
            self.failed += 1
            raise
        self.succeeded += 1
        return connection

    async def punch_tcp(
        self, peer: PeerId, target: Multiaddr, *, initiator: bool, until: float
    ) -> Connection:
        """Dial again and again from our listening port, until it leads to the peer or it is `until` (by the
        host's monotonic clock): what TCP hole punching needs (DCUtR; RFC 5128, section 3.4).

        Both sides do so at once; the one with `initiator` speaks first. Raises the last attempt's `WwsError`.
        """
        clock = self._host.clock
        last: WwsError = TimedOut("there was no time left to punch")
        gap = self._config.punch_gap
        while (left := until - clock.monotonic()) > 0:
            connection = self._host.new_outbound(peer, initiator=initiator)
            try:
                async with asyncio.timeout(min(left, self._config.punch_connect)) as patience:
                    await self.connect_tcp(connection, target.host, target.port or 0, fall_back=False)
                    patience.reschedule(asyncio.get_running_loop().time() + self._host.config.phase_timeout)
                    await connection.established()
                return connection
            except TimeoutError:
                last = TimedOut("the peer's NAT let nothing through")
            except OSError as error:
                last = _refused(error)
            except WwsError as error:
                last = error
            finally:
                if not connection.is_established:
                    connection.abort(HandshakeFailed("this punch did not get through"))
            await asyncio.sleep(gap)
            gap = min(gap * 1.5, self._config.punch_max_gap)
        raise last

    async def connect_tcp(
        self, connection: SocketConnection, host: str, port: int, *, fall_back: bool = True
    ) -> None:
        """Open a socket for `connection`, from our listening port if the settings and the port allow it.

        When this port leads there already, from any other, unless `fall_back` is off. Raises `OSError`.
        """
        loop = asyncio.get_running_loop()
        sock = dialling_socket(host, self._host.listen_addresses) if self._config.reuse_port else None
        if sock is not None:
            try:
                await loop.sock_connect(sock, (host, port))
            except BaseException as error:
                sock.close()
                if not (fall_back and isinstance(error, OSError) and is_taken_way(error)):
                    raise
            else:
                await loop.create_connection(lambda: connection, sock=sock)
                return
        await loop.create_connection(lambda: connection, host, port)

    async def close(self) -> None:
        """End every dial that is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: tuple[PeerId, bool], task: asyncio.Task[Connection]) -> None:
        self._under_way.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self.succeeded += 1
        else:
            self.failed += 1

    async def _dial(
        self,
        peer: PeerId,
        addresses: Sequence[Multiaddr],
        any_scope: bool,
        timeout: float,
        room: asyncio.Semaphore,
    ) -> Connection:
        attempts: list[Attempt] = []
        if peer == self._host.identity.peer_id:
            raise DialFailed(
                peer, [Attempt(address, "self", "that is ourselves") for address in addresses[:1]]
            )
        try:
            async with asyncio.timeout(timeout), room:
                targets = await self._targets(peer, addresses, any_scope, attempts)
                return await self._race(peer, targets, attempts)
        except TimeoutError:
            untried = [address for address in addresses if all(a.address != address for a in attempts)]
            attempts += [
                Attempt(address, "timeout", f"no answer within {timeout:g} s") for address in untried[:1]
            ]
            raise DialFailed(peer, attempts) from None

    async def _targets(
        self, peer: PeerId, addresses: Sequence[Multiaddr], any_scope: bool, attempts: list[Attempt]
    ) -> list[Multiaddr]:
        """The IP addresses to try, in order; what is left out goes to `attempts` with the reason."""
        targets: dict[Multiaddr, None] = {}
        places: dict[str, set[tuple[int | None, PeerId | None]]] = {}
        wanted: list[Multiaddr] = []
        near = {address.without_peer() for address in self.neighbour_addresses(peer)}
        for address in addresses:
            if address.peer_id not in (None, peer):
                attempts.append(Attempt(address, "other_peer", f"the address is one of {address.peer_id}"))
            elif not address.is_ip and sum(not known.is_ip for known in wanted) >= self._config.max_names:
                attempts.append(Attempt(address, "too_many", "more names than are looked up"))
            else:
                wanted.append(address)
        for resolved in await asyncio.gather(*[self._resolved(address, attempts) for address in wanted]):
            for target in resolved:
                if not self._can_dial(target):
                    attempts.append(Attempt(target, "transport_unavailable", "this node does not speak it"))
                elif not (any_scope or target.without_peer() in near or reaches(target, self._host.scope)):
                    attempts.append(Attempt(target, "scope", "reaches less far than this mesh"))
                elif target.port == 0:
                    attempts.append(Attempt(target, "no_port", "has no port"))
                elif self._host.gate.deny.denies_ip(target.host):
                    attempts.append(Attempt(target, "denied", "the deny list of this node has the address"))
                elif target.without_peer() in map(Multiaddr.without_peer, self._host.listen_addresses):
                    attempts.append(Attempt(target, "self", "that is ourselves"))
                elif target.without_peer() not in targets:
                    # Each relay is dialled for itself, also where others are said to be.
                    known, place = places.setdefault(target.host, set()), (target.port, target.relay_id)
                    if place not in known and len(known) >= self._config.max_ports:
                        attempts.append(Attempt(target, "too_many", "more ports of one IP than are tried"))
                    else:
                        known.add(place)
                        targets[target.without_peer()] = None
        direct = in_dial_order([target for target in targets if not target.is_circuit])
        # Relays that we are connected to come first: they are alive, and a handshake nearer.
        circuits = sorted((target for target in targets if target.is_circuit), key=self._is_far)
        # One circuit keeps its place among many addresses: it leads there when nothing else does.
        room = self._config.max_addresses - min(1, len(circuits))
        return [*direct[:room], *circuits][: self._config.max_addresses]

    def _check_wanted(self, peer: PeerId) -> None:
        """Raises `PeerBanned`, `PeerDenied`."""
        match self._host.gate.barred(peer):
            case None:
                return
            case refusals.BANNED:
                raise PeerBanned(peer, ())
            case _:
                raise PeerDenied(peer, ())

    def _is_far(self, circuit: Multiaddr) -> bool:
        relay = circuit.relay_id
        return relay is None or self._host.connection_to(relay, direct=True) is None

    def _can_dial(self, target: Multiaddr) -> bool:
        if target.is_circuit:
            return self.dial_circuit is not None
        return target.transport == "tcp" or self._host.quic is not None

    async def _resolved(self, address: Multiaddr, attempts: list[Attempt]) -> Sequence[Multiaddr]:
        """What an address stands for. All are asked at once: a name without an answer holds up no other."""
        if address.is_ip:
            return [address]
        try:
            async with asyncio.timeout(self._config.resolve_timeout):
                return await self._resolver(address)
        except WwsError as error:
            attempts.append(Attempt(address, error.code, str(error)))
        except TimeoutError:
            seconds = f"{self._config.resolve_timeout:g} s"
            attempts.append(Attempt(address, "timeout", f"the name was not resolved within {seconds}"))
        return []

    async def _race(self, peer: PeerId, targets: list[Multiaddr], attempts: list[Attempt]) -> Connection:
        waiting: dict[asyncio.Task[Connection], Multiaddr] = {}
        rest = list(targets)
        circuits_at = self._host.clock.monotonic() + self._config.circuit_wait
        try:
            while rest or waiting:
                if rest and (
                    not rest[0].is_circuit or not waiting or self._host.clock.monotonic() >= circuits_at
                ):
                    target = rest.pop(0)
                    waiting[asyncio.create_task(self._attempt(peer, target))] = target
                patience = self._config.stagger if rest else None
                if rest and rest[0].is_circuit and not any(one.is_circuit for one in waiting.values()):
                    patience = max(0.0, circuits_at - self._host.clock.monotonic())
                done, _ = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    target = waiting.pop(task)
                    error = task.exception()
                    if error is None:
                        return task.result()
                    if not isinstance(error, WwsError):
                        raise error
                    attempts.append(Attempt(target, error.code, str(error)))
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        raise DialFailed(peer, attempts)

    async def _attempt(self, peer: PeerId, target: Multiaddr) -> Connection:
        for retry in range(self._config.retries + 1):
            if retry:
                await asyncio.sleep(self._host.rng.uniform(*self._config.retry_wait))
            try:
                return await self._attempt_once(peer, target, share_port=not retry)
            except (HandshakeFailed, NegotiationFailed, NoiseHandshakeFailed) as error:
                # The last two: both sides dialled at the same moment from the ports that they listen at. That
                # is one connection with two initiators (RFC 9293, section 3.5), and another port mends it.
                crossed = not retry and target.transport == "tcp" and not target.is_circuit
                if retry == self._config.retries or not (isinstance(error, HandshakeFailed) or crossed):
                    raise
        raise AssertionError("the loop above returns or raises")

    async def _attempt_once(self, peer: PeerId, target: Multiaddr, *, share_port: bool = True) -> Connection:
        if target.is_circuit:
            assert self.dial_circuit is not None
            return await self.dial_circuit(peer, target)
        if target.transport == "quic-v1":
            assert self._host.quic is not None
            return await self._host.quic.dial(peer, target)
        connection = self._host.new_outbound(peer)
        try:
            async with asyncio.timeout(self._host.config.phase_timeout):
                if share_port:
                    await self.connect_tcp(connection, target.host, target.port or 0)
                else:
                    await asyncio.get_running_loop().create_connection(
                        lambda: connection, target.host, target.port or 0
                    )
                await connection.established()
        except TimeoutError:
            connection.abort(TimedOut(f"no answer within {self._host.config.phase_timeout:g} s"))
            raise TimedOut(f"no answer within {self._host.config.phase_timeout:g} s") from None
        except OSError as error:
            raise _refused(error) from None
        except asyncio.CancelledError:
            connection.abort(HandshakeFailed("another attempt was faster"))
            raise
        return connection


class TimedOut(WwsError):
    """The peer did not answer in time."""

    code = "timeout"


class ConnectionRefused(WwsError):
    """Nobody listens at the address."""

    code = "connection_refused"


class Unroutable(WwsError):
    """This machine has no way to the address."""

    code = "network_unreachable"


def _refused(error: OSError) -> WwsError:
    if error.errno == errno.ECONNREFUSED:
        return ConnectionRefused("connection refused: nobody listens there")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL):
        return Unroutable(f"no way there from this machine: {error.strerror}")
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return HandshakeFailed("the peer reset the connection")
    return RemoteProtocolError(f"cannot connect: {error.strerror or error}")
