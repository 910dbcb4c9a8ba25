"""Which glibc a file needs: the same as readelf says, and a word about what is damaged."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.prerequisites import require

REPOSITORY = Path(__file__).parents[2]


def _elf() -> ModuleType:
    """packaging/frozen/elf.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("wws_elf", REPOSITORY / "packaging" / "frozen" / "elf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["wws_elf"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


elf = _elf()


def samples() -> Iterator[Path]:
    """Programs and libraries of this machine that are ELF files."""
    for folder in ("/usr/bin", "/usr/lib/x86_64-linux-gnu"):
        files = [
            path
            for path in sorted(Path(folder).glob("*"))
            if path.is_file() and path.stat().st_size < 1 << 20
        ]
        yield from [path for path in files if path.read_bytes()[:4] == b"\x7fELF"][::40]


def test_it_reads_what_readelf_reads() -> None:
    require("readelf")
    needing = 0
    for path in samples():
        shown = subprocess.run(
            ["readelf", "--version-info", "--wide", path], capture_output=True, text=True, check=True
        ).stdout
        needs = shown.partition("Version needs section")[2]
        versions = [tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+) ", needs)]
        if "GLIBC_ABI_DT_RELR" in needs:
            versions.append((2, 36))
        found = elf.needed(path)
        assert (None if found is None else found.parts) == max(versions, default=None), path
        needing += found is not None
    assert needing or not Path("/usr/lib/x86_64-linux-gnu").exists()


def test_the_newest_need_is_the_floor(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    assert elf.floor(tmp_path) is None
    assert elf.needed(tmp_path / "text") is None
    assert elf.Glibc.parse("2.4") < elf.Glibc.parse("2.31") < elf.Glibc.parse("2.31.1")
    assert str(elf.Glibc.parse("2.31")) == "2.31"
    for text in ("", "2", "2.31-1", "two", "2.31.1.1"):
        with pytest.raises(ValueError, match="is no version of glibc"):
            elf.Glibc.parse(text)


@given(st.data())
def test_a_damaged_file_is_a_value_error_and_nothing_else(data: st.DataObject) -> None:
    sample = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        # Where the tables are told of, and where they are.
        low, high = data.draw(st.sampled_from([(4, 64), (max(64, len(sample) - 2048), len(sample) - 1)]))
        sample[data.draw(st.integers(low, high))] = data.draw(st.integers(0, 255))
    said = ""
    with tempfile.NamedTemporaryFile() as file:
        file.write(bytes(sample[: data.draw(st.sampled_from([len(sample), len(sample) // 2, 20]))]))
        file.flush()
        try:
            elf.needed(Path(file.name))
        except ValueError as error:
            said = str(error)
    assert not said or "is a damaged ELF file" in said


SAMPLE = next(
    (path.read_bytes() for path in samples() if path.stat().st_size < 100_000), b"\x7fELF" + bytes(100)
)
