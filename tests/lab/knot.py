"""A real authoritative DNS server (Knot, from Debian) and a real resolver with DNS over HTTPS (unbound).

    with Knot(tmp_path, "boot.test", {"_openswarm._tcp.boot.test": {"TXT": ["v=1 peer=…"]}}) as knot:
        ...  # knot.address

Both run in the foreground as children of the test, on loopback, on free ports, with all their files below
the folder given; leaving the block ends them.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import subprocess
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType

import dns.query
import dns.rdatatype
import dns.tsigkeyring

from tests.prerequisites import find_tool

START_WITHIN = 20.0


def free_port() -> int:
    """A port that is free for both UDP and TCP on 127.0.0.1 just now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind(("127.0.0.1", 0))
            port: int = tcp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


class _Daemon:
    """A child process that is up when its TCP port answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _run(self, *command: str) -> None:
        log = self.folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + START_WITHIN
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.02)

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def zone_text(origin: str, records: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """A zone file. TXT values of any length are cut into strings of 255."""
    lines = [
        f"$ORIGIN {origin}.",
        "$TTL 60",
        "@ SOA ns1 hostmaster 1 3600 600 86400 60",
        "@ NS ns1",
        "ns1 A 127.0.0.1",
    ]
    for name, kinds in records.items():
        for kind, values in kinds.items():
            for value in values:
                if kind == "TXT":
                    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
                    value = " ".join(f'"{quoted[n : n + 250]}"' for n in range(0, max(len(quoted), 1), 250))
                lines.append(f"{name}. {kind} {value}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Tsig:
    """A key that may update TXT, A and AAAA records in the zone, and transfer it."""

    name: str = "deploy"
    secret: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    names: tuple[str, ...] = ()
    """The names whose records it may update, relative to the zone; all by default."""

    @property
    def line(self) -> str:
        """As `keymgr -t` prints it and `dig -y` takes it."""
        return f"hmac-sha256:{self.name}:{self.secret}"

    def configuration(self) -> str:
        """The sections of knot.conf that let the key in."""
        owners = ""
        if self.names:
            owners = (
                "    update-owner: name\n    update-owner-match: sub-or-equal\n"
                f"    update-owner-name: [ {', '.join(self.names)} ]\n"
            )
        return (
            f"key:\n  - id: {self.name}\n    algorithm: hmac-sha256\n    secret: {self.secret}\n"
            f"acl:\n  - id: updating\n    key: {self.name}\n    action: update\n"
            f"    update-type: [ TXT, A, AAAA ]\n{owners}"
            f"  - id: transferring\n    key: {self.name}\n    action: transfer\n"
        )


class Knot(_Daemon):
    """Serves one zone, unsigned; with a `tsig` key it takes updates and gives the zone away (AXFR)."""

    def __init__(
        self,
        folder: Path,
        zone: str,
        records: Mapping[str, Mapping[str, Sequence[str]]] = MappingProxyType({}),
        *,
        tsig: Tsig | None = None,
    ) -> None:
        super().__init__(folder)
        self.zone = zone
        self.tsig = tsig
        self._records = records

    def control(self, *command: str) -> str:
        """Run `knotc` and wait for the event it triggers: `zone-freeze`, `zone-thaw`, `zone-begin`, …"""
        done = subprocess.run(
            [find_tool("knotc") or "knotc", "-b", "-s", str(self.folder / "run" / "knot.sock"), *command],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        return done.stdout

    def transfer(self) -> dict[tuple[str, str], list[str]]:
        """The whole zone by AXFR, with the key: (name, type) to values, TXT joined."""
        keyring = dns.tsigkeyring.from_text({self.tsig.name: self.tsig.secret}) if self.tsig else None
        found: dict[tuple[str, str], list[str]] = {}
        for message in dns.query.xfr(
            "127.0.0.1", self.zone, port=self.port, keyring=keyring, relativize=False, lifetime=20
        ):
            for rrset in message.answer:
                at = (rrset.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(rrset.rdtype))
                for rdata in rrset:
                    joined = b"".join(getattr(rdata, "strings", ())).decode()
                    found.setdefault(at, []).append(joined if at[1] == "TXT" else rdata.to_text())
        return found

    def __enter__(self) -> Knot:
        for name in ("run", "db"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "zone").write_text(zone_text(self.zone, self._records))
        configuration = self.folder / "knot.conf"
        configuration.write_text(
            textwrap.dedent(
                f"""\
                server:
                    rundir: {self.folder}/run
                    listen: 127.0.0.1@{self.port}
                    udp-workers: 1
                    tcp-workers: 1
                    background-workers: 1
                database:
                    storage: {self.folder}/db
                log:
                  - target: stdout
                    any: info
                """
            )
            + (self.tsig.configuration() if self.tsig else "")
            + textwrap.dedent(
                f"""\
                zone:
                  - domain: {self.zone}
                    file: {self.folder}/zone
                    zonefile-sync: -1
                    journal-content: changes
                """
            )
            + ("    acl: [ updating, transferring ]\n" if self.tsig else "")
        )
        self._run(find_tool("knotd") or "knotd", "-c", str(configuration))
        return self


class Resolver(_Daemon):
    """unbound: answers over HTTPS on `port`, asks one authoritative server for one zone and nobody else."""

    def __init__(self, folder: Path, certificate: Path, key: Path, zone: str, authority: Knot) -> None:
        super().__init__(folder)
        self._certificate = certificate
        self._key = key
        self._zone = zone
        self._authority = authority

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/dns-query"

    def __enter__(self) -> Resolver:
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "unbound.conf"
        configuration.write_text(
            textwrap.dedent(
                f"""\
                server:
                    interface: 127.0.0.1@{self.port}
                    https-port: {self.port}
                    tls-service-key: "{self._key}"
                    tls-service-pem: "{self._certificate}"
                    access-control: 127.0.0.0/8 allow
                    do-not-query-localhost: no
                    do-ip6: no
                    username: ""
                    chroot: ""
                    directory: "{self.folder}"
                    pidfile: ""
                    use-syslog: no
                    module-config: "iterator"
                    local-zone: "test." transparent
                    local-zone: "." static
                    local-zone: "{self._zone}." transparent
                remote-control:
                    control-enable: no
                stub-zone:
                    name: "{self._zone}."
                    stub-addr: 127.0.0.1@{self._authority.port}
                """
            )
        )
        self._run(find_tool("unbound") or "unbound", "-d", "-c", str(configuration))
        return self
