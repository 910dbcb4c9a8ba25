"""The scripts of a release, one by one: what they refuse, and what a person does whose key is offline."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflows.actions import Actions
from tests.workflows.conftest import make_keys, release_files, sign
from tests.workflows.tools import ROOT
from wws import __version__

TAG = f"v{__version__}"
pytestmark = pytest.mark.timeout(300)
Done = subprocess.CompletedProcess[str]


def run(
    script: str,
    *words: str | Path,
    code: int = 0,
    at: Path = ROOT,
    inside: Path | None = None,
    **environment: str,
) -> Done:
    """A script of ours, called from `inside` a folder, which must end with this exit code."""
    done = subprocess.run(
        [str(at / "scripts" / script), *map(str, words)],
        cwd=inside,
        env={**os.environ, "PYTHON": sys.executable, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("v99.0.0", "is not v"),
        (__version__, "is not v"),
        (f"v{__version__}; true", "is not v"),
        (f"v{__version__}.1", "is not v"),
    ],
)
def test_a_tag_that_is_not_the_version_is_refused(tag: str, said: str) -> None:
    assert said in run("release/check-tag.sh", tag, "--rehearsal", code=1).stderr


def test_a_version_without_a_dated_section_in_the_changelog_is_refused(actions: Actions) -> None:
    actions.commit()
    assert (
        f"version={__version__}\nchannel=stable\n"
        in run("release/check-tag.sh", TAG, at=actions.repository).stdout
    )
    changelog = actions.repository / "CHANGELOG.md"
    changelog.write_text(changelog.read_text().replace("2026-01-01", "soon"))
    assert "has no section" in run("release/check-tag.sh", TAG, at=actions.repository, code=1).stderr


def test_without_root_keys_there_is_no_release_and_it_says_why(tmp_path: Path) -> None:
    words = ("--version", "1.2.3", "--releases", "https://releases.example/r", "--out", tmp_path / "out")
    said = run("release/stamps.sh", *words, "--roots", tmp_path / "none", code=1).stderr
    assert "The key ceremony is described in docs/releases.md" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519 AAAA\n",
        "ssh-rsa " + "A" * 68 + "\n",
        "ssh-ed25519 " + "A" * 67 + "'\n",
        "ssh-ed25519 $(reboot)\n",
    ],
)
def test_what_is_no_root_key_is_not_stamped(tmp_path: Path, text: str) -> None:
    (tmp_path / "roots").write_text(text)
    words = ("--releases", "https://releases.example/r", "--roots", tmp_path / "roots", "--glibc", "2.31")
    run("release/stamp-installer.sh", *words, "--out", tmp_path / "install.sh", code=1)
    given = ("--version", "1.2.3", "--commit", "a" * 40, *words[:4])
    run("release/stamp.py", *given, "--out", tmp_path / "stamp.json", code=1)
    assert [path.name for path in tmp_path.iterdir()] == ["roots"]


@pytest.mark.parametrize(
    "url", ["releases.example", "https://a.example/'; rm -rf ~; '", "https://a b", "file:///x"]
)
def test_what_is_no_address_is_not_stamped(released: Actions, tmp_path: Path, url: str) -> None:
    words = ("--releases", url, "--roots", released.repository / "packaging" / "trust" / "roots")
    run("release/stamp-installer.sh", *words, "--glibc", "2.31", "--out", tmp_path / "install.sh", code=1)
    run(
        "release/stamp.py",
        "--version",
        "1.2.3",
        "--commit",
        "a" * 40,
        *words,
        "--out",
        tmp_path / "s",
        code=1,
    )


def test_the_installer_that_is_stamped_is_the_one_of_the_sources_but_for_three_lines(
    released: Actions, tmp_path: Path
) -> None:
    roots = released.repository / "packaging" / "trust" / "roots"
    words = ("--releases", "https://releases.example/r", "--roots", roots, "--glibc", "2.31")
    run("release/stamp-installer.sh", *words, "--out", tmp_path / "install.sh")
    pairs = zip(
        (ROOT / "install.sh").read_text().splitlines(),
        (tmp_path / "install.sh").read_text().splitlines(),
        strict=True,
    )
    assert [pair for pair in pairs if pair[0] != pair[1]] == [
        ("RELEASES=''", "RELEASES='https://releases.example/r'"),
        ("ROOTS=''", f"ROOTS='{roots.read_text().strip()}'"),
        ("GLIBC=''", "GLIBC='2.31'"),
    ]


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment whose `python3` has no libraries, and which names no other."""
    programs = tmp_path / "bin"
    programs.mkdir()
    python = programs / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    python.chmod(0o755)
    return {"PYTHON": "", "PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}


def test_without_the_libraries_it_says_what_to_make(
    released: Actions, tmp_path: Path, bare: dict[str, str]
) -> None:
    good = files_of(released, tmp_path / "good")
    at = released.repository
    key = released.folder.parent / "keys" / "release.key"
    one = ("--files", good, "--version", __version__)
    stamped = (
        "--version",
        __version__,
        "--releases",
        "https://releases.example/r",
        "--out",
        tmp_path / "out",
    )
    for script, words in (
        ("release/sign.sh", (*one, "--channel", "stable", "--key", key)),
        ("release/verify.sh", (*one, "--roots", at / "packaging" / "trust" / "roots")),
        ("release/stamps.sh", (*stamped, "--roots", at / "packaging" / "trust" / "roots")),
        ("release/check-install.sh", one),
        ("deploy/propose-network.sh", ("--file", ROOT / "CHANGELOG.md")),
    ):
        said = run(script, *words, at=at, code=3, **bare).stderr
        assert said == (
            f"python.sh: python3 has not the libraries that this needs. In {at}: make .venv/.ready\n"
        ), script


def test_the_libraries_of_the_checkout_are_taken_unless_another_python_is_named(
    released: Actions, tmp_path: Path, bare: dict[str, str]
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "python.sh", checkout / "scripts")
    asked = ("-c", "import sys; print(sys.prefix)")
    assert "make .venv/.ready" in run("python.sh", *asked, at=checkout, code=3, **bare).stderr
    run("python.sh", "--plain", *asked, at=checkout, **bare)
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (checkout / ".venv" / "pyvenv.cfg").write_text((Path(sys.prefix) / "pyvenv.cfg").read_text())
    (checkout / ".venv" / "lib").symlink_to(Path(sys.prefix) / "lib")
    assert run("python.sh", *asked, at=checkout, **bare).stdout == f"{checkout / '.venv'}\n"
    named = {**bare, "PYTHON": sys.executable}
    assert run("python.sh", *asked, at=checkout, **named).stdout == f"{sys.prefix}\n"


def test_no_script_of_a_release_has_a_python_of_its_own() -> None:
    scripts = [*(ROOT / "scripts" / "release").glob("*.sh"), ROOT / "scripts/deploy/propose-network.sh"]
    assert len(scripts) > 10
    assert [path.name for path in scripts if re.search(r"\$\{?PYTHON|python3", path.read_text())] == []


def files_of(released: Actions, folder: Path) -> Path:
    """A copy of the release, to be changed."""
    return shutil.copytree(released.folder / f"made-{__version__}" / "release", folder)


def test_every_byte_of_a_release_counts(released: Actions, tmp_path: Path) -> None:
    good = files_of(released, tmp_path / "good")
    roots = released.repository / "packaging" / "trust" / "roots"
    words = ("--version", __version__, "--roots", roots)
    said = run("release/verify.sh", "--files", good, *words).stdout
    assert "SHA256SUMS.sshsig (ssh-keygen)" in said

    def refused(change: Callable[[Path], object], because: str, *given: str | Path) -> str:
        bad = tmp_path / "bad"
        shutil.rmtree(bad, ignore_errors=True)
        shutil.copytree(good, bad)
        change(bad)
        done = run("release/verify.sh", "--files", bad, *(given or words), code=8)
        assert because in done.stdout + done.stderr
        return done.stderr

    def flip(name: str, place: float = 0.5) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            data = bytearray((folder / name).read_bytes())
            data[int(len(data) * place)] ^= 1
            (folder / name).write_bytes(data)

        return change

    refused(flip("install.sh"), "not what SHA256SUMS says")
    refused(flip("SHA256SUMS"), "SHA256SUMS")
    for name in ("release-keys", "channel", "SHA256SUMS"):
        for form in ("sig", "sshsig", "minisig"):
            # Some bytes of an armour carry nothing for the tool of this form; then it is we who refuse.
            for place in (0.4, 0.5, 0.6):
                assert f"{name}.{form}" in refused(flip(f"{name}.{form}", place), "does not hold")
    refused(lambda folder: (folder / "more").write_text("x"), "more")
    refused(lambda _: None, "channel does not say", "--version", "9.9.9", "--roots", roots)
    stranger = make_keys(tmp_path / "stranger").parent / "trust" / "roots"
    refused(lambda _: None, "release-keys", "--version", __version__, "--roots", stranger)


def test_a_key_that_was_revoked_signs_nothing_any_more(released: Actions, tmp_path: Path) -> None:
    good = files_of(released, tmp_path / "good")
    keys = released.folder.parent / "keys"
    fresh = sign("new-key", tmp_path / "fresh.key")
    stolen = " ".join((keys / "release.key.pub").read_text().split()[:2])
    source = ("--root", keys / "root.key", "--from", keys / "trust", "--out", good)
    sign("revoke", *source, "--revoked", stolen, "--add", fresh)
    words = ("--version", __version__, "--roots", keys / "trust" / "roots")
    said = run("release/verify.sh", "--files", good, *words, code=8).stderr
    assert "channel.sshsig does not hold" in said


def test_what_is_missing_is_not_signed(released: Actions, tmp_path: Path) -> None:
    good = files_of(released, tmp_path / "good")
    (good / "install.sh").write_text("echo changed after it was put together\n")
    words = ("--files", good, "--version", __version__, "--channel", "stable")
    key = released.folder.parent / "keys" / "release.key"
    assert "does not fit the files" in run("release/sign.sh", *words, "--key", key, code=1).stderr
    assert "there is no key" in run("release/sign.sh", *words, code=1, WWS_RELEASE_KEY="").stderr
    built = shutil.copytree(released.folder / f"made-{__version__}" / "built", tmp_path / "built")
    next(built.glob("*.whl")).unlink()
    given = (
        "--version",
        __version__,
        "--platforms",
        f"linux-{platform.machine()}",
        "--out",
        tmp_path / "out",
    )
    assert (
        "there is no wws-" in run("release/assemble.sh", *given, built, code=1, at=released.repository).stderr
    )


def test_a_key_in_the_environment_is_on_no_disk_afterwards(released: Actions, tmp_path: Path) -> None:
    good = files_of(released, tmp_path / "good")
    key = (released.folder.parent / "keys" / "release.key").read_text()
    words = ("--files", good, "--version", __version__, "--channel", "stable", "--or-stop")
    output = tmp_path / "output"
    done = run(
        "release/sign.sh", *words, WWS_RELEASE_KEY=key, TMPDIR=str(tmp_path), GITHUB_OUTPUT=str(output)
    )
    assert output.read_text() == "signed=true\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "output"]
    assert key.splitlines()[1] not in done.stdout + done.stderr


LISTED = f"{'0' * 64}  "


def drop(name: str) -> Callable[[Path], object]:
    return lambda draft: (draft / name).write_text("not of the release")


def listing(name: str) -> Callable[[Path], object]:
    """One line more."""

    def change(draft: Path) -> None:
        sums = draft / "SHA256SUMS"
        lines = [*sums.read_text().splitlines(), f"{LISTED}{name}"]
        sums.write_text("".join(f"{line}\n" for line in sorted(lines, key=lambda line: line[66:])))

    return change


@pytest.mark.parametrize(
    ("change", "because", "code"),
    [
        (drop("-o"), "github.sh: v.* has a file called -o", 1),
        (drop(".profile"), "has a file called .profile", 1),
        (drop("a b"), "has a file called a b", 1),
        (drop("\x1b[2Jx"), "has a file called \\?\\[2Jx", 1),
        (drop("more.whl"), "'more.whl', which SHA256SUMS does not name", 8),
        (drop("channel.exe"), "'channel.exe', which SHA256SUMS does not name", 8),
        (drop("install.sh"), "install.sh is not what SHA256SUMS says", 8),
        (lambda draft: (draft / "install.sh").unlink(), "lacks install.sh", 8),
        (lambda draft: (draft / "SHA256SUMS").unlink(), "lacks SHA256SUMS", 8),
        (listing("../home"), "'../home', which is no file of a release", 8),
        (listing("/etc/passwd"), "'/etc/passwd', which is no file of a release", 8),
        (listing("wws-0.0.1.tar.gz"), "names wws-0.0.1.tar.gz", 8),
    ],
)
def test_a_draft_that_is_not_the_release_is_not_carried_to_the_key(
    released: Actions, tmp_path: Path, change: Callable[[Path], object], because: str, code: int
) -> None:
    """Nothing of it is signed: whoever got at the draft chose every name and every byte."""
    draft = files_of(released, tmp_path / "github" / "drafts" / TAG)
    change(draft)
    path = os.pathsep.join([str(released.programs), os.environ["PATH"]])
    gh = {"GITHUB_STAND_IN": str(tmp_path / "github"), "GH_TOKEN": "a person's", "PATH": path}
    words = ("release/finish.sh", "fetch", TAG, tmp_path / "fetched")
    done = run(*words, at=released.repository, code=code, **gh)
    assert re.search(because, done.stderr), done.stderr
    assert "Sign it" not in done.stdout
    assert not (tmp_path / "fetched").exists(), "nothing is left that could be signed by mistake"


def test_nothing_of_a_draft_is_run(released: Actions, tmp_path: Path) -> None:
    """A Python that is called in a folder finds its modules there first."""
    draft = files_of(released, tmp_path / "github" / "drafts" / TAG)
    for module in ("nacl", "cryptography", "json", "wws"):
        (draft / f"{module}.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\n")
    path = os.pathsep.join([str(released.programs), os.environ["PATH"]])
    gh = {"GITHUB_STAND_IN": str(tmp_path / "github"), "GH_TOKEN": "a person's", "PATH": path}
    here = tmp_path / "here"
    here.mkdir()
    words = ("release/finish.sh", "fetch", TAG, ".")
    assert (
        "which SHA256SUMS does not name"
        in run(*words, at=released.repository, code=8, inside=here, **gh).stderr
    )
    assert not here.exists(), "where one stands, too, nothing is left"
    given = ("--files", draft, "--version", __version__, "--channel", "stable")
    key = released.folder.parent / "keys" / "release.key"
    run("release/sign.sh", *given, "--key", key, code=1, inside=draft)
    run("release/verify.sh", *given[:4], code=8, at=released.repository, inside=draft)
    assert not (tmp_path / "was-run").exists()


def test_an_interrupted_fetch_leaves_nothing(released: Actions, tmp_path: Path) -> None:
    """A shell that is Debian's sh cleans up only when it is told of the signal."""
    files_of(released, tmp_path / "github" / "drafts" / TAG)
    waiting = tmp_path / "waiting"
    programs = tmp_path / "programs"
    programs.mkdir()
    gh = programs / "gh"
    gh.write_text(
        f'#!/bin/sh\ncase "$*" in *download*) touch "{waiting}"; exec sleep 600 ;; esac\n'
        f'exec "{released.programs}/gh" "$@"\n'
    )
    gh.chmod(0o755)
    path = os.pathsep.join([str(programs), str(released.programs), os.environ["PATH"]])
    environment = {"GITHUB_STAND_IN": str(tmp_path / "github"), "GH_TOKEN": "a person's", "PATH": path}
    script = released.repository / "scripts" / "release" / "finish.sh"
    with subprocess.Popen(
        [str(script), "fetch", TAG, str(tmp_path / "fetched")],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not waiting.exists():
            assert process.poll() is None, "it has ended"
            assert time.monotonic() < deadline
        os.killpg(process.pid, signal.SIGTERM)
    assert process.returncode == 143
    assert not (tmp_path / "fetched").exists()


def test_a_draft_is_fetched_into_a_folder_of_its_own(released: Actions, tmp_path: Path) -> None:
    files_of(released, tmp_path / "github" / "drafts" / TAG)
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "mine").touch()
    path = os.pathsep.join([str(released.programs), os.environ["PATH"]])
    gh = {"GITHUB_STAND_IN": str(tmp_path / "github"), "GH_TOKEN": "a person's", "PATH": path}
    words = ("release/finish.sh", "fetch", TAG, tmp_path / "fetched")
    assert "is not empty" in run(*words, at=released.repository, code=2, **gh).stderr
    assert (tmp_path / "fetched" / "mine").exists()


def test_what_is_not_named_is_not_signed(released: Actions, tmp_path: Path) -> None:
    good = files_of(released, tmp_path / "good")
    (good / "more.whl").write_text("not of the release")
    for signature in good.glob("SHA256SUMS.*"):
        signature.unlink()
    key = released.folder.parent / "keys" / "release.key"
    words = ("--files", good, "--version", __version__, "--channel", "stable", "--key", key)
    assert "more.whl" in run("release/sign.sh", *words, code=1).stderr
    assert [path.name for path in good.glob("SHA256SUMS*")] == ["SHA256SUMS"]


def test_a_person_with_an_offline_key_finishes_what_the_workflow_left(
    actions: Actions, tmp_path: Path
) -> None:
    """The draft is fetched, signed elsewhere, verified as it is served, published; a month later renewed."""
    good = release_files(actions)
    shutil.rmtree(actions.github / "served" / "download")
    for signature in [*good.glob("SHA256SUMS.*"), *good.glob("channel*")]:
        signature.unlink()
    actions.tag(TAG)
    path = os.pathsep.join([str(actions.programs), os.environ["PATH"]])
    gh = {"GITHUB_STAND_IN": str(actions.github), "GH_TOKEN": "a person's", "PATH": path}
    (tmp_path / "notes").write_text("notes")

    def at_home(script: str, *words: str | Path, code: int = 0) -> Done:
        return run(script, *words, code=code, at=actions.repository, **gh)

    at_home("release/github.sh", "draft", TAG, good, tmp_path / "notes")
    fetched = tmp_path / "fetched"
    at_home("release/finish.sh", "fetch", TAG, fetched)
    at_home("release/finish.sh", "publish", TAG, fetched, code=8)
    key = actions.folder.parent / "keys" / "release.key"
    run("release/sign.sh", "--files", fetched, "--version", __version__, "--channel", "stable", "--key", key)
    at_home("release/finish.sh", "publish", TAG, fetched)
    served = actions.github / "served" / "download"
    assert (served / TAG / "SHA256SUMS.sshsig").exists()
    assert (served / "channel-stable" / "install.sh").exists()
    assert (
        "never changed" in at_home("release/github.sh", "draft", TAG, good, tmp_path / "notes", code=1).stderr
    )

    channel = served / "channel-stable" / "channel"
    channel.write_bytes(channel.read_bytes() + b"\x1b]0;version 0.0.1\x07\n")
    shown = at_home("release/finish.sh", "renew", "stable", tmp_path / "channel").stdout
    assert "\x1b" not in shown, "nobody has verified it"
    assert "--version VERSION\n" in shown
    assert (
        "is not empty" in at_home("release/finish.sh", "renew", "stable", tmp_path / "channel", code=2).stderr
    )
    anew = ("--out", tmp_path / "channel", "--channel", "stable", "--version", __version__, "--days")
    sign("channel", "--key", key, *anew, "20")
    at_home("release/finish.sh", "move", "stable", tmp_path / "channel")
    assert (served / "channel-stable" / "channel").read_text() == (
        tmp_path / "channel" / "channel"
    ).read_text()

    # Which is what the night warns of: 20 days are less than 21.
    nightly = ("nightly.sh", "published", actions.releases)
    said = run(*nightly, code=1, at=actions.repository, PATH=path)
    assert "channel ends within 21 days" in said.stderr
    sign("channel", "--key", key, *anew, "22")
    at_home("release/finish.sh", "move", "stable", tmp_path / "channel")
    assert "release-keys:" in run(*nightly, at=actions.repository, PATH=path).stdout
