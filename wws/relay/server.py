"""The relay itself: who gets a slot, who gets a circuit, and when a circuit has had enough.

    RESERVE ─► ReserveAsked ─► Grant | Refuse                 PeerGone ─► the slot is free
    CONNECT ─► ConnectAsked ─► OpenStop | Refuse
                                  │
      OPENING ──Accepted──► OPEN ──Relayed: limit, or budget spent──► ENDING     (Bridge, then End)
         │                   '─────TimerFired: its time is over─────────^
         '─────Declined────────────────────── Refuse ───────────────────^
      any ────CircuitEnded──► its place is free

The bounds are in the tables: `wws.relay.reservations`, `wws.relay.circuit_table`, `wws.relay.budget`. Here is
who is served at all (wire.md section 2):

- nobody over a circuit: relays are not relayed;
- nobody of another network; who names none is served;
- nobody below the scope of the mesh: in a public mesh, a peer that is seen at a private or loopback address
  neither gets a slot nor a circuit, so nobody out there reaches into the network of this host through it.

Circuits go on when the reservation that they came through runs out; they have bounds of their own.

A relay that drains is about to stop: it gives no slots and refreshes none, and keeps to all it has promised.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wws.errors import LocalProtocolError
from wws.identity.peer_id import PeerId
from wws.machine import Command, Event
from wws.relay.budget import DailyBudget
from wws.relay.circuit_table import Circuit, CircuitConfig, CircuitState, CircuitTable
from wws.relay.messages import Limit, Status
from wws.relay.reservations import ReservationConfig, ReservationTable


@dataclass(frozen=True, slots=True)
class RelayConfig:
    reservations: ReservationConfig = field(default_factory=ReservationConfig)
    circuits: CircuitConfig = field(default_factory=CircuitConfig)
    bytes_per_day: int = 32 * 1024**3
    """Bytes carried in a day of UTC, all circuits and both directions together; 0: no bound. The default is
    about 1 TiB a month, what small rented hosts may send before it costs more."""
    bytes_share: float = 0.25
    """The part of it that the circuits of one public IPv4 /24 or IPv6 /56 may use."""
    min_piece: int = 64
    """Bytes that a piece counts there at least: so much is around each, and single bytes cost most of all."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the driver sees it."""

    peer: PeerId
    """Authenticated by the connection: what a request says of its sender is not read."""
    ip: str
    prefix: str | None
    """The public /24 or /56 that it counts with; `None` where limits by prefix do not apply."""
    is_direct: bool = True
    """Whether its connection does not go through a relay itself."""
    is_of_network: bool = True
    """Whether it belongs to our network, or names none."""
    is_in_scope: bool = True
    """Whether its address reaches as far as the mesh."""


@dataclass(frozen=True, slots=True)
class ReserveAsked(Event):
    """A peer asks for a slot. Answered by `Grant` or `Refuse`."""

    asker: Asker


@dataclass(frozen=True, slots=True)
class ConnectAsked(Event):
    """A peer asks for a circuit. Answered by `OpenStop` or `Refuse`."""

    asker: Asker
    destination: PeerId


@dataclass(frozen=True, slots=True)
class Accepted(Event):
    """The destination of a circuit takes it. Answered by `Bridge` or `Refuse`."""

    circuit: int


@dataclass(frozen=True, slots=True)
class Declined(Event):
    """The destination of a circuit does not take it, or could not be asked. Answered by `Refuse`."""

    circuit: int
    reason: str
    status: Status = Status.CONNECTION_FAILED
    """What the destination said, if it said something."""


@dataclass(frozen=True, slots=True)
class Relayed(Event):
    """Bytes of a circuit are about to be passed on, unless `End` for the circuit comes back."""

    circuit: int
    count: int
    to_destination: bool


@dataclass(frozen=True, slots=True)
class CircuitEnded(Event):
    """Nothing is left of a circuit: its place is free."""

    circuit: int


