"""What the first minute needs around the host: a network with a signed list in DNS, a web server, and bob.

    with World.of(hosts) as world:
        alice = world.bare_host()
        alice.run("curl -sSfL https://get.wws.test/install.sh | sh")

All of it is in namespaces of the lab of the hosts: three bootstrap nodes in their regions, a DNS server, and
an HTTPS server with releases, whose certificate is of an authority that nobody knows beforehand.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_cli.demo.records import Place, make_zone
from tests.artefact.built import artefact
from tests.lab.hosts import Host, Hosts
from tests.lab.internet import REGIONS, Uplink
from tests.lab.nodes import DOMAIN, PORT, Json, Node, Swarm
from tests.lab.operator import REPOSITORY
from tests.lab.probing import eventually
from tests.lab.slow_links import LinkSpec
from tests.stamped import stamp_of
from wws.discovery.network import Network
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws.release.keys import PublicKey
from wws.runtime.whole_files import create_whole

SITE = "get.wws.test"
URL = f"https://{SITE}"
LINE = f"curl -sSfL {URL}/install.sh | sh"
FIRST, SECOND = "1.0.0", "1.1.0"
DNS_ADDRESS, SITE_ADDRESS, BOB_ADDRESS, ALICE_ADDRESS = (
    "198.18.3.53",
    "198.18.3.80",
    "198.18.3.2",
    "198.18.4.2",
)
BEHIND = LinkSpec(delay=0.008, rate=50e6)
"""The access link of the host: 50 Mbit/s."""
REGIONS_HERE = tuple(replace(region, address=f"{region.address.rpartition('.')[0]}.20") for region in REGIONS)
"""Where those of the hosts are, at other addresses: both are in one internet."""
PUBLISHER = Identity.from_label("the publisher of the first minute")
UP_WITHIN = 20.0
REACHED_WITHIN = 60.0
USER = "alice"
_AWAY = "/var/lib/away"
BARE = (
    "rm -rf /usr/bin/python3* /usr/lib/python3* /usr/local/lib/python3*",
    f"mkdir -m 700 {_AWAY}",
    f"mv /usr/bin/curl /etc/ssl/certs /usr/share/ca-certificates {_AWAY}",
    f"useradd --create-home --shell /bin/bash {USER}",
    f"install -d -m 700 -o {USER} -g {USER} /home/{USER}/.ssh",
    f"install -m 600 -o {USER} -g {USER} ~root/.ssh/authorized_keys ~{USER}/.ssh",
    f"printf 'nameserver %s\\n' {DNS_ADDRESS} >/etc/resolv.conf",
)
"""What makes a bare one of a host of the lab, and a person on it."""


@dataclass
class Typed:
    """What somebody has typed, and what came of it."""

    command: str
    code: int
    output: str
    seconds: float

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.output}[exit code {self.code}, {self.seconds:.1f} s]"


@dataclass
class Person:
    """A plain user at a host, who types; everything is kept for the transcript."""

    host: Host
    hosts: Hosts
    typed: list[Typed] = field(default_factory=list)

    def run(self, command: str, *, within: float = 120, code: int | None = 0) -> Typed:
        """Type a command into a login shell; all that it prints. Fails on another exit code."""
        operator = self.hosts.operator
        began = time.monotonic()
        done = operator.run(
            *("ssh", "-F", str(operator.ssh_config), "-l", USER, self.host.name),
            f"exec 2>&1; . /etc/profile; [ ! -f ~/.profile ] || . ~/.profile; {command}",
            within=within,
        )
        said = Typed(command, done.returncode, done.stdout + done.stderr, time.monotonic() - began)
        self.typed.append(said)
        assert code is None or said.code == code, f"{said}\n{self.log()}"
        return said

    def json(self, command: str, code: int | None = 0) -> Json:
        """The data of what a `wws` command prints with --json."""
        said = self.run(f"wws --json {command}", code=code)
        self.typed.remove(said)  # nobody types that
        data: Json = json.loads(said.output.splitlines()[-1])["data"]
        return data

    def transcript(self) -> str:
        return "\n".join(map(str, self.typed))

    def log(self) -> str:
        """What the host says of the user's services and node, for a failure."""
        return self.host.ssh(
            "journalctl --no-pager --lines=40 _UID=1000; tail -n 20 /home/*/.openswarm/state/*/log",
            check=False,
        ).stdout


