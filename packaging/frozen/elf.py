"""Which C library the ELF files of a folder need: the highest `GLIBC_` version that any of them asks for.

A program linked against glibc names the versions of the symbols that it uses (System V ABI, "Symbol
Versioning": section `.gnu.version_r`). The dynamic linker refuses to start it where the library knows fewer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\x7fELF"
_VERNEED = 0x6FFFFFFE
_VERSION = re.compile(rb"GLIBC_([0-9]+(?:\.[0-9]+)+)")
_RELATIVE_RELOCATIONS = b"GLIBC_ABI_DT_RELR"
"""No version in its name: packed relative relocations, which glibc can since 2.36."""


@dataclass(frozen=True, slots=True, order=True)
class Glibc:
    """A version of glibc: `2.31`."""

    parts: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> Glibc:
        """Raises `ValueError` for what is no version."""
        if re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}", text) is None:
            raise ValueError(f"{text!r} is no version of glibc: give one like 2.31")
        return cls(tuple(map(int, text.split("."))))

    def __str__(self) -> str:
        return ".".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest glibc that a folder runs with, and the file that says so."""

    version: Glibc
    file: Path


def floor(folder: Path) -> Floor | None:
    """The highest need in a folder; `None` where no file needs any glibc (macOS)."""
    floors = (
        Floor(version, path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and (version := needed(path)) is not None
    )
    return max(floors, key=lambda found: found.version, default=None)


def needed(path: Path) -> Glibc | None:
    """The glibc that one file needs; `None` for what is no ELF file, or needs none.

    Raises `ValueError` for an ELF file that is damaged.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            return None
    try:
        versions = [version for name in _needs(path.read_bytes()) if (version := _version(name)) is not None]
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f"{path} is a damaged ELF file: {error}") from None
    return max(versions, default=None)


def _version(name: bytes) -> Glibc | None:
    if name == _RELATIVE_RELOCATIONS:
        return Glibc((2, 36))
    found = _VERSION.fullmatch(name)
    return Glibc(tuple(map(int, found[1].split(b".")))) if found else None


def _needs(data: bytes) -> Iterator[bytes]:
    """The names of all symbol versions that are asked for (64-bit little-endian; others ask for none)."""
    if data[4:6] != b"\x02\x01":
        return
    (table,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + index * size) for index in range(count)]
    for section in sections:
        if section[1] != _VERNEED:
            continue
        strings = sections[section[6]][4]
        need = section[4]
        for _ in range(section[7]):
            _, auxiliaries, _, auxiliary, following = struct.unpack_from("<HHIII", data, need)
            at = need + auxiliary
            for _ in range(auxiliaries):
                _, _, _, name, beyond = struct.unpack_from("<IHHII", data, at)
                yield data[strings + name : data.index(b"\0", strings + name)]
                at += beyond
            if not following:
                break
            need += following
