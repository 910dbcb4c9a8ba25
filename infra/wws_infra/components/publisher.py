"""`Publisher`: whose signature makes the network's list. Its public key is what people type after `#`."""

from __future__ import annotations

import os

import pulumi

from wws.discovery.publishers import parse_publisher_key
from wws.runtime import keyfile
from wws_infra.dynamic.seed import Seed
from wws_infra.settings import NodeSettings, Section, StackSettings


class Publisher(pulumi.ComponentResource):
    """The publisher's keys: made by the stack, in a file of the operator's, or kept elsewhere."""

    public_keys: pulumi.Output[list[str]]
    """64 hex digits each."""
    signer: dict[str, pulumi.Input[str]]
    """Inputs of a resource that signs: `signer_seed` (secret) or `signer_file`; none for keys elsewhere."""

    def __init__(
        self, settings: StackSettings[NodeSettings, Section], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("wws:infra:Publisher", "publisher", None, opts)
        if settings.publishers:
            keys = [parse_publisher_key(key).hex() for key in settings.publishers]
            self.public_keys, self.signer = pulumi.Output.from_input(keys), {}
        elif settings.publisher_key_file is not None:
            identity = keyfile.load(settings.publisher_key_file, os.environ)
            self.public_keys = pulumi.Output.from_input([identity.public_key.hex()])
            self.signer = {"signer_file": str(settings.publisher_key_file)}
        else:
            key = Seed("publisher", pulumi.ResourceOptions(parent=self))
            self.public_keys = key.public_key.apply(lambda public: [public])
            self.signer = {"signer_seed": key.seed}
        self.register_outputs({"public_keys": self.public_keys})
