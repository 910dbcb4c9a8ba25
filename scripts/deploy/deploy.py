#!/usr/bin/env python3
"""Rolls a release out over the nodes of a stack, in steps that may each be run by hand.

    deploy.py begin --folder DIR --stack prod --files RELEASE --version 1.2.3     what is there? may it begin?
    deploy.py preview --folder DIR                    what `pulumi up` would change; changes nothing
    deploy.py canary --folder DIR                     one node; it goes back by itself if it is not well
    deploy.py rest --folder DIR                       the others, one after the other
    deploy.py up --folder DIR                         the rest of the stack: machines, settings, DNS
    deploy.py dns --folder DIR [-- OPTIONS]           `wws-dns verify`: is what was published served?
    deploy.py network --folder DIR --out FILE         the network file of the stack, for the next release
    deploy.py back --folder DIR                       every node to the version that it had at the beginning

DIR is private to one roll-out: `deploy.json` says what was there and what was done, so that `back` knows the
way also from another process. A step that fails leaves the nodes it did not reach as they were. RELEASE is a
folder with the files of a release that were verified (scripts/release/verify.sh).

It asks `pulumi`, `wws-ops` and `wws-dns` on the PATH. Exit status: 0, 1 it failed, 2 wrong usage. Standard
library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JOINED = "joined"
SETTLE = 90.0
"""Seconds that nodes have to be joined again after a roll or a way back."""


class RollFailed(Exception):
    """A step was not done. The text says why, and what holds now."""


@dataclass
class Roll:
    """What `deploy.json` holds: one roll-out, from its beginning on."""

    stack: str
    infra: str
    version: str
    archive: str
    sha256: str
    canary: str | None
    """`None` where there is no node yet: then `up` makes all of them."""
    variables: list[str] = field(default_factory=list)
    """NAME=VALUE for every upgrade and the way back, such as wws_gate_hold=120."""
    versions: dict[str, str] = field(default_factory=dict)
    """Host → the version that it ran in the beginning."""
    release: dict[str, str] | None = None
    """`wws:release` of the stack as it was; `None`: it was not set."""
    done: list[str] = field(default_factory=list)


class Deployment:
    """The roll-out of one folder."""

    def __init__(self, folder: Path, roll: Roll) -> None:
        self.folder = folder
        self.roll = roll

    @classmethod
    def read(cls, folder: Path) -> Deployment:
        """The one that was begun in this folder. Raises `RollFailed`."""
        try:
            return cls(folder, Roll(**json.loads((folder / "deploy.json").read_text("utf-8"))))
        except FileNotFoundError:
            raise RollFailed(f"nothing was begun in {folder}: deploy.py begin") from None
        except (ValueError, TypeError) as error:
            raise RollFailed(f"{folder}/deploy.json cannot be read: {error}") from None

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.json"

    def write(self) -> None:
        _write(self.folder / "deploy.json", json.dumps(asdict(self.roll), indent=1) + "\n")

    def did(self, step: str) -> None:
        self.roll.done.append(step)
        self.write()

    # --- steps -------------------------------------------------------------------------------------

    def begin(self, canary: str | None) -> None:
        """Look at the stack and its nodes, and choose the canary. Only `wws:release` is changed."""
        configured = json.loads(self._pulumi("config", "--json"))
        release = configured.get("wws:release", {})
        self.roll.release = release.get("objectValue") or json.loads(release.get("value") or "null")
        self.write()
        if self._has_nodes():
            self._take_inventory()
            nodes = self._nodes()
            unwell = [f"{name} is {node['state']}" for name, node in nodes.items() if node["state"] != JOINED]
            if unwell:
                raise RollFailed(
                    f"{', '.join(unwell)}: mend that first (wws-ops status). Nothing was changed"
                )
            self.roll.versions = {name: str(node["version"]) for name, node in nodes.items()}
            if canary is not None and canary not in nodes:
                raise RollFailed(f"there is no node {canary}: {', '.join(nodes)}")
            self.roll.canary = canary or next(iter(nodes))
            _say(f"{self.roll.canary} first; now: " + _versions(self.roll.versions))
        else:
            _say("there is no node yet: `up` makes all of them")
        self._set_release(
            {"version": self.roll.version, "archive": self.roll.archive, "sha256": self.roll.sha256}
        )
        self.did("begin")
        if "GITHUB_OUTPUT" in os.environ:
            with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8") as output:
                output.write(f"canary={self.roll.canary or ''}\n")

    def preview(self) -> None:
        """Show what `up` would change."""
        self._pulumi("preview", "--diff", shown=True)

    def canary(self) -> None:
        """The release on one node. It goes back by itself if it is not well there."""
        if self.roll.canary is None:
            _say("there is no node yet")
            return
        self.did("canary")  # before: a run that is killed in the middle has begun it
        self._upgrade(self.roll.canary)

    def rest(self) -> None:
        """The release on the others, one after the other."""
        if self.roll.canary is None:
            _say("there is no node yet")
            return
        self.did("rest")
        self._upgrade()
        self._wait_for(dict.fromkeys(self.roll.versions, self.roll.version))

    def up(self) -> None:
        """The rest of the stack; nodes that run the release already are left alone."""
        self.did("up")
        self._pulumi("up", "--yes", "--skip-preview", "--suppress-outputs", shown=True)
        self._take_inventory()
        # Nodes that were started before the list was published take it now, not within the hour.
        self._ops("exec", "--root", "--", "wws-control", "reload")
        self._wait_for(dict.fromkeys(self._nodes(), self.roll.version))

    def dns(self, options: Sequence[str]) -> None:
        """Whether resolvers serve what was published, and every node in it can be dialled."""
        network = str(json.loads(self.inventory.read_text("utf-8"))["network"])
        _run(["wws-dns", "verify", network, "--dial", *options], shown=True)

    def network(self, out: Path) -> None:
        """The network file, byte for byte: it is signed."""
        text = self._pulumi("stack", "output", "network_json")
        document = json.loads(text)
        if not isinstance(document, dict):
            raise RollFailed("the stack's network_json is no object")
        _write(out, text.rstrip("\n"), mode=0o644)
        _say(str(out))

    def back(self) -> None:
        """Every node to the version that it had, and the settings, too. Raises `RollFailed` if one is not."""
        roll = self.roll
        self._restore_release()
        if not {"canary", "rest", "up"} & set(roll.done):
            _say("nothing was changed on any node")
            return
        if roll.canary is None:
            raise RollFailed(
                "these nodes are the first of their stack: there is no version to go back to (wws-ops status)"
            )
        failed = []
        for name, before in roll.versions.items():
            if self._nodes().get(name, {}).get("version") == before:
                continue
            _say(f"{name} goes back to {before}")
            try:
                # The others may be as unwell as this one: that is why it goes back.
                variables = self._variables([*roll.variables, "wws_others_may_be_down=true"])
                self._ops("rollback", name, "--to", before, *variables)
            except RollFailed as error:
                failed.append(f"{name}: {error}")
        if failed:
            raise RollFailed("not every node went back: " + "; ".join(failed))
        self._wait_for(roll.versions)
        if "up" in roll.done:
            self._pulumi("up", "--yes", "--skip-preview", "--suppress-outputs", shown=True)
        self.did("back")
        _say("all nodes run again what they ran: " + _versions(roll.versions))

    # --- what they are made of -----------------------------------------------------------------------

    def _has_nodes(self) -> bool:
        return "inventory" in json.loads(self._pulumi("stack", "output", "--json") or "{}")

    def _take_inventory(self) -> None:
        _write(self.inventory, self._pulumi("stack", "output", "inventory", "--json"))

    def _nodes(self) -> dict[str, Mapping[str, object]]:
        """What each node says of itself; one that does not answer has a state that says so."""
        command = ["wws-ops", "status", "--inventory", str(self.inventory), "--json"]
        said = _run(command, may_fail=True)
        try:
            nodes: list[dict[str, object]] = json.loads(said)["data"]["nodes"]
        except (ValueError, KeyError, TypeError):
            raise RollFailed(f"wws-ops status says: {said[-2_000:]}") from None
        return {str(node["host"]): node for node in nodes}

    def _wait_for(self, versions: Mapping[str, str]) -> None:
        """Until every node is joined and runs its version. Raises `RollFailed`."""
        end = time.monotonic() + SETTLE
        while True:
            nodes = self._nodes()
            wrong = [
                f"{name}: {node.get('state')} with {node.get('version')}, not {version}"
                for name, version in versions.items()
                if (node := nodes.get(name, {})).get("state") != JOINED or node.get("version") != version
            ]
            if not wrong:
                return
            if time.monotonic() > end:
                raise RollFailed("; ".join(wrong))
            time.sleep(1)

    def _upgrade(self, *hosts: str) -> None:
        roll = self.roll
        release = ("--release", roll.archive, "--version", roll.version, "--sha256", roll.sha256)
        self._ops("upgrade", *hosts, *release, *self._variables(roll.variables))

    def _variables(self, variables: Sequence[str]) -> list[str]:
        return [word for one in variables for word in ("--set", one)]

    def _ops(self, command: str, *arguments: str) -> None:
        words = list(arguments)
        at = words.index("--") if "--" in words else len(words)
        words[at:at] = ["--inventory", str(self.inventory)]
        _run(["wws-ops", command, *words], shown=True)

    def _pulumi(self, command: str, *arguments: str, shown: bool = False) -> str:
        words = [
            "--stack",
            self.roll.stack,
            "--cwd",
            self.roll.infra,
            "--non-interactive",
            "--color",
            "never",
        ]
        return _run(["pulumi", command, *arguments, *words], shown=shown)

    def _set_release(self, release: Mapping[str, str]) -> None:
        for name, value in release.items():
            self._pulumi("config", "set", "--path", f"wws:release.{name}", value)

    def _restore_release(self) -> None:
        if self.roll.release is None:
            self._pulumi("config", "rm", "wws:release")
        else:
            self._set_release(self.roll.release)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one step; 0, or 1 with the reason on stderr."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    cut = words.index("--") if "--" in words else len(words)
    options, passed_on = _parser().parse_args(words[:cut]), words[cut + 1 :]
    folder: Path = options.folder.absolute()
    try:
        if options.step == "begin":
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _require_own(folder)
            Deployment(folder, _new(options)).begin(options.canary)
            return 0
        _require_own(folder)
        deployment = Deployment.read(folder)
        steps: dict[str, Callable[[], None]] = {
            "preview": deployment.preview,
            "canary": deployment.canary,
            "rest": deployment.rest,
            "up": deployment.up,
            "dns": lambda: deployment.dns(passed_on),
            "network": lambda: deployment.network(options.out.absolute()),
            "back": deployment.back,
        }
        steps[options.step]()
    except RollFailed as error:
        sys.stderr.write(f"deploy.py: {options.step}: {error}\n")
        return 1
    return 0


def _require_own(folder: Path) -> None:
    """Raises `RollFailed` where others would decide which program is run and what is rolled out."""
    try:
        found = folder.stat()
    except OSError as error:
        raise RollFailed(f"nothing was begun in {folder}: {error.strerror}") from None
    if found.st_uid != os.geteuid() or found.st_mode & 0o002:
        raise RollFailed(f"others on this machine can change what is in {folder}: take a folder of your own")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy.py", description="Roll a release out, step by step.")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")
    for name, what in (
        ("begin", "look at the stack and its nodes"),
        ("preview", "what `pulumi up` would change"),
        ("canary", "the release on one node"),
        ("rest", "and on the others"),
        ("up", "the rest of the stack"),
        ("dns", "verify what was published; after -- come options of `wws-dns verify`"),
        ("network", "write the stack's network file"),
        ("back", "every node to the version it had"),
    ):
        step = steps.add_parser(name, help=what, description=what)
        step.add_argument(
            "--folder", type=Path, required=True, help="where this roll-out keeps what it knows"
        )
        if name == "network":
            step.add_argument("--out", type=Path, required=True)
        if name == "begin":
            step.add_argument("--stack", required=True)
            step.add_argument("--files", type=Path, required=True, help="the files of the release, verified")
            step.add_argument("--version", required=True)
            step.add_argument("--infra", type=Path, default=ROOT / "infra", help="the stack's program")
            step.add_argument("--canary", metavar="HOST", help="default: the first of the inventory")
            step.add_argument("--arch", choices=("x86_64", "aarch64"), default="x86_64", help="of the hosts")
            step.add_argument(
                "--set", action="append", default=[], metavar="NAME=VALUE", help="a variable of the role"
            )
    return parser


def _new(options: argparse.Namespace) -> Roll:
    """A roll-out that begins; its archive is the one that SHA256SUMS names. Raises `RollFailed`."""
    archive: Path = options.files.absolute() / f"wws-{options.version}-linux-{options.arch}.tar.gz"
    try:
        with archive.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        sums = archive.with_name("SHA256SUMS").read_text("ascii").splitlines()
    except OSError as error:
        raise RollFailed(f"{error.filename} cannot be read: {error.strerror}") from None
    if f"{digest}  {archive.name}" not in sums:
        raise RollFailed(f"{archive.name} is not the archive that SHA256SUMS names")
    infra = str(options.infra.absolute())
    return Roll(options.stack, infra, options.version, str(archive), digest, None, options.set)


def _run(command: Sequence[str], *, shown: bool = False, may_fail: bool = False) -> str:
    """What a program says on stdout; `shown` goes to ours as well, while it runs. Raises `RollFailed`."""
    _say("$ " + " ".join(command[:4] if not shown else command))
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
    except FileNotFoundError:
        raise RollFailed(f"there is no program {command[0]} on the PATH") from None
    lines = []
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.append(line)
            if shown:
                sys.stdout.write(line)
                sys.stdout.flush()
    if process.wait() and not may_fail:
        raise RollFailed(f"{' '.join(command[:2])} ended with exit code {process.returncode}")
    return "".join(lines)


def _write(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.touch(mode)
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
