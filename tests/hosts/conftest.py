"""What the tests on hosts share: the hosts, and a place in the summary of the run."""

from collections.abc import Callable

import pytest

from tests.hosts.nodes import nodes
from tests.lab.shared_hosts import hosts

__all__ = ["hosts", "nodes"]

Tell = Callable[[str, str], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Show a text under a title at the end of the run, also when it passes; titles may be used again."""

    def tell(title: str, text: str) -> None:
        record_property("summary", (title, text))

    return tell
