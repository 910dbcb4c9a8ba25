"""The unit that renews the list in DNS, started by systemd on a host, with everything that it may not do."""

import base64
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.hosts import Host, Hosts
from wws.identity.keys import Identity

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
DOMAIN = "boot.test"
PUBLISHER = Identity.from_label("publisher a")
NEEDED = """
import sys
from pathlib import Path
from wws_dns.app import run
import wws_dns.commands.publish, wws_dns.commands.renew, wws_dns.zone_file
run(["renew", "--records", "/nonexistent/records.toml", "--json"])
found = {
    str(Path(file).relative_to(folder)).split("/")[0]
    for module in list(sys.modules.values())
    if (file := getattr(module, "__file__", None))
    for folder in sys.path
    if folder.endswith("site-packages") and file.startswith(folder)
}
print("needed", *sorted(found))
"""
"""Prints the third-party packages that the command imports: the host gets these and nothing else."""
FIRST = """\
[Service]
ExecStart=
ExecStart=/opt/wws-dns/bin/wws-dns publish --records /etc/wws-dns/records.toml --key %d/publisher.key \
 --history %S/wws-dns/history.json
"""


def archive() -> bytes:
    """/opt/wws-dns as a tar: the program, our packages and those it needs."""
    output = subprocess.run([sys.executable, "-c", NEEDED], capture_output=True, text=True, check=True).stdout
    needed = output.splitlines()[-1].removeprefix("needed ").split()
    (site,) = {path for path in sys.path if path.endswith("site-packages")}
    buffer = io.BytesIO()

    def without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if "__pycache__" in member.name else member

    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name in needed:
            tar.add(Path(site) / name, f"lib/{name}", filter=without_caches)
        for path in (ROOT / "wws", ROOT / "agent_cli", ROOT / "dns" / "wws_dns"):
            tar.add(path, f"lib/{path.name}", filter=without_caches)
        program = b'#!/bin/sh\nPYTHONPATH=/opt/wws-dns/lib exec python3 -m wws_dns.app "$@"\n'
        entry = tarfile.TarInfo("bin/wws-dns")
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return buffer.getvalue()


@pytest.fixture
def host(hosts: Hosts) -> Iterator[Host]:
    """A host on which an operator has put what the head of the unit asks for."""
    (eu,) = hosts.up(["eu"])
    eu.ssh(
        "mkdir -p /opt/wws-dns /etc/wws-dns && base64 -d | tar -xz -C /opt/wws-dns --no-same-owner",
        given=base64.b64encode(archive()).decode(),
    )
    eu.write(
        "/etc/wws-dns/records.toml",
        f'domain = "{DOMAIN}"\n\n'
        f'[[node]]\npeer_id = "{Identity.from_label("alice").peer_id}"\nhost = "192.0.2.1"\n\n'
        '[provider]\nkind = "zone-file"\nfile = "/var/lib/wws-dns/zone.json"\n',
    )
    eu.ssh(
        "umask 077 && base64 -d > /etc/wws-dns/publisher.key && : > /etc/wws-dns/provider.secret",
        given=base64.b64encode(PUBLISHER.seed).decode(),
    )
    for unit in ("wws-dns-renew.service", "wws-dns-renew.timer"):
        eu.write(f"/etc/systemd/system/{unit}", (UNITS / unit).read_text())
    yield eu
    eu.ssh(
        "systemctl disable --now wws-dns-renew.timer; rm -rf /opt/wws-dns /etc/wws-dns /var/lib/wws-dns "
        "/var/lib/private/wws-dns /etc/systemd/system/wws-dns-renew.*; systemctl daemon-reload",
        check=False,
    )


def test_systemd_renews_the_list(host: Host) -> None:
    drop_in = "/etc/systemd/system/wws-dns-renew.service.d"
    host.ssh(f"mkdir -p {drop_in} && systemctl enable --now wws-dns-renew.timer")
    assert "wws-dns-renew.timer" in host.ssh("systemctl list-timers --all --no-pager").stdout
    # The first publication is an operator's; here the unit makes it.
    host.write(f"{drop_in}/first.conf", FIRST)
    _start(host, zone="{}")
    published = host.read("/var/lib/wws-dns/history.json")
    host.ssh(f"rm -r {drop_in}")
    _start(host)
    figures = host.read("/var/lib/wws-dns/renew.prom")
    assert f'wws_dns_renew_ok{{domain="{DOMAIN}"}} 1' in figures
    assert "wws_dns_bundle_expires_timestamp_seconds" in figures
    assert host.read("/var/lib/wws-dns/history.json") == published  # it was not time yet
    assert (
        float(host.ssh("systemd-analyze security wws-dns-renew.service | tail -1").stdout.split()[-3]) <= 1.1
    )


def _start(host: Host, zone: str | None = None) -> None:
    if zone is not None:
        host.ssh("mkdir -p /var/lib/private/wws-dns && ln -sfn private/wws-dns /var/lib/wws-dns")
        host.write("/var/lib/private/wws-dns/zone.json", zone)
    host.ssh("systemctl daemon-reload")
    done = host.ssh("systemctl start wws-dns-renew.service", check=False)
    log = host.ssh("journalctl --no-pager -o cat -u wws-dns-renew.service -n 20", check=False).stdout
    assert done.returncode == 0, f"{done.stderr}\n{log}"
