"""From what `records.toml` says of the provider to the provider. Adding one is a module, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wws_dns.desired import DesiredMalformed
from wws_dns.provider import Provider
from wws_dns.records_file import ProviderSettings


def open_provider(settings: ProviderSettings, folder: Path, environ: Mapping[str, str]) -> Provider:
    """The provider that is meant. Paths are relative to `folder`; secrets come from files or `environ`.

    Raises `DesiredMalformed`, and what reading its secret raises.
    """
    options = settings.options

    def path(name: str) -> Path | None:
        return (folder / Path(options[name]).expanduser()) if name in options else None

    # Each SDK is imported only where it is used: one takes as long to import as everything else here.
    if settings.kind == "rfc2136":
        from wws_dns.rfc2136 import Rfc2136Provider
        from wws_dns.tsig import read_tsig

        host, port = _server(options.get("server", ""))
        return Rfc2136Provider(settings.zone, host, port, key=read_tsig(environ, path("tsig_file")))
    if settings.kind == "cloudflare":
        from wws_dns.cloudflare import CloudflareProvider
        from wws_dns.cloudflare_token import read_token

        return CloudflareProvider(settings.zone, token=read_token(environ, path("token_file")))
    from wws_dns.zone_file import ZoneFileProvider

    file = path("path")
    if file is None:
        raise DesiredMalformed('[provider] of kind zone_file lacks its path: path = "zone.json"')
    return ZoneFileProvider(settings.zone, file, pid_file=path("pid_file"))


def _server(text: str) -> tuple[str, int]:
    """Host and port of `HOST`, `HOST:PORT`, `[IPv6]:PORT` or a bare IPv6 address."""
    if not text:
        raise DesiredMalformed('[provider] of kind rfc2136 lacks its server: server = "192.0.2.53"')
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = "53" if bracket and not rest else rest.removeprefix(":") if rest.startswith(":") else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    number = int(port) if port.isdecimal() and port.isascii() and len(port) <= 5 else 0
    if not host or not 1 <= number <= 65_535:
        raise DesiredMalformed(f"[provider]: server is HOST or HOST:PORT, not {text[:80]!r}.")
    return host, number
