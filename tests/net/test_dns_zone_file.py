"""Publishing into the zone file of our own DNS server, which runs as a process beside."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.message
import dns.query
import pytest

from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey
from wws.discovery.txt import bundle_name
from wws.identity.keys import Identity
from wws_dns.desired import Desired, Node
from wws_dns.history import load_history
from wws_dns.publishing import Publisher
from wws_dns.zone_file import ZoneFileProvider

pytestmark = pytest.mark.net
DOMAIN = "local.test"
PUBLISHER = Identity.from_label("publisher")


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "zone.json").write_text("{}")
    command = [sys.executable, "-m", "wws.testing.dns_server", "--zone", str(tmp_path / "zone.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        (tmp_path / "pid").write_text(f"{process.pid}\n")
        yield ready["port"]
        process.terminate()
        process.wait(30)


def served(port: int) -> tuple[list[str], int]:
    """The bundle's TXT records, and their time to live."""
    query = dns.message.make_query(bundle_name(DOMAIN), "TXT")
    answer = dns.query.tcp(query, "127.0.0.1", timeout=10, port=port)
    if not answer.answer:
        return [], 0
    (rrset,) = answer.answer
    return [b"".join(rdata.strings).decode() for rdata in rrset], rrset.ttl


def until_served(port: int, text: str) -> int:
    """Ask until the server has read its zone again; the test's own time-out ends it otherwise."""
    while True:
        texts, ttl = served(port)
        if texts == ([text] if text else []):
            return ttl


def test_the_server_serves_what_is_published(tmp_path: Path, port: int) -> None:
    clock = 1_800_000_000.0
    provider = ZoneFileProvider(DOMAIN, tmp_path / "zone.json", pid_file=tmp_path / "pid")
    publisher = Publisher(provider, load_history(tmp_path / "history.json", DOMAIN), lambda: clock)
    nodes = [
        Node(Identity.from_label(label).peer_id, f"127.0.0.{n}")
        for n, label in enumerate(("alice", "bob", "carol", "dave"), 1)
    ]
    first = publisher.publish(publisher.plan(Desired(DOMAIN, tuple(nodes[:3])), [PUBLISHER]))
    assert until_served(port, first.text) == 300
    client = BundleState(DOMAIN, [PublisherKey(PUBLISHER.public_key)])
    assert len(client.choose(served(port)[0], int(clock)).bundle.peers) == 3
    clock += 3 * 86_400
    second = publisher.publish(publisher.plan(Desired(DOMAIN, tuple(nodes[1:])), [PUBLISHER]))
    assert until_served(port, second.text) == 60
    publisher.retire(DOMAIN)
    until_served(port, "")
    assert json.loads((tmp_path / "zone.json").read_text()) == {}
