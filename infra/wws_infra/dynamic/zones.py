"""The DNS provider of `wws_dns` that a resource writes through, from what its inputs say.

Credentials are never inputs: they lie in files of the operator's machine, or in its environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from wws.errors import LocalError
from wws_dns.provider import Provider
from wws_dns.zone_file import ZoneFileProvider

if TYPE_CHECKING:
    from wws_infra.settings import Json

DNS_PORT = 53

writing = threading.Lock()
"""Held while a zone is changed: the engine makes several resources at once, and a zone may be one file."""


class DnsSettingsRefused(LocalError):
    """`wws:dns` does not say how the zone is written."""

    code = "stack_settings"
    exit_code = 2


def open_zone(props: Mapping[str, Json]) -> Provider:
    """The zone that `dns` (a provider's name) and `options` of the inputs name.

    Raises `DnsSettingsRefused`, and what reading credentials raises.
    """
    # Imported where they are needed: each brings a library that takes longer to load than the whole stack.
    name, given = props["dns"], props["options"]
    options = {key: str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    zone = options.get("zone", "")
    match name:
        case "zone_file":
            pid_file = options.get("pid_file")
            return ZoneFileProvider(
                zone, Path(options["path"]), pid_file=Path(pid_file) if pid_file else None
            )
        case "rfc2136":
            from wws.config.kinds import parse_host_port
            from wws_dns.rfc2136 import Rfc2136Provider
            from wws_dns.tsig import read_tsig

            try:
                host, port = parse_host_port(options["server"], DNS_PORT)
            except ValueError as error:
                raise DnsSettingsRefused(f"wws:dns.server: {error}.") from None
            return Rfc2136Provider(zone, host, port, key=read_tsig(os.environ, Path(options["tsig_file"])))
        case "cloudflare":
            from wws_dns.cloudflare import CloudflareProvider
            from wws_dns.cloudflare_token import read_token

            file = options.get("token_file")
            return CloudflareProvider(zone, token=read_token(os.environ, Path(file) if file else None))
        case _:
            raise DnsSettingsRefused(f"There is no DNS provider {name!r}.")
