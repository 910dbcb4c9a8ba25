"""The search for a network against a DNS server that misbehaves: what is known otherwise is never held up."""

import asyncio
import json
import random
import signal
import sys
from pathlib import Path

import pytest

from wws.addresses.multiaddr import Multiaddr
from wws.discovery.bundle import Bundle, BundleEntry
from wws.discovery.network import Network
from wws.discovery.peer_cache import PeerCache
from wws.discovery.publishers import PublisherKey
from wws.discovery.race import Discovery
from wws.discovery.race_events import BundleTaken, Dial, DnsAnswered, QueryDns, Started, TimerFired, Warn
from wws.discovery.txt import bundle_name, seed_name
from wws.identity.keys import Identity
from wws.machine import Command
from wws.runtime.dns_resolve import DnsConfig, DnsError, DnsResolver
from wws.testing.dns_server import DnsServer, Fault, network_zone

pytestmark = pytest.mark.net

DOMAIN = "boot.test"
UNIX = 1_790_000_000
PUBLISHER = Identity.from_label("publisher1")
ALICE = Identity.from_label("alice").peer_id
BOB = Identity.from_label("bob").peer_id
MALLORY = Identity.from_label("mallory").peer_id
NETWORK = Network("boot", DOMAIN, (PublisherKey(PUBLISHER.public_key),))
PINNED = Multiaddr.of("127.0.0.1", 9000, "tcp", ALICE)


def bundle(seq: int = UNIX) -> Bundle:
    made = Bundle(seq, UNIX, UNIX + 86_400, None, (BundleEntry(BOB, "127.0.0.2", 9000, "/t"),))
    return made.sign(DOMAIN, [PUBLISHER])


def zone(text: str | None = None) -> dict[str, dict[str, list[str]]]:
    return network_zone(DOMAIN, text or bundle().text, [Multiaddr.of("127.0.0.2", 9000, "tcp", BOB)])


def search() -> Discovery:
    carol = Identity.from_label("carol").peer_id
    return Discovery(carol, NETWORK, PeerCache(DOMAIN), random.Random(1), typed=[PINNED])


async def run(machine: Discovery, server: DnsServer, *, timeout: float = 5.0) -> list[Command]:
    """The commands until DNS has answered all questions, with the resolver in between and no other driver."""
    resolver = DnsResolver(DnsConfig(servers=(server.address,), timeout=timeout))
    commands = machine.handle(Started(), 0.0, UNIX)
    assert [c.peer_id for c in commands if isinstance(c, Dial)] == [ALICE], "DNS holds nobody up"

    async def ask(query: QueryDns) -> None:
        try:
            answer = await resolver.txt(query.name)
        except DnsError as error:
            commands.extend(machine.handle(DnsAnswered(query.kind, error=error.code), 1.0, UNIX))
        else:
            commands.extend(machine.handle(DnsAnswered(query.kind, answer.texts), 1.0, UNIX))

    await asyncio.gather(*(ask(query) for query in commands if isinstance(query, QueryDns)))
    for n in range(8):
        commands += machine.handle(TimerFired(), 2.0 + n / 4, UNIX)
    return commands


def dialled(commands: list[Command]) -> set[str]:
    return {str(command.peer_id) for command in commands if isinstance(command, Dial)}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault.NXDOMAIN, "dns_nxdomain"),
        (Fault.SERVFAIL, "dns_servfail"),
        (Fault.REFUSED, "dns_refused"),
        (Fault.EMPTY, "dns_no_answer"),
        (Fault.GARBAGE, "dns_malformed"),
        (Fault.SILENCE, "dns_timeout"),
    ],
)
async def test_dns_that_fails(fault: Fault, code: str) -> None:
    machine = search()
    async with DnsServer(zone()) as server:
        server.fail(fault)
        commands = await run(machine, server, timeout=0.3 if fault is Fault.SILENCE else 5.0)
    assert dialled(commands) == {str(ALICE)}
    codes = {report.source: report.code for report in machine.report(UNIX).sources}
    assert codes["bundle"] == codes["seed"] == codes["dnsaddr"] == code


@pytest.mark.parametrize("fault", [None, Fault.TRUNCATED, Fault.SLOW, Fault.THOUSAND])
async def test_dns_that_answers_after_all(fault: Fault | None) -> None:
    async with DnsServer(zone(), slow_by=0.05) as server:
        if fault is not None:
            server.fail(fault)
        commands = await run(search(), server)
    assert dialled(commands) == {str(ALICE), str(BOB)}
    assert BundleTaken(bundle()) in commands


async def test_one_name_that_fails_leaves_the_others() -> None:
    async with DnsServer(zone()) as server:
        server.fail(Fault.GARBAGE, seed_name(DOMAIN))
        commands = await run(search(), server)
    assert dialled(commands) == {str(ALICE), str(BOB)}


async def test_poisoned_dns_brings_nobody_in() -> None:
    hostile = network_zone(DOMAIN, None, [Multiaddr.of("127.0.0.66", 9000, "tcp", MALLORY)])
    forged = Bundle(UNIX + 9, UNIX, UNIX + 86_400, None, (BundleEntry(MALLORY, "127.0.0.66", 9000, "/t"),))
    texts = [
        forged.sign(DOMAIN, [Identity.from_label("mallory")]).text,
        bundle().text.replace("127.0.0.2", "127.0.0.6"),
    ]
    machine = search()
    async with DnsServer({**hostile, bundle_name(DOMAIN): {"TXT": texts}}) as server:
        commands = await run(machine, server)
    assert dialled(commands) == {str(ALICE)}
    assert [c.code for c in commands if isinstance(c, Warn)] in (
        ["publisher_unknown"],
        ["bundle_bad_signature"],
    )
    assert machine.report(UNIX).hints_ignored == 1


async def test_the_best_of_several_bundles_is_taken() -> None:
    newer = bundle(UNIX + 5)
    texts = [bundle().text, "v=wws1;damaged", newer.text, "v=spf1 -all"]
    async with DnsServer({**zone(), bundle_name(DOMAIN): {"TXT": texts}}) as server:
        assert BundleTaken(newer) in await run(search(), server)


async def test_the_server_as_a_program(tmp_path: Path) -> None:
    path = tmp_path / "zone.json"
    path.write_text(json.dumps(zone()))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wws.testing.dns_server", "--zone", str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            ready = json.loads(await process.stdout.readline())
        resolver = DnsResolver(DnsConfig(servers=(f"{ready['host']}:{ready['port']}",)))
        assert (await resolver.txt(bundle_name(DOMAIN))).texts == (bundle().text,)
        path.write_text(json.dumps(zone(bundle(UNIX + 1).text)))
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(10):
            while (await resolver.txt(bundle_name(DOMAIN))).texts != (bundle(UNIX + 1).text,):
                await asyncio.sleep(0)
        process.terminate()
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
