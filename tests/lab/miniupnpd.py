"""Home routers that open ports when asked: NAT by nftables, and miniupnpd for PCP, NAT-PMP and UPnP.

    world ── wan | router | lan ── alice

The addresses outside are of a network that nobody here routes: miniupnpd works with no documentation address,
for it takes those for private ones.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.lab.namespaces import Namespace, connect
from tests.prerequisites import find_tool

OUTSIDE, WORLD = "11.0.0.2", "11.0.0.9"
INSIDE, ALICE = "192.168.1.1", "192.168.1.2"
START_WITHIN = 10.0

# The chains that the daemon fills, in a table of their own, so that a router may have any rules besides: it
# lets through what is translated. The daemon speaks both PCP and NAT-PMP or none: for NAT-PMP alone, packets
# of PCP (first byte 2) are refused as where nobody listens.
_CHAINS = """
table inet mapping
delete table inet mapping
table inet mapping {{
  chain input {{ type filter hook input priority -10; policy accept;
    {refuse}
  }}
  chain prerouting {{ type nat hook prerouting priority dstnat - 10; policy accept;
    jump prerouting_miniupnpd
  }}
  chain miniupnpd {{ }}
  chain prerouting_miniupnpd {{ }}
  chain postrouting_miniupnpd {{ }}
}}
"""
_REFUSE_PCP = 'iifname "lan" udp dport 5351 @th,64,8 2 reject with icmp type port-unreachable'

_NAT = """
table inet nat {
  chain forward { type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "lan" oifname "wan" accept
    ct status dnat accept
  }
  chain postrouting { type nat hook postrouting priority srcnat; policy accept; oifname "wan" masquerade; }
}
"""

_SETTINGS = """
ext_ifname=wan
listening_ip=lan
http_port=0
ipv6_disable=yes
enable_natpmp={port_5351}
min_lifetime=1
max_lifetime=86400
secure_mode=yes
system_uptime=no
uuid=00000000-0000-0000-0000-000000000001
upnp_table_name=mapping
upnp_nat_table_name=mapping
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class MappingDaemon:
    """miniupnpd on a router with the interfaces `lan` and `wan`; `protocol` is the best it offers."""

    def __init__(self, router: Namespace, folder: Path, protocol: str) -> None:
        self.router = router
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._chains = _CHAINS.format(refuse=_REFUSE_PCP if protocol == "nat-pmp" else "")
        self._settings = folder / "miniupnpd.conf"
        self._settings.write_text(_SETTINGS.format(port_5351="no" if protocol == "upnp" else "yes"))

    def start(self) -> None:
        """A fresh start: nothing is mapped."""
        self.router.run("nft", "-f", "-", given=self._chains)
        log = self._folder / "miniupnpd.log"
        with log.open("wb") as out:
            self._process = self.router.start(
                [
                    find_tool("miniupnpd") or "miniupnpd",
                    "-d", "-f", str(self._settings), "-P", str(self._folder / "miniupnpd.pid"),
                ],
                env=os.environ, folder=self._folder, out=out, errors=out,
            )  # fmt: skip
        self._started_at = time.monotonic()
        deadline = self._started_at + START_WITHIN
        while not any(word in log.read_text(errors="replace") for word in ("port 5351", "HTTP listening")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"miniupnpd did not start:\n{log.read_text(errors='replace')[-2_000:]}")
            time.sleep(0.02)

    @property
    def uptime(self) -> float:
        """Seconds since the daemon was started."""
        return time.monotonic() - self._started_at

    def stop(self) -> None:
        """As at a power cut: nothing is tidied up. What was mapped is lost with the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def mapped(self) -> int:
        """How many ports are open."""
        return self.router.run("nft", "list", "chain", "inet", "mapping", "prerouting_miniupnpd").count(
            "dnat"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class MappingHome:
    """Three machines in a row, and the daemon on the one in the middle."""

    def __init__(self, folder: Path, protocol: str, *, outside: str = OUTSIDE) -> None:
        self.world, self.router, self.alice = (Namespace(label) for label in ("world", "router", "alice"))
        connect(self.router, "wan", self.world, "eth0")
        connect(self.router, "lan", self.alice, "eth0")
        self.world.ip(f"addr add {WORLD}/24 dev eth0", f"route add default via {outside} onlink dev eth0")
        self.router.ip(f"addr add {outside}/24 dev wan", f"addr add {INSIDE}/24 dev lan")
        self.alice.ip(f"addr add {ALICE}/24 dev eth0", f"route add default via {INSIDE}")
        self.router.set_kernel(ipv4__ip_forward=1)
        self.router.run("nft", "-f", "-", given=_NAT)
        self.daemon = MappingDaemon(self.router, folder, protocol)

    def knock(self, kind: socket.SocketKind, port: int, data: bytes) -> bool:
        """Send from the world to a port of the router; False when it says that nobody listens there."""
        with self.world.socket(kind) as sock:
            sock.settimeout(2)
            try:
                sock.connect((OUTSIDE, port))
                sock.sendall(data)
                return sock.recv(100) == data
            except ConnectionRefusedError:
                return False

    def __enter__(self) -> Self:
        try:
            self.daemon.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.stop()
        for namespace in (self.world, self.router, self.alice):
            namespace.close()
