"""The default gateway, as the systems tell it."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.runtime.nat.gateway import linux_gateway, route_gateway

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def number(*parts: int) -> str:
    """An IP as the kernel writes it: the number in memory, in the byte order of the machine."""
    return f"{int.from_bytes(bytes(parts), sys.byteorder):08X}"


def route(gateway: str, *, destination: str = "00000000", flags: str = "0003", metric: int = 0) -> str:
    mask = "00000000" if destination == "00000000" else number(255, 255, 255, 0)
    return f"eth0\t{destination}\t{gateway}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


HOME, OFFICE = number(192, 168, 1, 1), number(10, 0, 0, 1)


@pytest.mark.parametrize(
    ("routes", "gateway"),
    [
        (route(HOME), "192.168.1.1"),
        (route(OFFICE, metric=600) + route(HOME, metric=100), "192.168.1.1"),
        (route(OFFICE, metric=100) + route(HOME, metric=100), "10.0.0.1"),
        (route("00000000", destination=number(192, 168, 1, 0), flags="0001") + route(HOME), "192.168.1.1"),
        (route(HOME, destination=number(10, 9, 9, 0)), None),  # to one network only
        (route("00000000", flags="0001"), None),  # a tunnel: no gateway
        (route(HOME, flags="0002"), None),  # down
        (route(HOME, flags="0203"), None),  # rejects
        ("eth0\tnonsense\n", None),
        ("eth0\t00000000\t-1\t0003\t0\t0\t0\t00000000\t0\t0\t0\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_on_linux(routes: str, gateway: str | None) -> None:
    assert linux_gateway(HEAD + routes) == gateway


@pytest.mark.parametrize(
    ("output", "gateway"),
    [
        ("   route to: default\n    gateway: 192.168.1.1\n  interface: en0\n", "192.168.1.1"),
        ("   route to: default\n  interface: utun3\n", None),
        ("    gateway: 999.168.1.1\n", None),
        ("    gateway: fe80::1%en0\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_on_macos(output: str, gateway: str | None) -> None:
    assert route_gateway(output) == gateway


@given(st.text(max_size=200))
def test_any_text_has_a_gateway_or_none(text: str) -> None:
    linux_gateway(HEAD + text)
    route_gateway(text)
    route_gateway(f"gateway: {text}")
