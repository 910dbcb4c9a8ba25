"""What a request can make the machine with the key sign: what its operator could see, and only for now."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.unit.dns.world import DAY, DOMAIN, NEW, PUBLISHER, START, key, node
from wws.discovery.bundle import Bundle
from wws.discovery.publishers import PublisherKey
from wws.identity.keys import Identity
from wws.runtime.keyfile import store
from wws_dns.app import run
from wws_dns.history import History, Publication
from wws_dns.signing import RequestMalformed, RequestUnsafe, SigningRequest

MALLORY = Identity.from_label("mallory")
THREE = ("alice", "bob", "carol")


def asked(
    *labels: str,
    now: int = START,
    ahead: int = 0,
    lasts: int = 30 * DAY,
    begins: int = -3_600,
    keys: tuple[PublisherKey, ...] | None = None,
    domain: str = DOMAIN,
) -> SigningRequest:
    entries = tuple(node(label).entry for label in labels or THREE)
    return SigningRequest(domain, Bundle(now + ahead, now + begins, now + begins + lasts, keys, entries))


def by_mallory(request: SigningRequest) -> SigningRequest:
    return SigningRequest(request.domain, request.bundle.sign(request.domain, [MALLORY]))


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed by a stranger before"])
@pytest.mark.parametrize(
    "request_",
    [
        asked(ahead=10 * 365 * DAY),
        asked(ahead=DAY + 1),
        asked(begins=365 * DAY),
        asked(begins=3_600),
        asked(begins=DAY - 1, lasts=90 * DAY),
    ],
    ids=["number in ten years", "number over a day ahead", "begins in a year", "begins soon", "ends late"],
)
def test_nothing_that_begins_to_count_later_is_signed(request_: SigningRequest, is_signed: bool) -> None:
    with pytest.raises(RequestUnsafe):
        (by_mallory(request_) if is_signed else request_).sign([PUBLISHER], START)


def test_what_has_ended_is_not_signed() -> None:
    with pytest.raises(RequestUnsafe):
        by_mallory(asked(begins=-31 * DAY)).sign([PUBLISHER], START)


def test_a_signature_that_its_signer_did_not_make_is_refused() -> None:
    changed = by_mallory(asked(keys=(key(PUBLISHER), key(MALLORY))))
    (name, signature) = changed.bundle.signatures[0]
    broken = Bundle.parse(changed.bundle.text.replace(f"{name}:", f"{name}:"))
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    bundle = Bundle(
        broken.seq, broken.not_before, broken.expires_at, broken.keys, broken.entries, ((name, flipped),)
    )
    with pytest.raises(RequestMalformed, match=name):
        SigningRequest(DOMAIN, bundle).sign([PUBLISHER], START)


class Offline:
    """The machine with the key, and the last list that was signed on it."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capture = folder, capture
        store(PUBLISHER, folder / "publisher.key")
        self.now = int(time.time())
        last = asked(now=self.now, ahead=-10 * DAY, begins=-10 * DAY).bundle.sign(DOMAIN, [PUBLISHER])
        (folder / "last.json").write_text(SigningRequest(DOMAIN, last).to_text())

    def sign(self, request: SigningRequest, *more: str) -> tuple[int, str]:
        file = self.folder / "to-sign.json"
        file.write_text(request.to_text())
        arguments = ["sign", str(file), "--key", str(self.folder / "publisher.key"), *more]
        self._capture.readouterr()
        code = run(arguments)
        out, err = self._capture.readouterr()
        return code, out + err

    @property
    def is_signed(self) -> bool:
        return ";sig=" in json.loads((self.folder / "to-sign.json").read_text())["bundle"]


@pytest.fixture
def offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Offline:
    return Offline(tmp_path, capsys)


def test_he_can_look_before_he_signs(offline: Offline) -> None:
    keys = (key(MALLORY),)
    code, told = offline.sign(asked("mallory1", now=offline.now, keys=keys), "--dry-run")
    assert code == 0
    assert str(node("mallory1").entry) in told
    assert MALLORY.public_key.hex() in told, "a key id is short enough to be made alike"
    assert "decides nothing" in told
    assert not offline.is_signed


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (lambda now: asked("mallory1", "mallory2", "carol", now=now), "newcomers_majority"),
        (lambda now: asked(*(f"mallory{n}" for n in range(6)), now=now), "removes_too_many"),
        (lambda now: asked(now=now, keys=(key(PUBLISHER), key(MALLORY))), "unvouched"),
        (lambda now: asked(now=now, keys=(key(NEW),)), "drops_needed_key"),
        (lambda now: by_mallory(asked(now=now, ahead=-11 * DAY)), "seq_lowered"),
    ],
    ids=["his witnesses", "all others gone", "his key too", "only his key", "older"],
)
def test_against_the_last_list_a_takeover_is_refused(offline: Offline, request_: object, why: str) -> None:
    assert callable(request_)
    last = str(offline.folder / "last.json")
    code, told = offline.sign(request_(offline.now), "--since", last, "--json")
    assert (code, why in told) == (7, True)
    code, told = offline.sign(request_(offline.now), "--since", last, "--force-unsafe")
    assert (code, offline.is_signed) == (0, True)


def test_another_domain_than_last_time_is_refused(offline: Offline) -> None:
    code, told = offline.sign(
        asked(now=offline.now, domain="example.net"), "--since", str(offline.folder / "last.json")
    )
    assert code != 0
    assert "example.net" in told


def test_a_list_that_this_key_did_not_sign_says_nothing_of_the_past(offline: Offline) -> None:
    strange = offline.folder / "strange.json"
    strange.write_text(by_mallory(asked("mallory1", now=offline.now)).to_text())
    code, told = offline.sign(asked("mallory1", now=offline.now), "--since", str(strange))
    assert code != 0
    assert not offline.is_signed
    assert "no key given here has signed" in told


def test_a_renewal_passes(offline: Offline) -> None:
    code, told = offline.sign(asked(now=offline.now), "--since", str(offline.folder / "last.json"))
    assert (code, offline.is_signed) == (0, True)
    assert "list is the same" in told


def test_a_key_that_the_history_there_made_up_is_not_signed(offline: Offline) -> None:
    """The list comes from a file that he wrote; the history beside it was brought along."""
    alice = node("alice")
    (offline.folder / "records.toml").write_text(
        f'domain = "{DOMAIN}"\n[[node]]\npeer_id = "{alice.peer_id}"\nhost = "{alice.host}"\n'
    )
    now = offline.now
    keys = (key(PUBLISHER), key(MALLORY))
    past = Bundle(now - 9 * DAY, now - 9 * DAY, now + 9 * DAY, keys, (alice.entry,)).sign(DOMAIN, [MALLORY])
    history = History(DOMAIN, publishers=[key(MALLORY)], published=[Publication(past, now - 9 * DAY)])
    (offline.folder / "records.history.json").write_text(history.to_text())
    out = offline.folder / "out.json"
    words = ["sign", "--records", str(offline.folder / "records.toml"), "--out", str(out)]
    words += ["--key", str(offline.folder / "publisher.key"), "--json"]
    assert run(words) == 7
    assert not out.exists()
    listed = f'publishers = ["{PUBLISHER.public_key.hex()}", "{MALLORY.public_key.hex()}"]\n'
    records = offline.folder / "records.toml"
    records.write_text(listed + records.read_text())
    assert run(words) == 0
