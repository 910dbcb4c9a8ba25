"""What the installer does when all is well: on every shell, with every downloader and every verifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from tests.installer.machine import SHELLS, USUAL, Machine, layout, links, listing
from tests.installer.releases import Releases, stamped
from tests.installer.server import Server
from tests.release_signing import Signer
from wws.identity.keys import Identity

RECEIPT = """\
wws-installation 1
version 1.2.3
from {url}
channel stable
root {root}
path-edit {home}/.profile
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_installs_runs_again_and_leaves(
    machine: Machine, server: Server, releases: Releases, shell: str
) -> None:
    first = machine.installs(shell=shell)
    assert machine.version == "1.2.3"
    assert links(machine.prefix) == layout("1.2.3")
    receipt = (machine.share / "installation").read_text()
    assert receipt == RECEIPT.format(url=server.url, root=releases.signer.root_text, home=machine.home)
    identity = (machine.home / ".openswarm" / "identity.key").read_text().strip()
    assert f"peer id 12D3KooW{identity} did did:swarm:{identity}" in first.said
    assert first.said.endswith("Next: wws join --name YOUR-NAME")

    before, asked = listing(machine.home), len(server.asked)
    again = machine.installs(shell=shell)
    assert "1.2.3 is installed already" in again.said
    assert listing(machine.home) == before
    assert not any(path.endswith(".tar.gz") for path in server.asked[asked:])

    machine.installs("--uninstall", shell=shell)
    assert list(listing(machine.home)) == [".openswarm", ".openswarm/identity.key"]
    machine.installs("--uninstall", "--purge", shell=shell)
    assert listing(machine.home) == {}


WITHOUT_CURL = tuple(name for name in USUAL if name != "curl")
BARE = tuple(name for name in USUAL if name not in {"curl", "ssh-keygen", "openssl"})


@pytest.mark.parametrize("getter", ["curl", "wget", "wget=busybox"])
def test_every_downloader(machine: Machine, getter: str) -> None:
    # With openssl BusyBox would check certificates, those of addresses wrongly.
    machine.tools(*(name for name in WITHOUT_CURL if name != "openssl"), getter)
    machine.installs()
    assert machine.version == "1.2.3"


VERIFIERS = {"ssh-keygen": ["ssh-keygen"], "openssl": ["openssl"], "minisign": ["minisign"], "nothing": []}


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_every_verifier(machine: Machine, releases: Releases, verifier: str) -> None:
    machine.tools(*BARE, "curl", *VERIFIERS[verifier])
    plan = machine.installs("--dry-run")
    if verifier == "nothing":
        assert "warning: nothing here verifies signatures" in plan.said
        machine.refuses(8, "nothing here verifies signatures", arguments=["--require-signature"])
    else:
        assert f"signed verified by {verifier}" in plan.said
    machine.installs(*(["--require-signature"] if verifier != "nothing" else []))
    assert machine.version == "1.2.3"


@pytest.mark.parametrize("verifier", [name for name in VERIFIERS if name != "nothing"])
@pytest.mark.parametrize("file", ["release-keys", "channel", "SHA256SUMS"])
def test_every_verifier_refuses(machine: Machine, releases: Releases, verifier: str, file: str) -> None:
    machine.tools(*BARE, "curl", *VERIFIERS[verifier])
    stranger = Identity.from_label("a stranger")
    match file:
        case "release-keys":
            releases.signer.release_keys(releases.channel(), by=stranger)
        case "channel":
            releases.signer.channel(releases.channel(), "1.2.3", by=stranger)
        case _:
            releases.signer.sums(releases.release("1.2.3"), by=stranger)
    machine.refuses(8, f"{file} of", "not signed by a")


@pytest.mark.parametrize("getter", ["wget", "wget=busybox"])
def test_wget_alone_is_not_believed(machine: Machine, getter: str) -> None:
    """That of BusyBox checks no certificates, and GNU wget follows a redirect away from https."""
    machine.tools(*BARE, getter)
    machine.refuses(8, "nothing here verifies signatures", "apt-get install -y openssh-client")


def test_the_installed_wws_verifies(machine: Machine, releases: Releases) -> None:
    """Where nothing else does; the first installation was made before the tools were taken away."""
    machine.installs()
    machine.tools(*BARE, "curl")
    wws = machine.share / "versions" / "1.2.3" / "bin" / "wws"
    able = '"self verify-file --help") ;; "self verify-file"*) exit "${VERIFIES:-0}"'
    wws.write_text(wws.read_text().replace('"self verify-file"*) exit 2', able))
    releases.publish("1.2.4")
    machine.refuses(8, "release-keys of", "not signed by a root key", VERIFIES="8")
    machine.installs("--require-signature")
    assert machine.version == "1.2.4"


