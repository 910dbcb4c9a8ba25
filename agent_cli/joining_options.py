"""The options that start a node: `wws join` and `wws service install` take the same ones."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str | None, typer.Option(metavar="N", help="Name to claim; also chooses key file and node.")]
Network = Annotated[
    str | None,
    typer.Option(metavar="NET", help="A saved network, file.json, domain#key[,key...], a domain, or ad-hoc."),
]
Bootstrap = Annotated[
    list[str] | None, typer.Option(metavar="ADDR", help="Entry point, with /p2p/ (repeats).")
]
IdentityPath = Annotated[str | None, typer.Option(metavar="P", help="Key file.")]
Listen = Annotated[list[str] | None, typer.Option(metavar="ADDR", help="Multiaddr to listen on (repeats).")]
Announce = Annotated[list[str] | None, typer.Option(metavar="ADDR", help="Multiaddr to announce (repeats).")]
DnsServer = Annotated[
    list[str] | None, typer.Option(metavar="IP[:PORT]", help="DNS server to ask (repeats).")
]
Rpc = Annotated[str | None, typer.Option(metavar="IP:PORT", help="RPC on TCP; empty: off.")]
Http = Annotated[str | None, typer.Option(metavar="IP:PORT", help="Status page; empty: off.")]
Swarm = Annotated[str | None, typer.Option(metavar="ID", help="Swarm of the name (public).")]
AllowUnsigned = Annotated[
    bool, typer.Option("--allow-unsigned", help="Believe unsigned DNS: whoever answers decides.")
]
RelayOnly = Annotated[bool, typer.Option("--relay-only", help="Announce relayed addresses only.")]
Timeout = Annotated[float, typer.Option(metavar="S", min=0, help="Seconds to wait for the join.")]
