"""What the fuzzer knows about one parser: examples to start from, the call, and the errors it may raise."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_MEMORY = 8 * 1024 * 1024
"""Bytes that one case may have allocated at once."""
MAX_SECONDS = 0.05
"""CPU time that one case may take. Told, not asserted: this machine is not alone."""


class Form(enum.Enum):
    """How an input is built, which decides what can be wrong with it."""

    BYTES = enum.auto()
    TEXT = enum.auto()
    JSON = enum.auto()
    PROTOBUF = enum.auto()


@dataclass(frozen=True)
class Target:
    """One row of the table."""

    name: str
    corpus: Callable[[], Sequence[bytes]]
    """Examples, most of them valid. Called once a run."""
    parse: Callable[[bytes], object]
    """Takes one case. May assert what has to hold for everything that is accepted."""
    allowed: tuple[type[Exception], ...]
    """The refusals. Anything else that is raised is a bug."""
    covers: tuple[Callable[..., Any], ...]
    """The parsers of the product that this exercises."""
    form: Form = Form.BYTES
    largest: int = 64 * 1024
    """Bytes of the largest input that can reach it; what is larger is refused before."""
    share: float = 1.0
    """Of the cases below scale 1, where each costs a file or a machine. At scale 1 every row has all."""
    is_stateful: bool = False
    """Whether a case depends on those before it: then a failure is replayed from its run's beginning."""


def text_of(data: bytes) -> str:
    """A case as text. What is not UTF-8 becomes lone surrogates, which are worth a try too."""
    return data.decode("utf-8", "surrogateescape")
