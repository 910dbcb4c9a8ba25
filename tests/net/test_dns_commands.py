"""`wws-dns verify`, `renew` and `rotate` as they are typed, with a DNS server and nodes that are real."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.programs import Programs
from tests.interop.ours import OurNode
from wws.discovery.bundle import Bundle
from wws.discovery.publishers import key_id
from wws.discovery.txt import bundle_name
from wws.identity.keys import Identity
from wws.runtime.keyfile import store
from wws.testing.dns_server import DnsServer, Fault
from wws_dns.app import run
from wws_dns.history import load_history

pytestmark = pytest.mark.net

DOMAIN = "boot.test"
OLD, NEW = Identity.from_label("publisher a"), Identity.from_label("publisher b")
ALICE, BOB = Identity.from_label("alice").peer_id, Identity.from_label("bob").peer_id


@dataclass
class Desk:
    """An operator's folder, the server that serves its zone file, and what its commands print."""

    folder: Path
    server: DnsServer
    capsys: pytest.CaptureFixture[str]

    @property
    def zone(self) -> Path:
        return self.folder / "zone.json"

    def want(self, *nodes: str, ttl: int = 300) -> None:
        tables = "".join(f"\n[[node]]\n{node}\n" for node in nodes)
        (self.folder / "records.toml").write_text(
            f'domain = "{DOMAIN}"\nttl = {ttl}\nkey_files = ["old.key"]\n{tables}\n'
            '[provider]\nkind = "zone-file"\nfile = "zone.json"\n'
        )

    async def run(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit code and envelope of a command."""
        records = str(self.folder / "records.toml")
        code = await asyncio.to_thread(run, [*words, "--json", "--records", records])
        self.server.replace(json.loads(self.zone.read_text()))
        envelope: dict[str, Any] = json.loads(self.capsys.readouterr().out)
        return code, envelope

    async def verify(self, *words: str) -> tuple[int, dict[str, Any]]:
        return await self.run(
            "verify", "--authority", self.server.address, "--least-resolvers", "0", "--timeout", "1", *words
        )

    def served(self) -> Bundle:
        (text,) = json.loads(self.zone.read_text())[bundle_name(DOMAIN)]["TXT"]
        return Bundle.parse(text)

    def age(self, days: int) -> None:
        """Let what was published have been published that many days ago, with all that was signed then."""
        history = load_history(self.folder / "records.history.json", DOMAIN)
        publication = history.last
        assert publication is not None
        bundle, seconds = publication.bundle, days * 86_400
        older = Bundle(
            bundle.seq - seconds,
            bundle.not_before - seconds,
            bundle.expires_at - seconds,
            bundle.keys,
            bundle.entries,
        ).sign(DOMAIN, [OLD])
        zone, file = self.zone, self.folder / "records.history.json"
        for path in (zone, file):
            path.write_text(path.read_text().replace(bundle.text, older.text))
        record = json.loads(file.read_text())
        record["published"][-1]["at"] -= seconds
        file.write_text(json.dumps(record))


@pytest.fixture
async def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Desk]:
    store(OLD, tmp_path / "old.key")
    store(NEW, tmp_path / "new.key")
    (tmp_path / "zone.json").write_text("{}")
    async with DnsServer({}) as server:
        made = Desk(tmp_path, server, capsys)
        made.want(f'peer_id = "{ALICE}"\nhost = "192.0.2.1"', f'peer_id = "{BOB}"\nhost = "192.0.2.2"')
        yield made


async def published(desk: Desk) -> None:
    code, _ = await desk.run("publish")
    assert code == 0


def codes(envelope: dict[str, Any]) -> list[str]:
    return [error["code"] for error in envelope["errors"]]


async def test_verify_says_that_all_is_well(desk: Desk) -> None:
    await published(desk)
    textfile = desk.folder / "wws-dns.prom"
    code, envelope = await desk.verify("--textfile", str(textfile))
    assert (code, envelope["ok"], envelope["schema"]) == (0, True, "wws-dns.verify/v1")
    data = envelope["data"]
    assert data["bundle"]["seq"] == desk.served().seq
    assert [(one["role"], one["verdict"]) for one in data["servers"]] == [("authority", "ok")]
    figures = textfile.read_text()
    expires = f'wws_dns_bundle_expires_timestamp_seconds{{domain="{DOMAIN}"}} {desk.served().expires_at}'
    assert expires in figures.splitlines()
    assert f'wws_dns_verify_ok{{domain="{DOMAIN}"}} 1' in figures.splitlines()
    assert textfile.stat().st_mode & 0o777 == 0o644


async def test_verify_needs_no_key_file(desk: Desk) -> None:
    await published(desk)
    (desk.folder / "old.key").unlink()
    assert (await desk.verify())[0] == 0
    net = f"{DOMAIN}#{OLD.public_key.hex()}"
    assert (await desk.verify(net))[0] == 0
    code, envelope = await desk.verify(f"{DOMAIN}#{NEW.public_key.hex()}")
    assert (code, codes(envelope)) == (8, ["publisher_unknown"])


async def test_verify_names_a_resolver_that_lies(desk: Desk) -> None:
    await published(desk)
    async with DnsServer(json.loads(desk.zone.read_text())) as honest, DnsServer({}) as liar:
        words = [word for server in (honest, liar, honest) for word in ("--resolver", server.address)]
        code, envelope = await desk.verify(*words)
        assert (code, codes(envelope)) == (8, ["bundle_stripped"])
        assert liar.address in envelope["errors"][0]["message"]
        verdicts = {one["server"]: one["verdict"] for one in envelope["data"]["servers"]}
        assert verdicts == {desk.server.address: "ok", honest.address: "ok", liar.address: "bundle_stripped"}


async def test_the_exit_code_says_what_kind_of_trouble(desk: Desk) -> None:
    await published(desk)
    desk.server.replace({})
    code, envelope = await desk.verify()  # served again by what `run` reads behind it
    assert (code, codes(envelope)) == (4, ["bundle_missing"])
    desk.server.fail(Fault.REFUSED)
    assert (await desk.verify())[0] == 5
    desk.server.heal()
    assert (await desk.verify())[0] == 0
    desk.age(17)
    desk.server.replace(json.loads(desk.zone.read_text()))
    code, envelope = await desk.verify()
    assert (code, [one["code"] for one in envelope["data"]["findings"]]) == (0, ["expires_soon"])
    code, envelope = await desk.verify("--strict")
    assert (code, codes(envelope)) == (8, ["expires_soon"])


@pytest.mark.parametrize(
    "words",
    [
        ["verify"],
        ["verify", "--resolver", "127.0.0.1:1", "--resolver", "127.0.0.1:1", "--resolver", "127.0.0.1:1"],
        ["verify", "--resolver", "nonsense"],
        ["verify", "--least-resolvers", "0"],
        ["verify", "boot.test", "--resolver", "127.0.0.1:1", "--least-resolvers", "1"],
        ["rotate", "introduce"],
        ["rotate", "change", "it"],
        ["rotate", "introduce", "nonsense"],
        ["renew", "--request", "file", "--key", "key"],
    ],
)
async def test_wrong_usage_is_said(desk: Desk, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WWS_DNS_RESOLVERS", raising=False)
    await published(desk)
    code, envelope = await desk.run(*words)
    assert code == 2
    assert envelope["errors"][0]["message"]


async def test_resolvers_come_from_the_environment_and_the_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await published(desk)
    async with DnsServer(json.loads(desk.zone.read_text())) as one, DnsServer({}) as other:
        file = desk.folder / "records.toml"
        servers = f'resolvers = ["{one.address}"]\nauthorities = ["{desk.server.address}"]\n'
        file.write_text(servers + file.read_text())
        code, envelope = await desk.run("verify", "--least-resolvers", "1")
        assert (code, [row["server"] for row in envelope["data"]["servers"]]) == (
            0,
            [desk.server.address, one.address],
        )
        monkeypatch.setenv("WWS_DNS_RESOLVERS", f"{one.address}, {other.address}")
        code, envelope = await desk.run("verify", "--least-resolvers", "2")
        assert (code, codes(envelope)) == (8, ["bundle_stripped"])


async def test_the_nodes_are_dialled_over_both_transports(desk: Desk) -> None:
    async with OurNode.start("alice", listen=("tcp", "quic-v1")) as alice:
        tcp, quic = (
            next(one.port for one in alice.host.listen_addresses if one.transport == transport)
            for transport in ("tcp", "quic-v1")
        )
        mine = [f'peer_id = "{ALICE}"\nhost = "127.0.0.1"\n'] * 2
        desk.want(f'{mine[0]}port = {tcp}\ntransport = "tcp"', f'{mine[1]}port = {quic}\ntransport = "quic"')
        await published(desk)
        code, envelope = await desk.verify("--dial")
        assert (code, codes(envelope)) == (0, [])
        assert [(one["ok"], "quic" in one["address"]) for one in envelope["data"]["dials"]] == [
            (True, False),
            (True, True),
        ]


async def test_somebody_else_at_the_address_of_a_node(desk: Desk) -> None:
    async with OurNode.start("mallory", listen=("tcp", "quic-v1")) as mallory:
        ports = {one.transport: one.port for one in mallory.host.listen_addresses}
        there = f'peer_id = "{BOB}"\nhost = "127.0.0.1"\n'
        desk.want(
            f'{there}port = {ports["tcp"]}\ntransport = "tcp"',
            f'{there}port = {ports["quic-v1"]}\ntransport = "quic"',
        )
        await published(desk)
        code, envelope = await desk.verify("--dial")
        assert (code, codes(envelope)) == (8, ["wrong_peer", "wrong_peer"])


async def test_a_node_that_is_away(desk: Desk, unused_tcp_port: int) -> None:
    desk.want(f'peer_id = "{BOB}"\nhost = "127.0.0.1"\nport = {unused_tcp_port}\ntransport = "tcp"')
    await published(desk)
    code, envelope = await desk.verify("--dial")
    assert (code, codes(envelope)) == (5, ["node_unreachable"])


async def test_renew_waits_until_it_is_time(desk: Desk) -> None:
    await published(desk)
    textfile = desk.folder / "renew.prom"
    first = desk.served()
    code, envelope = await desk.run("renew", "--textfile", str(textfile))
    assert (code, envelope["data"]["changed"], desk.served()) == (0, False, first)
    assert f'wws_dns_renew_ok{{domain="{DOMAIN}"}} 1' in textfile.read_text()
    desk.age(17)
    aged = desk.served()
    code, envelope = await desk.run("renew", "--textfile", str(textfile))
    assert (code, envelope["data"]["new_bundle"]) == (0, True)
    assert desk.served().seq > aged.seq
    assert desk.served().expires_at > time.time() + 29 * 86_400
    assert str(desk.served().expires_at) in textfile.read_text()
    assert desk.served().entries == aged.entries
    second = desk.served()
    assert (await desk.run("renew"))[1]["data"]["changed"] is False
    assert (await desk.run("renew", "--now", "--dry-run"))[1]["data"]["new_bundle"] is True
    assert desk.served() == second
    assert (await desk.run("renew", "--now"))[0] == 0
    assert desk.served().seq > second.seq


async def test_a_renewal_that_fails_says_so_in_its_figures(desk: Desk) -> None:
    await published(desk)
    desk.age(20)
    aged = desk.served()
    textfile = desk.folder / "renew.prom"
    (desk.folder / "records.toml").write_text(
        (desk.folder / "records.toml").read_text().replace('key_files = ["old.key"]\n', "")
    )
    code, envelope = await desk.run("renew", "--textfile", str(textfile))
    assert (code, codes(envelope)) == (7, ["signature_missing"])
    figures = textfile.read_text()
    assert f'wws_dns_renew_ok{{domain="{DOMAIN}"}} 0' in figures
    assert str(aged.expires_at) in figures


async def test_renewing_with_the_key_on_another_machine(desk: Desk) -> None:
    await published(desk)
    desk.age(20)
    aged = desk.served()
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (desk.folder / "old.key").rename(elsewhere / "old.key")
    request = str(desk.folder / "to-sign.json")
    code, _ = await desk.run("renew", "--request", request)
    assert code == 0
    assert desk.served() == aged
    assert await asyncio.to_thread(run, ["sign", request, "--key", str(elsewhere / "old.key"), "--json"]) == 0
    desk.capsys.readouterr()
    code, envelope = await desk.run("renew", "--signed", request)
    assert (code, envelope["data"]["changed"]) == (0, True)
    assert desk.served().seq > aged.seq


async def test_a_rotation_as_it_is_typed(desk: Desk) -> None:
    await published(desk)
    old_key, new_key = str(desk.folder / "old.key"), str(desk.folder / "new.key")
    code, envelope = await desk.run("rotate", "introduce", new_key, "--key", old_key, "--key", new_key)
    assert (code, envelope["schema"]) == (0, "wws-dns.rotate/v1")
    assert [one["stage"] for one in envelope["data"]["keys"]] == ["holds", "introduced"]
    assert set(desk.served().keys or ()) == {OLD.public_key, NEW.public_key}
    during = desk.served()
    keys = ("--key", old_key, "--key", new_key)
    code, envelope = await desk.run("rotate", "drop", key_id(OLD.public_key), *keys)
    assert (code, codes(envelope)) == (7, ["key_still_needed"])
    assert "--early" in envelope["errors"][0]["hint"]
    assert desk.served() == during
    code, envelope = await desk.run("rotate", "drop", key_id(OLD.public_key), "--early", *keys)
    assert code == 0
    assert desk.served().keys == (NEW.public_key,)
    code, envelope = await desk.run("rotate")
    stages = {one["key_id"]: one["stage"] for one in envelope["data"]["keys"]}
    assert stages == {key_id(NEW.public_key): "introduced", key_id(OLD.public_key): "dropped"}
    assert (await desk.verify())[0] == 0


async def test_a_rotation_with_the_keys_elsewhere_and_the_history_lost(desk: Desk) -> None:
    await published(desk)
    (desk.folder / "records.history.json").unlink()
    text = (desk.folder / "records.toml").read_text()
    known = text.replace('key_files = ["old.key"]', f'publishers = ["{OLD.public_key.hex()}"]')
    (desk.folder / "records.toml").write_text(known)
    request, new = str(desk.folder / "to-sign.json"), NEW.public_key.hex()
    code, envelope = await desk.run("rotate", "introduce", new, "--request", request)
    assert (code, codes(envelope)) == (0, [])
    sign = [
        "sign",
        request,
        "--key",
        str(desk.folder / "old.key"),
        "--key",
        str(desk.folder / "new.key"),
        "--json",
    ]
    assert await asyncio.to_thread(run, sign) == 0
    desk.capsys.readouterr()
    code, envelope = await desk.run("rotate", "introduce", new, "--signed", request)
    assert (code, codes(envelope)) == (0, [])
    assert len(desk.served().signatures) == 2


async def test_what_people_see(desk: Desk) -> None:
    await published(desk)
    records = str(desk.folder / "records.toml")
    words = ["verify", "--authority", desk.server.address, "--least-resolvers", "0", "--records", records]
    assert await asyncio.to_thread(run, words) == 0
    shown = desk.capsys.readouterr().out
    assert shown.splitlines()[0].startswith(f"{DOMAIN}: bundle {desk.served().seq}, 2 entries, signed by ")
    assert f"{desk.server.address}  authority  ok" in shown
    assert await asyncio.to_thread(run, ["rotate", "--records", records]) == 0
    printed = desk.capsys.readouterr()
    assert "holds" in printed.out
    assert "one publisher key" in printed.err
    assert os.environ.get("CLOUDFLARE_API_TOKEN") is None


async def test_the_network_file_is_one_that_wws_takes(desk: Desk) -> None:
    """The real `wws` saves it; a changed one it refuses, and other keys under its name, too."""
    await published(desk)
    (desk.folder / "dave").mkdir(mode=0o700)
    programs = Programs(desk.folder / "dave")
    file = desk.folder / "network.json"
    code, envelope = await desk.run("manifest", "--name", "boot", "--out", str(file))
    assert (code, envelope["schema"], envelope["data"]["min_seq"]) == (
        0,
        "wws-dns.manifest/v1",
        desk.served().seq,
    )

    async def add(*words: str) -> tuple[int, dict[str, Any]]:
        done = await asyncio.to_thread(programs.wws, "network", "add", *words, "--json")
        return done.returncode, json.loads(done.stdout)

    code, added = await add(str(file))
    assert (code, added["data"]["name"], added["data"]["domain"]) == (0, "boot", DOMAIN)
    assert added["data"]["publishers"] == [OLD.public_key.hex()]
    assert added["data"]["peers"] == envelope["data"]["peers"]
    assert len(added["data"]["peers"]) == 4

    changed = desk.folder / "changed.json"
    changed.write_text(file.read_text().replace("192.0.2.1", "192.0.2.7"))
    code, answer = await add(str(changed))
    assert (code, codes(answer)) == (8, ["network_bad_signature"])

    desk.want(f'peer_id = "{ALICE}"\nhost = "192.0.2.1"')
    records = desk.folder / "records.toml"
    records.write_text(f'publishers = ["{NEW.public_key.hex()}"]\n' + records.read_text())
    words = ("manifest", "--name", "boot", "--key", str(desk.folder / "new.key"), "--out", str(file))
    code, envelope = await desk.run(*words)
    assert (code, codes(envelope)) == (7, ["manifest_of_others"])
    assert (await desk.run(*words, "--replace"))[0] == 0
    code, answer = await add(str(file))
    assert (code, codes(answer)) == (7, ["network_key_pinned"])
    assert (await add(str(file), "--replace"))[0] == 0
