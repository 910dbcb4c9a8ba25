"""Changing the publisher keys of a network, one step at a time (wire.md section 3).

    introduce   the bundle lists the new key too; the keys from before sign it
        │       all clients that fetch learn the new key, the others within `exp` + 30 days
    drop        the bundle lists the old key no more; it still signs while sleepers need it to
        │       `exp` + 30 days of the last bundle that listed it
    destroy     nobody needs the old key: its file may go

`key_states` says where each key stands, and until when its file has to be kept. Both steps only say which
keys are to hold; the plan that follows tries the bundle on every client that may be out there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from wws.codec.canonical import JsonObject
from wws.discovery.publishers import MAX_PUBLISHERS, PublisherKey, key_id
from wws.errors import WwsError
from wws.rpc.codes import Exit
from wws_dns.history import History
from wws_dns.old_clients import SLEEP, OldClient, keys_now, old_clients
from wws_dns.plan import day

Stage: TypeAlias = Literal["holds", "introduced", "dropped", "done"]
"""`introduced`: listed, and clients may be asleep that do not know it. `dropped`: listed no more, and its
signature is still needed. `done`: nobody needs it any more."""


class RotationRefused(WwsError):
    """This step of a rotation cannot be taken."""

    code = "rotation_refused"
    exit_code = Exit.REFUSED


class KeyStillNeeded(RotationRefused):
    """Clients are out there that would follow nobody but this key."""

    code = "key_still_needed"

    def __init__(self, key: PublisherKey, until: int) -> None:
        name = key_id(key)
        super().__init__(
            f"Key {name} is still needed: until {day(until)} clients may wake up that do not know the keys "
            "which would remain.",
            hint="Drop it then. If it is stolen, and its file is still here: --early; it goes on signing "
            "until then, and can change nothing any more.",
        )
        self.details = {"key": key.hex(), "key_id": name, "needed_until": until}


@dataclass(frozen=True, slots=True)
class KeyState:
    """Where one publisher key stands."""

    key: PublisherKey
    stage: Stage
    until: int | None
    """Unix time at which the stage ends by itself; `None`: when an operator takes the next step."""

    @property
    def is_listed(self) -> bool:
        """Whether it is one of those that hold now."""
        return self.stage in ("holds", "introduced")

    @property
    def advice(self) -> str:
        """What an operator does about it."""
        match self.stage, self.until:
            case "introduced", int(until):
                return f"Publish as usual; from {day(until)} on everybody knows it."
            case "dropped", int(until):
                return f"Keep its file and sign with it until {day(until)}."
            case "done", _:
                return "Nobody needs it: its file may be destroyed."
            case _:
                return ""

    def to_json(self) -> JsonObject:
        return {
            "key": self.key.hex(),
            "key_id": key_id(self.key),
            "stage": self.stage,
            "until": self.until,
            "advice": self.advice,
        }


def key_states(history: History, unix_now: int) -> tuple[KeyState, ...]:
    """Every key that ever held, those that hold now first."""
    current = keys_now(history)
    clients = old_clients(history, unix_now)
    ever = dict.fromkeys(
        (*current, *history.publishers, *(key for one in history.published for key in one.bundle.keys or ()))
    )
    return tuple(_state(key, current, clients, history) for key in ever)


def introduce(history: History, new: PublisherKey) -> tuple[PublisherKey, ...]:
    """The keys that are to hold when `new` comes in. Raises `RotationRefused`."""
    current = _current(history)
    if new in current:
        raise RotationRefused(
            f"Key {key_id(new)} is a publisher of {history.domain} already.", hint="See: wws-dns rotate show"
        )
    if len(current) >= MAX_PUBLISHERS:
        raise RotationRefused(
            f"{history.domain} has {len(current)} publisher keys, and there are at most {MAX_PUBLISHERS}.",
            hint="Drop one first: wws-dns rotate drop KEY",
        )
    return (*current, new)


def drop(
    history: History, old: PublisherKey, unix_now: int, *, early: bool = False
) -> tuple[PublisherKey, ...]:
    """The keys that are to hold when `old` goes.

    Raises `KeyStillNeeded` while sleepers know too few of those that remain, unless `early`: whether the
    signatures at hand satisfy them then is for the plan to find out. Raises `RotationRefused` when `old` does
    not hold, or is the only one.
    """
    current = _current(history)
    if old not in current:
        raise RotationRefused(
            f"Key {key_id(old)} is no publisher of {history.domain}.", hint="See: wws-dns rotate show"
        )
    remaining = tuple(key for key in current if key != old)
    if not remaining:
        raise RotationRefused(
            f"Key {key_id(old)} is the only publisher of {history.domain}.",
            hint="Introduce another one first: wws-dns rotate introduce KEY",
        )
    if not early:
        asleep = [client for client in old_clients(history, unix_now) if set(client.keys) != set(current)]
        until = _needed_until(old, remaining, asleep, history)
        if until is not None:
            raise KeyStillNeeded(old, until)
    return remaining


def sleeps_until(client: OldClient, history: History) -> int:
    """Unix time from which on a client that took nothing since is owed nothing any more."""
    last = client.last or (history.published[0].bundle if history.published else None)
    return 0 if last is None else last.expires_at + SLEEP


def find_key(text: str, keys: Iterable[PublisherKey]) -> PublisherKey | None:
    """The one of `keys` that a key id, or the beginning of one, names; `None` for none, and for several."""
    word = text.lower()
    if len(word) < 4:
        return None
    found = {key for key in keys if key_id(key).startswith(word)}
    return found.pop() if len(found) == 1 else None


def _current(history: History) -> tuple[PublisherKey, ...]:
    current = keys_now(history)
    if not current or history.last is None:
        raise RotationRefused(
            f"Nothing was published for {history.domain} from here: there are no keys to change.",
            hint="Publish with the first key: wws-dns publish --key FILE",
        )
    return current


def _state(
    key: PublisherKey, current: Collection[PublisherKey], clients: Collection[OldClient], history: History
) -> KeyState:
    others = [client for client in clients if set(client.keys) != set(current)]
    if key in current:
        unaware = [sleeps_until(client, history) for client in others if key not in client.keys]
        return KeyState(key, "introduced", max(unaware)) if unaware else KeyState(key, "holds", None)
    until = _needed_until(key, current, others, history)
    return KeyState(key, "done", None) if until is None else KeyState(key, "dropped", until)


def _needed_until(
    key: PublisherKey,
    remaining: Collection[PublisherKey],
    clients: Collection[OldClient],
    history: History,
) -> int | None:
    """Until when some of `clients` follow only with a signature of `key`, those of `remaining` being given.

    Keys that were dropped earlier do not count as given: their files may be gone.
    """
    waiting = [
        sleeps_until(client, history)
        for client in clients
        if key in client.keys and len(set(client.keys) & set(remaining)) < client.needs
    ]
    return max(waiting, default=None)
