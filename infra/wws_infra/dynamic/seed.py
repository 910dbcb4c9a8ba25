"""A key that the stack makes once, or takes from a file, and keeps: the seed of a node or of the publisher.

The seed is an output, secret: in every state file it stands encrypted. Nothing ever changes it, so its PeerId
outlives hosts, providers and domains.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pulumi
from pulumi.dynamic import DiffResult
from typing_extensions import override

from wws.errors import LocalError
from wws.identity.keys import Identity
from wws.runtime import keyfile
from wws_infra.dynamic.crud import Crud, DynamicResource, ResourceFailed, text

if TYPE_CHECKING:
    from wws_infra.settings import Json


class IdentityDiffers(LocalError):
    """The key file is of another node than the stack has under this name. Nothing was changed."""

    code = "identity_differs"
    exit_code = 7
    hint = "take identity_key_file out of the settings, or give the file of this node"


class SeedProvider(Crud):
    """Makes a key, or takes one that is there. Outside the state there is nothing to change or remove."""

    not_compared: ClassVar[tuple[str, ...]] = ("key_file",)

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        identity = _in_file(props) if props.get("key_file") else Identity.generate()
        seed = base64.b64encode(identity.seed).decode()
        public = {"peer_id": str(identity.peer_id), "public_key": identity.public_key.hex()}
        return str(identity.peer_id), {**public, "seed": seed}

    @override
    def diff(self, _id: str, _olds: dict[str, Json], _news: dict[str, Json]) -> DiffResult:
        """Nothing ever changes. A file that holds another key than the state does is refused, not ignored."""
        file = _news.get("key_file")
        if isinstance(file, str) and file and Path(file).exists():
            given = str(_in_file(_news).peer_id)
            if given != _id:
                error = IdentityDiffers(f"{file} is the key of {given}, not of {_id}.")
                raise ResourceFailed(f"[{error.code}] {error} {error.hint}")
        return super().diff(_id, _olds, _news)


def _in_file(props: dict[str, Json]) -> Identity:
    return keyfile.load(Path(text(props, "key_file")), os.environ)


class Seed(DynamicResource, module="wws", name="Seed"):
    """One key pair."""

    seed: pulumi.Output[str]
    """32 bytes, base64. Secret."""
    peer_id: pulumi.Output[str]
    public_key: pulumi.Output[str]
    """64 hex digits."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions, key_file: Path | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["seed"], protect=True)
        props: dict[str, pulumi.Input[str] | None] = {"seed": None, "peer_id": None, "public_key": None}
        if key_file is not None:
            props["key_file"] = str(key_file)
        super().__init__(SeedProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))
