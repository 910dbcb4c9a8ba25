"""A DNS account that was taken over, and an API that lies: what they serve steers nothing here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.rdataset
import pytest

from tests.lab.cloudflare_api import CloudflareApi
from tests.unit.dns.world import DOMAIN, World, node, wanted
from wws.discovery.txt import bundle_name, dnsaddr_name
from wws_dns.asking import Answer, Question
from wws_dns.authority import most_named
from wws_dns.cloudflare import CloudflareConfig, CloudflareProvider
from wws_dns.cloudflare_token import TokenFileLoose, read_token
from wws_dns.desired import Desired, Node
from wws_dns.plan import UnsafePlan
from wws_dns.provider import Changes, ProviderError, Record
from wws_dns.rfc2136 import Rfc2136Provider
from wws_dns.tsig import TsigKey

BUNDLE = bundle_name(DOMAIN)


@pytest.mark.parametrize(
    "text",
    [
        "x\nNo record changes.\n\x1b[2K",
        "\x1b]0;title\x07",
        "\x1b[8m hidden",
        "a\rb",
        "\u202etxt",
        b"\xff\xfe".decode("utf-8", "surrogateescape"),
        'x" 300 TXT "y',
    ],
    ids=ascii,
)
def test_a_record_is_one_line_of_the_plan(text: str) -> None:
    world = World()
    before = world.plan(wanted("alice", "bob", "carol")).render()
    world.provider.records.add(Record(dnsaddr_name(DOMAIN), "TXT", text, 300))
    plan = world.plan(wanted("alice", "bob", "carol")).render()
    assert all(line.isprintable() for line in plan.split("\n"))
    plan.encode()
    (more,) = set(plan.split("\n")) - set(before.split("\n"))
    assert more.startswith("- _dnsaddr.example.org 300 TXT ")
    assert more.count('"') == 2 + more.count('\\"')


def test_retiring_leaves_what_others_have_put_there() -> None:
    """`_dnsaddr` is a name that other libp2p programs use, too."""
    world = World()
    world.publish(wanted("alice", "bob", "carol"))
    world.publish(wanted("alice", "bob", "carol", ttl=600))
    others = {
        Record(dnsaddr_name(DOMAIN), "TXT", f"dnsaddr={address}", 300)
        for address in ("/dnsaddr/example.net", str(node("dave").entry.addresses()[0]))
    }
    world.provider.records |= others
    world.publisher.retire(DOMAIN)
    assert world.provider.records == others


def test_retiring_removes_what_earlier_publications_have_left() -> None:
    world = World()
    world.publish(wanted("alice", "bob", "carol"))
    left = set(world.provider.records)
    world.now += 3 * 86_400
    world.publish(wanted("alice", "bob", "dave"))
    world.provider.records |= left
    world.publisher.retire(DOMAIN)
    assert not world.provider.records


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudflareApi]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with CloudflareApi(DOMAIN) as server:
        yield server


RECORD: dict[str, Any] = {"id": "1", "name": BUNDLE, "type": "TXT", "content": '"x"', "ttl": 300}
INFO = {"page": 1, "per_page": 0, "count": 0, "total_count": 9, "total_pages": 9}


@pytest.mark.parametrize(
    "result",
    [
        ([], INFO),
        ([], INFO | {"per_page": -1}),
        ([RECORD | {"name": None}], INFO | {"per_page": 100}),
        ([RECORD | {"ttl": None}], INFO | {"per_page": 100}),
        ([RECORD | {"ttl": "x"}], INFO | {"per_page": 100}),
        ([RECORD | {"content": '"\ud800"'}], INFO | {"per_page": 100}),
        (["text"], INFO | {"per_page": 100}),
        ([None], INFO | {"per_page": 100}),
        ([RECORD], INFO | {"per_page": 1}),
        ([RECORD], {"per_page": "many"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["zones", "dns_records"])
def test_an_api_that_lies_is_told_apart_and_ends(
    api: CloudflareApi, result: tuple[list[Any], dict[str, Any]], where: str
) -> None:
    honest = api.answer

    def answer(method: str, target: str, token: str | None, body: dict[str, Any]) -> Any:
        if target.split("?")[0].endswith(where):
            items, info = result
            return 200, {"success": True, "errors": [], "messages": [], "result": items, "result_info": info}
        return honest(method, target, token, body)

    api.answer = answer  # type: ignore[method-assign]
    config = CloudflareConfig(base_url=api.url, max_retries=0, timeout=5.0, max_records=20)
    provider = CloudflareProvider(DOMAIN, token=api.token, config=config)
    try:
        found = provider.fetch([(BUNDLE, "TXT")])
        for record in found:
            assert record.set == (BUNDLE, "TXT")
    except ProviderError:
        pass
    finally:
        provider.close()


def test_more_than_an_update_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prerequisites carry what stands there, and a message has 64 KiB."""
    key = TsigKey("key", "hmac-sha256", b"x" * 32)
    provider = Rfc2136Provider(DOMAIN, "127.0.0.1", 9, key=key)
    many = dns.rdataset.from_text_list("IN", "TXT", 300, [f'"{n:0>250}"' for n in range(300)])
    monkeypatch.setattr(provider, "_rdataset", lambda name, kind: many)
    stands = tuple(Record(BUNDLE, "TXT", f"{n:0>250}", 300) for n in range(300))
    with pytest.raises(ProviderError):
        provider.apply(Changes(add=(Record(BUNDLE, "TXT", "v", 60),), remove=stands, expected=stands))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("a" * 40)
    file.chmod(0o600)
    assert read_token({}, file) == "a" * 40
    file.chmod(mode)
    with pytest.raises(TokenFileLoose) as caught:
        read_token({}, file)
    assert "a" * 40 not in str(caught.value)
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    if mode == 0o640:
        assert read_token(given, file) == "a" * 40