@dataclass(frozen=True, slots=True)
class PeerGone(Event):
    """The last direct connection with a peer is closed."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Switched(Event):
    """The relay takes up its work, or lays it down: then all slots and circuits end."""

    on: bool


@dataclass(frozen=True, slots=True)
class Drained(Event):
    """The relay is about to stop and gives no slots from now on; or it stays after all."""

    on: bool


@dataclass(frozen=True, slots=True)
class TimerFired(Event):
    """The time of `next_wakeup` has come."""


@dataclass(frozen=True, slots=True)
class Grant(Command):
    """Tell the peer that it has a slot, and send a voucher."""

    expires_at: int
    """Unix seconds."""
    limit: Limit | None
    """What circuits to it will be limited to."""


@dataclass(frozen=True, slots=True)
class Refuse(Command):
    """Tell the peer no. `reason` is a label for counters."""

    status: Status
    reason: str


@dataclass(frozen=True, slots=True)
class OpenStop(Command):
    """Ask the destination; then `Accepted` or `Declined`, and in the end `CircuitEnded`, are expected."""

    circuit: int
    destination: PeerId
    limit: Limit | None


@dataclass(frozen=True, slots=True)
class Bridge(Command):
    """Tell the source yes, and carry bytes both ways."""

    circuit: int
    limit: Limit | None


@dataclass(frozen=True, slots=True)
class End(Command):
    """Reset both streams of a circuit; then `CircuitEnded` is expected."""

    circuit: int
    reason: str


@dataclass(frozen=True, slots=True)
class LetGo(Command):
    """A peer has no slot any more: its connection is as any other."""

    peer: PeerId


@dataclass(frozen=True, slots=True)
class Alert(Command):
    """Tell the operator how much of the budget of the day is used."""

    percent: int


EVENTS: tuple[type[Event], ...] = (
    ReserveAsked, ConnectAsked, Accepted, Declined, Relayed, CircuitEnded, PeerGone, Switched, Drained,
    TimerFired,
)  # fmt: skip

SHARE_USED = "daily_budget_prefix"
"""Why peers of a prefix are turned away that has used its share of the day's budget."""
_PASSED_ON = frozenset({Status.PERMISSION_DENIED, Status.RESOURCE_LIMIT_EXCEEDED})
"""What a destination may say that its caller is told word for word."""
_ENDED_WHILE_OPENING = {
    "daily_budget": Status.RESOURCE_LIMIT_EXCEEDED,
    SHARE_USED: Status.RESOURCE_LIMIT_EXCEEDED,
    "switched_off": Status.CONNECTION_FAILED,
}


