"""Publishing at Cloudflare, through its SDK, against a stand-in for its API."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.cloudflare_api import CloudflareApi, Fault
from wws.discovery.bundle import Bundle
from wws.discovery.bundle_state import BundleState
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws_dns.character_strings import content_of, text_of
from wws_dns.cloudflare import CloudflareConfig, CloudflareProvider
from wws_dns.cloudflare_token import TokenMalformed, TokenMissing, read_token
from wws_dns.desired import Desired, Node
from wws_dns.history import History
from wws_dns.provider import (
    AuthFailed,
    Changes,
    Conflict,
    Partial,
    ProviderError,
    RateLimited,
    Record,
    Refused,
    Unavailable,
    ZoneLocked,
)
from wws_dns.publishing import Publisher

pytestmark = pytest.mark.net

ZONE = "boot.test"
BUNDLE = f"_wws-bundle._tcp.{ZONE}"
OLD = Record(BUNDLE, "TXT", "v=wws1;seq=1;" + "a" * 400, 300)
NEW = Record(BUNDLE, "TXT", "v=wws1;seq=2;" + "b" * 400, 60)
HOST = Record(f"eu.{ZONE}", "A", "192.0.2.1", 300)
NO_ANSWER = Fault(0)
PUBLISHER = Identity.from_label("publisher1")


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudflareApi]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with CloudflareApi("example.test", ZONE) as server:
        yield server


@contextlib.contextmanager
def opened(api: CloudflareApi, *, token: str | None = None, **config: object) -> Iterator[CloudflareProvider]:
    settings = CloudflareConfig(**{"base_url": api.url, "max_retries": 0, **config})  # type: ignore[arg-type]
    provider = CloudflareProvider(ZONE, token=token or api.token, config=settings)
    try:
        yield provider
    finally:
        provider.close()


def replacing(*expected: Record) -> Changes:
    return Changes((NEW,), (OLD,), expected or (OLD,))


def test_what_is_there_is_read_from_every_page() -> None:
    with CloudflareApi(ZONE, max_page=3) as api:
        for number in range(7):
            api.put(f"many.{ZONE}", "TXT", f'"record {number}"')
        with opened(api) as provider:
            found = provider.fetch([(f"many.{ZONE}", "TXT")])
    assert [record.value for record in found] == [f"record {number}" for number in range(7)]


def test_a_name_inside_the_zone_finds_the_zone(api: CloudflareApi) -> None:
    config = CloudflareConfig(base_url=api.url, max_retries=0)
    provider = CloudflareProvider(f"net.eu.{ZONE}", token=api.token, config=config)
    assert provider.fetch([(BUNDLE, "TXT")]) == ()
    assert provider.zone == ZONE
    provider.close()


def test_texts_are_read_however_they_were_put_in(api: CloudflareApi) -> None:
    long = "x" * 300
    for content in ("bare words", '"in quotes"', f'"{long[:255]}" "{long[255:]}"', r'"a \"b\" \\ \195\182"'):
        api.put(BUNDLE, "TXT", content)
    with opened(api) as provider:
        texts = {record.value for record in provider.fetch([(BUNDLE, "TXT")])}
    assert texts == {"bare words", "in quotes", long, 'a "b" \\ ö'}


def test_adds_then_removes_and_leaves_the_rest_alone(api: CloudflareApi) -> None:
    old = api.put(BUNDLE, "TXT", content_of(OLD.value))
    api.put(BUNDLE, "TXT", '"of somebody else"')
    other = Record(BUNDLE, "TXT", "of somebody else", 300)
    with opened(api) as provider:
        provider.apply(Changes((NEW, HOST), (OLD,), (OLD, other)))
        assert provider.fetch([NEW.set, HOST.set]) == tuple(sorted((NEW, HOST, other)))
        batches = [request for request in api.requests if request.startswith("POST")]
        assert len(batches) == 2
        assert all(request.endswith("/batch") for request in batches)
    assert old not in api.records
    assert api.contents(BUNDLE)[1] == f'"{NEW.value[:255]}" "{NEW.value[255:]}"'


def test_removes_by_content_what_was_made_anew_in_the_dashboard(api: CloudflareApi) -> None:
    first = api.put(BUNDLE, "TXT", content_of(OLD.value))
    with opened(api) as provider:
        provider.fetch([OLD.set])
        api.records.pop(first)
        api.put(BUNDLE, "TXT", content_of(OLD.value), 1)
        provider.apply(Changes((), (OLD,), (OLD,)))
        assert provider.fetch([OLD.set]) == ()
        provider.apply(Changes((), (OLD,), ()))  # gone already


def test_another_time_to_live_changes_the_record_in_its_place(api: CloudflareApi) -> None:
    key = api.put(BUNDLE, "TXT", content_of(OLD.value))
    shorter = Record(OLD.name, "TXT", OLD.value, 60)
    with opened(api) as provider:
        provider.apply(Changes((shorter,), (OLD,), (OLD,)))
        assert provider.fetch([OLD.set]) == (shorter,)
    assert api.records[key]["ttl"] == 60


def test_an_address_behind_the_proxy_is_taken_out_of_it(api: CloudflareApi) -> None:
    key = api.put(HOST.name, "A", HOST.value, 1, proxied=True)
    with opened(api) as provider:
        (found,) = provider.fetch([HOST.set])
        provider.apply(Changes((HOST,), (found,), (found,)))
        assert provider.fetch([HOST.set]) == (HOST,)
    assert api.records[key]["proxied"] is False


def test_two_operators_conflict(api: CloudflareApi) -> None:
    api.put(BUNDLE, "TXT", content_of("v=wws1;seq=9;of bob"))
    with opened(api) as provider, pytest.raises(Conflict):
        provider.apply(replacing())
    assert api.contents(BUNDLE) == ['"v=wws1;seq=9;of bob"']


def test_large_changes_go_in_several_batches(api: CloudflareApi) -> None:
    many = tuple(Record(f"many.{ZONE}", "TXT", f"record {number}", 300) for number in range(7))
    with opened(api, batch=3) as provider:
        provider.apply(Changes(many))
        assert len(provider.fetch([many[0].set])) == 7
    assert sum(request.endswith("/batch") for request in api.requests) == 3


def test_too_many_records_are_not_read_forever(api: CloudflareApi) -> None:
    for number in range(6):
        api.put(BUNDLE, "TXT", f'"record {number}"')
    with opened(api, page=2, max_records=5) as provider, pytest.raises(Refused, match="more than 5"):
        provider.fetch([OLD.set])


REFUSALS = [
    (Fault(401, 10_000, "Authentication error"), AuthFailed, "expired or revoked"),
    (Fault(400, 6_003, "Invalid request headers"), AuthFailed, "form"),
    (Fault(403, 9_109, "Invalid access token"), AuthFailed, "expired or revoked"),
    (Fault(403, 10_000, "Authentication error"), AuthFailed, "DNS Edit"),
    (Fault(403, html=True), Refused, "edge"),
    (Fault(404, 7_003, "Could not route to /zones/x"), Refused, "still in this account"),
    (Fault(409, 1_015, "Zone is locked"), ZoneLocked, "froze"),
    (Fault(400, 1_043, "This record is managed by Email Routing"), ZoneLocked, "Another part"),
    (Fault(400, 9_021, "TTL must be between 60 and 86400 seconds, or 1"), Refused, "names"),
    (Fault(429, 971, "Please wait and consider throttling"), RateLimited, "Nothing is wrong"),
    (Fault(500, 10_001, "Internal error"), Unavailable, "cloudflarestatus"),
    (Fault(502, html=True), Unavailable, "cloudflarestatus"),
    (Fault(503, 10_002, "Service unavailable"), Unavailable, "cloudflarestatus"),
    (NO_ANSWER, Unavailable, "the way to the server"),
]


@pytest.mark.parametrize(
    ("fault", "error", "hint"), REFUSALS, ids=[f"{fault.status}-{fault.code}" for fault, _, _ in REFUSALS]
)
def test_every_refusal_is_told_with_its_mend(
    api: CloudflareApi, fault: Fault, error: type[ProviderError], hint: str
) -> None:
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    with opened(api) as provider:
        api.fail(fault)
        with pytest.raises(error) as reading:
            provider.fetch([OLD.set])
        api.fail(fault, method="POST")
        with pytest.raises(error) as writing:
            provider.apply(replacing())
        for caught in (reading, writing):
            assert hint in caught.value.hint
            assert api.token not in f"{caught.value} {caught.value.hint}"
        assert api.contents(BUNDLE) == [content_of(OLD.value)]
        provider.apply(replacing())  # nothing was left in a bad state
        assert api.contents(BUNDLE) == [content_of(NEW.value)]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "Sat, 21 Nov 2076 12:00:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_says_when_to_come_back(api: CloudflareApi, headers: dict[str, str], seconds: float | None) -> None:
    api.fail(Fault(429, 971, "Please wait and consider throttling your request speed", headers))
    with opened(api) as provider, pytest.raises(RateLimited) as caught:
        provider.fetch([OLD.set])
    if "2076" in headers.get("retry-after", ""):
        assert caught.value.retry_after is not None
        assert caught.value.retry_after > 1e9
    else:
        assert caught.value.retry_after == seconds
        assert caught.value.details == ({} if seconds is None else {"retry_after": seconds})


def test_a_short_wait_is_waited(api: CloudflareApi) -> None:
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    with opened(api, max_retries=1) as provider:
        api.fail(Fault(429, 971, "Please wait", {"retry-after": "0.01"}))
        assert provider.fetch([OLD.set]) == (OLD,)


def test_silence_ends(api: CloudflareApi) -> None:
    with opened(api, timeout=0.2) as provider:
        api.fail(Fault(silent=True))
        with pytest.raises(Unavailable, match=r"within 0\.2 s"):
            provider.fetch([OLD.set])


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_something_else_that_answers_is_not_taken_for_the_api(api: CloudflareApi, kind: str) -> None:
    api.fail(Fault(200, html=True, headers={"content-type": kind}))
    with opened(api) as provider, pytest.raises(Unavailable, match="something else"):
        provider.fetch([OLD.set])


@pytest.mark.parametrize("fault", [NO_ANSWER, Fault(504, 10_504, "Gateway timeout")], ids=["cut", "504"])
def test_an_answer_that_got_lost_is_not_taken_for_a_failure(api: CloudflareApi, fault: Fault) -> None:
    lost = Fault(fault.status, fault.code, fault.message, when="after")
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    with opened(api) as provider:
        api.fail(lost, method="POST")
        with pytest.raises(Partial) as caught:
            provider.apply(replacing())
        assert (caught.value.done.add, caught.value.left.remove) == ((NEW,), (OLD,))
        api.fail(lost, method="POST")
        provider.apply(caught.value.left)  # the removal, whose answer is lost too
    assert api.contents(BUNDLE) == [content_of(NEW.value)]


def test_a_repeated_request_that_had_been_done_is_done_once(api: CloudflareApi) -> None:
    with opened(api, max_retries=1) as provider:
        api.fail(
            Fault(503, 10_002, "Service unavailable", {"retry-after": "0.01"}, when="after"), method="POST"
        )
        provider.apply(Changes((NEW,)))
    assert api.contents(BUNDLE) == [content_of(NEW.value)]


@pytest.mark.parametrize("again", ["the same changes", "a new plan"])
def test_a_half_made_change_is_told_and_mended(api: CloudflareApi, again: str) -> None:
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    changes = Changes((NEW, HOST), (OLD,), (OLD,))
    with opened(api, batch=1) as provider:
        api.fail(Fault(0, when="after"), method="POST")  # the first add is made, and its answer lost
        with pytest.raises(Partial) as caught:
            provider.apply(changes)
        assert caught.value.done == Changes((NEW,))
        assert (caught.value.left.add, caught.value.left.remove) == ((HOST,), (OLD,))
        assert caught.value.details == {"done": 1, "left": 2}
        assert "Publish again" in caught.value.hint
        provider.apply(changes if again == "the same changes" else caught.value.left)
        assert provider.fetch(changes.touched) == tuple(sorted((NEW, HOST)))


def test_a_change_refused_half_way_through_is_partial(api: CloudflareApi) -> None:
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    api.put(HOST.name, "A", HOST.value, meta={"read_only": True})
    with opened(api) as provider:
        with pytest.raises(Partial) as caught:
            provider.apply(Changes((NEW,), (OLD, HOST), (OLD, HOST)))
        assert caught.value.done.add == (NEW,)
        assert "let go of them" in caught.value.hint
    assert len(api.contents(BUNDLE)) == 2  # both lists: clients take the newer one


def test_when_the_zone_cannot_be_seen_after_a_failure_it_is_said(api: CloudflareApi) -> None:
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    with opened(api) as provider:
        provider.fetch([OLD.set])
        api.fail(Fault(500, 1, "Internal error"), method="POST")
        api.fail(Fault(500, 1, "Internal error"), method="GET")
        with pytest.raises(Unavailable, match="cannot be seen"):
            provider.apply(replacing())


def test_a_read_only_token_is_told_before_anything_changes(api: CloudflareApi) -> None:
    api.put(BUNDLE, "TXT", content_of(OLD.value))
    api.may_write = False
    with opened(api) as provider, pytest.raises(AuthFailed, match="10000") as caught:
        provider.apply(replacing())
    assert "DNS Edit" in caught.value.hint


def test_a_zone_that_the_token_does_not_see(api: CloudflareApi) -> None:
    provider = CloudflareProvider(
        "elsewhere.invalid", token=api.token, config=CloudflareConfig(base_url=api.url, max_retries=0)
    )
    with pytest.raises(Refused, match="sees no zone"):
        provider.fetch([OLD.set])
    provider.close()


@pytest.mark.parametrize("token", ["v1-" + "0" * 37, "not-a-token-at-all-but-long-enough"])
def test_a_wrong_token(api: CloudflareApi, token: str) -> None:
    with opened(api, token=token) as provider, pytest.raises(AuthFailed) as caught:
        provider.fetch([OLD.set])
    assert "API Tokens" in caught.value.hint


def test_an_account_key_in_the_environment_is_left_out(
    api: CloudflareApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDFLARE_EMAIL", "mallory@example.org")
    monkeypatch.setenv("CLOUDFLARE_API_KEY", "f" * 37)
    with opened(api) as provider:
        assert provider.fetch([OLD.set]) == ()  # the stand-in takes no other credentials than the token


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    token = "v1-" + "0" * 37
    assert read_token({"CLOUDFLARE_API_TOKEN": f" {token}\n"}) == token
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text(f"{token}\n")
    assert read_token({}, file) == token
    assert read_token({"CLOUDFLARE_API_TOKEN": "x" * 40}, file) == token  # what is named, counts
    assert read_token({"CLOUDFLARE_API_TOKEN": "x" * 40, "CLOUDFLARE_API_TOKEN_FILE": str(file)}) == token
    with pytest.raises(TokenMissing, match="CLOUDFLARE_API_TOKEN"):
        read_token({})
    with pytest.raises(TokenMissing, match="cannot be read"):
        read_token({}, tmp_path / "elsewhere")
    file.write_text("")
    with pytest.raises(TokenMissing, match="empty"):
        read_token({}, file)
    for wrong in (f"Bearer {token}", f'"{token}"', "short", "ü" * 40, "x" * 5_000):
        file.write_text(wrong)
        with pytest.raises(TokenMalformed) as caught:
            read_token({}, file)
        assert wrong not in str(caught.value)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=600))
def test_every_text_comes_back_from_its_strings(text: str) -> None:
    assert text_of(content_of(text)) == text


@given(st.text(max_size=200) | st.from_regex(r'(\\\\|\\"|"|[0-9a \\])*', fullmatch=True))
def test_any_content_is_some_text(content: str) -> None:
    assert isinstance(text_of(content), str)


# Whole publications, by the one writer of records


def desired(*hosts: str, addresses: bool = False) -> Desired:
    nodes = tuple(
        Node(
            Identity.from_label(name).peer_id,
            f"{host}.{ZONE}",
            addresses=(f"192.0.2.{number}",) if addresses else (),
        )
        for number, (name, host) in enumerate(zip(("alice", "bob", "carol"), hosts, strict=False), 1)
    )
    return Desired(ZONE, nodes)


def served(api: CloudflareApi) -> Bundle:
    (content,) = api.contents(BUNDLE)
    return Bundle.parse(text_of(content))


def test_a_network_is_published_and_nothing_else_is_touched(api: CloudflareApi) -> None:
    api.put(ZONE, "TXT", "v=spf1 -all")
    api.put(f"www.{ZONE}", "A", "192.0.2.80", 1, proxied=True)
    before = dict(api.records)
    with opened(api) as provider:
        publisher = Publisher(provider, History(ZONE), pause=lambda _: None)
        first = publisher.publish(publisher.plan(desired("eu", "us", "ap", addresses=True), [PUBLISHER]))
        assert served(api).text == first.text
        assert api.contents(f"us.{ZONE}", "A") == ["192.0.2.2"]
        again = publisher.plan(desired("eu", "us", "ap", addresses=True), [PUBLISHER])
        assert again.is_empty
        publisher.publish(publisher.renew([PUBLISHER], only_if_within_days=90))
        assert served(api).seq > (first.seq or 0)
        publisher.retire(ZONE)
    assert api.records == before


FAILURES = {
    "cut": NO_ANSWER,
    "429": Fault(429, 971, "Please wait", {"retry-after": "300"}),
    "503": Fault(503, 10_002, "Service unavailable"),
    "403": Fault(403, 10_000, "Authentication error"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("batch", [1, 100])
def test_publishing_again_mends_what_was_half_done(
    api: CloudflareApi, failure: str, when: Literal["before", "after"], batch: int
) -> None:
    """Whichever request fails, and whether or not it took effect: clients get in, and a rerun mends it."""
    wanted = desired("eu", "us", "ap2", addresses=True)
    with opened(api, batch=batch) as provider:
        publisher = Publisher(provider, History(ZONE), pause=lambda _: None)
        publisher.publish(publisher.plan(desired("eu", "us", "ap"), [PUBLISHER]))
        failed = 0
        while not (plan := publisher.plan(wanted, [PUBLISHER])).is_empty:
            if failed < 3:  # each time a request later
                api.fail(replace(FAILURES[failure], when=when), method="POST", passing=failed)
            try:
                publisher.publish(plan, force_unsafe=True)
            except ProviderError:
                failed += 1
            api.heal()
            client = BundleState(ZONE, [PublisherKey(PUBLISHER.public_key)])
            client.choose([text_of(content) for content in api.contents(BUNDLE)], int(time.time()))
        assert failed
        assert served(api).entries == wanted.entries


def test_two_operators_at_once(api: CloudflareApi) -> None:
    """Both have planned from the same zone; the second to publish is refused, and changes nothing."""
    with opened(api) as one, opened(api) as other:
        alice, bob = (Publisher(provider, History(ZONE), pause=lambda _: None) for provider in (one, other))
        first = alice.plan(desired("eu", "us", "ap"), [PUBLISHER])
        second = bob.plan(desired("eu", "us"), [PUBLISHER])
        alice.publish(first)
        with pytest.raises(Conflict):
            bob.publish(second)
        assert served(api).entries == desired("eu", "us", "ap").entries
