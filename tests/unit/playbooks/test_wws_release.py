"""Releases on a host: unpacked whole or not at all, switched in one step, found again after interruptions."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from tests.unit.playbooks.modules import Given, archive, load

wws_release = load("wws_release")
FILES = {
    "VERSION": b"1.1.0\n",
    "bin/": b"",
    "bin/wws-bootstrap": b"#!/bin/sh\n",
    "lib/": b"",
    "lib/a.py": b"pass\n",
}


class Service:
    """A unit that does what it is told, and the node in it that is ready or not."""

    def __init__(self, root: Path, *, starts: bool = True) -> None:
        self.root, self.starts, self.runs_from = root, starts, ""
        self.calls: list[str] = []
        self.counts = True
        self.name = "wws-bootstrap.service"

    def ask(self) -> dict[str, str]:
        active = "active" if self.runs_from else "failed" if self.calls and not self.starts else "inactive"
        return {
            "ActiveState": active,
            "MainPID": str(os.getpid()),
            "NRestarts": "0",
            "SubState": "-",
            "Result": "-",
        }

    def control(self, *command: str, within: float = 0) -> str:
        self.calls.append(command[0])
        if command[0] == "stop":
            self.runs_from = ""
        if command[0] == "start" and self.starts:
            self.runs_from = os.readlink(self.root / "current")
        return ""

    def is_ready(self) -> bool:
        return bool(self.runs_from)

    def has_metrics(self) -> bool:
        return self.counts

    def last_words(self) -> str:
        return "ImportError"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with releases 0.9.0 and 1.0.0, of which the second is in use."""
    for version in ("0.9.0", "1.0.0"):
        (tmp_path / "releases" / version).mkdir(parents=True)
    releases = wws_release.Releases(tmp_path)
    releases.point("previous", "0.9.0")
    releases.point("current", "1.0.0")
    monkeypatch.setattr(wws_release, "_runs_from", lambda pid, release: True)
    return tmp_path


def unpack(root: Path, path: Path, version: str = "1.1.0", digest: str | None = None) -> dict[str, object]:
    given = Given(version=version, archive=str(path), sha256=digest or sha256(path.read_bytes()).hexdigest())
    result: dict[str, object] = wws_release.unpack(given, wws_release.Releases(root), None)
    return result


def switch(root: Path, version: str, unit: Service) -> dict[str, object]:
    given = Given(version=version, seal=str(root / "sealed"), drain_wait=0, ready_within=1, home="/nowhere")
    result: dict[str, object] = wws_release.switch(given, wws_release.Releases(root), unit)
    return result


def links(root: Path) -> tuple[str, str]:
    releases = wws_release.Releases(root)
    return releases.link("current"), releases.link("previous")


def test_a_release_is_unpacked_beside_the_others_and_the_archive_is_gone(root: Path) -> None:
    path = archive(root / "a", "wws-1.1.0", FILES)
    assert unpack(root, path) == {"changed": True}
    assert (root / "releases/1.1.0/lib/a.py").read_bytes() == b"pass\n"
    assert os.access(root / "releases/1.1.0/bin/wws-bootstrap", os.X_OK)
    assert not path.exists()
    again = archive(root / "a", "wws-1.1.0", FILES)
    assert unpack(root, again)["changed"] is False
    assert wws_release.Releases(root).versions()[-1] == "1.1.0"


def test_a_release_in_use_is_never_replaced_by_another_of_its_number(root: Path) -> None:
    path = archive(root / "a", "wws-1.0.0", FILES)
    (root / "releases/1.0.0/MANIFEST").write_text("other\n")
    with pytest.raises(wws_release.Failed, match="give the release a new number"):
        unpack(root, path, "1.0.0")


