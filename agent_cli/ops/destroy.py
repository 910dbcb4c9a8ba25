"""`wws-ops destroy`: everything of a stack, after looking at what that is.

The engine by itself refuses protected things when others are gone already. So this looks first, and refuses
before anything is deleted: keys of nodes and publisher unless that is said, anything else that is protected
always. Records in DNS stay unless they are to be retired: then they are no longer the stack's.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from agent_cli import text
from agent_cli.ops.sources import Infra, StackFailed, pulumi_command, run_pulumi
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command
from agent_cli.result import Problem, Result, WrongUsage, write_error
from agent_cli.text import printable
from wws.errors import LocalError
from wws.rpc.codes import Exit

IDENTITY_TYPES: Final = (":Seed", ":Promises")
"""Ends of the types of keys, and of what is remembered of their promises as witnesses."""
DNS_TYPES: Final = (":Discovery", ":Addresses")
"""Ends of the types of resources that are records in DNS."""
MAX_STATE: Final = 64 * 1024 * 1024
LAST_LINES: Final = 15


class ResourcesProtected(LocalError):
    """Something of the stack is protected. Nothing was deleted."""

    code = "resources_protected"
    exit_code = Exit.REFUSED


class NotConfirmed(LocalError):
    """Nothing was deleted: it was not confirmed."""

    code = "not_confirmed"
    exit_code = Exit.REFUSED


class StackBusy(LocalError):
    """The stack's last run was not ended in good order, or another one is under way."""

    code = "stack_unfinished"
    exit_code = Exit.REFUSED
    hint = "Let it be ended first: pulumi cancel where a run was killed, then pulumi refresh."


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a stack's state."""

    urn: str
    kind: str
    id: str
    is_protected: bool
    is_custom: bool
    """A thing of its own, and not only a group of them."""

    @property
    def name(self) -> str:
        return self.urn.rpartition("::")[2]

    @property
    def is_identity(self) -> bool:
        return self.kind.endswith(IDENTITY_TYPES)

    @property
    def is_dns(self) -> bool:
        return self.kind.endswith(DNS_TYPES)


def register(app: typer.Typer) -> None:
    command(
        app,
        destroy,
        examples=(
            "wws-ops destroy --stack prod",
            "wws-ops destroy --stack prod --keep-identities --yes example.org",
            "wws-ops destroy --stack prod --give-up-identities --retire-dns --yes example.org",
        ),
    )


def destroy(
    options: Options,
    stack: Annotated[str, typer.Option("--stack", metavar="NAME", help="The stack.")],
    yes: Annotated[
        str | None,
        typer.Option("--yes", metavar="DOMAIN", help="Do it; the network's domain, typed in full."),
    ] = None,
    keep_identities: Annotated[
        bool, typer.Option("--keep-identities", help="The keys stay in the stack, for hosts to come.")
    ] = False,
    give_up_identities: Annotated[
        bool,
        typer.Option(
            "--give-up-identities",
            help="The keys go, too: no node comes back as who it was, and the signed list ends.",
        ),
    ] = False,
    retire_dns: Annotated[
        bool,
        typer.Option("--retire-dns", help="Take the records out of DNS: nobody finds the network any more."),
    ] = False,
    infra: Infra = None,
) -> Result:
    """Delete the hosts of a stack and what belongs to them. Without --yes only show what would go.

    Without --retire-dns the records stay in DNS as they are, and the stack knows of them no more; a later
    `pulumi up` takes them over.
    """
    if keep_identities and give_up_identities:
        raise WrongUsage("--keep-identities and --give-up-identities are opposites; give one.")
    with progress(options, "Reading the state…"):
        resources = _resources(stack, infra)
        domain = run_pulumi(["config", "get", "wws:domain", "--stack", stack], infra).strip()
    things = [resource for resource in resources if resource.is_custom]
    kept = [
        resource
        for resource in things
        if (resource.is_identity and keep_identities) or (resource.is_dns and not retire_dns)
    ]
    shown = text.table(
        ("what", "name", "", "id"),
        [(_kind(one), one.name, _fate(one, one in kept), one.id or None) for one in things],
    )
    data: dict[str, object] = {
        "stack": stack,
        "domain": domain,
        "resources": [
            {"urn": one.urn, "type": one.kind, "protected": one.is_protected, "kept": one in kept}
            for one in things
        ],
        "destroyed": 0,
        "left": [one.urn for one in things],
    }
    if not things:
        return Result(data, "There is nothing in the stack.")
    refused = refusals(things, stack, domain, yes, keep=keep_identities, give_up=give_up_identities)
    if refused:
        problems = tuple(Problem(one.code, str(one), one.hint) for one in refused)
        return Result(data, shown, errors=problems, exit_code=Exit.REFUSED)
    left = _destroy(options, stack, infra, things, keep=keep_identities, retire_dns=retire_dns)
    gone = len({one.urn for one in things} - {one.urn for one in left})
    data |= {"destroyed": gone, "left": [one.urn for one in left]}
    notes = []
    if not retire_dns and any(one.is_dns for one in things):
        notes.append(f"The records of {domain} are still in DNS.")
    return Result(data, f"{shown}\n\n{gone} gone, {len(left)} left.", notes=tuple(notes))


