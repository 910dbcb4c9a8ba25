"""How names are spoken of: whose one is, how long, who vouches for it, and what to look at twice.

Imports nothing heavy: `wws status` uses it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from agent_cli import text

ELSEWHERE: Final = ("taken", "lost", "transferred")
"""States of a name that somebody else has."""

_RESOLVED: Final = {
    "stale": "its lease has run out: only its owner may renew it now, and it may be gone.",
    "pins_full": "too many names are known here: this one is not pinned, so nothing would warn of "
    "another owner.",
    "equivocation": "its owner has signed two different records with one number; "
    "wws call swarm.equivocations shows the proof.",
}
"""Words that come with the answer for a name → what they mean to the caller."""
_TOLD: Final = ("unwitnessed_first_pin", "pin_moved", "looks_like")
"""Words that the members of the answer say better."""


_UNTIL_THEN: Final = (
    "Your node goes on asking; until a majority covers it, whoever reaches the witnesses first gets it."
)


def label(entry: Mapping[str, Any]) -> str:
    """`wws:alice`, `wws:alice@lab`."""
    swarm = entry.get("swarm")
    return f"wws:{entry['name']}" + ("" if swarm in (None, "public") else f"@{swarm}")


def witnessed(entry: Mapping[str, Any]) -> str:
    """`witnessed by 3 of 3`, `unwitnessed`: who vouches that the name is its owner's."""
    if not entry.get("witnessed"):
        return "unwitnessed"
    receipts, witnesses = entry.get("receipts"), entry.get("witnesses")
    return f"witnessed by {receipts} of {witnesses}" if receipts and witnesses else "witnessed"


def way_back(entry: Mapping[str, Any]) -> str:
    """What to do where this node, with another key, is itself the holder; nothing where it is not."""
    way = entry.get("way_back")
    return f"This node was that agent before; to go on as it: {way}. " if way else ""


def why_unwitnessed(entry: Mapping[str, Any]) -> str:
    """Why nobody vouches for a name of ours, and what becomes of it; one sentence or two."""
    if entry.get("problem"):
        reason = str(entry["problem"]).rstrip(".")
        return f"{reason}. {_UNTIL_THEN}"
    if not entry.get("witnesses"):
        return (
            "this network has no witnesses, so somebody else may claim the same name. "
            "Whoever has used it before keeps to your key."
        )
    return f"the witnesses are away. {_UNTIL_THEN}"


def standing(entry: Mapping[str, Any]) -> str:
    """One of our names and how it stands with it, on a line."""
    named, state, until = label(entry), entry.get("state"), text.when(entry.get("expires_at"))
    holder, problem = entry.get("holder") or "another peer", entry.get("problem")
    because = f" ({problem})" if problem else ""
    match state:
        case "held":
            return f"{named}, until {until}, {witnessed(entry)}" + ("" if entry.get("witnessed") else because)
        case "taken" | "lost":
            return f"{named}, taken by {holder}"
        case "contested":
            return f"{named}, contested by {holder}"
        case "transferring":
            return f"{named}, until {until}, signed over; yours until its new owner accepts it"
        case "transferred":
            return f"{named}, transferred to {holder}"
        case "claiming":
            return f"{named}, being claimed{because}"
        case _:
            return f"{named}, {state}{because}"


def warnings_about(answer: Mapping[str, Any], target: str = "") -> tuple[str, ...]:
    """What the answer for a target should make its reader look at twice."""
    named = label(answer) if answer.get("name") else target
    notes = []
    if answer.get("looks_like"):
        notes.append(
            f"warning: {named} looks like wws:{answer['looks_like']}, which is known here. "
            "Is it the one that you mean?"
        )
    words = list(answer.get("warnings") or ())
    if answer.get("stale") and "stale" not in words:
        words.append("stale")
    notes += [f"warning: {named}: {_RESOLVED.get(word, _spelled(word))}" for word in _untold(words)]
    if answer.get("owner_changed"):
        notes.append(f"{named} was transferred to this owner; it is pinned to the new key from now on.")
    if answer.get("name") and answer.get("first_pin") and not answer.get("witnessed"):
        notes.append(
            f"warning: {named} is seen for the first time, and no witnesses vouch for it: it is pinned to "
            "this key from now on. Compare the PeerId with its owner if it matters."
        )
    return tuple(notes)


def _untold(words: Iterable[str]) -> list[str]:
    return [word for word in dict.fromkeys(words) if word not in _TOLD]


def _spelled(word: str) -> str:
    """A word that this version does not know."""
    return f"{word.replace('_', ' ')}."
