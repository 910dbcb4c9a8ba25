"""release.yml, run: from a tag to what people download, with all that stops it on the way."""

from __future__ import annotations

import pytest

from tests.full_scale import only_in_full
from tests.workflows.actions import Actions, Ran
from wws import __version__

TAG = f"v{__version__}"
PUSH = {"ref": f"refs/tags/{TAG}"}
MATRIX = ("platform:linux-x86_64", "runner:ubuntu-24.04")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def pushed(actions: Actions) -> Ran:
    actions.commit()
    actions.tag(TAG)
    return actions.run("release.yml", "push", PUSH, matrix=MATRIX)


def test_a_tag_becomes_a_release_that_anybody_can_verify_and_install(actions: Actions) -> None:
    actions.variables |= {"WWS_PYPI": "true", "WWS_CONTAINER": "true", "WWS_STACK": "prod"}
    ran = pushed(actions)
    assert ran.ok, str(ran)
    served = actions.github / "served" / "download"
    names = {path.name for path in (served / TAG).iterdir()}
    assert {"SHA256SUMS.sshsig", "release-keys.sig", "channel.minisig", "install.sh", "release.json"} <= names
    assert not (actions.github / "drafts" / TAG).exists()
    assert f"version {__version__}" in (served / "channel-stable" / "channel").read_text()
    said = actions.said
    order = [
        f"release create {TAG}",
        f"release edit {TAG} --draft=false",
        "workflow run deploy.yml",
        "uv publish",
    ]
    places = [next(place for place, line in enumerate(said) if line.startswith(words)) for words in order]
    assert places == sorted(places)
    assert said.count("attest") == 3, "provenance, SBOM, image"
    assert any(line.startswith("skopeo copy") and line.endswith(":latest") for line in said)
    secret = actions.secrets["WWS_RELEASE_KEY"].splitlines()[1]
    assert secret not in ran.output
    assert not any(secret in line for line in said)


@only_in_full
def test_without_a_key_it_stays_a_draft_and_says_what_to_do(actions: Actions) -> None:
    actions.secrets.clear()
    ran = pushed(actions)
    assert ran.ok, str(ran)
    assert "finish.sh" in ran.output
    assert (actions.github / "drafts" / TAG / "SHA256SUMS").exists()
    assert not (actions.github / "served" / "download" / TAG).exists()
    assert "publish" not in ran.jobs
