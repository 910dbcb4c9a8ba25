"""ci.yml and nightly.yml, run: that each job gets to its work. What comes of that is what other tests are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.full_scale import only_in_full
from tests.workflows.actions import Actions
from tests.workflows.conftest import release_files, sign
from wws import __version__

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    only_in_full,
]
PUSH = {"ref": "refs/heads/main"}


def noting(actions: Actions, path: str) -> None:
    """Let a file of the repository note that it was called, and how."""
    target = actions.repository / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'#!/bin/sh\necho "{target.name} $* ${{PYTEST:-}}" >>"$GITHUB_STAND_IN/said"\n')
    target.chmod(0o755)


@pytest.fixture
def desk(actions: Actions) -> Actions:
    """Whose `make` and `.ci/run` only say that they were called; `sudo` does what it is given."""
    with (actions.repository / "Makefile").open("a") as makefile:
        makefile.write('check demo:\n\t@echo "make $@" >>"$$GITHUB_STAND_IN/said"\n')
    sudo = actions.programs / "sudo"
    sudo.write_text('#!/bin/sh\n[ "$1" != --set-home ] || shift\nexec env "$@"\n')
    noting(actions, ".ci/run")
    return actions


def test_ci_checks_every_python_and_runs_everything_once(desk: Actions) -> None:
    desk.commit()
    ran = desk.run("ci.yml", "push", PUSH)
    assert ran.ok, str(ran)
    assert len([line for line in desk.said if line.startswith("run")]) == 1
    assert desk.said.count("make check") == desk.said.count("make demo") == 7


def test_every_night_what_is_long_is_run(desk: Actions) -> None:
    release_files(desk)
    desk.variables["WWS_RELEASES_WATCHED"] = "true"
    noting(desk, "scripts/nightly/soak.py")
    python = desk.folder / "venv" / "bin" / "python"
    python.write_text(
        '#!/bin/sh\ncase "$*" in *tests.fuzz*) echo "fuzz" >>"$GITHUB_STAND_IN/said" ;; '
        f'*) exec "{python}3" "$@" ;; esac\n'
    )
    desk.commit()
    ran = desk.run("nightly.yml", "schedule", {})
    assert ran.ok, str(ran)
    said = "\n".join(desk.said)
    assert "-k 'interop'" in said
    assert "-k 'hosts or drills" in said
    assert "fuzz" in said
    assert "soak.py --minutes 60" in said
    assert "release-keys:" in ran.output, "what is published was looked at"


def test_a_channel_that_ends_soon_makes_the_night_red(desk: Actions, tmp_path: Path) -> None:
    release_files(desk)
    served = desk.github / "served" / "download" / "channel-stable"
    key = ("--key", tmp_path / "keys" / "release.key", "--version", __version__)
    sign("channel", *key, "--out", served, "--channel", "stable", "--days", "20")
    desk.variables["WWS_RELEASES_WATCHED"] = "true"
    desk.commit()
    ran = desk.run("nightly.yml", "schedule", {}, jobs=["published"])
    assert not ran.ok
    assert "channel ends within 21 days" in ran.output
