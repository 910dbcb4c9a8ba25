"""A key that the stack makes once and keeps: the Ed25519 seed of a node or of the publisher.

The seed is an output, secret: in every state file it stands encrypted. Nothing ever changes it, so its PeerId
outlives hosts, providers and domains.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pulumi
from typing_extensions import override

from wws.identity.keys import Identity
from wws_infra.dynamic.crud import Crud, DynamicResource

if TYPE_CHECKING:
    from wws_infra.settings import Json


class SeedProvider(Crud):
    """Makes a key. There is nothing to read, change or remove outside the state."""

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        identity = Identity.generate()
        seed = base64.b64encode(identity.seed).decode()
        public = {"peer_id": str(identity.peer_id), "public_key": identity.public_key.hex()}
        return str(identity.peer_id), {**public, "seed": seed}


class Seed(DynamicResource, module="wws", name="Seed"):
    """One key pair."""

    seed: pulumi.Output[str]
    """32 bytes, base64. Secret."""
    peer_id: pulumi.Output[str]
    public_key: pulumi.Output[str]
    """64 hex digits."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["seed"], protect=True)
        props = {"seed": None, "peer_id": None, "public_key": None}
        super().__init__(SeedProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))
