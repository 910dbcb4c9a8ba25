"""What is set for a stack: read whole, and refused with the nearest name before anything is made."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws_infra.providers import names, provider_for
from wws_infra.providers.interface import Provider
from wws_infra.providers.local import Local
from wws_infra.settings import MAX_CONFIG, MAX_NODES, SettingsRefused, StackSettings, read_values

LOCAL: dict[str, Any] = {"domain": "example.org", "nodes": [{"name": "boot1"}, {"name": "boot2"}]}


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(SettingsRefused) as refused:
        provider_for(values)
    return str(refused.value)


def test_the_least_is_enough() -> None:
    provider = provider_for(LOCAL)
    assert isinstance(provider, Local)
    settings = provider.settings
    assert [node.name for node in settings.nodes] == ["boot1", "boot2"]
    assert (settings.ttl, settings.lifetime_days, settings.dns.provider) == (300, 30, "none")


def test_every_provider_is_one_module_with_a_provider() -> None:
    assert set(names()) == {"local", "hosts", "hcloud"}


@pytest.mark.parametrize(
    "values, told",
    [
        ({"ttl_seconds": 60}, "There is no setting wws:ttl_seconds; did you mean ttl?"),
        ({"sshAllow": []}, "There is no setting wws:sshAllow; did you mean ssh_allow?"),
        ({"metrics-allow": []}, "did you mean metrics_allow?"),
        ({"zzz": 1}, "There is no setting wws:zzz. Valid here: dns, dns_servers, domain"),
        ({"nodes": [{"name": "boot1", "regoin": "ash"}]}, "wws:nodes.0.regoin; did you mean region?"),
        ({"local": {"foldr": "/srv"}}, "wws:local.foldr; did you mean folder?"),
        ({"hcloud": {}}, "wws:hcloud is for the provider hcloud, and this stack has local."),
        ({"provider": "hclod"}, "There is no provider 'hclod'; did you mean hcloud?"),
        ({"provider": "interface"}, "There is no provider 'interface'"),
        ({"provider": 7}, "There is no provider '7'"),
        ({"ttl": 5}, "wws:ttl: Input should be greater than or equal to 30"),
        ({"lifetime_days": 91}, "wws:lifetime_days"),
        ({"domain": "no_domain"}, "wws:domain"),
        ({"nodes": []}, "wws:nodes"),
        ({"nodes": [{"name": f"boot{n}"} for n in range(MAX_NODES + 1)]}, "wws:nodes"),
        ({"nodes": [{"name": "boot1"}, {"name": "boot1"}]}, "two nodes have one name"),
        ({"nodes": [{"name": "Boot 1"}]}, "wws:nodes.0.name"),
        ({"ssh_allow": ["0.0.0.0/0"]}, "wws:ssh_allow.0: 0.0.0.0/0 is the whole world."),
        ({"metrics_allow": ["::/0"]}, "wws:metrics_allow.0: ::/0 is the whole world."),
        ({"dns": {"provider": "route53"}}, "wws:dns"),
        (
            {"dns": {"provider": "cloudflare", "zone": "example.org", "tokenFile": "t"}},
            "tokenFile; did you mean token_file?",
        ),
        ({"dns": {"provider": "rfc2136", "zone": "example.org"}}, "wws:dns.rfc2136.server"),
        ({"publishers": ["ab" * 32]}, "publishers and signed go together"),
        ({"publishers": ["nokey"]}, "wws:publishers.0"),
        ({"signed": "/srv/list"}, "publishers and signed go together"),
        (
            {"publishers": ["ab" * 32], "signed": "/srv/list", "publisher_key_file": "/srv/key"},
            "publisher_key_file needs none",
        ),
        ({"release": {"version": "1.0", "archive": "/a", "sha256": "ab"}}, "wws:release.sha256"),
        ({"release": {"versoin": "1.0"}}, "wws:release.versoin; did you mean version?"),
    ],
    ids=str,
)
def test_what_is_not_right_is_refused_with_the_nearest_name(values: dict[str, Any], told: str) -> None:
    assert told in refusal({**LOCAL, **values})


def test_a_mistake_does_not_hide_the_next() -> None:
    told = refusal({**LOCAL, "ttl": 5, "lifetime_days": 0})
    assert "wws:ttl" in told
    assert "wws:lifetime_days" in told


@pytest.mark.parametrize(
    "missing, told",
    [
        ({"ssh_allow": []}, "wws:ssh_allow must say from where SSH is allowed"),
        ({"release": None}, "wws:release must say what is installed"),
        ({"nodes": [{"name": "boot1", "region": "ash"}, {"name": "boot2", "region": "ash"}]}, "no two"),
    ],
    ids=str,
)
def test_a_cloud_needs_more(missing: dict[str, Any], told: str) -> None:
    class Cloud(Provider[Any, Any]):
        def host(self, node: Any, firewall: Any, opts: Any) -> Any:
            raise NotImplementedError

    release = {"version": "1.0", "archive": "/srv/release.tar.gz", "sha256": "ab" * 32}
    nodes = [{"name": "boot1", "region": "ash"}, {"name": "boot2", "region": "sin"}]
    values = {
        "provider": "cloud",
        "domain": "example.org",
        "nodes": nodes,
        "ssh_allow": ["192.0.2.0/24"],
        "release": release,
        "section": {},
    }
    types = StackSettings[Cloud.node_type, Cloud.section_type]
    Cloud(types.model_validate(values)).check()
    values |= missing
    with pytest.raises(SettingsRefused, match=told):
        Cloud(types.model_validate(values)).check()


def test_what_pulumi_hands_on_as_text_becomes_what_it_was() -> None:
    config = {
        "wws:nodes": json.dumps(LOCAL["nodes"]),
        "wws:ttl": "60",
        "wws:entries_by_name": "true",
        "wws:domain": "example.org",
        "hcloud:token": "of somebody else",
    }
    assert read_values(config) == {
        "nodes": LOCAL["nodes"],
        "ttl": 60,
        "entries_by_name": True,
        "domain": "example.org",
    }


def test_a_value_that_is_too_long_is_refused() -> None:
    read_values({"wws:domain": "a" * MAX_CONFIG})
    with pytest.raises(SettingsRefused):
        read_values({"wws:domain": "a" * (MAX_CONFIG + 1)})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from([*StackSettings.model_fields, "local", "hcloud"]) | st.text(max_size=12)


@given(st.dictionaries(keys, json_values, max_size=6))
def test_whatever_is_set_gives_settings_or_a_refusal(values: dict[str, Any]) -> None:
    with suppress(SettingsRefused):
        assert provider_for({**LOCAL, **values}).settings.nodes
