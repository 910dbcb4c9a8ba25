"""Settings for machines that exist: addresses, host keys, and whom SSH lets in."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.infra.settings_hcloud import ALICE
from wws.errors import LocalError
from wws_infra.providers import provider_for
from wws_infra.settings import NodeSettings
from wws_infra.ssh_keys import fingerprint, parse_public_key


def key(number: int) -> str:
    """A public key of the right form."""
    fields = (b"ssh-ed25519", bytes([number]) * 32)
    blob = b"".join(len(field).to_bytes(4) + field for field in fields)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()}"


def settings(**changed: Any) -> dict[str, Any]:
    return {
        "provider": "hosts",
        "domain": "example.org",
        "nodes": [
            {"name": "boot1", "address": "192.0.2.10", "host_key": key(1)},
            {"name": "boot2", "address": "198.51.100.10", "host_key": f"{key(2)} root@boot2"},
            {"name": "boot3", "address": "2001:db8:3::10", "host_key": key(3), "ssh_port": 2222},
        ],
        "ssh_allow": ["203.0.113.7/32"],
        "release": {"version": "1.0.0", "archive": "wws-1.0.0-linux-x86_64.tar.gz", "sha256": "0" * 64},
    } | changed


def nodes(**changed: Any) -> dict[str, Any]:
    """The settings with another second node."""
    first, second, third = settings()["nodes"]
    return settings(nodes=[first, second | changed, third])


def test_a_machine_is_told_by_its_host_key() -> None:
    provider = provider_for(settings())
    assert [getattr(node, "host_key", None) for node in provider.settings.nodes] == [key(1), key(2), key(3)]
    told = [host_of(provider, node) for node in provider.settings.nodes]
    assert len(set(told)) == 3
    again = provider_for(nodes(host_key=key(4)))
    assert [host_of(again, node) for node in again.settings.nodes][0::2] == told[0::2]
    assert host_of(again, again.settings.nodes[1]) != told[1], "a machine with another key is another machine"


def host_of(provider: Any, node: NodeSettings) -> str:
    return fingerprint(getattr(node, "host_key"))  # noqa: B009 - the type is that of the provider


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no host key": (nodes(host_key=""), "nodes.1.host_key"),
    "a private key": (nodes(host_key="-----BEGIN OPENSSH PRIVATE KEY-----"), "private key"),
    "a key that is cut off": (nodes(host_key=key(2)[:-8]), "cut off"),
    "a key of another kind than it says": (nodes(host_key=key(2).replace("ed25519", "rsa", 1)), "damaged"),
    "a name for an address": (nodes(address="boot2.example.org"), "nodes.1.address"),
    "one address for two": (nodes(address="192.0.2.10"), "the same address"),
    "one address in two spellings": (
        settings(
            nodes=[
                {"name": "boot1", "address": "2001:db8::1", "host_key": key(1)},
                {"name": "boot2", "address": "2001:DB8:0::1", "host_key": key(2)},
            ]
        ),
        "the same address",
    ),
    "one host key for two": (nodes(host_key=key(1)), "the same host_key"),
    "a renamed setting": (nodes(hostkey=key(2)), "did you mean host_key"),
    "options for a user": (nodes(ssh_user="-oProxyCommand=sh"), "nodes.1.ssh_user"),
    "options for an address": (nodes(ssh_address="-oProxyCommand=sh"), "nodes.1.ssh_address"),
    "SSH from the world": (settings(ssh_allow=["0.0.0.0/1", "128.0.0.0/1"]), "ssh_allow"),
    "SSH from nowhere": (settings(ssh_allow=[]), "ssh_allow"),
    "no release": (settings(release=None), "release"),
    "settings of another provider": (settings(hcloud={}), "hcloud"),
}


@pytest.mark.parametrize("given_settings, said", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_right_is_refused(given_settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LocalError, match=said):
        provider_for(given_settings)


def test_a_fingerprint_is_that_of_ssh_keygen() -> None:
    # ssh-keygen -lf, OpenSSH 9.2
    assert fingerprint(ALICE) == "SHA256:WeXpogacdCqvmaxuNZFUpT1Te6ZU/j7aPAocB0T2i8o"


@given(
    st.one_of(
        st.text(max_size=200),
        st.binary(max_size=90).map(lambda raw: f"ssh-ed25519 {base64.b64encode(raw).decode()}"),
    )
)
def test_whatever_is_given_for_a_key_is_one_or_is_refused(text: str) -> None:
    try:
        parsed = parse_public_key(text)
    except ValueError:
        return
    assert parse_public_key(parsed) == parsed
    assert fingerprint(parsed).startswith("SHA256:")