def refusals(
    things: list[Resource], stack: str, domain: str, yes: str | None, *, keep: bool, give_up: bool
) -> list[LocalError]:
    """Why nothing is deleted, if so: what is protected, and a confirmation that is of another stack."""
    found: list[LocalError] = []
    protected = _protected(things, keep=keep, give_up=give_up)
    if protected is not None:
        found.append(protected)
    if yes is None and not found:
        found.append(NotConfirmed("Nothing was deleted.", hint=f"To do it, add: --yes {domain}"))
    if yes is not None and yes != domain:
        found.append(
            NotConfirmed(
                f"The domain of the stack {stack} is another than {yes[:80]!r}. Nothing was deleted.",
                hint=f"Is it the right stack? Its domain is {domain}.",
            )
        )
    return found


def _protected(things: list[Resource], *, keep: bool, give_up: bool) -> LocalError | None:
    others = [one for one in things if one.is_protected and not one.is_identity]
    if others:
        return ResourcesProtected(
            f"Protected: {_names(others)}. Nothing was deleted.",
            hint="Take their protection off in the stack's configuration (protected: false), and pulumi up.",
        )
    identities = [one for one in things if one.is_protected and one.is_identity]
    if identities and not keep and not give_up:
        return ResourcesProtected(
            f"These are keys of nodes, or of the publisher: {_names(identities)}. Nothing was deleted.",
            hint="Say what becomes of them: --keep-identities, or --give-up-identities for good.",
        )
    return None


def _destroy(
    options: Options,
    stack: str,
    infra: str | None,
    things: list[Resource],
    *,
    keep: bool,
    retire_dns: bool,
) -> list[Resource]:
    """Do it; what is left afterwards. Raises `StackFailed`."""
    with progress(options, "Destroying…") as shown:
        if not retire_dns:
            # The state names what others depend on before them.
            for one in reversed([one for one in things if one.is_dns]):
                run_pulumi(["state", "delete", one.urn, "--force", "--yes", "--stack", stack], infra)
        for one in (one for one in things if one.is_identity and one.is_protected and not keep):
            run_pulumi(["state", "unprotect", one.urn, "--yes", "--stack", stack], infra)

        def on_line(line: str) -> None:
            if options.verbose and not options.json:
                with shown.paused():
                    write_error(printable(line))

        words = [
            "destroy",
            "--yes",
            "--skip-preview",
            "--stack",
            stack,
            "--suppress-progress",
            "--color",
            "never",
        ]
        _stream([*words, "--exclude-protected"] if keep else words, infra, on_line)
        return [one for one in _resources(stack, infra) if one.is_custom]


def _stream(arguments: list[str], infra: str | None, on_line: Callable[[str], None]) -> None:
    """Run Pulumi for as long as it takes. Raises `StackFailed` with its last lines."""
    last: list[str] = []
    with subprocess.Popen(
        pulumi_command(arguments, infra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last, line.rstrip()][-LAST_LINES:]
            on_line(line.rstrip())
    if process.returncode != 0:
        raise StackFailed(
            "pulumi destroy did not come to its end: " + "\n".join(line for line in last if line),
            hint="Run it again: it goes on with what is left.",
        )


def _resources(stack: str, infra: str | None) -> list[Resource]:
    """What the stack's state holds. Secrets in it stay encrypted. Raises `StackFailed`, `StackBusy`."""
    exported = run_pulumi(["stack", "export", "--stack", stack], infra)
    try:
        if len(exported) > MAX_STATE:
            raise ValueError("too large")
        deployment = json.loads(exported)["deployment"]
        pending = deployment.get("pending_operations") or []
        found = [_resource(one) for one in deployment.get("resources") or []]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StackFailed(f"The state of the stack {stack} cannot be read: {error}") from None
    if pending:
        raise StackBusy(f"{len(pending)} operations of the stack {stack} were begun and not ended.")
    return found


def _resource(value: dict[str, object]) -> Resource:
    return Resource(
        urn=str(value["urn"]),
        kind=str(value["type"]),
        id=str(value.get("id", "")),
        is_protected=value.get("protect") is True,
        is_custom=value.get("custom") is True and not str(value["type"]).startswith("pulumi:providers:"),
    )


def _kind(resource: Resource) -> str:
    kind = resource.kind.rpartition(":")[2]
    return "key" if kind == "Seed" else kind.lower() if resource.is_identity else kind


def _fate(resource: Resource, is_kept: bool) -> str:
    if is_kept:
        return "stays"
    return "protected" if resource.is_protected else "goes"


def _names(resources: Iterable[Resource]) -> str:
    return ", ".join(sorted(f"{_kind(one)} {one.name}" for one in resources))
