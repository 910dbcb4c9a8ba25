"""`DiscoveryRecords`: the signed list of nodes and the hints, in DNS. Nobody else writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from wws_infra.dynamic.discovery import Discovery
from wws_infra.providers.interface import ZoneAccess


@dataclass(frozen=True, slots=True)
class DiscoveryRecordsArgs:
    """What `DiscoveryRecords` is made from."""

    domain: str
    entries: Sequence[pulumi.Output[str]]
    """`<PeerId>@<host>:<port>` of each node."""
    access: ZoneAccess
    """How the zone is written."""
    publishers: pulumi.Output[list[str]]
    """Public keys, 64 hex digits each."""
    signer: Mapping[str, pulumi.Input[str]]
    """`Publisher.signer`."""
    ttl: int
    lifetime_days: int
    signed: str = ""
    """A list that was signed elsewhere."""
    force_unsafe: bool = False
    local_homes: Sequence[pulumi.Input[str]] = ()
    """Homes of nodes on this machine: they look again at once."""


class DiscoveryRecords(pulumi.ComponentResource):
    """Published when every node runs; refused when unsafe, before anything changes."""

    seq: pulumi.Output[int]
    expires_at: pulumi.Output[int]

    def __init__(
        self,
        args: DiscoveryRecordsArgs,
        nodes: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("wws:infra:DiscoveryRecords", args.domain, None, opts)
        records = Discovery(
            args.domain,
            {
                "domain": args.domain,
                "entries": pulumi.Output.all(*args.entries),
                "publishers": args.publishers,
                "ttl": args.ttl,
                "lifetime_days": args.lifetime_days,
                "dns": args.access.provider,
                "options": args.access.options,
                "signed": args.signed,
                "force_unsafe": args.force_unsafe,
                "local_homes": list(args.local_homes),
                **args.signer,
            },
            pulumi.ResourceOptions(parent=self, depends_on=[*args.access.resources, *nodes]),
        )
        self.seq, self.expires_at = records.seq, records.expires_at
        self.register_outputs({"seq": self.seq, "expires_at": self.expires_at})
