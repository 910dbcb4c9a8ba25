"""What operators write, and what is remembered: records, inventory, history, requests, keys, zones."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dns.world import DOMAIN, PUBLISHER, SPARE, START, World, key, node, wanted
from wws.identity.keys import Identity
from wws_dns.desired import Desired, DesiredMalformed, Node
from wws_dns.history import (
    MAX_PUBLISHED,
    History,
    HistoryMalformed,
    Publication,
    load_history,
    parse_history,
)
from wws_dns.old_clients import keys_now
from wws_dns.provider import Changes, Conflict, Record, Unavailable, ZoneLocked
from wws_dns.providers import open_provider
from wws_dns.records_file import PROVIDER_KEYS, ProviderSettings, parse_records
from wws_dns.rfc2136 import Rfc2136Provider
from wws_dns.signing import RequestMalformed, SigningRequest, parse_request
from wws_dns.stack_outputs import parse_inventory
from wws_dns.tsig import TsigFileLoose, TsigMalformed, TsigMissing, parse_tsig, read_tsig
from wws_dns.zone_file import ZoneFileMalformed, ZoneFileProvider, parse_zone

ALICE = Identity.from_label("alice").peer_id
SECRET = base64.b64encode(bytes(range(32))).decode()
FULL = f"""
domain = "Example.ORG."
publishers = ["{PUBLISHER.public_key.hex()}"]
ttl = 120
lifetime_days = 7
key_files = ["a.key"]
history = "h.json"
[[node]]
peer_id = "{ALICE}"
host = "alice.example.org"
port = 443
transport = "tcp"
addresses = ["192.0.2.1", "2001:db8::1"]
[provider]
kind = "rfc2136"
server = "192.0.2.53:5353"
tsig_file = "tsig.key"
"""


def test_a_whole_records_file() -> None:
    file = parse_records(FULL)
    expected = Node(ALICE, "alice.example.org", 443, "/t", ("192.0.2.1", "2001:db8::1"))
    assert file.desired == Desired(DOMAIN, (expected,), 120, 7, (key(PUBLISHER),))
    assert file.key_files == ("a.key",)
    assert file.history == "h.json"
    assert file.provider is not None
    assert (file.provider.kind, file.provider.zone) == ("rfc2136", DOMAIN)


def test_the_example_names_each_provider_with_all_that_may_be_said_of_it() -> None:
    text = (Path(__file__).parents[3] / "dns" / "records.example.toml").read_text()
    _, *sections = text.replace("# ", "").split("[provider]\n")
    for kind, names in PROVIDER_KEYS.items():
        (section,) = (one for one in sections if f'kind = "{kind}"' in one)
        assert [name for name in names if f"{name} = " not in section] == []


@pytest.mark.parametrize("kind, path", [("zone_file", "path"), ("zone-file", "file")])
def test_the_zone_file_goes_by_one_name_and_by_its_former(kind: str, path: str) -> None:
    text = f'domain = "demo.test"\n[provider]\nkind = "{kind}"\n{path} = "zone.json"\n'
    provider = parse_records(text).provider
    assert provider is not None
    assert (provider.kind, provider.options["path"]) == ("zone_file", "zone.json")


def test_the_example_is_right() -> None:
    example = Path(__file__).parents[3] / "dns" / "records.example.toml"
    assert len(parse_records(example.read_bytes()).desired.nodes) == 2


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("domain = ", "domian = ", "Did you mean domain"),
        ("lifetime_days = 7", "lifetime_days = 91", "lifetime"),
        ("ttl = 120", "ttl = 0", "TTL"),
        ("ttl = 120", "ttl = true", "whole number"),
        ("port = 443", "port = 0", "not a port"),
        ("port = 443", "prot = 443", "Did you mean port"),
        ('"tcp"', '"udp"', "transport is one of"),
        ('"192.0.2.1"', '"192.0.2.01"', "no IP address"),
        ('"192.0.2.1"', '"alice"', "no IP address"),
        ("alice.example.org", "Alice.example.org", "Nobody can be reached"),
        ('"rfc2136"', '"rfc2137"', "kind is one of"),
        ("server =", "servre =", "Did you mean server"),
        (str(ALICE), "12D3KooWnonsense", "number 1"),
        (PUBLISHER.public_key.hex(), "abc", "publishers"),
        ("Example.ORG.", "exa mple", "not a domain"),
        ("[provider]", "[[provider]]", "is a section"),
        ("ttl = 120", "ttl = ", "not TOML"),
    ],
)
def test_what_is_wrong_with_a_records_file(old: str, new: str, said: str) -> None:
    with pytest.raises(DesiredMalformed, match=said):
        parse_records(FULL.replace(old, new))


def test_one_peer_may_have_two_entries_but_not_twice_the_same() -> None:
    Desired(DOMAIN, (node("alice"), node("alice", 443)))
    with pytest.raises(DesiredMalformed, match="twice"):
        Desired(DOMAIN, (node("alice"), node("alice")))
    with pytest.raises(DesiredMalformed, match="at most 16"):
        Desired(DOMAIN, tuple(node("alice", port) for port in range(1, 18)))


def test_the_inventory_of_the_stack() -> None:
    inventory = {
        "schema": 1,
        "domain": DOMAIN,
        "network": f"{DOMAIN}#{PUBLISHER.public_key.hex()}",
        "hosts": [
            {
                "name": "one",
                "peer_id": str(ALICE),
                "multiaddrs": [
                    f"/ip4/192.0.2.1/tcp/9000/p2p/{ALICE}",
                    "/ip4/192.0.2.1/udp/9000/quic-v1",
                    "/ip6/2001:db8::1/tcp/443",
                ],
                "address": "192.0.2.1",
            }
        ],
    }
    desired = parse_inventory(json.dumps(inventory))
    assert [str(entry).partition("@")[2] for entry in desired.entries] == [
        "192.0.2.1:9000",
        "[2001:db8::1]:443/t",
    ]
    assert desired.keys == (key(PUBLISHER),)
    inventory["hosts"][0]["multiaddrs"] = [f"/ip4/192.0.2.1/tcp/9000/p2p/{PUBLISHER.peer_id}"]  # type: ignore[index]
    with pytest.raises(DesiredMalformed, match="another peer"):
        parse_inventory(json.dumps(inventory))


def test_a_history_survives_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "below" / "history.json"
    world = World(history=load_history(path, DOMAIN))
    world.publish(wanted("alice", keys=[PUBLISHER, SPARE]))
    world.wait(60)
    world.publish(wanted("alice", "bob"), force=True)
    again = load_history(path, DOMAIN)
    assert again.published == world.history.published
    assert again.publishers == (key(PUBLISHER), key(SPARE))
    assert world.publisher.plan(wanted("alice", "bob")).is_empty
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_processes_write_one_history(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    one, other = load_history(path, DOMAIN), load_history(path, DOMAIN)
    world = World()
    bundles = []
    for port in (1, 2):
        world.wait(60)
        world.publish(Desired(DOMAIN, (node("alice", port),)))
        bundles.append(world.bundle)
    one.add(Publication(bundles[0], START), publishers=[key(PUBLISHER)])
    other.add(Publication(bundles[1], START), publishers=[key(PUBLISHER)])
    assert [p.bundle for p in load_history(path, DOMAIN).published] == bundles
    assert [p.bundle for p in other.published] == bundles


def test_a_history_of_a_version_later_is_read() -> None:
    world = World()
    world.publish(wanted("alice"))
    value = world.history.to_json() | {"schema": 2, "new_member": {"a": 1}}
    assert parse_history(json.dumps(value)).published == world.history.published
    with pytest.raises(HistoryMalformed, match="schema 3"):
        parse_history(json.dumps(value | {"schema": 3}))


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "Example.org"},
        {"published": {}},
        {"published": [1]},
        {"published": [{"bundle": "v=wws1;", "at": 1}]},
        {"publishers": ["abc"]},
        {"prepared_at": -1},
    ],
)
def test_a_damaged_history_is_refused(change: dict[str, object]) -> None:
    value: dict[str, object] = dict(History(DOMAIN).to_json()) | change
    with pytest.raises(HistoryMalformed):
        parse_history(json.dumps(value))


def test_the_history_of_another_domain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.json"
    path.write_text(History("example.net").to_text())
    with pytest.raises(HistoryMalformed, match=r"example\.net"):
        load_history(path, DOMAIN)


def test_a_long_history_forgets_its_beginning_and_not_its_keys() -> None:
    world = World()
    world.publish(wanted("alice"))
    world.publish(wanted("alice", keys=[SPARE]), PUBLISHER, SPARE)
    changed = world.bundle
    for n in range(MAX_PUBLISHED):
        later = changed.sign(DOMAIN, [SPARE])
        later = type(later)(changed.seq + n + 1, later.not_before, later.expires_at, None, later.entries)
        world.history.add(Publication(later.sign(DOMAIN, [SPARE]), START))
    assert len(world.history.published) == MAX_PUBLISHED
    assert keys_now(world.history) == (key(SPARE),)


def test_a_request_is_signed_by_one_after_the_other() -> None:
    bundle = World().publisher.plan(wanted("alice", keys=[PUBLISHER, SPARE])).bundle
    assert bundle is not None
    request = parse_request(SigningRequest(DOMAIN, bundle).to_text())
    assert not request.is_signed
    once = request.sign([PUBLISHER], START + 3_600)
    assert once.bundle.seq == START + 3_600  # the time of signing
    assert once.bundle.expires_at - once.bundle.seq == 30 * 86_400
    twice = parse_request(once.to_text()).sign([SPARE], START + 7_200)
    assert twice.bundle.body == once.bundle.body
    assert twice.signed_by(PUBLISHER)
    assert twice.signed_by(SPARE)
    assert twice.sign([SPARE], START + 9_000) == twice


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 1}', '{"schema": 1, "domain": "A.B", "bundle": "v=wws1;x"}', "[" * 9000],
)
def test_what_is_no_request(text: str) -> None:
    with pytest.raises(RequestMalformed):
        parse_request(text)


@pytest.mark.parametrize(
    "text",
    [
        f"hmac-sha256:deploy:{SECRET}",
        f"# hmac-sha256:deploy.:{SECRET}\nkey:\n  - id: deploy.\n",
        f'key "Deploy" {{\n\talgorithm hmac-sha256;\n\tsecret "{SECRET}";\n}};\n',
    ],
    ids=["short", "knot", "bind"],
)
def test_the_forms_of_a_tsig_key(text: str) -> None:
    found = parse_tsig(text)
    assert (found.name, found.algorithm, found.secret) == ("deploy", "hmac-sha256", bytes(range(32)))
    assert SECRET not in repr(found)
    assert str(found.secret) not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "deploy",
        f"hmac-md5:deploy:{SECRET}",
        "hmac-sha256:deploy:AAAA",
        "hmac-sha256:deploy:!",
        'key "a" { };',
    ],
)
def test_what_is_no_tsig_key(text: str) -> None:
    with pytest.raises(TsigMalformed) as refused:
        parse_tsig(text)
    assert SECRET not in str(refused.value)


def test_where_a_tsig_key_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "tsig.key"
    file.write_text(f"hmac-sha256:file:{SECRET}")
    file.chmod(0o600)
    assert read_tsig({}, file).name == "file"
    assert read_tsig({"WWS_DNS_TSIG": f"hmac-sha256:env:{SECRET}"}).name == "env"
    assert read_tsig({"WWS_DNS_TSIG_FILE": str(file)}).name == "file"
    with pytest.raises(TsigMissing):
        read_tsig({})
    with pytest.raises(TsigMissing):
        read_tsig({}, tmp_path / "nowhere")
    file.chmod(0o640)
    with pytest.raises(TsigFileLoose, match="0640"):
        read_tsig({}, file)
    assert read_tsig({"CREDENTIALS_DIRECTORY": str(tmp_path)}, file).name == "file"


@pytest.mark.parametrize(
    "text, name",
    [
        ("192.0.2.53", "rfc2136 192.0.2.53"),
        ("192.0.2.53:5353", "rfc2136 192.0.2.53:5353"),
        ("[2001:db8::53]:5353", "rfc2136 2001:db8::53:5353"),
        ("[2001:db8::53]", "rfc2136 2001:db8::53"),
        ("2001:db8::53", "rfc2136 2001:db8::53"),
        ("ns.example.org", "rfc2136 ns.example.org"),
    ],
)
def test_the_server_of_an_update(tmp_path: Path, text: str, name: str) -> None:
    settings = ProviderSettings("rfc2136", DOMAIN, {"server": text})
    opened = open_provider(settings, tmp_path, {"WWS_DNS_TSIG": f"hmac-sha256:env:{SECRET}"})
    assert isinstance(opened, Rfc2136Provider)
    assert opened.name == name


@pytest.mark.parametrize("text", ["", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:99999", "[::1", ":53"])
def test_what_is_no_server(tmp_path: Path, text: str) -> None:
    settings = ProviderSettings("rfc2136", DOMAIN, {"server": text})
    with pytest.raises(DesiredMalformed):
        open_provider(settings, tmp_path, {"WWS_DNS_TSIG": f"hmac-sha256:env:{SECRET}"})


TXT = Record("_a.example.org", "TXT", "one", 300)


def test_a_zone_file_keeps_what_others_wrote(tmp_path: Path) -> None:
    file = tmp_path / "zone.json"
    file.write_text(json.dumps({"www.example.org": {"A": ["192.0.2.80"]}}))
    zone = ZoneFileProvider(DOMAIN, file)
    zone.apply(Changes(add=(TXT,)))
    assert zone.fetch([TXT.set]) == (TXT,)
    with pytest.raises(Conflict):
        zone.apply(Changes(add=(Record(*TXT.set, "two", 60),)))
    zone.apply(Changes(remove=(TXT,), expected=(TXT,)))
    assert parse_zone(file.read_bytes()) == {"www.example.org": {"A": ["192.0.2.80"]}}


def test_a_zone_file_has_one_writer_at_a_time(tmp_path: Path) -> None:
    zone = ZoneFileProvider(DOMAIN, tmp_path / "zone.json")
    with zone._locked(), pytest.raises(ZoneLocked):
        zone.apply(Changes(add=(TXT,)))


def test_the_server_of_a_zone_file_is_told(tmp_path: Path) -> None:
    file, pid_file = tmp_path / "zone.json", tmp_path / "pid"
    zone = ZoneFileProvider(DOMAIN, file, pid_file=pid_file)
    zone.apply(Changes(add=(TXT,)))  # nobody runs: nobody is told
    waiter = "import signal, sys\nprint(flush=True)\nprint(signal.sigwait([signal.SIGHUP]), flush=True)"
    blocked = [sys.executable, "-c", f"import signal\nsignal.pthread_sigmask(0, [1])\n{waiter}"]
    with subprocess.Popen(blocked, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        pid_file.write_text(f"{process.pid}\n")
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        zone.apply(Changes(remove=(TXT,), expected=(TXT,)))
        assert str(int(signal.SIGHUP)) in process.stdout.read() or process.wait() == 0
        watchdog.cancel()
    zone.apply(Changes(add=(TXT,)))  # the process has gone
    pid_file.write_text("nobody")
    with pytest.raises(Unavailable):
        zone.apply(Changes(remove=(TXT,), expected=(TXT,)))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"a": 1}', b'{"a": {"TXT": "b"}}', b'{"a": {"TXT": [1]}}', b"\xff"]
)
def test_what_is_no_zone_file(data: bytes) -> None:
    with pytest.raises(ZoneFileMalformed):
        parse_zone(data)


@given(
    st.lists(
        st.builds(Record, st.sampled_from(["a", "b"]), st.just("TXT"), st.sampled_from("xyz"), st.just(60))
    )
)
def test_changes_lead_where_they_say(records: list[Record]) -> None:
    half = len(records) // 2
    before, after = set(records[:half]), set(records[half:])
    changes = Changes(tuple(after - before), tuple(before - after), tuple(before))
    assert set(changes.after(tuple(before))) == after
    assert changes.expects(before)
    assert changes.is_empty == (before == after)
