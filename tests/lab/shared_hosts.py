"""The hosts that all tests of operations share, as a fixture; a conftest that wants it imports it.

    from tests.lab.shared_hosts import hosts

    def test_it(hosts: Hosts) -> None:
        eu, us, ap = hosts.up()

They are made when the first test asks. Under xdist all of these tests run in one worker (tests/conftest.py),
so there is one lab of hosts a run. Each test finds the hosts as the one before left them: who needs a clean
one says `renew`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.lab.hosts import Hosts
from tests.lab.internet import Internet
from tests.prerequisites import require

NEEDED = ("root", "/dev/net/tun", "ip", "nft", "setpriv", "systemd-nspawn", "mmdebstrap", "ssh", "ssh-keygen")

_stack = contextlib.ExitStack()
_made: list[Hosts] = []


def existing() -> Hosts | None:
    """The hosts that tests of this process have made already."""
    return _made[0] if _made else None


@pytest.fixture(scope="session")
def hosts() -> Iterator[Hosts]:
    """One lab of hosts a process, also where several conftests import this."""
    require(*NEEDED)
    if not _made:
        internet = _stack.enter_context(Internet())
        _made.append(_stack.enter_context(Hosts(internet)))
    yield _made[0]
    _stack.close()