class RelayMachine:
    """All decisions of one relay. Pure: the times come in, commands go out. Begins switched off."""

    def __init__(self, config: RelayConfig) -> None:
        self.reservations = ReservationTable(config.reservations)
        self.circuits = CircuitTable(config.circuits)
        self.budget = DailyBudget(config.bytes_per_day, config.bytes_share, config.circuits.max_tracked)
        self.is_on = False
        self.is_draining = False
        self._config = config

    @property
    def config(self) -> RelayConfig:
        return self._config

    def reconfigure(self, config: RelayConfig) -> None:
        """Let other bounds hold from now on; slots and circuits that are there stay."""
        self._config = config
        self.reservations.reconfigure(config.reservations)
        self.circuits.reconfigure(config.circuits)
        self.budget.limit, self.budget.share = config.bytes_per_day, config.bytes_share
        self.budget.max_parties = config.circuits.max_tracked

    def next_wakeup(self) -> float | None:
        """When `TimerFired` is wanted."""
        times = (self.reservations.next_wakeup(), self.circuits.next_wakeup())
        return min((time for time in times if time is not None), default=None)

    def handle(self, event: Event, now: float, unix_now: int) -> list[Command]:
        """What is to be done about an event.

        Raises `LocalProtocolError` for an event about a circuit that its state does not allow; then nothing
        has changed.
        """
        match event:
            case Relayed():
                return self._relayed(event, unix_now)
            case ReserveAsked(asker=asker):
                return [self._reserve(asker, now, unix_now)]
            case ConnectAsked(asker=asker, destination=destination):
                return [self._connect(asker, destination, now, unix_now)]
            case Accepted(circuit=circuit_id):
                circuit = self._answered(circuit_id, event)
                if circuit.state is CircuitState.ENDING:
                    return [Refuse(_ENDED_WHILE_OPENING[circuit.reason], circuit.reason)]
                circuit.open(now)
                return [Bridge(circuit_id, circuit.limit)]
            case Declined(circuit=circuit_id, reason=reason, status=status):
                circuit = self._answered(circuit_id, event)
                if circuit.state is CircuitState.ENDING:
                    return [Refuse(_ENDED_WHILE_OPENING[circuit.reason], circuit.reason)]
                self._end(circuit, reason)
                return [Refuse(status if status in _PASSED_ON else Status.CONNECTION_FAILED, reason)]
            case CircuitEnded(circuit=circuit_id):
                self.circuits.remove(self.circuits[circuit_id])
                return []
            case PeerGone(peer=peer):
                return [LetGo(peer)] if self.reservations.release(peer) else []
            case Switched(on=on):
                return self._switch(on)
            case Drained(on=on):
                self.is_draining = on
                return []
            case TimerFired():
                over: list[Command] = [LetGo(peer) for peer in self.reservations.expire(now)]
                return over + [self._end(circuit, "circuit_time") for circuit in self.circuits.overdue(now)]
            case _:
                raise LocalProtocolError(f"{type(event).__name__} is no event of a relay")

    def _reserve(self, asker: Asker, now: float, unix_now: int) -> Command:
        refusal = self._not_served(asker)
        if refusal is not None:
            return refusal
        if self.is_draining:
            return Refuse(Status.RESERVATION_REFUSED, "draining")
        reason = self.reservations.reserve(asker.peer, asker.ip, asker.prefix, now)
        if reason is not None:
            return Refuse(Status.RESERVATION_REFUSED, reason)
        return Grant(unix_now + int(self._config.reservations.duration), self._config.circuits.limit)

    def _connect(self, asker: Asker, destination: PeerId, now: float, unix_now: int) -> Command:
        refusal = self._not_served(asker)
        if refusal is not None:
            return refusal
        if self.circuits.is_too_frequent(asker.peer, asker.prefix, now):
            return Refuse(Status.RESOURCE_LIMIT_EXCEEDED, "connect_rate")
        if destination == asker.peer:
            return Refuse(Status.PERMISSION_DENIED, "connect_to_self")
        if not self.reservations.holds(destination, now):
            return Refuse(Status.NO_RESERVATION, "no_reservation")
        reason = self._over_budget(asker.prefix, unix_now)
        reason = reason or self.circuits.why_not(asker.peer, destination, asker.prefix)
        if reason is not None:
            return Refuse(Status.RESOURCE_LIMIT_EXCEEDED, reason)
        circuit = self.circuits.add(asker.peer, destination, asker.prefix)
        return OpenStop(circuit.circuit_id, destination, circuit.limit)

    def _not_served(self, asker: Asker) -> Refuse | None:
        if not asker.is_direct:
            return Refuse(Status.PERMISSION_DENIED, "over_circuit")
        if not asker.is_of_network:
            return Refuse(Status.PERMISSION_DENIED, "wrong_network")
        if not asker.is_in_scope:
            return Refuse(Status.PERMISSION_DENIED, "below_scope")
        if not self.is_on:
            return Refuse(Status.RESERVATION_REFUSED, "switched_off")
        return None

    def _relayed(self, event: Relayed, unix_now: int) -> list[Command]:
        circuit = self.circuits[event.circuit]
        if circuit.state is CircuitState.OPENING:
            raise LocalProtocolError(f"Relayed while {circuit.state.name}")
        if circuit.state is CircuitState.ENDING:
            return [End(circuit.circuit_id, circuit.reason)]
        if not circuit.carry(event.count, to_destination=event.to_destination):
            return [self._end(circuit, "circuit_bytes")]
        cost = max(event.count, self._config.min_piece)
        level = self.budget.spend(cost, unix_now, circuit.prefix)
        commands: list[Command] = [Alert(level)] if level else []
        reason = self._over_budget(circuit.prefix, unix_now)
        if reason == "daily_budget":
            commands += self._end_all(reason)
        elif reason is not None:
            commands += self._end_all(reason, of=circuit.prefix)
        return commands

    def _over_budget(self, prefix: str | None, unix_now: int) -> str | None:
        """Which budget of the day keeps us from carrying more for a prefix, or `None`."""
        if self.budget.is_spent(unix_now):
            return "daily_budget"
        return SHARE_USED if self.budget.is_share_spent(prefix, unix_now) else None

    def _switch(self, on: bool) -> list[Command]:
        self.is_on, self.is_draining = on, False
        if on:
            return []
        commands: list[Command] = []
        for peer in self.reservations:
            self.reservations.release(peer)
            commands.append(LetGo(peer))
        return commands + self._end_all("switched_off")

    def _end_all(self, reason: str, *, of: str | None = None) -> list[Command]:
        """End all circuits, or those of one prefix."""
        running = [
            circuit
            for circuit in self.circuits
            if circuit.state is not CircuitState.ENDING and of in (None, circuit.prefix)
        ]
        return [self._end(circuit, reason) for circuit in running]

    def _end(self, circuit: Circuit, reason: str) -> Command:
        circuit.state = CircuitState.ENDING
        circuit.reason = reason
        return End(circuit.circuit_id, reason)

    def _answered(self, circuit_id: int, event: Event) -> Circuit:
        """The circuit whose destination has answered for the first time; it may have been ended meanwhile."""
        circuit = self.circuits[circuit_id]
        if circuit.answered:
            raise LocalProtocolError(f"{type(event).__name__} while {circuit.state.name}")
        circuit.answered = True
        return circuit
