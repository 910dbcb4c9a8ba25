"""Releases, a server that serves them, and a machine to install them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from tests.installer.machine import Machine
from tests.installer.releases import Releases
from tests.installer.server import Server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """RSA, which every downloader knows."""
    return trustme.CA(key_type=trustme.KeyType.RSA)


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.RSA)


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(place))
    return place


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    """Release 1.2.3, and the channel `stable` that leads to it."""
    made = Releases(tmp_path / "releases")
    made.publish("1.2.3")
    return made


@pytest.fixture
def server(releases: Releases, certificate: trustme.LeafCert) -> Iterator[Server]:
    with Server(releases.folder, certificate) as running:
        yield running


MakeMachine = Callable[..., Machine]


@pytest.fixture
def make_machine(tmp_path: Path, server: Server, releases: Releases, authority_file: Path) -> MakeMachine:
    """Makes machines that take their releases from the server."""

    def make(name: str = "alice", **fields: object) -> Machine:
        arguments = ["--from", server.url, "--root-key", releases.signer.root_text]
        variables = {"CURL_CA_BUNDLE": str(authority_file)}
        return Machine(tmp_path / name, arguments, variables, **fields)  # type: ignore[arg-type]

    return make


@pytest.fixture
def machine(make_machine: MakeMachine) -> Machine:
    return make_machine()
