"""Admission: O(1), bounded, and every slot given back."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.errors import LocalProtocolError
from wws.mesh.admission import Admission, AdmissionConfig, Refusal

ALICE, BOB, NEAR_ALICE = "203.0.113.1", "198.51.100.1", "203.0.113.200"
FAST = {"accepts_per_second": 1e9, "accepts_per_second_prefix": 1e9}


def test_total_is_bounded() -> None:
    admission = Admission(AdmissionConfig(max_connections=2, **FAST), now=0)
    assert admission.admit(ALICE, 0) is None
    assert admission.admit(BOB, 0) is None
    assert admission.admit("192.0.2.1", 0) is Refusal.TOTAL
    admission.release(ALICE)
    assert admission.admit("192.0.2.1", 0) is None


def test_a_prefix_is_bounded_and_others_are_not_touched() -> None:
    admission = Admission(AdmissionConfig(max_per_prefix=2, **FAST), now=0)
    assert [admission.admit(ALICE, 0), admission.admit(NEAR_ALICE, 0)] == [None, None]
    assert admission.admit("203.0.113.3", 0) is Refusal.PREFIX
    assert admission.admit(BOB, 0) is None
    assert admission.held(ALICE) == 2
    admission.release(NEAR_ALICE)
    assert admission.admit("203.0.113.3", 0) is None


def test_an_ipv6_prefix_is_a_56() -> None:
    admission = Admission(AdmissionConfig(max_per_prefix=1, **FAST), now=0)
    assert admission.admit("2001:db8:1:200::1", 0) is None
    assert admission.admit("2001:db8:1:2ff::1", 0) is Refusal.PREFIX
    assert admission.admit("2001:db8:1:300::1", 0) is None


def test_all_prefixes_of_an_ipv6_48_share_a_bound() -> None:
    """Whoever has a /48 of a tunnel broker has 256 prefixes, and is one party all the same."""
    admission = Admission(AdmissionConfig(max_per_prefix=2, wide_share=3, **FAST), now=0)
    ips = [f"2600:db8:1:{number:x}00::1" for number in range(10)]
    assert [admission.admit(ip, 0) for ip in ips] == [None] * 6 + [Refusal.PREFIX] * 4
    assert admission.admit("2600:db8:2::1", 0) is None
    for ip in ips[:6]:
        admission.release(ip)
    assert [admission.admit(ip, 0) for ip in ips[4:]] == [None] * 6
    admission.reconfigure(AdmissionConfig(max_per_prefix=2, wide_share=4, **FAST))
    assert [admission.admit(ip, 0) for ip in ips[:4]] == [None] * 2 + [Refusal.PREFIX] * 2
    for ip in [*ips[4:], *ips[:2], "2600:db8:2::1"]:
        admission.release(ip)
    assert (admission.total, len(admission._per_prefix)) == (0, 0)


def test_all_prefixes_of_an_ipv6_48_share_a_rate() -> None:
    config = AdmissionConfig(accepts_per_second=1e9, accepts_per_second_prefix=2, wide_share=3)
    admission = Admission(config, now=0)
    answers = [admission.admit(f"2600:db8:1:{number:x}00::1", 0) for number in range(10)]
    assert answers == [None] * 6 + [Refusal.PREFIX_RATE] * 4
    assert admission.admit("2600:db8:2::1", 0) is None


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.1.2.3", "::1", "fe80::1", "::ffff:192.168.1.1"])
def test_narrow_scopes_have_no_prefix_limit(ip: str) -> None:
    admission = Admission(
        AdmissionConfig(max_per_prefix=1, accepts_per_second_prefix=1, accepts_per_second=1e9), 0
    )
    assert [admission.admit(ip, 0) for _ in range(50)] == [None] * 50
    assert admission.held(ip) == 0
    assert admission.total == 50


def test_exempt_networks_can_be_named() -> None:
    config = AdmissionConfig(max_per_prefix=1, prefix_exempt=(ip_network("203.0.113.0/24"),), **FAST)
    admission = Admission(config, 0)
    assert [admission.admit(ALICE, 0) for _ in range(3)] == [None] * 3
    assert admission.admit("10.0.0.1", 0) is None
    assert admission.admit("10.0.0.2", 0) is Refusal.PREFIX


def test_accepts_a_second_in_total_and_from_a_prefix() -> None:
    config = AdmissionConfig(accepts_per_second=4, accepts_per_second_prefix=2, max_per_prefix=100)
    admission = Admission(config, now=0)
    assert [admission.admit(ALICE, 0) for _ in range(3)] == [None, None, Refusal.PREFIX_RATE]
    assert [admission.admit(BOB, 0) for _ in range(2)] == [None, None]
    assert admission.admit("192.0.2.1", 0) is Refusal.RATE
    assert admission.admit("192.0.2.1", 0.3) is None  # one token came back
    assert admission.admit(ALICE, 10, outbound=True) is None  # what we dial is not rated


def test_a_crowded_prefix_does_not_use_up_the_rate_of_others() -> None:
    admission = Admission(
        AdmissionConfig(accepts_per_second=10, accepts_per_second_prefix=1, max_per_prefix=9), 0
    )
    for _ in range(100):
        admission.admit(ALICE, 0)
    assert [admission.admit(f"198.51.{n}.1", 0) for n in range(9)] == [None] * 9


def test_remembered_prefixes_are_bounded() -> None:
    admission = Admission(AdmissionConfig(max_tracked_prefixes=3, max_connections=10_000, **FAST), 0)
    for n in range(200):
        admission.admit(f"198.51.{n}.1", 0)
    assert len(admission._prefix_rates) == 3


@pytest.mark.parametrize("ip", ["0.0.0.0", "224.0.0.1", "::", "not an ip"])
def test_an_address_of_no_host_is_refused(ip: str) -> None:
    admission = Admission(AdmissionConfig(), 0)
    assert admission.admit(ip, 0) is Refusal.ADDRESS
    assert admission.total == 0


def test_giving_a_slot_back_twice_is_a_bug() -> None:
    admission = Admission(AdmissionConfig(), 0)
    with pytest.raises(LocalProtocolError):
        admission.release(ALICE)


IPS = st.sampled_from([ALICE, NEAR_ALICE, BOB, "127.0.0.1", "10.0.0.1", "2001:db8::1"])


@given(st.lists(st.tuples(st.booleans(), IPS), max_size=60))
def test_slots_are_never_lost(steps: list[tuple[bool, str]]) -> None:
    admission = Admission(AdmissionConfig(max_connections=8, max_per_prefix=3, **FAST), 0)
    held: list[str] = []
    for connect, ip in steps:
        if connect:
            if admission.admit(ip, 0) is None:
                held.append(ip)
        elif ip in held:
            held.remove(ip)
            admission.release(ip)
        assert admission.total == len(held) <= 8
        assert admission.held(ALICE) == sum(other in (ALICE, NEAR_ALICE) for other in held) <= 3
    for ip in held:
        admission.release(ip)
    assert admission.total == 0
    assert not admission._per_prefix


def test_other_rates_hold_once_they_are_configured() -> None:
    admission = Admission(AdmissionConfig(accepts_per_second=1, accepts_per_second_prefix=1), 0)
    assert [admission.admit(ALICE, 0), admission.admit(NEAR_ALICE, 0)] == [None, Refusal.PREFIX_RATE]
    assert admission.admit(BOB, 0) is Refusal.RATE
    admission.reconfigure(AdmissionConfig(accepts_per_second=100, accepts_per_second_prefix=10))
    assert [admission.admit(NEAR_ALICE, 1) for _ in range(11)] == [None] * 10 + [Refusal.PREFIX_RATE]
    assert admission.admit(BOB, 1) is None
