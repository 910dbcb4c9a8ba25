"""Servers and networks that misbehave: bounded in size and time, told in words, nothing left."""

from __future__ import annotations

import socket

import pytest
import trustme

from tests.full_scale import only_in_full
from tests.installer.machine import USUAL, Machine
from tests.installer.releases import Releases
from tests.installer.server import (
    Answer,
    Server,
    content,
    cut,
    endless,
    once,
    redirect,
    stalled,
    status,
    trickling,
)
from tests.prerequisites import find_tool
from wws.testing.scale import scale_factor

GETTERS = ["curl", "wget"]
SMALL = 300
"""Bytes of SHA256SUMS that come before a connection ends."""


@pytest.fixture(params=GETTERS)
def getter(request: pytest.FixtureRequest, machine: Machine) -> str:
    name: str = request.param
    machine.tools(*(tool for tool in USUAL if tool != "curl"), name)
    return name


FAULTS: dict[str, tuple[str, Answer, str]] = {
    "500": ("/channel", status(500), "cannot download"),
    "403": ("/channel", status(403), "the answer is 403"),
    "no hashes": ("/SHA256SUMS", status(404), "has no release 1.2.3"),
    "no archive": (".tar.gz", status(410), "has no wws-1.2.3"),
    "away from https": ("/SHA256SUMS", redirect("http://127.0.0.1:9/SHA256SUMS"), "not https"),
    "to a file": ("/channel", redirect("file:///etc/passwd"), ""),
    "round and round": ("/channel", redirect("/download/channel-stable/channel"), "cannot download"),
    "endless": ("/SHA256SUMS", endless, "has more than the 64 KiB"),
    "too much": ("/release-keys", content(bytes(17 * 1024)), "has more than the 16 KiB"),
    "cut": ("/SHA256SUMS", cut(bytes(2 * SMALL), SMALL), "cannot download"),
    "stalled": ("/release-keys", stalled, "cannot download"),
}
WITH_WGET = FAULTS if scale_factor() >= 1 else ("403", "away from https", "round and round", "endless")
"""What install.sh asks the two downloaders for in different ways; the rest is one way."""


@pytest.mark.parametrize(
    ("getter", "fault"),
    [(getter, fault) for getter in GETTERS for fault in FAULTS if getter == "curl" or fault in WITH_WGET],
    indirect=["getter"],
)
def test_fails(machine: Machine, server: Server, getter: str, fault: str) -> None:
    name, answer, words = FAULTS[fault]
    server.answers[name] = answer
    machine.refuses(9, words, WWS_INSTALL_TIMEOUT="1")


def test_an_endless_archive(machine: Machine, server: Server, getter: str) -> None:
    if scale_factor() < 1:
        pytest.skip("256 MiB: at scale 1")
    server.answers[".tar.gz"] = endless
    machine.refuses(9, "has more than the 262144 KiB")


@only_in_full
def test_a_trickle(machine: Machine, server: Server, getter: str) -> None:
    """It is within every other bound; taken to its end it would be refused for what it says.

    Where there is no `timeout`, with wget there is no bound for it.
    """
    machine.bin.joinpath("timeout").symlink_to(find_tool("timeout") or "timeout")
    server.answers["/channel"] = trickling
    machine.refuses(9, "cannot download", WWS_INSTALL_TIMEOUT="1")


@only_in_full
def test_a_trickle_to_the_tools_of_busybox(machine: Machine, server: Server) -> None:
    machine.tools(
        *(tool for tool in USUAL if tool not in {"curl", "openssl"}), "wget=busybox", "timeout=busybox"
    )
    server.answers["/channel"] = trickling
    machine.refuses(9, "cannot download", WWS_INSTALL_TIMEOUT="1")


PASSING: dict[str, Answer] = {"503": status(503), "cut": cut(bytes(100), 50), "stalled": stalled}
TRIED = [(getter, fault) for getter in GETTERS for fault in PASSING]


@pytest.mark.parametrize(
    ("getter", "fault"),
    TRIED if scale_factor() >= 1 else [("curl", "503"), ("wget", "cut")],
    indirect=["getter"],
)
def test_tries_again(machine: Machine, server: Server, getter: str, fault: str) -> None:
    server.answers["/SHA256SUMS"] = once(PASSING[fault])
    said = machine.installs(WWS_INSTALL_RETRIES="1", WWS_INSTALL_TIMEOUT="1").said
    assert "SHA256SUMS: " in said
    assert "; trying again" in said
    assert machine.version == "1.2.3"


def test_follows_a_redirect(machine: Machine, server: Server, releases: Releases, getter: str) -> None:
    """A forge keeps files elsewhere than it says."""
    server.answers["/download/v1.2.3/SHA256SUMS"] = redirect(f"{server.url}/elsewhere/SHA256SUMS")
    elsewhere = releases.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "SHA256SUMS").write_bytes((releases.release("1.2.3") / "SHA256SUMS").read_bytes())
    machine.installs()
    assert machine.version == "1.2.3"


def test_a_certificate_of_nobody(machine: Machine, getter: str) -> None:
    machine.refuses(
        9,
        "the certificate of https://127.0.0.1:",
        "apt-get install -y ca-certificates",
        "CURL_CA_BUNDLE=",
        CURL_CA_BUNDLE=None,
        SSL_CERT_FILE="/dev/null",
    )


def test_the_settings_of_curl_do_not_count(machine: Machine) -> None:
    (machine.home / ".curlrc").write_text("insecure\n")
    machine.refuses(9, "is not trusted", CURL_CA_BUNDLE=None)


def test_nobody_is_there(machine: Machine, getter: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    machine.arguments[1] = f"https://127.0.0.1:{port}"
    machine.refuses(9, "cannot download", "https_proxy")


def test_a_proxy_is_used(machine: Machine, getter: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    machine.refuses(9, "cannot download", https_proxy=f"http://127.0.0.1:{port}")


def test_plain_http_on_this_machine(
    machine: Machine, releases: Releases, certificate: trustme.LeafCert, getter: str
) -> None:
    with Server(releases.folder, certificate, secure=False) as plain:
        machine.arguments[1] = plain.url
        machine.installs()
        assert machine.version == "1.2.3"
        plain.answers["/channel"] = redirect(f"{plain.url}/elsewhere")
        machine.refuses(9, "not https")
