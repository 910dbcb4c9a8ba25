"""The settings that the role writes for a host: what they mean to the node, with any release."""

import json
from pathlib import Path

import jinja2
import pytest

from wws.config import load_config
from wws.discovery.network import Network
from wws.identity.keys import Identity
from wws.runtime.homes import Home
from wws.runtime.network_choice import choose_network
from wws.runtime.state_files import NetworkFiles

REPOSITORY = Path(__file__).parents[3]
TEMPLATE = REPOSITORY / "ansible" / "roles" / "bootstrap_node" / "templates" / "config.toml.j2"
PUBLISHER = Identity.from_label("publisher")
OF_RELEASE = Network("public", "public.example.org", (PUBLISHER.public_key,))  # type: ignore[arg-type]
NET = f"lab.example.org#{PUBLISHER.public_key.hex()}"


def settings(**variables: object) -> str:
    environment = jinja2.Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"to_json": json.dumps, "combine": lambda one, other: {**one, **other}}
    lists = ("wws_dns_servers", "wws_listen", "wws_announce", "wws_metrics_allow")
    tables = ("wws_limits", "wws_deny")
    given = {"wws_network": "", "wws_network_file": "", "bootstrap_node_metrics_port": 9371, **variables}
    return environment.from_string(TEMPLATE.read_text()).render(
        **{**{name: [] for name in lists}, **{name: {} for name in tables}, **given}
    )


@pytest.mark.parametrize("default", [None, OF_RELEASE], ids=["no network", "a network of the release"])
@pytest.mark.parametrize("network, name", [("", "ad-hoc"), (NET, "lab.example.org")])
def test_a_host_is_in_the_network_that_it_was_given(
    network: str, name: str, default: Network | None, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(settings(wws_network=network))
    (tmp_path / "deny.txt").touch()
    config = load_config({}, {}, file=file, file_required=True)
    assert config.warnings == ()
    choice = choose_network(None, config, NetworkFiles(Home(tmp_path)), allow_unsigned=False, default=default)
    assert choice.network.name == name


def test_a_host_with_a_network_file_is_told_by_its_command_line() -> None:
    assert 'name = "ad-hoc"' not in settings(wws_network_file="{}")
    unit = TEMPLATE.with_name("wws-bootstrap.service.j2").read_text()
    assert "--network" in unit
