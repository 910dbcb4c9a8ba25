"""What `wws join` tells: each fact as it becomes known, and the result at the end."""

from __future__ import annotations

from typing import Any

from agent_cli import text
from agent_cli.commands.status import WITHOUT_PORTS, network_of
from agent_cli.known_names import warning
from agent_cli.name_words import ELSEWHERE, label, way_back, why_unwitnessed, witnessed
from agent_cli.options import Options
from agent_cli.progress import Progress
from agent_cli.result import Problem, Result, write_out
from agent_cli.text import printable
from wws.rpc.codes import Exit

SOURCES = {
    "cache": "a peer that worked before",
    "pinned": "a pinned peer",
    "bootstrap": "--bootstrap",
    "bundle": "the signed list in DNS",
    "dns": "DNS",
    "dnsaddr": "DNS (dnsaddr)",
    "mdns": "the local network (mDNS)",
}
_NO_REFUSALS = frozenset({"bundle_first_contact", "bundle_expired"})
"""Warnings about a list that was taken all the same."""
_ABOUT_TYPED_KEY = "Check the publisher key (behind '#') with whoever gave it to you."
_ABOUT_KEYS = {
    "build": "This build may be too old to know the network's publisher keys: take the next release "
    "(wws self update), or a network file from its operator (wws network add FILE --replace).",
    "saved": "Ask the network's operator for a new network file: wws network add FILE --replace.",
    "settings": "Check [network] publishers in config.toml with the network's operator.",
}
"""What named the network → what helps where nobody whom this node believes has signed its list."""
OURS = ("held", "transferring")
"""States of a name that this node has; what is signed over is its own until that is accepted."""
CLOCK_SKEW = 60.0
"""Seconds by which the clock may differ from the peers' before it is said."""


