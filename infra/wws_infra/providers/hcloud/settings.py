"""What is set under `wws:hcloud`, and what a node there has beside the rest."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from wws_infra.settings import NodeSettings, Section
from wws_infra.ssh_keys import parse_public_key

Location = Literal["ash", "fsn1", "hel1", "hil", "nbg1", "sin"]

SMALLEST: dict[str, str] = {
    "ash": "cpx11",
    "hil": "cpx11",
    "fsn1": "cx23",
    "hel1": "cx23",
    "nbg1": "cx23",
    "sin": "cpx12",
}
"""The smallest server type with 2 GB or more that is sold in a location (`hcloud server-type list`)."""

_KEY_NAME = re.compile(r"[^\s/]{1,64}\Z")


def _key(text: str) -> str:
    """A public key without its comment, or the name of a key."""
    return text if _KEY_NAME.match(text) else parse_public_key(text)


OperatorKey = Annotated[str, AfterValidator(_key)]


class HcloudNode(NodeSettings):
    """A node on a server of its own."""

    region: Location
    """Hetzner's location: `ash`, `nbg1`, `fsn1`, `hel1`, `hil`, `sin`."""
    server_type: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,32}$")
    """Another one than the section says. Changed in place: the server is off for a minute."""
    image: str | None = Field(default=None, pattern=r"^[a-z0-9._-]{1,64}$")
    """Another one than the section says. Servers that are there keep theirs."""
    machine: int = Field(default=1, ge=1)
    """Add one, and the node gets a new server: same identity, address and host key, an empty disk."""
    protected: bool | None = None
    """Another than the section says, for the server alone: its addresses and host key stay as they are."""


class HcloudSection(Section):
    """The servers of a stack at Hetzner Cloud. The token comes from `HCLOUD_TOKEN` or `hcloud:token`."""

    operator_keys: tuple[OperatorKey, ...] = Field(min_length=1, max_length=16)
    """Who gets in as root: public SSH keys, or names of keys that the project has already."""
    server_type: str | None = Field(default=None, pattern=r"^[a-z0-9-]{1,32}$")
    """For all nodes; without it the smallest that is sold in the location."""
    image: Literal["debian-12", "debian-13", "ubuntu-24.04"] = "debian-12"
    ipv6: bool = True
    """Each node gets an IPv6 address, too."""
    protected: bool = True
    """Servers, addresses and host keys cannot be deleted, neither by the stack nor in Hetzner's console. Take
    it off and run `pulumi up` before a server is replaced or the stack destroyed."""
    configure: bool = True
    """False: servers are made and left as they are, to look at them first or to run the playbook by hand."""
