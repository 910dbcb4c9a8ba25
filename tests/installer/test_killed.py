"""Ends at any moment: while it downloads, before and after every change it makes; and beside another run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest

from agent_cli.installation import installation_at, version_in
from tests.full_scale import only_in_full
from tests.installer.machine import Machine, layout, links, listing
from tests.installer.releases import INSTALLER, Releases
from tests.installer.server import Gate, Server
from wws.release.version import Version
from wws.testing.scale import scale_factor

CHANGES = ("cp", "gzip", "ln", "mkdir", "mktemp", "mv", "rm", "tar")
"""Programs by which it changes something."""
MOMENTS = 64
"""More than it calls them in one run."""
TAKEN = range(0, MOMENTS, 1 if scale_factor() >= 1 else 13)
MENDING = (
    [(CHANGES, moment) for moment in range(MOMENTS)]
    if scale_factor() >= 1
    else [(("mv",), at) for at in range(8)]
)
"""The changes when a version is replaced by itself: what matters is between the renames, which come first."""
SIDES = ["before", "after"] if scale_factor() >= 1 else ["before"]
"""Of a change. What comes after one comes before the next, nearly."""
WITHIN = 60

COUNTING = """
read -r count <"$MOMENT" || count=0
count=$((count - 1))
echo $count >"$MOMENT"
if [ $count -eq 0 ] && [ "$WHEN" = before ]; then kill -9 "$(cat "$INSTALLER_PID")"; exit 1; fi
{program} "$@"
code=$?
if [ $count -eq 0 ]; then kill -9 "$(cat "$INSTALLER_PID")"; exit 1; fi
exit $code
"""


def killed(machine: Machine, moment: int, when: str, changes: tuple[str, ...] = CHANGES) -> int:
    """Run it until its `moment`-th change, before or after which it is killed; its exit code."""
    for name in changes:
        real = os.path.realpath(machine.bin / name)
        if not machine.bin.joinpath(name).is_symlink():
            break
        machine.stub(name, COUNTING.replace("{program}", real))
    (machine.folder / "moment").write_text(f"{moment}\n")
    pid = machine.folder / "pid"
    script = f'echo $$ >"{pid}"; exec "$@" <"{INSTALLER}"'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *machine.command()],
        env=machine.environment(
            {"MOMENT": f"{machine.folder}/moment", "WHEN": when, "INSTALLER_PID": str(pid)}
        ),
        cwd=machine.folder,
        capture_output=True,
        timeout=WITHIN,
    )
    for name in changes:
        machine.bin.joinpath(name).unlink()
        machine.bin.joinpath(name).symlink_to(shutil.which(name) or name)
    return done.returncode


@pytest.mark.parametrize("when", SIDES)
@pytest.mark.parametrize("moment", TAKEN)
def test_at_every_change(machine: Machine, releases: Releases, moment: int, when: str) -> None:
    """There is no version or a whole one; the next run mends whatever was left."""
    machine.offline(releases, "1.2.3")
    code = killed(machine, moment + 1, when)
    assert code in (0, -signal.SIGKILL)
    assert machine.version in (None, "1.2.3")
    machine.installs()
    assert machine.version == "1.2.3"
    assert links(machine.prefix) == layout("1.2.3")
    assert not [path for path in listing(machine.share) if path.startswith("work.") or path.endswith(".new")]


@pytest.mark.parametrize("when", SIDES)
@pytest.mark.parametrize("moment", TAKEN)
def test_at_every_change_of_an_upgrade(machine: Machine, releases: Releases, moment: int, when: str) -> None:
    """At every moment there is a version that runs: the one before, or the new one."""
    machine.offline(releases, "1.2.3")
    machine.installs()
    releases.publish("1.2.4")
    machine.offline(releases, "1.2.4")
    assert killed(machine, moment + 1, when) in (0, -signal.SIGKILL)
    assert machine.version in ("1.2.3", "1.2.4")
    machine.installs()
    assert machine.version == "1.2.4"
    assert links(machine.prefix) == layout("1.2.4", previous="1.2.3")
    machine.installs("--uninstall", "--purge")
    assert listing(machine.home) == {}


def spoil(machine: Machine) -> None:
    """Damage what is installed, and leave it able to run."""
    (machine.share / "current" / "bin" / "wws-connector").write_text("damaged")


@pytest.mark.parametrize("when", SIDES)
@pytest.mark.parametrize(("changes", "moment"), MENDING)
def test_at_every_change_of_the_same_version(
    machine: Machine, releases: Releases, changes: tuple[str, ...], moment: int, when: str
) -> None:
    """A damaged version is replaced by itself: it is never away, and neither is the one before."""
    machine.offline(releases, "1.2.3")
    machine.installs()
    releases.publish("1.2.4")
    machine.offline(releases, "1.2.4")
    machine.installs()
    whole = listing(machine.home)
    spoil(machine)
    assert killed(machine, moment + 1, when, changes) in (0, -signal.SIGKILL)
    assert machine.version == "1.2.4"
    installation = installation_at(str(machine.prefix))
    assert version_in(installation.current()) == Version.parse("1.2.4")
    assert version_in(installation.previous()) == Version.parse("1.2.3")
    machine.installs()
    assert listing(machine.home) == whole


@only_in_full
@pytest.mark.parametrize(("changes", "moment"), MENDING)
def test_an_upgrade_after_that(
    machine: Machine, releases: Releases, changes: tuple[str, ...], moment: int
) -> None:
    machine.offline(releases, "1.2.3")
    machine.installs()
    spoil(machine)
    killed(machine, moment + 1, "after", changes)
    releases.publish("1.2.4")
    machine.offline(releases, "1.2.4")
    machine.installs()
    assert machine.version == "1.2.4"
    installation = installation_at(str(machine.prefix))
    assert version_in(installation.previous()) == Version.parse("1.2.3")
    assert installation.previous().is_dir()
    assert len(machine.versions()) == 2


def test_all_changes_are_met(machine: Machine, releases: Releases) -> None:
    """Beyond the last moment nothing is killed any more, neither when it installs nor when it mends."""
    machine.offline(releases, "1.2.3")
    for _ in range(2):
        assert killed(machine, MOMENTS + 1, "before") == 0
        assert machine.version == "1.2.3"
        spoil(machine)


@pytest.mark.parametrize(
    ("end", "sign"),
    [
        (".tar.gz", signal.SIGINT),
        (".tar.gz", signal.SIGTERM),
        (".tar.gz", signal.SIGHUP),
        (".tar.gz", signal.SIGKILL),
        ("/channel", signal.SIGKILL),
        ("SHA256SUMS.sig", signal.SIGTERM),
    ],
)
def test_while_it_downloads(machine: Machine, server: Server, end: str, sign: signal.Signals) -> None:
    """What can be caught leaves nothing; after SIGKILL the next run takes away what was left."""
    gate = Gate(data=b"half of it")
    server.answers[end] = gate
    process = machine.start()
    assert gate.reached.wait(WITHIN)
    os.killpg(process.pid, sign)
    process.communicate(timeout=WITHIN)
    gate.opened.set()
    if sign is not signal.SIGKILL:
        assert listing(machine.home) == {}
    del server.answers[end]
    machine.installs()
    assert machine.version == "1.2.3"
    assert not list(machine.share.glob("work.*"))


def test_only_the_shell_is_killed(machine: Machine, server: Server) -> None:
    """The downloader lives on for a while; it holds no lock."""
    gate = Gate(data=b"half of it")
    server.answers[".tar.gz"] = gate
    process = machine.start()
    assert gate.reached.wait(WITHIN)
    process.kill()
    process.wait(WITHIN)
    del server.answers[".tar.gz"]
    machine.installs()
    assert machine.version == "1.2.3"
    gate.opened.set()
    process.communicate(timeout=WITHIN)


@pytest.mark.parametrize("flock", [True, False])
def test_two_at_once(machine: Machine, server: Server, flock: bool) -> None:
    """The second says so and ends; the first is not disturbed."""
    if not flock:
        machine.bin.joinpath("flock").unlink()
    gate = Gate()
    server.answers[".tar.gz"] = gate
    first = machine.start()
    assert gate.reached.wait(WITHIN)
    for arguments in ([], ["--uninstall"]):
        second = machine.run(*arguments)
        assert second.code == 10
        assert "another installation is at work" in second.said
    assert machine.run("--dry-run").code == 0
    gate.opened.set()
    output, _ = first.communicate(timeout=WITHIN)
    assert first.returncode == 0, output
    assert machine.version == "1.2.3"
    machine.installs()


@pytest.mark.parametrize("flock", [True, False])
def test_a_lock_that_nobody_holds(machine: Machine, flock: bool) -> None:
    """What a killed run left behind keeps nobody out."""
    if not flock:
        machine.bin.joinpath("flock").unlink()
    machine.share.mkdir(parents=True)
    (machine.share / "lock").touch()
    ended = subprocess.Popen(["true"])
    ended.wait()
    (machine.share / "lock.held").symlink_to(str(ended.pid))
    machine.installs()
    assert machine.version == "1.2.3"
