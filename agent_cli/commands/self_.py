"""`wws self`: update, roll back, verify and remove what install.sh has installed.

    update, uninstall   run the install.sh of the version that is installed, as it was run before
    rollback            verify the version before this one, and switch one link
    verify              root key → release-keys → SHA256SUMS → MANIFEST → every file

Installed otherwise, each names the command of who installed it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from agent_cli.compose import home_of
from agent_cli.installation import (
    Installation,
    NoPreviousVersion,
    find_installation,
    installation_at,
    version_in,
)
from agent_cli.installed_files import VerifiedVersion, seen_of, verify_version
from agent_cli.installed_otherwise import find_way
from agent_cli.installer_run import planned_version, run_installer, settings
from agent_cli.options import Options
from agent_cli.progress import progress
from agent_cli.registration import command, make_app
from agent_cli.release_folder import verify_folder
from agent_cli.result import Result, WrongUsage
from agent_cli.user_manager import service_of_node
from wws.errors import LocalError, WwsError
from wws.release.chain import NOTHING_SEEN, Verified
from wws.release.channel import parse_channel_name
from wws.release.errors import FilesDiffer, ReleaseMalformed
from wws.release.keys import PublicKey
from wws.release.lines import time_text
from wws.release.version import Version
from wws.rpc.codes import Exit
from wws.runtime.homes import Ready
from wws.stamp import stamp

Prefix = Annotated[
    str | None,
    typer.Option("--prefix", metavar="DIR", help="The installation below DIR, not the one that runs."),
]
RootKeys = Annotated[
    list[str] | None,
    typer.Option("--root-key", metavar="KEY", help="Believe this root key, in place of those of the build."),
]


class NoRootKey(LocalError):
    """No root key is known that could prove anything."""

    code = "no_root_key"
    exit_code = Exit.INTEGRITY


class NodeOutdated(LocalError):
    """A node runs from a version whose files an update would remove."""

    code = "node_outdated"
    exit_code = Exit.REFUSED


def register(app: typer.Typer) -> None:
    own = make_app()
    command(own, verify, examples=("wws self verify", "wws self verify --release ~/Downloads/wws"))
    command(
        own,
        update,
        examples=("wws self update", "wws self update --dry-run", "wws self update --version 1.2.3"),
    )
    command(own, rollback, examples=("wws self rollback",))
    command(own, uninstall, examples=("wws self uninstall", "wws self uninstall --purge --yes"))
    app.add_typer(own, name="self", help="Verify, update, roll back or remove this installation.")


def verify(
    options: Options,
    prefix: Prefix = None,
    root_key: RootKeys = None,
    staged: Annotated[
        str | None,
        typer.Option("--staged", metavar="DIR", help="A version that is not installed yet, unpacked in DIR."),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option("--release", metavar="DIR", help="A release whose files lie in DIR, as downloaded."),
    ] = None,
) -> Result:
    """Verify this installation, from the root key down to every file.

    A version that has been changed could say anything: to be sure, verify with another copy of wws
    (--prefix), or with the tools that docs/releases.md names.
    """
    given = _roots(root_key)
    if sum(place is not None for place in (prefix, staged, release)) > 1:
        raise WrongUsage("--prefix, --staged and --release name different things to verify.")
    if staged is not None:
        return _verify_staged(Path(staged), given)
    if release is not None:
        return _verify_release(Path(os.path.expanduser(release)), given)
    installation = _installation("verify", prefix)
    with progress(options, f"verifying {installation.share}"):
        roots = given or _roots_of(installation)
        current = verify_version(
            installation.current(),
            roots,
            None,
            seen=seen_of(installation, roots, is_new=False),
            version=version_in(installation.current()),
        )
        wrong = installation.wrong_links()
        if wrong:
            raise FilesDiffer(
                f"{', '.join(wrong)}: not the program of {installation.share}.",
                hint="Look at what is there (ls -l), and install again: it makes the links.",
            )
        before, note = _previous(installation, roots)
    notes = [note] if note else []
    expires_at = current.release.release_keys.expires_at
    if expires_at <= time.time():
        notes.append(
            f"The list of release keys that this version came with lapsed at {time_text(expires_at)} (UTC): "
            "it says nothing of keys that were revoked since. A newer one comes with: wws self update"
        )
    return Result({**current.to_json(), "previous": before}, _told(current), tuple(notes))


def update(
    options: Options,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", help="This one, also an older one.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", metavar="NAME", help="Follow another channel from now on.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be downloaded and changed; change nothing.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="URL", help="Releases of a mirror, from now on.")
    ] = None,
    offline: Annotated[
        str | None, typer.Option("--offline", metavar="DIR", help="The files of a release lie in DIR.")
    ] = None,
    prefix: Prefix = None,
) -> Result:
    """Install the current version beside this one, verified, and switch to it.

    Nodes that run keep running the version they were started with, until they are started again.
    """
    try:
        wanted = None if version is None else Version.parse(version.removeprefix("v"))
        chosen = None if channel is None else parse_channel_name(channel)
    except ReleaseMalformed as error:
        raise WrongUsage(f"{error}.") from None
    installation = _installation("update", prefix)
    before = installation.current()
    arguments = ["--prefix", str(installation.prefix)]
    folder = None if offline is None else os.path.expanduser(offline)
    arguments += settings(installation.receipt(), channel=chosen, source=source, offline=folder)
    if wanted is not None:
        arguments += ["--version", str(wanted)]
    if dry_run:
        arguments.append("--dry-run")
    else:
        _require_no_node_loses_files(options, installation, arguments)
    said = run_installer(before, arguments, options)
    old, new = version_in(before), version_in(installation.current())
    changed = new != old
    data = {
        "version": str(new),
        "previous": str(old) if changed else None,
        "changed": changed,
        "dry_run": dry_run,
        "said": list(said.lines),
    }
    if dry_run:
        return Result(data)
    notes = tuple(_restarts(options, installation, str(old)))
    if not changed:
        return Result(data, f"wws {new} is current; nothing was changed.", notes)
    return Result(
        data,
        f"wws {new} is installed; before it was {old}. The way back: wws self rollback",
        notes,
    )


def rollback(options: Options, prefix: Prefix = None) -> Result:
    """Switch to the version that was installed before this one. Doing it twice leads forth again.

    The version is verified first. It reads what this one has written: every file carries the number of its
    form, and a version reads one number more than its own.
    """
    installation = _installation("rollback", prefix)
    roots = _roots_of(installation)
    with installation.locked(), progress(options, "verifying the version before"):
        then = installation.previous()
        seen = seen_of(installation, roots, is_new=False)
        verify_version(then, roots, None, seen=seen, version=version_in(then))
        before, after = installation.switch_back()
    state = (
        f"{after} reads what {before} has written: a version reads files of one form newer than its own. "
        "Going back further than that needs a copy of your home from then."
    )
    there, again = ("back", "Forward") if after < before else ("forward", "Back")
    return Result(
        {"version": str(after), "previous": str(before), "changed": True},
        f"wws went from {before} {there} to {after}. {again} again, to {before}: wws self rollback",
        (state, *_restarts(options, installation, str(before))),
    )


def uninstall(
    options: Options,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove identities and all other data as well: names are lost.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    prefix: Prefix = None,
) -> Result:
    """Stop the nodes of this home and remove wws. Identities and state stay, unless --purge is given."""
    installation = _installation("uninstall", prefix)
    if purge and not yes and not _confirmed(options, installation):
        raise WrongUsage(
            "With --purge identities are removed, and with them the names they own.",
            hint="If that is meant: wws self uninstall --purge --yes",
        )
    folder = installation.current()
    arguments = ["--uninstall", "--prefix", str(installation.prefix), "--yes"]
    if purge:
        arguments.append("--purge")
    said = run_installer(folder, arguments, options)
    version = str(version_in(folder))
    data = {"version": version, "prefix": str(installation.prefix), "purged": purge}
    return Result({**data, "said": list(said.lines)}, f"wws {version} has been removed.")


def _verify_staged(folder: Path, given: Sequence[PublicKey]) -> Result:
    """What install.sh asks of a version before it is switched to: all, and that nothing has lapsed."""
    roots = list(given) or [PublicKey.parse(text) for text in stamp().roots]
    _require(roots)
    installation = next(
        (Installation(place) for place in folder.absolute().parents[:4] if (place / "trust").is_dir()), None
    )
    seen = NOTHING_SEEN if installation is None else seen_of(installation, roots, is_new=True)
    found = verify_version(folder, roots, time.time(), seen=seen)
    return Result(found.to_json(), _told(found))


def _verify_release(folder: Path, given: Sequence[PublicKey]) -> Result:
    """What was downloaded, before anything of it is run."""
    roots = list(given) or [PublicKey.parse(text) for text in stamp().roots]
    _require(roots)
    installation = find_installation(os.environ)  # may know of keys that were revoked since
    seen = NOTHING_SEEN if installation is None else seen_of(installation, roots, is_new=False)
    found = verify_folder(folder, roots, time.time(), seen=seen)
    of = len(found.release.sums)
    channel = "" if found.channel is None else f"\nthe channel {found.channel.name}: {found.channel.version}"
    return Result(
        found.to_json(),
        f"{len(found.files)} of the {of} files of the release are here, and are what was signed.\n"
        f"{_signed_by(found.release)}{channel}",
    )


def _previous(
    installation: Installation, roots: Sequence[PublicKey]
) -> tuple[dict[str, object] | None, str | None]:
    """Whether one could go back: what is current does not become worse by what is not."""
    try:
        folder = installation.previous()
    except NoPreviousVersion:
        return None, None
    try:
        version = version_in(folder)
        verify_version(folder, roots, None, seen=seen_of(installation, roots, is_new=False), version=version)
    except WwsError as error:
        found = {"version": folder.name, "ok": False, "code": error.code}
        return found, f"The version before cannot be gone back to: {error}"
    return {"version": str(version), "ok": True, "code": None}, None


def _installation(word: str, prefix: str | None) -> Installation:
    if prefix is not None:
        return installation_at(os.path.expanduser(prefix))
    found = find_installation(os.environ)
    if found is None:
        raise find_way().refusal(word)
    return found


def _roots(texts: Sequence[str] | None) -> list[PublicKey]:
    return [PublicKey.parse(text) for text in texts or ()]


def _roots_of(installation: Installation) -> list[PublicKey]:
    """The keys that count for an installation: those it was told, when we run from it; else our build's.

    Another installation does not say itself whom to believe, unless we know of nobody.
    """
    built_in = [PublicKey.parse(text) for text in stamp().roots]
    told = installation.given_roots() if installation.runs_from is not None or not built_in else []
    roots = told or built_in
    _require(roots)
    return roots


def _require(roots: Sequence[PublicKey]) -> None:
    if not roots:
        raise NoRootKey(
            "This build has no root key, so it can prove nothing of a release.",
            hint="Name the one that you believe: --root-key 'ssh-ed25519 AAAA…'",
        )


def _told(found: VerifiedVersion) -> str:
    return (
        f"wws {found.version} for {found.platform}: {found.files} files are those of the release.\n"
        f"{_signed_by(found.release)}"
    )


def _signed_by(release: Verified) -> str:
    return f"signed by   {release.signer}\nwhich is of {release.root}"


def _require_no_node_loses_files(
    options: Options, installation: Installation, arguments: Sequence[str]
) -> None:
    """That no node runs from a version that would go: the new one is kept, and the one that is current.

    What would be installed is asked of the installer, and only where a node runs another version.
    """
    folder = installation.current()
    current = str(version_in(folder))
    outdated = {
        ready: runs
        for ready, runs in _versions_of_nodes(options, installation)
        if runs not in (None, current) and (folder.parent / runs).is_dir()
    }
    planned = planned_version(folder, arguments, options) if outdated else None
    for ready, runs in outdated.items():
        if planned not in (current, runs):
            raise NodeOutdated(
                f"The node {ready.node!r} still runs {runs}, whose files an update removes.",
                hint=f"First: {_restart(options, ready)}",
            )


def _restarts(options: Options, installation: Installation, before: str) -> list[str]:
    """What to do for each node that runs another version than the current one.

    Where nobody tells what a node runs, it is what was current `before`.
    """
    current = str(version_in(installation.current()))
    return [
        f"The node {ready.node!r} still runs {runs or before}. To change over: {_restart(options, ready)}"
        for ready, runs in _versions_of_nodes(options, installation)
        if (runs or before) != current
    ]


def _versions_of_nodes(options: Options, installation: Installation) -> list[tuple[Ready, str | None]]:
    nodes = home_of(options).running_nodes()
    return [(ready, installation.version_of_process(ready.pid)) for ready in nodes]


def _restart(options: Options, ready: Ready) -> str:
    unit = service_of_node(ready)
    if unit is not None:
        return f"systemctl --user restart {unit}"
    return f"{options.again('leave', node=ready.node)}, then join as you did before (wws join …)"


def _confirmed(options: Options, installation: Installation) -> bool:
    """Whether somebody at the terminal means it."""
    if options.json or not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    sys.stderr.write(f"Remove {installation.share} and all of {home_of(options).root}, keys too? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
