"""What the tests on hosts share: the hosts, and a place in the summary of the run."""

from collections.abc import Callable
from pathlib import Path

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the lab, then the first run on new hosts: tests after them find nodes and need not make any."""
    first = ("test_lab.py", "test_site.py")
    places = [place for place, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ours = [items[place] for place in places]
    ours.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))
    for place, item in zip(places, ours, strict=True):
        items[place] = item