class Story:
    """Prints the facts of a join once each, in their order; nothing with --json or --quiet."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._told: set[str] = set()
        self._lines: list[str] = []

    def tell(self, status: dict[str, Any], shown: Progress, *, running_already: bool) -> None:
        """Print what this status adds to what was told before."""
        self._lines.clear()
        self._collect(status, running_already=running_already)
        if self._lines and not (self._options.json or self._options.quiet):
            with shown.paused():
                write_out(printable("\n".join(self._lines)))

    def _collect(self, status: dict[str, Any], *, running_already: bool) -> None:
        if running_already:
            self._once("running", f"The node {status['node']!r} is already running.")
        self._once("identity", f"identity  {status['identity_path']}")
        self._once("peer id", f"peer id   {status['peer_id']}")
        self._once("did", f"did       {status['did']}")
        if self._options.verbose:
            for tried in status["join"]["tried"]:
                self._once(f"{tried}", f"tried     {text.tried(tried)}")
        if not status["joined"]:
            return
        source = status["join"]["source"]
        found = f", found through {SOURCES.get(source, source)}" if source else ""
        self._once("network", f"network   {network_of(status)}{found}")
        self._once("peers", f"peers     {status['peers']}")
        self._once("swarm", f"swarm     {text.swarm_size(status['swarm_size'])}")
        name = own_name(status)
        if name is not None and name["state"] in OURS:
            until = text.when(name["expires_at"])
            self._once("name", f"name      {label(name)} is yours until {until}, {witnessed(name)}")

    def _once(self, key: str, line: str) -> None:
        if key not in self._told:
            self._told.add(key)
            self._lines.append(line)


def own_name(status: dict[str, Any]) -> dict[str, Any] | None:
    """The entry of the name that the node claims."""
    return next((entry for entry in status["names"] if entry["name"] == status["name"]), None)


def outcome(
    status: dict[str, Any],
    options: Options,
    *,
    already_running: bool,
    timeout: float,
    took: float,
    no_retry: bool,
    notes: tuple[str, ...] = (),
    called: str | None = None,
    looks_like: str | None = None,
) -> Result:
    """The result of a join: joined (0), joined without the name (7), or no way in (9).

    `notes` are said before those that the status gives rise to; `called` is the node's name where a
    command must say it to mean this node; `looks_like` is the known name that ours could be taken for.
    """
    name = own_name(status)
    holds = name is not None and name["state"] in OURS
    data = {
        "node": status["node"],
        "already_running": already_running,
        "joined": status["joined"],
        "network": status["network"],
        "source": status["join"]["source"],
        "identity_path": status["identity_path"],
        "peer_id": status["peer_id"],
        "did": status["did"],
        "peers": status["peers"],
        "swarm_size": status["swarm_size"],
        "name": name["name"] if name is not None and holds else None,
        "name_expires_at": name["expires_at"] if name is not None and holds else None,
        "witnessed": bool(name is not None and holds and name["witnessed"]),
        "receipts": name.get("receipts", 0) if name is not None and holds else 0,
        "witnesses": name.get("witnesses", 0) if name is not None else 0,
        "name_state": name["state"] if name is not None else None,
        "name_problem": name.get("problem") if name is not None else None,
        "looks_like": looks_like,
        "rpc": status["rpc"],
        "socket": status["socket"],
        "http": status["http"],
        "domain": status["domain"],
        "network_origin": status.get("network_origin"),
        "ad_hoc": status["ad_hoc"],
        "unsigned": status["unsigned"],
        "lan_only": status["lan_only"],
        "addresses": status["addresses"],
        "tried": status["join"]["tried"],
        "warnings": status["join"]["warnings"],
        "clock_skew_s": status["join"]["clock_skew_s"],
        "took_s": round(took, 3),
    }
    notes += _notes(status, started_here=not already_running)
    if not status["joined"]:
        problem = _no_way_in(status, options, timeout=timeout, no_retry=no_retry)
        tried = tuple(f"  tried {text.tried(way)}" for way in status["join"]["tried"])
        exit_code = Exit.NO_WAY_IN if problem.code == "no_way_in" else Exit.INTEGRITY
        return Result(data, notes=notes + tried, errors=(problem,), exit_code=exit_code)
    if name is not None and name["state"] in (*ELSEWHERE, "contested"):
        data["holder"] = name["holder"]
        problem = _without_name(name, status, options, called)
        return Result(data, notes=notes, errors=(problem,), exit_code=Exit.REFUSED)
    if name is not None and holds:
        notes += _about_name(name, status) + warning(label(name), looks_like)
    elif status["name"] is not None:
        listing = options.again("name list", node=called)
        because = f" ({name['problem']})" if name is not None and name.get("problem") else ""
        notes += (f"The name wws:{status['name']} is still being claimed{because}: {listing}",)
    return Result(data, f"Joined. {_stays(status, options, called)}", notes=notes)


def _without_name(
    name: dict[str, Any], status: dict[str, Any], options: Options, called: str | None
) -> Problem:
    """Why the node has joined and has not the name that it came for."""
    holder = name["holder"] or "another peer"
    stays = _stays(status, options, called)
    if name["state"] == "contested":
        return Problem(
            "name_contested",
            f"The name {label(name)} is contested: {holder} claims it at the same time, and neither has a "
            "majority of the witnesses. Joined without it.",
            f"Who gets it is shown by: {options.again('name list', node=called)}. {stays}",
        )
    verb = "was transferred to" if name["state"] == "transferred" else "belongs to"
    return Problem(
        "name_taken",
        f"The name {label(name)} {verb} {holder}; joined without it.",
        f"{way_back(name)}Claim another one: {options.again('name claim NAME', node=called)}. {stays}",
    )


def _about_name(name: dict[str, Any], status: dict[str, Any]) -> tuple[str, ...]:
    """Why nobody vouches for the name; nothing in an ad hoc network, which has no witnesses by nature."""
    if name["witnessed"] or status["ad_hoc"]:
        return ()
    return (f"warning: {label(name)} is unwitnessed: {why_unwitnessed(name)}",)


def _notes(status: dict[str, Any], *, started_here: bool) -> tuple[str, ...]:
    join = status["join"]
    warnings = join["warnings"]
    notes = [f"warning: {entry['message']}" for entry in warnings if entry["code"] not in WITHOUT_PORTS]
    missing = [WITHOUT_PORTS[entry["code"]] for entry in warnings if entry["code"] in WITHOUT_PORTS]
    if missing and started_here:
        notes.append(f"warning: default ports are in use by others: {', '.join(missing)}.")
    skew = join["clock_skew_s"]
    told = any(warning["code"].startswith("clock") for warning in warnings)
    if skew is not None and abs(skew) > CLOCK_SKEW and not told:
        direction = "ahead of" if skew > 0 else "behind"
        notes.append(
            f"warning: this machine's clock is {text.duration(abs(skew))} {direction} its peers'; "
            "names may be refused until it is set right."
        )
    return tuple(notes)


def _no_way_in(status: dict[str, Any], options: Options, *, timeout: float, no_retry: bool) -> Problem:
    join = status["join"]
    tried = len(join["tried"])
    counted = f"{tried} {'way' if tried == 1 else 'ways'} tried"
    ways = counted if tried else f"nothing answered in {timeout:g} s"
    advice = (
        "Check this machine's connection and its DNS, or name an entry point that you know: --bootstrap ADDR."
    )
    code = "no_way_in"
    refused = next((warning for warning in join["warnings"] if _is_refusal(warning["code"])), None)
    if refused is not None:  # DNS answered, and nobody whom this node believes has signed the answer
        code, ways = refused["code"], "its list of entry points is refused"
        advice = _ABOUT_KEYS.get(status.get("network_origin", ""), _ABOUT_TYPED_KEY)
    if no_retry:
        return Problem(code, f"No way into the network {network_of(status)}: {ways}.", advice)
    again = join["next_retry_s"]
    when = f" (again in {text.duration(again)})" if again is not None else ""
    return Problem(
        code,
        f"No way into the network {network_of(status)}: {ways}.",
        f"{advice} The node keeps trying in the background{when}; wws status shows how it goes. "
        f"To stop it: {options.again('leave', node=status['node'])}",
    )


def _is_refusal(word: str) -> bool:
    """Whether a warning says that a list of entry points was refused, not only how old it may be."""
    return word == "publisher_unknown" or (word.startswith("bundle_") and word not in _NO_REFUSALS)


def _stays(status: dict[str, Any], options: Options, called: str | None) -> str:
    status_command, leave = options.again("status", node=called), options.again("leave", node=called)
    return f"The node {status['node']!r} stays running: {status_command}, {leave}."
