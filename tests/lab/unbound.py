"""Real resolvers: unbound, asking one authoritative server for one zone and nobody else.

    with Unbound(tmp_path / "honest", "boot.test", knot.port) as resolver:
        ...  # resolver.address

`settings` are further lines of its `server:` section: that is how one is made to lie, as those of hotels and
offices do (`local-zone: "boot.test." always_nxdomain`), or to keep answers too long (`cache-min-ttl: 3600`).
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from tests.lab.knot import _Daemon
from tests.prerequisites import find_tool


class Unbound(_Daemon):
    """A resolver on loopback, UDP and TCP. Its cache is empty at the start."""

    def __init__(self, folder: Path, zone: str, authority_port: int, *settings: str) -> None:
        super().__init__(folder)
        self._zone = zone
        self._authority_port = authority_port
        self._settings = settings

    def __enter__(self) -> Unbound:
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "unbound.conf"
        configuration.write_text(
            textwrap.dedent(
                f"""\
                server:
                    interface: 127.0.0.1@{self.port}
                    access-control: 127.0.0.0/8 allow
                    num-threads: 1
                    outgoing-range: 32
                    num-queries-per-thread: 16
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
                """
            )
            + "".join(f"    {line}\n" for line in self._settings)
            + textwrap.dedent(
                f"""\
                remote-control:
                    control-enable: no
                stub-zone:
                    name: "{self._zone}."
                    stub-addr: 127.0.0.1@{self._authority_port}
                """
            )
        )
        self._run(find_tool("unbound") or "unbound", "-d", "-c", str(configuration))
        return self