def test_upgrades_keep_the_version_before(machine: Machine, releases: Releases) -> None:
    machine.installs()
    key = (machine.home / ".openswarm" / "identity.key").read_bytes()
    for version, previous in (("1.2.4", "1.2.3"), ("1.10.0", "1.2.4")):
        releases.publish(version)
        assert f"{version} is installed (before: {previous}" in machine.installs().said
        assert machine.version == version
        assert links(machine.prefix) == layout(version, previous=previous)
        assert machine.versions() == sorted([version, previous])
    assert (machine.home / ".openswarm" / "identity.key").read_bytes() == key


def test_an_update_tells_what_changed(machine: Machine, releases: Releases) -> None:
    """Whoever updates has an identity, a PATH and a node, and is told of none of them again."""
    machine.installs()
    releases.publish("1.2.4")
    said = machine.installs().said
    assert said.endswith("wws 1.2.4 is installed (before: 1.2.3; back to it: wws self rollback).")
    assert not any(word in said for word in ("peer id", "Next:", "export PATH"))


def test_an_update_tells_of_what_runs_the_version_before(machine: Machine, releases: Releases) -> None:
    machine.installs()
    ready = machine.home / ".openswarm" / "run" / "alice" / "ready.json"
    ready.parent.mkdir(parents=True)
    ready.touch()
    releases.publish("1.2.4")
    again = "A node that runs goes on with 1.2.3 until it is started again: "
    assert machine.installs().said.endswith(f"{again}wws leave, then wws join as before")
    machine.stub("systemctl", """[ "$*" = "--user is-active -q wws*.service" ]""")
    releases.publish("1.2.5")
    again = again.replace("1.2.3", "1.2.4")
    assert machine.installs().said.endswith(f"{again}systemctl --user restart 'wws*.service'")
    releases.publish("1.2.6")
    assert "goes on" not in machine.installs("--no-service").said


def test_an_older_version_must_be_asked_for(machine: Machine, releases: Releases) -> None:
    releases.publish("1.3.0rc1")
    machine.installs()
    releases.lead("1.2.3")
    machine.refuses(8, "leads to 1.2.3, and 1.3.0rc1 is installed", "--version 1.2.3")
    machine.installs("--version", "v1.2.3")
    assert links(machine.prefix) == layout("1.2.3", previous="1.3.0rc1")


def test_an_old_release_is_had_under_new_keys(machine: Machine, releases: Releases) -> None:
    """Its own list of keys is older than what this machine has seen, and the newer one still has its key."""
    releases.publish("1.3.0", serial=4)
    machine.installs()
    machine.installs("--version=1.2.3")
    assert machine.version == "1.2.3"
    assert b"serial 4" in (machine.share / "versions/1.2.3/release/release-keys").read_bytes()


def test_a_version_without_a_channel(machine: Machine, releases: Releases) -> None:
    """A mirror may have but the folder of one release."""
    for file in releases.channel().iterdir():
        file.unlink()
    machine.refuses(9, "has no channel stable")
    machine.installs("--version", "1.2.3")
    assert machine.version == "1.2.3"


def test_another_channel_is_kept_to(machine: Machine, releases: Releases) -> None:
    releases.publish("1.4.0rc2", channel="beta")
    machine.installs("--channel", "beta")
    assert machine.version == "1.4.0rc2"
    releases.publish("1.4.0", channel="beta")
    machine.installs()
    assert machine.version == "1.4.0"
    assert "channel beta" in (machine.share / "installation").read_text()


def test_what_is_damaged_is_installed_again(machine: Machine) -> None:
    machine.installs()
    whole = listing(machine.home)
    (machine.share / "current" / "bin" / "wws-connector").write_text("damaged")
    machine.installs()
    assert listing(machine.home) == whole
    (machine.share / "current" / "bin" / "wws").unlink()
    machine.installs()
    assert listing(machine.home) == whole


@pytest.mark.parametrize("has_channel", [True, False])
def test_offline(machine: Machine, releases: Releases, server: Server, has_channel: bool) -> None:
    folder = machine.folder / "a stick"
    folder.mkdir()
    places = [releases.release("1.2.3"), *([releases.channel()] if has_channel else [])]
    for place in places:
        for file in place.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    machine.arguments = ["--root-key", releases.signer.root_text]
    machine.tools(*WITHOUT_CURL)
    machine.installs("--offline", "a stick")
    assert machine.version == "1.2.3"
    assert server.asked == []
    assert f"from {folder}" in (machine.share / "installation").read_text()


def test_offline_tells_what_is_missing(machine: Machine, releases: Releases) -> None:
    machine.refuses(9, "has no release 1.2.3", arguments=["--offline", ".", "--version", "1.2.3"])
    machine.refuses(10, "has not one wws-<version>-linux-", arguments=["--offline", "."])
    unreadable = machine.folder / "unreadable"
    unreadable.mkdir()
    (unreadable / "release-keys").symlink_to("/proc/self/mem")
    arguments = ["--offline", str(unreadable), "--version", "1.2.3"]
    machine.refuses(10, f"cannot read {unreadable}/release-keys", arguments=arguments)
    (machine.folder / "file").touch()
    for place in ("/nowhere", "nowhere", "file"):
        arguments = ["--offline", place, "--version", "1.2.3"]
        machine.refuses(10, "there is no folder /", f"{place} (--offline)", arguments=arguments)


