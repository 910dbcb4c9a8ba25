"""`Zone`: the A and AAAA records of the hosts, `<name>.<domain>`. TXT records are `DiscoveryRecords`'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from wws_infra.dynamic.addresses import Addresses
from wws_infra.providers.interface import ZoneAccess


@dataclass(frozen=True, slots=True)
class ZoneArgs:
    """What `Zone` is made from."""

    domain: str
    access: ZoneAccess
    """How the zone is written."""
    ttl: int
    hosts: Mapping[str, Sequence[pulumi.Output[str]]] = field(default_factory=dict)
    """Name of a node → its IP addresses."""


class Zone(pulumi.ComponentResource):
    """Names for the hosts."""

    def __init__(self, args: ZoneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("wws:infra:Zone", args.domain, None, opts)
        self.records = [
            Addresses(
                name,
                {
                    "host": f"{name}.{args.domain}",
                    "addresses": pulumi.Output.all(*addresses),
                    "ttl": args.ttl,
                    "dns": args.access.provider,
                    "options": args.access.options,
                },
                pulumi.ResourceOptions(parent=self, depends_on=list(args.access.resources)),
            )
            for name, addresses in args.hosts.items()
        ]
        self.register_outputs({"domain": args.domain})
