"""Every setting of the stack and every variable of the roles stands on the page that lists them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from wws_infra.providers.hcloud.settings import HcloudNode, HcloudSection
from wws_infra.providers.hosts import HostsNode, HostsSection
from wws_infra.providers.local import LocalNodeSettings, LocalSection
from wws_infra.settings import CloudflareDns, ReleaseSettings, Rfc2136Dns, Section, StackSettings, ZoneFileDns

ROOT = Path(__file__).parents[2]
STACK = (StackSettings, ReleaseSettings, CloudflareDns, Rfc2136Dns, ZoneFileDns)
PROVIDERS = (LocalNodeSettings, LocalSection, HostsNode, HostsSection, HcloudNode, HcloudSection)
SPECS = sorted((ROOT / "ansible" / "roles").glob("*/meta/argument_specs.yml"))


def marked(page: str) -> set[str]:
    """The words that stand as code on a page."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", (ROOT / page).read_text()))))


@pytest.mark.parametrize("model", [*STACK, *PROVIDERS], ids=lambda model: model.__name__)
def test_every_setting_of_a_stack_is_listed(model: type[Section]) -> None:
    assert set(model.model_fields) - {"section"} <= marked("infra/README.md")


def variables(spec: Path) -> set[str]:
    entries = yaml.safe_load(spec.read_text())["argument_specs"].values()
    return {name for entry in entries for name in entry.get("options") or {}}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.parts[-3])
def test_every_variable_of_a_role_is_listed(spec: Path) -> None:
    found = variables(spec)
    assert found
    assert found <= marked("ansible/README.md")


def test_no_variable_is_listed_that_no_role_has() -> None:
    listed = {word for word in marked("ansible/README.md") if word.startswith("wws_")}
    assert listed <= {name for spec in SPECS for name in variables(spec)}


def test_every_playbook_is_listed() -> None:
    there = {path.name for path in (ROOT / "ansible").glob("*.yml")}
    assert there == set(
        re.findall(r"^\| `(\w+\.yml)`", (ROOT / "ansible/README.md").read_text(), re.MULTILINE)
    )
