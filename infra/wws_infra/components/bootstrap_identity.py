"""`BootstrapIdentity`: who a node is. It outlives hosts, so it is protected, and its seed is a secret."""

from __future__ import annotations

import pulumi

from wws_infra.dynamic.promises import Promises
from wws_infra.dynamic.seed import Seed


class BootstrapIdentity(pulumi.ComponentResource):
    """An Ed25519 key that the stack makes once, and what is known about its promises as a witness."""

    peer_id: pulumi.Output[str]
    public_key: pulumi.Output[str]
    """64 hex digits."""
    seed: pulumi.Output[str]
    """32 bytes, base64. Secret."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wws:infra:BootstrapIdentity", name, None, opts)
        key = Seed(name, pulumi.ResourceOptions(parent=self))
        self.peer_id, self.public_key, self.seed = key.peer_id, key.public_key, key.seed
        self.register_outputs({"peer_id": self.peer_id, "public_key": self.public_key})

    def witness_lost(self, machine: pulumi.Output[str]) -> pulumi.Output[bool]:
        """Whether it has lost its promises: it ran on another machine before `machine`. Call it once."""
        return Promises(self._name, self.peer_id, machine, pulumi.ResourceOptions(parent=self)).lost