def _tar(path: Path, *entries: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for entry in entries:
            tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    return path


def _entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def _bad(folder: Path) -> Iterator[tuple[str, Path]]:
    top = _entry("wws-1.1.0", tarfile.DIRTYPE)
    path = folder / "a"
    yield "outside", _tar(path, _entry("elsewhere"))
    yield "outside", _tar(path, top, _entry("wws-1.1.0/../../etc/cron.d/x"))
    yield "outside", _tar(path, _entry("/wws-1.1.0/x"))
    yield "neither file nor folder", _tar(path, top, _entry("wws-1.1.0/x", tarfile.SYMTYPE, "/etc/passwd"))
    yield "neither file nor folder", _tar(path, top, _entry("wws-1.1.0/x", tarfile.CHRTYPE))
    yield "no MANIFEST", archive(path, "wws-1.1.0", FILES, manifest=False)
    yield "not what MANIFEST says", archive(path, "wws-1.1.0", {**FILES, "MANIFEST": b""}, manifest=False)
    yield "outside", archive(path, "wws-9.9.9", FILES)
    path.write_bytes(b"<html>404</html>")
    yield "none of a release", path
    whole = archive(path, "wws-1.1.0", FILES).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    yield "none of a release", path


def test_what_is_no_release_leaves_nothing(root: Path) -> None:
    before = sorted(root.rglob("*"))
    for reason, path in _bad(root):
        with pytest.raises(wws_release.Failed, match=reason):
            unpack(root, path)
        assert sorted(root.rglob("*")) == before


def test_an_archive_that_was_damaged_on_its_way_is_told_from_one_that_is_wrong(root: Path) -> None:
    path = archive(root / "a", "wws-1.1.0", FILES)
    with pytest.raises(wws_release.Failed, match="damaged on its way"):
        unpack(root, path, digest="0" * 64)
    assert not (root / "releases/1.1.0").exists()


def test_forward_and_back_again_is_as_it_was(root: Path) -> None:
    (root / "releases/1.1.0").mkdir()
    unit = Service(root)
    assert switch(root, "1.1.0", unit)["changed"] is True
    assert links(root) == ("1.1.0", "1.0.0")
    assert wws_release.Releases(root).pending["version"] == "1.1.0", "it has not passed the gate"
    switch(root, "1.0.0", unit)
    assert links(root) == ("1.0.0", "0.9.0"), "the failed one is no way back"
    assert unit.runs_from == "releases/1.0.0"
    assert unit.calls == ["stop", "reset-failed", "start"] * 2


def test_an_operator_who_goes_back_may_go_forward_again(root: Path) -> None:
    (root / "releases/1.1.0").mkdir()
    unit, releases = Service(root), wws_release.Releases(root)
    switch(root, "1.1.0", unit)
    wws_release.confirm(Given(keep=5), releases, unit)
    assert releases.pending == {}
    switch(root, "1.0.0", unit)
    assert links(root) == ("1.0.0", "1.1.0")


class Killed(BaseException):
    """What SIGKILL is to a process, for a test."""


STEPS = ("set_pending", "control", "point", "point", "control", "control")


@pytest.mark.parametrize("step", range(len(STEPS) + 1))
def test_a_switch_that_was_killed_at_any_step_is_ended_by_the_next(
    root: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "releases/1.1.0").mkdir()
    unit = Service(root)
    done = 0

    def dies(method):  # type: ignore[no-untyped-def]
        def call(*arguments: object, **more: object) -> object:
            nonlocal done
            if done == step:
                raise Killed
            done += 1
            return method(*arguments, **more)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(wws_release.Releases, "set_pending", dies(wws_release.Releases.set_pending))
        patch.setattr(wws_release.Releases, "point", dies(wws_release.Releases.point))
        patch.setattr(Service, "control", dies(Service.control))
        if step < len(STEPS):
            with pytest.raises(Killed):
                switch(root, "1.1.0", unit)
        else:
            switch(root, "1.1.0", unit)
    assert links(root)[0] in {"1.0.0", "1.1.0"}, "never nothing"
    switch(root, "1.1.0", unit)
    assert links(root) == ("1.1.0", "1.0.0")
    assert unit.runs_from == "releases/1.1.0"
    switch(root, "1.0.0", unit)
    assert links(root) == ("1.0.0", "0.9.0")


def test_a_node_that_does_not_start_is_reported_with_its_last_words(root: Path) -> None:
    (root / "releases/1.1.0").mkdir()
    with pytest.raises(wws_release.Failed, match=r"does not start: ImportError \(failed"):
        switch(root, "1.1.0", Service(root, starts=False))
    assert links(root) == ("1.1.0", "1.0.0"), "the playbook goes back, and gates that, too"


class Stubborn(Service):
    """A node that was taken over, and asks for ever more time to stop."""

    def control(self, *command: str, within: float = 0) -> str:
        if command[0] == "stop" and "kill" not in self.calls:
            return "systemctl stop took more than 60 s"
        return super().control(*command, within=within)


def test_a_node_that_does_not_stop_is_killed(root: Path) -> None:
    unit = Stubborn(root)
    switch(root, "0.9.0", unit)
    assert unit.calls == ["kill", "stop", "reset-failed", "start"]
    assert unit.runs_from == "releases/0.9.0"


@pytest.mark.parametrize("name", ["previous", "current"])
def test_a_node_whose_link_cannot_be_made_runs_from_the_release_before(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "releases/1.1.0").mkdir()
    point = wws_release.Releases.point

    def full(releases: object, link: str, version: str) -> None:
        if link == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        point(releases, link, version)

    monkeypatch.setattr(wws_release.Releases, "point", full)
    unit = Service(root)
    with pytest.raises(wws_release.Failed, match="No space left"):
        switch(root, "1.1.0", unit)
    assert unit.runs_from == "releases/1.0.0"


def test_of_two_operators_at_one_host_the_second_waits(root: Path) -> None:
    releases = wws_release.Releases(root)
    with (root / ".lock").open("wb") as other:
        with wws_release._alone(releases), pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_full_disk_keeps_nobody_from_going_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who can fill it, the node for one, could keep a release in use that is not well."""
    (root / "releases/1.1.0").mkdir()
    unit = Service(root)
    switch(root, "1.1.0", unit)

    def full(releases: object, value: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(wws_release.Releases, "set_pending", full)
    switch(root, "1.0.0", unit)
    assert unit.runs_from == "releases/1.0.0"
    assert links(root) == ("1.0.0", "0.9.0")


def test_a_sealed_node_is_never_started(root: Path) -> None:
    (root / "sealed").touch()
    unit = Service(root)
    with pytest.raises(wws_release.Failed, match="sealed"):
        switch(root, "0.9.0", unit)
    assert unit.calls == []


@pytest.mark.parametrize("version", ["", "../etc", ".part-1.1.0", "a/b"])
def test_what_is_no_version_is_refused(root: Path, version: str) -> None:
    with pytest.raises(wws_release.Failed, match="is no version"):
        switch(root, version, Service(root))


@pytest.mark.parametrize("keep, left", [(1, 2), (2, 2), (3, 3), (4, 4), (9, 6)])
def test_old_releases_go_but_never_one_that_is_used(root: Path, keep: int, left: int) -> None:
    releases = wws_release.Releases(root)
    for age, version in enumerate(("0.5.0", "0.6.0", "0.7.0", "0.8.0")):
        folder = root / "releases" / version
        folder.mkdir()
        os.utime(folder, (age, age))
    (root / "releases/.part-2.0.0").mkdir()
    wws_release.confirm(Given(keep=keep), releases, None)
    assert len(releases.versions()) == left
    assert {"0.9.0", "1.0.0"} <= set(releases.versions())
    newest = [version for version in releases.versions() if version not in {"0.9.0", "1.0.0"}]
    assert all(before < after for before, after in pairwise(newest))
    assert "0.5.0" not in newest or left == 6
    assert not (root / "releases/.part-2.0.0").exists()
    assert wws_release.confirm(Given(keep=keep), releases, None)["changed"] is False


def test_a_node_that_swells_is_not_held(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, 100, 180, 260, 400])
    monkeypatch.setattr(wws_release, "_rss", lambda pid: next(sizes))
    monkeypatch.setattr(wws_release.time, "sleep", lambda seconds: None)
    unit = Service(root)
    unit.runs_from = "releases/1.0.0"
    given = Given(pid=os.getpid(), hold_for=60, rss_max=700, rss_growth=128)
    with pytest.raises(wws_release.Failed, match="has grown from 100 to 260 MiB"):
        wws_release.hold(given, None, unit)


def test_a_node_that_was_restarted_meanwhile_is_not_held(root: Path) -> None:
    unit = Service(root)
    unit.runs_from = "releases/1.0.0"
    with pytest.raises(wws_release.Failed, match="did not stay up"):
        wws_release.hold(Given(pid=1, hold_for=60, rss_max=700, rss_growth=128), None, unit)


def test_a_node_is_held_that_stays_up_and_can_be_watched(root: Path) -> None:
    unit = Service(root)
    unit.runs_from = "releases/1.0.0"
    given = Given(pid=os.getpid(), hold_for=0, rss_max=7000, rss_growth=128)
    assert wws_release.hold(given, None, unit)["changed"] is False
    unit.counts = False
    with pytest.raises(wws_release.Failed, match="has no metrics"):
        wws_release.hold(given, None, unit)


@pytest.mark.parametrize("module", ["wws_release", "wws_backup"])
def test_a_systemd_that_says_nothing_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    loaded = load(module)
    monkeypatch.setattr(loaded, "ASK_WITHIN", 0.2)
    if module == "wws_release":
        assert loaded.Unit("a.service", "127.0.0.1:1").ask() == {}
    else:
        assert loaded._is_active("a.service"), "who cannot tell must not be taken for stopped"
