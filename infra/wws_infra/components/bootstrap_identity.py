"""`BootstrapIdentity`: who a node is. It outlives hosts, so it is protected, and its seed is a secret."""

from __future__ import annotations

from pathlib import Path

import pulumi

from wws_infra.dynamic.promises import Promises
from wws_infra.dynamic.seed import Seed


class BootstrapIdentity(pulumi.ComponentResource):
    """An Ed25519 key that the stack makes or takes from a file once, and what is known of its promises."""

    peer_id: pulumi.Output[str]
    public_key: pulumi.Output[str]
    """64 hex digits."""
    seed: pulumi.Output[str]
    """32 bytes, base64. Secret."""

    def __init__(
        self, name: str, key_file: Path | None = None, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("wws:infra:BootstrapIdentity", name, None, opts)
        key = Seed(name, pulumi.ResourceOptions(parent=self), key_file)
        self._has_a_past = key_file is not None
        self.peer_id, self.public_key, self.seed = key.peer_id, key.public_key, key.seed
        self.register_outputs({"peer_id": self.peer_id, "public_key": self.public_key})

    def witness_lost(self, machine: pulumi.Output[str]) -> pulumi.Output[bool]:
        """Whether it has lost its promises unless the machine still has them. Call it once.

        So it is when it ran on another machine before `machine`, or nobody knows where it ran.
        """
        options = pulumi.ResourceOptions(parent=self)
        return Promises(self._name, self.peer_id, machine, options, has_a_past=self._has_a_past).lost
