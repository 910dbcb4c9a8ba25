"""Publishing through dynamic updates to a real Knot, and what goes wrong with it."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.knot import Knot, Tsig
from tests.prerequisites import find_tool
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey
from wws.discovery.txt import bundle_name
from wws.identity.keys import Identity
from wws_dns.desired import Desired, Node
from wws_dns.history import History
from wws_dns.provider import (
    AuthFailed,
    Changes,
    Conflict,
    Record,
    Refused,
    Unavailable,
    ZoneLocked,
)
from wws_dns.publishing import Publisher
from wws_dns.rfc2136 import Rfc2136Config, Rfc2136Provider
from wws_dns.tsig import TsigKey, parse_tsig

pytestmark = [
    pytest.mark.net,
    pytest.mark.skipif(find_tool("knotd") is None, reason="knotd is missing (apt install knot)"),
]
DOMAIN = "boot.test"
PUBLISHER = Identity.from_label("publisher")
TSIG = Tsig()
DAY = 86_400


@pytest.fixture
def knot(tmp_path: Path) -> Iterator[Knot]:
    with Knot(tmp_path, DOMAIN, tsig=TSIG) as running:
        yield running


def provider(knot: Knot, key: TsigKey | None = None, timeout: float = 10.0) -> Rfc2136Provider:
    return Rfc2136Provider(
        DOMAIN, "127.0.0.1", knot.port, key=key or parse_tsig(TSIG.line), config=Rfc2136Config(timeout)
    )


def wanted(*labels: str) -> Desired:
    addresses = {"alice": "192.0.2.1", "bob": "198.51.100.2", "carol": "203.0.113.3", "dave": "2001:db8::4"}
    return Desired(
        DOMAIN,
        tuple(
            Node(Identity.from_label(label).peer_id, f"{label}.{DOMAIN}", addresses=(addresses[label],))
            for label in labels
        ),
    )


def put(knot: Knot, name: str, value: str, key: TsigKey | None = None, timeout: float = 10.0) -> None:
    """Change one record set, from what stands there now."""
    one = provider(knot, key, timeout)
    one.apply(Changes(add=(Record(name, "TXT", value, 60),), expected=one.fetch([(name, "TXT")])))


def test_publish_change_and_roll_back(knot: Knot) -> None:
    clock = time.time()
    publisher = Publisher(provider(knot), History(DOMAIN), lambda: clock)
    client = BundleState(DOMAIN, [PublisherKey(PUBLISHER.public_key)])

    def served() -> list[str]:
        return knot.transfer()[bundle_name(DOMAIN), "TXT"]

    first = publisher.publish(publisher.plan(wanted("alice", "bob", "carol"), [PUBLISHER]))
    assert served() == [first.text]
    assert client.choose(served(), int(clock)).bundle.peers == wanted("alice", "bob", "carol").peers
    assert publisher.plan(wanted("alice", "bob", "carol"), [PUBLISHER]).is_empty
    clock += 3 * DAY
    changed = wanted("alice", "bob", "dave")
    # TSIG compares the server's clock with that of the provider, which is the real one.
    publisher.publish(publisher.plan(changed, [PUBLISHER]))
    zone = knot.transfer()
    assert ("dave.boot.test", "AAAA") in zone
    assert ("carol.boot.test", "A") not in zone
    assert client.choose(served(), int(clock)).bundle.peers == changed.peers
    assert {record.ttl for record in provider(knot).fetch([(bundle_name(DOMAIN), "TXT")])} == {60}
    back = publisher.publish(publisher.rollback(signers=[PUBLISHER]))
    assert client.choose(served(), int(clock)).bundle.seq == back.seq
    assert client.last is not None
    assert client.last.peers == wanted("alice", "bob", "carol").peers
    publisher.retire(DOMAIN)
    assert {name for name, kind in knot.transfer()} == {DOMAIN, f"ns1.{DOMAIN}"}


def test_of_two_operators_one_is_told(knot: Knot) -> None:
    clock = time.time()
    history = History(DOMAIN)
    alices = Publisher(provider(knot), history, lambda: clock)
    alices.publish(alices.plan(wanted("alice", "bob", "carol"), [PUBLISHER]))
    clock += 3 * DAY
    bobs = Publisher(provider(knot), history.copy(), lambda: clock)
    one = alices.plan(wanted("alice", "bob", "dave"), [PUBLISHER])
    other = bobs.plan(wanted("alice", "bob"), [PUBLISHER])
    assert one.bundle is not None
    assert other.bundle is not None
    assert one.bundle.seq == other.bundle.seq  # planned in the same second
    alices.publish(one)
    before = knot.transfer()
    with pytest.raises(Conflict) as told:
        bobs.publish(other)
    assert "plan again" in told.value.hint
    assert knot.transfer() == before
    again = bobs.plan(wanted("alice", "bob", "dave"), [PUBLISHER])
    assert again.is_empty
    assert bobs.publish(again).seq == one.bundle.seq


def test_the_server_itself_refuses_what_is_not_as_expected(knot: Knot) -> None:
    """Between our look and our update somebody else was faster: the prerequisites in the message tell."""
    put(knot, "_race.boot.test", "first")
    slow = provider(knot)
    looked = slow._rdataset

    def look_then_lose(name: str, kind: str) -> object:
        seen = looked(name, kind)  # type: ignore[arg-type]
        put(knot, "_race.boot.test", "second")
        return seen

    slow._rdataset = look_then_lose  # type: ignore[method-assign, assignment]
    with pytest.raises(Conflict, match="NXRRSET"):
        slow.apply(
            Changes(
                add=(Record("_race.boot.test", "TXT", "mine", 60),),
                expected=(Record("_race.boot.test", "TXT", "first", 60),),
            )
        )
    assert "mine" not in knot.transfer()["_race.boot.test", "TXT"]


@pytest.mark.parametrize(
    "key, said",
    [
        (TsigKey("deploy", "hmac-sha256", bytes(32)), "another secret"),
        (TsigKey("stranger", "hmac-sha256", base64.b64decode(TSIG.secret)), "does not know the TSIG key"),
    ],
    ids=["wrong secret", "wrong name"],
)
def test_a_wrong_tsig_key_is_refused_by_plan_already(knot: Knot, key: TsigKey, said: str) -> None:
    publisher = Publisher(provider(knot, key), History(DOMAIN))
    with pytest.raises(AuthFailed, match=said) as refused:
        publisher.plan(wanted("alice"), [PUBLISHER])
    assert refused.value.hint
    assert base64.b64encode(key.secret).decode() not in str(refused.value)


def test_a_clock_that_is_an_hour_off_is_said(knot: Knot, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("dns.message.time.time", lambda: real() - 3_600)
    with pytest.raises(AuthFailed, match="disagree about the time") as refused:
        provider(knot).fetch([(DOMAIN, "TXT")])
    assert "clock" in refused.value.hint


def test_a_name_that_the_key_may_not_change(tmp_path: Path) -> None:
    narrow = Tsig(names=("_dnsaddr",))
    with Knot(tmp_path, DOMAIN, tsig=narrow) as knot:
        key = parse_tsig(narrow.line)
        put(knot, "_dnsaddr.boot.test", "dnsaddr=/ip4/192.0.2.1/tcp/9000", key)
        publisher = Publisher(provider(knot, key), History(DOMAIN))
        plan = publisher.plan(wanted("alice"), [PUBLISHER])
        before = knot.transfer()
        with pytest.raises(Refused, match="may not do that") as refused:
            publisher.publish(plan)
        assert "TXT, A and AAAA" in refused.value.hint
        assert knot.transfer() == before  # not even the names that it may change


def test_a_frozen_zone_is_locked(knot: Knot) -> None:
    put(knot, "_dnsaddr.boot.test", "one")
    knot.control("zone-freeze", DOMAIN)
    with pytest.raises(ZoneLocked, match="frozen") as locked:
        put(knot, "_dnsaddr.boot.test", "two")
    assert "thaw" in locked.value.hint
    knot.control("zone-thaw", DOMAIN)
    put(knot, "_dnsaddr.boot.test", "two")
    assert "two" in knot.transfer()["_dnsaddr.boot.test", "TXT"]


def test_an_open_transaction_locks_the_zone(knot: Knot) -> None:
    knot.control("zone-begin", DOMAIN)
    with pytest.raises(ZoneLocked, match="transaction") as locked:
        put(knot, "_dnsaddr.boot.test", "one", timeout=1.0)
    assert "plan again" in locked.value.hint
    knot.control("zone-abort", DOMAIN)


def test_a_server_that_is_no_authority_or_not_there(knot: Knot) -> None:
    elsewhere = Rfc2136Provider("example.org", "127.0.0.1", knot.port, key=parse_tsig(TSIG.line))
    with pytest.raises((Unavailable, Refused, AuthFailed)) as refused:
        elsewhere.fetch([("example.org", "TXT")])
    assert refused.value.hint
    port = knot.port
    knot._end()
    gone = Rfc2136Provider(DOMAIN, "127.0.0.1", port, key=parse_tsig(TSIG.line))
    with pytest.raises(Unavailable, match="cannot be reached"):
        gone.fetch([(DOMAIN, "TXT")])


def test_texts_of_any_cut_are_replaced(tmp_path: Path) -> None:
    """Somebody wrote a long text in strings of other lengths: it is found by what it says."""
    text = "v=1 peer=" + "x" * 400
    with Knot(tmp_path, DOMAIN, {"_openswarm._tcp.boot.test": {"TXT": [text]}}, tsig=TSIG) as knot:
        one = provider(knot)
        (found,) = one.fetch([("_openswarm._tcp.boot.test", "TXT")])
        assert found.value == text
        new = Record(found.name, "TXT", "y" * 600, 60)
        one.apply(Changes(add=(new,), remove=(found,), expected=(found,)))
        assert one.fetch([new.set]) == (new,)
        assert knot.transfer()[new.set] == ["y" * 600]
