"""The resources that are written here, without the engine: as it calls them, over a zone in a file."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from pulumi.output import Unknown

from wws.discovery.bundle import Bundle, BundleEntry
from wws.identity.keys import Identity
from wws.runtime.keyfile import store
from wws_infra.dynamic.addresses import AddressesProvider
from wws_infra.dynamic.crud import UNKNOWN, Crud, ResourceFailed
from wws_infra.dynamic.discovery import DiscoveryProvider
from wws_infra.dynamic.manifest import ManifestProvider
from wws_infra.dynamic.playbook import PlaybookProvider
from wws_infra.dynamic.promises import PromisesProvider
from wws_infra.dynamic.seed import SeedProvider
from wws_infra.dynamic.ssh_host_key import SshHostKeyProvider
from wws_infra.providers.local.address import AddressProvider
from wws_infra.providers.local.dns import DnsProvider
from wws_infra.providers.local.host import HostProvider
from wws_infra.providers.local.node import NodeProvider

DOMAIN = "example.org"
PUBLISHER = Identity.from_label("publisher")
DAY = 86_400

Props = dict[str, Any]


def entry(name: str, ip: str) -> str:
    return f"{Identity.from_label(name).peer_id}@{ip}:9000"


ALICE, BOB, CAROL, DAVE = (
    entry(name, f"192.0.2.{number}") for number, name in enumerate(("alice", "bob", "carol", "dave"))
)


def zone_inputs(folder: Path) -> Props:
    return {"dns": "zone_file", "options": {"zone": DOMAIN, "path": str(folder / "zone.json")}}


def discovery(folder: Path, *entries: str, **more: Any) -> Props:
    return {
        **zone_inputs(folder),
        "domain": DOMAIN,
        "entries": list(entries),
        "publishers": [PUBLISHER.public_key.hex()],
        "ttl": 300,
        "lifetime_days": 30,
        "signer_seed": base64.b64encode(PUBLISHER.seed).decode(),
        "signed": "",
        "force_unsafe": False,
        "local_homes": [],
        **more,
    }


def served(folder: Path) -> dict[str, dict[str, list[str]]]:
    zone: dict[str, dict[str, list[str]]] = json.loads((folder / "zone.json").read_text())
    return zone


def bundle(folder: Path) -> Bundle:
    return Bundle.parse(served(folder)[f"_wws-bundle._tcp.{DOMAIN}"]["TXT"][0])


@pytest.fixture
def published(tmp_path: Path) -> Props:
    """What the state holds after three nodes were published in tmp_path."""
    created = DiscoveryProvider().create(discovery(tmp_path, ALICE, BOB, CAROL))
    assert created.id == DOMAIN
    assert created.outs is not None
    return created.outs


def test_what_was_published_stays_while_nothing_changes(tmp_path: Path, published: Props) -> None:
    provider, inputs = DiscoveryProvider(), discovery(tmp_path, ALICE, BOB, CAROL)
    assert {str(one) for one in bundle(tmp_path).entries} == {ALICE, BOB, CAROL}
    assert "signer_seed" not in published
    assert provider.diff(DOMAIN, published, inputs).changes is False
    read = provider.read(DOMAIN, published)
    assert read.outs == published
    assert provider.diff(DOMAIN, read.outs or {}, inputs).changes is False


def test_one_node_may_come_or_go(tmp_path: Path, published: Props) -> None:
    provider, inputs = DiscoveryProvider(), discovery(tmp_path, ALICE, BOB, CAROL, DAVE)
    first = bundle(tmp_path)
    assert provider.diff(DOMAIN, published, inputs).changes is True
    updated = provider.update(DOMAIN, published, inputs)
    assert updated.outs is not None
    assert updated.outs["seq"] == bundle(tmp_path).seq > first.seq
    assert {str(one) for one in bundle(tmp_path).entries} == {ALICE, BOB, CAROL, DAVE}


@pytest.mark.parametrize(
    "entries, told",
    [
        ((ALICE,), "It removes 2 of 3 nodes"),
        ((), "It removes all 3 nodes"),
        ((DAVE, entry("erin", "192.0.2.9"), ALICE), "alone a majority of the witnesses"),
    ],
)
def test_unsafe_changes_are_refused_in_the_preview_too(
    tmp_path: Path, published: Props, entries: tuple[str, ...], told: str
) -> None:
    provider, before = DiscoveryProvider(), served(tmp_path)
    with pytest.raises(ResourceFailed, match=told):
        provider.diff(DOMAIN, published, discovery(tmp_path, *entries))
    with pytest.raises(ResourceFailed, match="unsafe_plan"):
        provider.update(DOMAIN, published, discovery(tmp_path, *entries))
    assert served(tmp_path) == before
    assert provider.diff(DOMAIN, published, discovery(tmp_path, *entries, force_unsafe=True)).changes


def test_a_second_change_within_two_days_is_refused(tmp_path: Path, published: Props) -> None:
    provider = DiscoveryProvider()
    updated = provider.update(DOMAIN, published, discovery(tmp_path, ALICE, BOB, DAVE))
    erin = entry("erin", "192.0.2.9")
    with pytest.raises(ResourceFailed, match="the next change is safe from"):
        provider.diff(DOMAIN, updated.outs or {}, discovery(tmp_path, ALICE, erin, DAVE))


@pytest.mark.parametrize("unknown", (UNKNOWN, Unknown()), ids=("the engine's", "the SDK's"))
@pytest.mark.parametrize("where", ("entries", "one entry", "options", "publishers", "signer_seed"))
def test_what_is_not_known_yet_is_judged_later(
    tmp_path: Path, published: Props, unknown: object, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = discovery(tmp_path, ALICE, BOB) | (
        {"entries": [ALICE, unknown]} if where == "one entry" else {where: unknown}
    )
    assert DiscoveryProvider().diff(DOMAIN, published, inputs).changes is True
    assert "planned when the addresses are known" in capsys.readouterr().out


PROVIDERS = (
    AddressesProvider,
    AddressProvider,
    DiscoveryProvider,
    DnsProvider,
    HostProvider,
    ManifestProvider,
    NodeProvider,
    PlaybookProvider,
    PromisesProvider,
    SeedProvider,
    SshHostKeyProvider,
)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("unknown", (UNKNOWN, Unknown()), ids=("the engine's", "the SDK's"))
def test_no_resource_stumbles_over_inputs_that_are_unknown_in_a_preview(
    tmp_path: Path, published: Props, provider: type[Crud], unknown: object
) -> None:
    known: Props = {"running": True, "seed": "old", "key_file": "", "host": "one", "peers": []}
    inputs: Props = dict.fromkeys((*discovery(tmp_path), *known), unknown)
    olds = published | known
    checked = provider().check(olds, inputs)
    assert checked.failures == []
    assert provider().diff("one", olds, checked.inputs).changes is True


def test_a_list_that_nears_its_end_is_signed_again(tmp_path: Path, published: Props) -> None:
    provider, inputs = DiscoveryProvider(), discovery(tmp_path, ALICE, BOB, CAROL, lifetime_days=10)
    first = bundle(tmp_path)
    old = published | {"expires_at": int(time.time()) + 13 * DAY}
    assert provider.diff(DOMAIN, old, discovery(tmp_path, ALICE, BOB, CAROL)).changes is True
    provider.update(DOMAIN, published, inputs)
    assert bundle(tmp_path).text == first.text  # it holds for 30 days yet: nothing was to be done


def test_a_list_that_was_meant_to_be_short_is_not_signed_again_at_each_run(
    tmp_path: Path, published: Props
) -> None:
    short = discovery(tmp_path, ALICE, BOB, CAROL, lifetime_days=7)
    old = published | {"lifetime_days": 7, "expires_at": int(time.time()) + 6 * DAY}
    assert DiscoveryProvider().diff(DOMAIN, old, short).changes is False


def test_records_that_somebody_removed_are_seen_and_mended(tmp_path: Path, published: Props) -> None:
    provider, inputs = DiscoveryProvider(), discovery(tmp_path, ALICE, BOB, CAROL)
    whole = served(tmp_path)
    (tmp_path / "zone.json").write_text("{}")
    read = provider.read(DOMAIN, published)
    assert read.outs is not None
    assert read.outs["served"] is False
    assert provider.diff(DOMAIN, read.outs, inputs).changes is True
    provider.update(DOMAIN, read.outs, inputs)
    assert served(tmp_path) == whole


def test_destroying_takes_every_record_away(tmp_path: Path, published: Props) -> None:
    DiscoveryProvider().delete(DOMAIN, published | discovery(tmp_path, ALICE, BOB, CAROL))
    assert served(tmp_path) == {}


def test_a_lost_state_takes_up_what_dns_serves(tmp_path: Path, published: Props) -> None:
    first = bundle(tmp_path)
    created = DiscoveryProvider().create(discovery(tmp_path, ALICE, BOB, CAROL))
    assert created.outs is not None
    assert created.outs["seq"] == first.seq
    assert bundle(tmp_path).text == first.text


def test_the_key_may_lie_in_a_file(tmp_path: Path) -> None:
    key = tmp_path / "publisher.key"
    store(PUBLISHER, key)
    inputs = discovery(tmp_path, ALICE, BOB, CAROL, signer_file=str(key))
    del inputs["signer_seed"]
    DiscoveryProvider().create(inputs)
    assert bundle(tmp_path).signatures
    key.chmod(0o644)
    with pytest.raises(ResourceFailed, match="key_file_loose"):
        DiscoveryProvider().create(inputs)


def test_a_list_may_be_signed_elsewhere(tmp_path: Path) -> None:
    now = int(time.time())
    entries = []
    for text in (ALICE, BOB, CAROL):
        peer, _, place = text.partition("@")
        ip, _, port = place.partition(":")
        label = {ALICE: "alice", BOB: "bob", CAROL: "carol"}[text]
        assert peer == str(Identity.from_label(label).peer_id)
        entries.append(BundleEntry(Identity.from_label(label).peer_id, ip, int(port), ""))
    signed = Bundle(now, now - 60, now + 20 * DAY, None, tuple(entries)).sign(DOMAIN, [PUBLISHER])
    inputs = discovery(tmp_path, ALICE, BOB, CAROL, signed=signed.text)
    del inputs["signer_seed"]
    DiscoveryProvider().create(inputs)
    assert bundle(tmp_path).text == signed.text
    with pytest.raises(ResourceFailed, match="signed_differs"):
        DiscoveryProvider().create(inputs | {"entries": [ALICE, BOB]})


def test_without_any_key_nothing_is_published(tmp_path: Path) -> None:
    inputs = discovery(tmp_path, ALICE, BOB, CAROL)
    del inputs["signer_seed"]
    with pytest.raises(ResourceFailed, match="signature_missing"):
        DiscoveryProvider().create(inputs)
    assert not (tmp_path / "zone.json").exists()


def addresses(folder: Path, *ips: str) -> Props:
    return {**zone_inputs(folder), "host": "boot1.example.org", "addresses": list(ips), "ttl": 300}


def test_addresses_are_written_changed_and_removed(tmp_path: Path) -> None:
    provider = AddressesProvider()
    created = provider.create(addresses(tmp_path, "192.0.2.1", "2001:db8::1"))
    assert created.outs is not None
    assert served(tmp_path)["boot1.example.org"] == {
        "A": ["192.0.2.1"],
        "AAAA": ["2001:db8::1"],
        "TTL": ["300"],
    }
    again = addresses(tmp_path, "192.0.2.1", "2001:db8::1")
    assert provider.diff("", created.outs, again).changes is False
    moved = provider.update("", created.outs, addresses(tmp_path, "192.0.2.2")).outs
    assert served(tmp_path)["boot1.example.org"] == {"A": ["192.0.2.2"], "TTL": ["300"]}
    assert moved is not None
    (tmp_path / "zone.json").write_text('{"boot1.example.org": {"A": ["203.0.113.66"]}}')
    found = provider.read("", moved).outs
    assert found is not None
    assert found["served"] is False
    assert provider.diff("", found, addresses(tmp_path, "192.0.2.2")).changes is True
    provider.delete("", moved)
    assert served(tmp_path) == {"boot1.example.org": {"A": ["203.0.113.66"]}}  # not ours


def test_a_name_that_somebody_uses_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "zone.json").write_text('{"boot1.example.org": {"A": ["203.0.113.66"]}}')
    with pytest.raises(ResourceFailed, match=r"boot1\.example\.org has 203\.0\.113\.66 in DNS"):
        AddressesProvider().create(addresses(tmp_path, "192.0.2.1"))


def test_a_manifest_is_signed_again_only_for_something_new() -> None:
    provider = ManifestProvider()
    peers = [f"/ip4/192.0.2.1/tcp/9000/p2p/{Identity.from_label('alice').peer_id}"]
    inputs: Props = {
        "domain": DOMAIN,
        "publishers": [PUBLISHER.public_key.hex()],
        "peers": peers,
        "signer_seed": base64.b64encode(PUBLISHER.seed).decode(),
    }
    made = provider.create(inputs).outs
    assert made is not None
    assert "signer_seed" not in made
    assert provider.diff(DOMAIN, made, inputs).changes is False
    assert provider.diff(DOMAIN, made, inputs | {"peers": []}).changes is True
    assert provider.create({**inputs, "signer_seed": None}).outs == {**made, "text": ""}


def manifest_inputs(*names: str, **more: Any) -> Props:
    return {
        "domain": DOMAIN,
        "publishers": [PUBLISHER.public_key.hex()],
        "peers": [f"/ip4/192.0.2.1/tcp/9000/p2p/{Identity.from_label(name).peer_id}" for name in names],
        "signer_seed": base64.b64encode(PUBLISHER.seed).decode(),
        "is_judged": True,
        "force_unsafe": False,
        **more,
    }


def kept(olds: Props, news: Props) -> Props:
    checked = ManifestProvider().check(olds, news)
    assert checked.failures == []
    return checked.inputs


def why_not(olds: Props, news: Props) -> str:
    [failure] = ManifestProvider().check(olds, news).failures
    return failure.reason


def test_a_set_of_nodes_too_far_from_the_last_is_refused_before_any_node_changes() -> None:
    three = kept({}, manifest_inputs("alice", "bob", "carol"))
    one = manifest_inputs("alice")
    refused = why_not(three, one)
    assert refused.startswith("[unsafe_plan]")
    assert "It removes 2 of 3 nodes" in refused
    assert "pulumi config set wws:force_unsafe true" in refused
    assert "--" not in refused
    assert why_not({**three, "witnesses": None}, one) == refused  # of a stack that did not remember
    assert kept(three, one | {"is_judged": False})["peers"] == one["peers"]
    assert kept(three, one | {"domain": "example.net"})["peers"] == one["peers"]
    unknown = kept(three, one | {"peers": Unknown()})
    assert isinstance(unknown["peers"], Unknown)


def test_the_manifest_remembers_when_the_set_changed_and_what_it_was() -> None:
    three = kept({}, manifest_inputs("alice", "bob", "carol"))
    assert kept(three, manifest_inputs("alice", "bob", "carol")) == three
    moved = kept(three, manifest_inputs("alice", "bob", "dave"))
    assert "the next change is safe from" in why_not(moved, manifest_inputs("alice", "erin", "dave"))
    assert (
        kept(moved, manifest_inputs("alice", "bob", "carol"))["witnesses"]["peers"]
        == (three["witnesses"]["peers"])
    )


def test_a_change_is_forced_once() -> None:
    three = kept({}, manifest_inputs("alice", "bob", "carol"))
    forced = kept(three, manifest_inputs("alice", force_unsafe=True))
    assert forced["witnesses"]["forced"] is True
    again = manifest_inputs("dave", force_unsafe=True)
    assert why_not(forced, again).startswith("[force_spent]")
    taken_out = kept(forced, manifest_inputs("alice"))
    assert taken_out["witnesses"]["forced"] is False
    provider = ManifestProvider()
    made = provider.create(forced).outs or {}
    assert provider.diff(DOMAIN, made, taken_out).changes is True
    assert (provider.update(DOMAIN, made, taken_out).outs or {})["text"] == made["text"]


def test_an_identity_that_moves_to_another_machine_has_lost_its_promises() -> None:
    provider = PromisesProvider()
    first = provider.create({"peer_id": "alice", "machine": "one"}).outs
    assert first is not None
    assert first["lost"] is False
    assert provider.diff("", first, {"peer_id": "alice", "machine": "one"}).changes is False
    second = provider.update("", first, {"peer_id": "alice", "machine": "two"}).outs
    assert second is not None
    assert second["lost"] is True
    new = provider.update("", second, {"peer_id": "bob", "machine": "three"}).outs
    assert new is not None
    assert new["lost"] is False


def test_every_seed_is_another() -> None:
    made = [SeedProvider().create({}).outs or {} for _ in range(2)]
    assert made[0]["seed"] != made[1]["seed"]
    for outs in made:
        assert str(Identity(base64.b64decode(outs["seed"])).peer_id) == outs["peer_id"]


def test_a_key_from_a_file_is_taken_once_and_never_exchanged(tmp_path: Path) -> None:
    alice, other = tmp_path / "alice.key", tmp_path / "bob.key"
    store(Identity.from_label("alice"), alice)
    store(Identity.from_label("bob"), other)
    provider = SeedProvider()
    inputs: Props = {"key_file": str(alice)}
    made = provider.create(inputs)
    outs: Props = made.outs or {}
    assert made.id == outs["peer_id"] == str(Identity.from_label("alice").peer_id)
    assert provider.diff(made.id, outs, inputs).changes is False
    with pytest.raises(ResourceFailed, match="identity_differs"):
        provider.diff(made.id, outs, {"key_file": str(other)})
    alice.unlink()
    assert provider.diff(made.id, outs, inputs).changes is False
    with pytest.raises(ResourceFailed, match="no_identity"):
        provider.create(inputs)


def test_an_identity_with_a_past_has_lost_its_promises_where_they_are_not() -> None:
    made = PromisesProvider().create({"peer_id": "alice", "machine": "one", "has_a_past": True}).outs
    assert made is not None
    assert made["lost"] is True
    same: Props = {"peer_id": "alice", "machine": "one"}
    assert PromisesProvider().diff("", made, same).changes is False


def test_a_host_takes_over_what_a_killed_run_left_and_nothing_else(tmp_path: Path) -> None:
    provider, home = HostProvider(), tmp_path / "boot1"
    made = provider.create({"home": str(home)})
    assert provider.create({"home": str(home)}).id == made.id
    assert provider.read(made.id, made.outs or {}).id == made.id
    provider.delete("of another", made.outs or {})
    assert home.exists()
    provider.delete(made.id, made.outs or {})
    assert not home.exists()
    assert provider.read(made.id, made.outs or {}).id == ""
    home.mkdir(parents=True)
    (home / "letters").write_text("dear alice")
    with pytest.raises(ResourceFailed, match="folder_taken"):
        provider.create({"home": str(home)})