def at_home(label: str, ip: str) -> Node:
    return Node(node(label).peer_id, f"{label}.{DOMAIN}", addresses=(ip,))


def test_the_addresses_of_another_machine_are_not_taken_over() -> None:
    """One line in the records file would be enough to move a web site."""
    world = World()
    theirs = Record(f"www.{DOMAIN}", "A", "192.0.2.80", 300)
    world.provider.records.add(theirs)
    desired = Desired(DOMAIN, (at_home("www", "203.0.113.66"),))
    assert world.codes(desired) == {"name_taken"}
    with pytest.raises(UnsafePlan):
        world.publish(desired)
    assert world.provider.records == {theirs}


def test_our_own_addresses_may_change() -> None:
    world = World()
    for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        world.publish(Desired(DOMAIN, (at_home("alice", ip),)))
        world.now += 1
    assert {record.value for record in world.provider.records if record.kind == "A"} == {"192.0.2.1"}


def test_an_address_that_is_there_as_wanted_is_nobodys_harm() -> None:
    """The stack writes the names of its hosts itself."""
    world = World()
    world.provider.records.add(Record(f"alice.{DOMAIN}", "A", "192.0.2.1", 60))
    assert not world.codes(Desired(DOMAIN, (at_home("alice", "192.0.2.1"),)))


def test_one_lying_resolver_crowds_nobody_out() -> None:
    """It names as many servers as are asked, each before the real ones in the alphabet."""
    answers = [
        Answer(Question(("192.0.2.53", 53), DOMAIN, "NS", "edns"), tuple(f"a{n}.example" for n in range(99))),
        Answer(Question(("198.51.100.53", 53), DOMAIN, "NS", "edns"), ("ns1.example.org", "ns2.example.org")),
        Answer(Question(("203.0.113.53", 53), DOMAIN, "NS", "tcp"), ("ns1.example.org", "ns2.example.org")),
    ]
    assert most_named(answers, 3) == ["ns1.example.org", "ns2.example.org", "a0.example"]
