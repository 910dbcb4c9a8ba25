"""`wws-dns rotate`: change the publisher keys so that everybody can follow (wire.md section 3)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_cli import text
from agent_cli.options import Options
from agent_cli.registration import command
from agent_cli.result import Result, WrongUsage
from wws.discovery.publishers import PublisherKey, key_id, parse_publisher_key
from wws.errors import ParseError
from wws.runtime.whole_files import write_whole
from wws_dns.commands.plan import shown
from wws_dns.commands.publish import SignedOption, carry_out, read_signed
from wws_dns.desired import Desired
from wws_dns.history import History
from wws_dns.plan import day
from wws_dns.publishing import Publisher
from wws_dns.rotation import KeyState, drop, find_key, introduce, key_states
from wws_dns.signing import SigningRequest
from wws_dns.workspace import (
    ForceOption,
    HistoryOption,
    KeyOption,
    RecordsOption,
    Workspace,
    load_signers,
    open_workspace,
)


def register(app: typer.Typer) -> None:
    command(
        app,
        rotate,
        examples=(
            "wws-dns rotate show",
            "wws-dns rotate introduce new.key --key old.key --key new.key",
            "wws-dns rotate drop 1a2b3c4d --key old.key --key new.key",
        ),
    )


def rotate(
    options: Options,
    step: Annotated[str, typer.Argument(metavar="[show|introduce|drop]", help="What to do.")] = "show",
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]", help="The publisher key that is meant: its file, its digits, or its key id."
        ),
    ] = None,
    early: Annotated[
        bool, typer.Option("--early", help="Drop a stolen key at once; its file must go on signing.")
    ] = False,
    request: Annotated[
        str | None,
        typer.Option("--request", metavar="FILE", help="Write the bundle to be signed elsewhere into FILE."),
    ] = None,
    signed: SignedOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; change nothing.")] = False,
    records: RecordsOption = None,
    key: KeyOption = None,
    history: HistoryOption = None,
    force_unsafe: ForceOption = False,
) -> Result:
    """Introduce a publisher key, later drop an old one; or show where each key stands.

    A change is signed by two of the keys from before (by the only one), which means: give --key for each.
    Show says until when the file of a dropped key must be kept. An old key is only dropped when no client
    is left that knows nothing else.
    """
    wanted = _step(step, which)
    offline = request is not None or signed is not None
    work = open_workspace(records, keys=key, history=history, with_keys=wanted != "show" and not offline)
    unix_now = int(time.time())
    if wanted == "show" or which is None:
        return _told(work.history, unix_now)
    work.believe_publishers()
    publisher = work.publisher()
    current = publisher.current(work.signers)
    past = _past(publisher, current, work)
    meant = _meant(which, past)
    keys = introduce(past, meant) if wanted == "introduce" else drop(past, meant, unix_now, early=early)
    bundle = read_signed(signed, work.desired.domain)
    made = publisher.plan(replace(current, keys=keys), work.signers, signed=bundle)
    if request is not None and made.bundle is not None and made.needs_signature:
        write_whole(Path(request), SigningRequest(made.domain, made.bundle).to_text().encode())
        note = f"Sign it with two of the keys from before: wws-dns sign {request} --key FILE --key FILE"
        return shown(made, [note, f"Then, here: wws-dns rotate {wanted} {which} --signed {request}"])
    if dry_run:
        return shown(made, [])
    result = carry_out(publisher, made, force_unsafe=force_unsafe)
    states = key_states(work.history, int(time.time()))
    return replace(
        result,
        data={**result.data, "keys": [state.to_json() for state in states]},
        text=f"{result.text}\n\n{_table(states)}",
        notes=(*result.notes, *_advice(work.history, states), *_listing(work, keys)),
    )


def _step(step: str, which: str | None) -> Literal["show", "introduce", "drop"]:
    match step:
        case "show":
            return "show"
        case "introduce" | "drop":
            if which is None:
                raise WrongUsage(f"Which key? wws-dns rotate {step} KEY", hint="See: wws-dns rotate show")
            return "introduce" if step == "introduce" else "drop"
        case _:
            raise WrongUsage(f"{step[:40]!r} is none of show, introduce and drop.")


def _past(publisher: Publisher, current: Desired, work: Workspace) -> History:
    """What was published, with what DNS serves of ours and the history does not know."""
    past = work.history.copy()
    seen = publisher.plan(current)
    for publication in seen.adopted:
        past.add(publication, publishers=seen.publishers)
    return past


def _meant(which: str, history: History) -> PublisherKey:
    """The key that a file holds, that digits are, or that a key id names. Raises `WrongUsage`."""
    known = find_key(which, [state.key for state in key_states(history, 0)])
    if known is not None:
        return known
    try:
        return parse_publisher_key(which)
    except ParseError:
        pass
    if not Path(which).expanduser().exists():
        raise WrongUsage(
            f"{which[:80]!r} is no publisher key, no key id known here, and no file.",
            hint="Make a key with: wws-dns keygen new.key",
        )
    (signer,) = load_signers([Path(which)], {})
    return PublisherKey(signer.public_key)


def _listing(work: Workspace, keys: tuple[PublisherKey, ...]) -> tuple[str, ...]:
    """What has to be changed in the records file, lest the next publish takes the keys back."""
    if work.desired.keys is None or set(work.desired.keys) == set(keys):
        return ()
    listed = ", ".join(f'"{key.hex()}"' for key in keys)
    return (f"Write into the records file, before the next publish: publishers = [{listed}]",)


def _told(history: History, unix_now: int) -> Result:
    states = key_states(history, unix_now)
    data = {"domain": history.domain, "keys": [state.to_json() for state in states]}
    if not states:
        return Result(data, f"Nothing was published for {history.domain} from here.")
    return Result(data, _table(states), _advice(history, states))


def _table(states: tuple[KeyState, ...]) -> str:
    rows = [
        (key_id(state.key), state.stage, "-" if state.until is None else day(state.until), state.key.hex())
        for state in states
    ]
    return text.table(("key", "stage", "until", "public key"), rows)


def _advice(history: History, states: tuple[KeyState, ...]) -> tuple[str, ...]:
    said = [f"{key_id(state.key)}: {state.advice}" for state in states if state.advice]
    listed = [state for state in states if state.is_listed]
    if len(listed) == 1:
        said.append(
            f"{history.domain} has one publisher key. With its file lost nobody can follow to another; "
            "introduce a second one, and keep it elsewhere."
        )
    return tuple(said)
