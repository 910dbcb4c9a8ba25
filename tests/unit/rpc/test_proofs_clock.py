"""A signed request is good once, whatever the clock does: days forwards, days back, and restarts between."""

from __future__ import annotations

import random

import pytest

from wws.errors import WwsError
from wws.rpc.signed import NonceWindowFull, Signed, SignedConfig, SignedRequests, TimestampOff
from wws.testing.names import person
from wws.testing.rpc import NOW_MS, signed_request
from wws.testing.scale import scale

DAY_MS = 86_400_000
ALICE = person("alice")
NODE = str(person("node").peer_id)
METHOD = "swarm.get_status"


def request(timestamp: int, number: int) -> Signed:
    signed = Signed.parse(signed_request(ALICE, METHOD, timestamp=timestamp, nonce=f"{number:08x}"))
    assert signed is not None
    return signed


def is_accepted(requests: SignedRequests, signed: Signed, now: int) -> bool:
    try:
        requests.check(signed, METHOD, None, ALICE.public_key, unix_ms=now)
    except WwsError:
        return False
    requests.remember(signed)
    return True


def test_no_request_is_accepted_twice() -> None:
    """Everything ever accepted is played back at random, while the clock jumps and the node restarts or is
    killed."""
    rng = random.Random(11)
    used = 0
    for _ in range(scale(200, least=4)):
        now = NOW_MS
        requests = SignedRequests(SignedConfig(), NODE, now)
        accepted: list[Signed] = []
        saved, saved_at = requests.to_json(), requests.version
        for number in range(300):
            days = rng.choice([DAY_MS, -DAY_MS]) if rng.random() < 0.03 else 0
            now += rng.choice([0, 1, 1_000, 60_000, 299_000, 301_000, -60_000]) + days
            fresh = request(now + rng.choice([0, 0, -299_000, 299_000, -400_000]), number)
            if is_accepted(requests, fresh, now):
                accepted.append(fresh)
            if requests.version != saved_at:
                saved, saved_at = requests.to_json(), requests.version
            for old in rng.sample(accepted, min(3, len(accepted))):
                assert not is_accepted(requests, old, now)
            if rng.random() < 0.03:
                if rng.random() < 0.5:  # else it was killed, and what was saved last is all there is
                    requests.settle()
                    saved = requests.to_json()
                requests = SignedRequests(SignedConfig(), NODE, now)
                requests.load(saved)
                saved_at = requests.version
        used += len(accepted)
    assert used > scale(200, least=4) * 20, "else this proved little"


@pytest.mark.parametrize("jump", [DAY_MS, -DAY_MS])
def test_a_jump_and_back(jump: int) -> None:
    """Ahead: what the far clock has passed stays over, so that nothing can be played back; a clock behind is
    no worse than a wrong one."""
    requests = SignedRequests(SignedConfig(), NODE, NOW_MS - 60_000)
    first = request(NOW_MS, 1)
    assert is_accepted(requests, first, NOW_MS)
    assert is_accepted(requests, request(NOW_MS + jump, 2), NOW_MS + jump) is (jump > 0)
    assert not is_accepted(requests, first, NOW_MS + jump)
    assert not is_accepted(requests, first, NOW_MS)
    assert is_accepted(requests, request(NOW_MS + 5, 3), NOW_MS + 5) is (jump < 0)
    later = NOW_MS + 2 * DAY_MS
    assert is_accepted(requests, request(later, 4), later)


def test_a_full_window_refuses_and_forgets_nothing() -> None:
    """As many as may be kept, at the full ten thousand: the next is refused, and none can be played back."""
    config = SignedConfig()
    requests = SignedRequests(config, NODE, NOW_MS - 60_000)
    first, last = request(NOW_MS, 0), request(NOW_MS, config.max_nonces)
    assert is_accepted(requests, first, NOW_MS)
    for number in range(1, config.max_nonces):
        requests.remember(Signed(ALICE.peer_id.did, NOW_MS, f"{number:08x}", b""))
    assert requests.kept(ALICE.peer_id.did) == config.max_nonces
    with pytest.raises(NonceWindowFull):
        requests.check(last, METHOD, None, ALICE.public_key, unix_ms=NOW_MS)
    assert not is_accepted(requests, first, NOW_MS)
    # Nothing is forgotten while it could still be accepted, and then all of it.
    until = NOW_MS + config.keep_ms
    with pytest.raises((NonceWindowFull, TimestampOff)):
        requests.check(request(until, 20_000), METHOD, None, ALICE.public_key, unix_ms=until)
    assert is_accepted(requests, request(until + 1, 20_001), until + 1)
    assert not is_accepted(requests, first, until + 1)
    assert requests.kept(ALICE.peer_id.did) == 1
