"""Settings of a stack at Hetzner, as the documentation has them."""

from __future__ import annotations

from typing import Any

ALICE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINW/Sj/M5xewOIvMJ0nrwUitmWmyP0XuG2Bf1Yd4V2rE"
BOB = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOzBtYcn8/ErMZSIGp7LneCyjOeyByMNjpMP4bznXiVs"
"""Their keys for SSH: those of the seeds SHA-256("alice") and SHA-256("bob")."""


def settings_hcloud(**changed: Any) -> dict[str, Any]:
    """Three nodes in three parts of the world; `changed` takes the place of what is here."""
    return {
        "provider": "hcloud",
        "domain": "example.org",
        "nodes": [
            {"name": "boot1", "region": "ash"},
            {"name": "boot2", "region": "nbg1"},
            {"name": "boot3", "region": "sin"},
        ],
        "ssh_allow": ["203.0.113.7/32", "2001:db8:7::/64"],
        "metrics_allow": ["198.51.100.0/28"],
        "dns": {"provider": "cloudflare", "zone": "example.org"},
        "release": {"version": "1.0.0", "archive": "wws-1.0.0-linux-x86_64.tar.gz", "sha256": "0" * 64},
        "hcloud": {"operator_keys": [f"{ALICE} alice@example.org"]},
    } | changed
