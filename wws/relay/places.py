"""How many places each party holds."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Places(Generic[Key]):
    """Counts by key; a key with none takes no memory. `None` is nobody in particular, and is not counted."""

    def __init__(self) -> None:
        self._held: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def held(self, key: Key | None) -> int:
        return 0 if key is None else self._held.get(key, 0)

    def take(self, key: Key | None) -> None:
        if key is not None:
            self._held[key] = self._held.get(key, 0) + 1

    def give_back(self, key: Key | None) -> None:
        """Raises `KeyError` when the party holds none: that would be a bug."""
        if key is not None:
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