class World:
    """Everything but the host itself."""

    def __init__(self, hosts: Hosts, swarm: Swarm, folder: Path, stack: contextlib.ExitStack) -> None:
        self.hosts, self.swarm, self.folder = hosts, swarm, folder
        self.site = folder / "www"
        self.authority = trustme.CA()
        self._stack = stack
        network = Network("lab", DOMAIN, (PublisherKey(PUBLISHER.public_key),))
        self.network = network.to_file([PUBLISHER])
        # From labels, so that an artefact which was built for them before is found again.
        self.root = self._key(folder / "root", "the root key of the first minute")
        self.key = self._key(folder / "key", "the release key of the first minute")

    @classmethod
    @contextlib.contextmanager
    def of(cls, hosts: Hosts) -> Iterator[World]:
        """The mesh, DNS and web server, up; the first release is published."""
        with contextlib.ExitStack() as stack:
            internet = hosts.internet
            swarm = stack.enter_context(Swarm.of(internet, REGIONS_HERE, publisher=PUBLISHER))
            folder = hosts.folder / "minute"
            folder.mkdir()
            world = cls(hosts, swarm, folder, stack)
            world._serve_names(internet.host("names", DNS_ADDRESS))
            world.publish(FIRST)
            world._serve_files(internet.host("site", SITE_ADDRESS))
            yield world

    def publish(self, version: str) -> None:
        """Make a release of the sources as they are, sign it, and let the channel lead to it."""
        files = self.folder / version
        files.mkdir()
        installer = self.folder / f"install-{version}.sh"
        (self.folder / "roots").write_text(f"{self.root}\n")
        self._script(
            "stamp-installer.sh",
            *("--releases", URL, "--roots", str(self.folder / "roots"), "--glibc", "2.31"),
            *("--out", str(installer)),
        )
        stamp = stamp_of(version=version, releases=URL, roots=(self.root,), network=self.network)
        archive = artefact(stamp, installer=installer)
        manifest = archive.with_name(f"{archive.name.removesuffix('.tar.gz')}.MANIFEST")
        for built in (archive, manifest):
            shutil.copy(built, files)
        shutil.copy(installer, files / "install.sh")
        root = str(self.folder / "root")
        self._sign("release-keys", "--root", root, "--out", str(files), "--key", self.key)
        signer = ("--key", str(self.folder / "key"))
        self._sign("sums", *signer, str(files))
        self._sign("channel", *signer, "--out", str(files), "--channel", "stable", "--version", version)
        self._script(
            "mirror.sh",
            *("--files", str(files), "--version", version, "--channel", "stable", "--out", str(self.site)),
        )
        shutil.copy(installer, self.site / "install.sh")

    def bare_host(self) -> Person:
        """A host with neither Python nor curl nor certificates, and a person with an account on it."""
        host = self.hosts.further("alice", ALICE_ADDRESS, BEHIND)
        host.start()
        host.wait_up()
        host.ssh(" && ".join(BARE))
        return Person(host, self.hosts)

    def let_certificates_be(self, host: Host) -> None:
        """What the package ca-certificates brings, and the authority of the lab."""
        host.ssh(
            f"mv {_AWAY}/certs /etc/ssl/ && mv {_AWAY}/ca-certificates /usr/share/ && "
            "cat >/usr/local/share/ca-certificates/lab.crt && update-ca-certificates",
            given=self.authority.cert_pem.bytes().decode(),
        )

    def reaches(self, node: Node, name: str) -> None:
        """The node pings who has the name, as soon as that one has announced where it is."""

        def answers() -> bool:
            return self.swarm.wws(node, "ping", name, "-c", "1")[0] == 0

        eventually(answers, REACHED_WITHIN)

    def bob(self) -> Node:
        """Another agent, elsewhere, who has joined."""
        node = self.swarm.agent("bob", self.hosts.internet.host("bob", BOB_ADDRESS).namespace)
        self.swarm.wait_joined(node)
        return node

    def requests(self) -> list[str]:
        """What was asked of the web server."""
        return (self.folder / "requests").read_text().splitlines()

    def _serve_names(self, uplink: Uplink) -> None:
        nodes = [
            (Identity.from_label(f"bootstrap-{region.name}"), Place(region.address, PORT))
            for region in REGIONS_HERE
        ]
        zone = self.folder / "zone.json"
        zone.write_text(json.dumps({**make_zone(DOMAIN, PUBLISHER, nodes), SITE: {"A": [SITE_ADDRESS]}}))
        command = ("-m", "wws.testing.dns_server", "--zone", str(zone), "--host", DNS_ADDRESS, "--port", "53")
        self._start(uplink, "names", command, "ready")

    def _serve_files(self, uplink: Uplink) -> None:
        certificate = self.authority.issue_cert(SITE)
        names = (self.folder / "site.pem", self.folder / "site.key")
        with names[0].open("wb") as file:
            for blob in certificate.cert_chain_pems:
                file.write(blob.bytes())
        certificate.private_key_pem.write_to_path(names[1])
        program = str(Path(__file__).with_name("https_server.py"))
        command = (program, SITE_ADDRESS, str(self.site), *map(str, names))
        self._start(uplink, "requests", command, None)

        def answers() -> bool:
            with contextlib.suppress(RuntimeError):
                uplink.namespace.run("bash", "-c", f"exec 3<>/dev/tcp/{SITE_ADDRESS}/443")
                return True
            return False

        eventually(answers, UP_WITHIN)

    def _start(self, uplink: Uplink, name: str, command: Sequence[str], says: str | None) -> None:
        """Run a Python program until the end of the world."""
        output = self.folder / name
        with output.open("wb") as out:
            process = uplink.namespace.start(
                [sys.executable, *command],
                env=self.swarm.programs.env,
                folder=self.folder,
                out=out,
                errors=out,
            )

        def end() -> None:
            process.kill()
            process.wait()

        self._stack.callback(end)
        if says is not None:
            eventually(lambda: says in output.read_text(), UP_WITHIN)

    def _key(self, path: Path, label: str) -> str:
        identity = Identity.from_label(label)
        create_whole(
            path,
            Ed25519PrivateKey.from_private_bytes(identity.seed).private_bytes(
                Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
            ),
        )
        return str(PublicKey(identity.public_key))

    def _sign(self, *arguments: str) -> None:
        _run(sys.executable, str(REPOSITORY / "packaging" / "sign.py"), *arguments)

    def _script(self, name: str, *arguments: str) -> None:
        _run(str(REPOSITORY / "scripts" / "release" / name), *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
