"""An SSH host key that is made before its host, so that it is known before the first connection.

A server that makes its own key at its first boot can only be trusted on first use, and the first use is when
the node's identity is carried to it. So the stack makes the key, keeps the private half encrypted in its
state, and hands it to the server at creation (cloud-init). It outlives the server: the next one has it, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pulumi
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typing_extensions import override

from wws_infra.dynamic.crud import Crud, DynamicResource
from wws_infra.ssh_keys import fingerprint

if TYPE_CHECKING:
    from wws_infra.settings import Json


class SshHostKeyProvider(Crud):
    """Makes a key. There is nothing to read, change or remove outside the state."""

    @override
    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        return fingerprint(public), {"private_key": private, "public_key": public}


class SshHostKey(DynamicResource, module="wws", name="SshHostKey"):
    """An Ed25519 host key."""

    private_key: pulumi.Output[str]
    """In the form of OpenSSH, as it lies in /etc/ssh. Secret."""
    public_key: pulumi.Output[str]
    """`ssh-ed25519 AAAA…`, without a comment."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["private_key"])
        props = {"private_key": None, "public_key": None}
        super().__init__(SshHostKeyProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))
