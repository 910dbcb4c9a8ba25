"""What the tests in the lab share: what they need of the machine, and a place in the summary of the run."""

from collections.abc import Callable

import pytest

from tests.prerequisites import require

Tell = Callable[[str, str], None]


@pytest.fixture(scope="package", autouse=True)
def _prerequisites() -> None:
    require("root", "/dev/net/tun", "/proc/sys/net/ipv6", "nft", "conntrack", "ip", "setpriv", "ping")


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Show a text under a title at the end of the run, also when it passes; titles may be used again."""

    def tell(title: str, text: str) -> None:
        record_property("summary", (title, text))

    return tell