def test_dry_run_shows_and_changes_nothing(machine: Machine, releases: Releases, server: Server) -> None:
    before = sorted(path.name for path in machine.folder.iterdir())
    plan = machine.refuses(0, arguments=["--dry-run"]).said
    assert sorted(path.name for path in machine.folder.iterdir()) == before
    archive = releases.archive("1.2.3")
    sums = (releases.release("1.2.3") / "SHA256SUMS").read_text()
    (wanted,) = (line.split()[0] for line in sums.splitlines() if line.endswith(archive.name))
    assert f"{server.url}/download/v1.2.3/{archive.name}" in plan
    assert wanted in plan
    for path in set(server.asked):
        assert f"{server.url}{path}" in plan
    assert str(machine.share / "versions" / "1.2.3") in plan
    assert f"{machine.home}/.profile" in plan
    machine.installs()
    for path in ("bin", "share/wws"):
        assert str(machine.prefix / path) in machine.refuses(0, arguments=["--uninstall", "--dry-run"]).said


def test_an_unstamped_copy_says_what_it_needs(machine: Machine) -> None:
    machine.arguments = []
    machine.refuses(2, "--from URL", "--root-key KEY")


def test_a_stamped_copy_needs_nothing(machine: Machine, releases: Releases, server: Server) -> None:
    stranger = Signer(root=Identity.from_label("another root"))
    roots = f"{stranger.root_text} {releases.signer.root_text}"
    text = machine.folder / "stamped.sh"
    lines = {
        "RELEASES=''": f"RELEASES='{server.url}'",
        "ROOTS=''": f"ROOTS='{roots}'",
        "GLIBC=''": "GLIBC='2.17'",
    }
    script = [
        lines.get(line, line)
        for line in releases.release("1.2.3").joinpath("install.sh").read_text().split("\n")
    ]
    text.write_text("\n".join(script))
    machine.arguments = []
    machine.installs(script=text)  # type: ignore[arg-type]
    assert machine.version == "1.2.3"
    assert "root " not in (machine.share / "installation").read_text()


def of_project(machine: Machine, releases: Releases, url: str) -> Path:
    """The installer that a project serves whose releases are there; the machine gives no option itself."""
    script = machine.folder / "stamped.sh"
    script.write_text(stamped(url, releases.signer))
    machine.arguments = []
    return script


def test_releases_that_move_are_followed(
    machine: Machine, releases: Releases, server: Server, certificate: trustme.LeafCert
) -> None:
    """Where nobody has named a mirror, the installer that runs knows where releases are."""
    machine.installs(script=of_project(machine, releases, server.url))  # type: ignore[arg-type]
    assert "\nfrom " not in (machine.share / "installation").read_text()
    releases.publish("1.2.4")
    asked = len(server.asked)
    with Server(releases.folder, certificate) as moved:
        machine.installs(script=of_project(machine, releases, moved.url))  # type: ignore[arg-type]
        assert moved.asked
    assert len(server.asked) == asked
    assert machine.version == "1.2.4"


def test_a_mirror_that_was_named_is_kept_to(
    machine: Machine, releases: Releases, server: Server, certificate: trustme.LeafCert
) -> None:
    script = of_project(machine, releases, server.url)
    with Server(releases.folder, certificate) as mirror:
        machine.installs("--from", mirror.url, script=script)  # type: ignore[arg-type]
        releases.publish("1.2.4")
        machine.installs(script=script)  # type: ignore[arg-type]
        machine.installs("--offline", str(machine.offline(releases, "1.2.4")))
        assert f"\nfrom {mirror.url}\n" in (machine.share / "installation").read_text()
    assert server.asked == []
    assert machine.version == "1.2.4"


def test_a_stick_is_no_place_to_come_back_to(machine: Machine, releases: Releases, server: Server) -> None:
    """Who installs from files goes on with the releases of the project, where that is known."""
    script = of_project(machine, releases, server.url)
    machine.offline(releases)
    machine.installs(script=script)  # type: ignore[arg-type]
    assert "\nfrom " not in (machine.share / "installation").read_text()


def test_a_build_without_a_network_says_so(machine: Machine) -> None:
    said = machine.installs(NETWORK="").said
    assert "This build knows no network" in said
    assert said.endswith("Next: wws join --name YOUR-NAME --network 'DOMAIN#PUBLISHER-KEY'")


def test_a_service_is_told_of_where_there_is_one(machine: Machine) -> None:
    machine.stub("systemctl", '[ "$*" = "--user show-environment" ]')
    assert "wws service install --name YOUR-NAME" in machine.installs().said
    assert "wws service" not in machine.installs("--no-service").said
    machine.stub("systemctl", "exit 1")
    assert "wws service" not in machine.installs().said
