"""The zone of the small DNS server of `wws demo` and the stack `local`: a JSON file, read again on SIGHUP.

    {"_dnsaddr.demo.test": {"TXT": ["dnsaddr=…"], "TTL": ["300"]}, …}

One writer at a time (a lock beside the file), written whole, and then the server is told. `TTL` holds for all
records of a name.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from wws.runtime.homes import process_start
from wws.runtime.machine_errors import MachineError
from wws.runtime.whole_files import write_whole
from wws_dns.provider import Changes, Conflict, Record, RecordSet, Unavailable, ZoneLocked

MAX_FILE = 256 * 1024
"""Largest zone file that is read."""
CLOCK_STEP = 2.0
"""Seconds by which clocks and time stamps of files may disagree."""
DEFAULT_TTL = 60
"""What the server says where the file says nothing."""

Zone: TypeAlias = dict[str, dict[str, list[str]]]


class ZoneFileProvider:
    """A zone in a file."""

    def __init__(self, zone: str, file: Path, *, pid_file: Path | None = None) -> None:
        self.zone = zone.lower().removesuffix(".")
        self.name = f"zone file {file}"
        self._file = file
        self._pid_file = pid_file

    def fetch(self, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
        """All records of the wanted sets, sorted. Raises `ProviderError`."""
        return _records(self._read(), wanted)

    def apply(self, changes: Changes) -> None:
        """Write the file anew and tell the server. Raises `Conflict`, `ZoneLocked`, `Unavailable`."""
        if changes.is_empty:
            return
        with self._locked():
            zone = self._read()
            found = _records(zone, changes.touched)
            if not changes.expects(found):
                raise Conflict(f"{self._file} is not as it was when the change was planned.")
            after = changes.after(found)
            for name, kind in changes.touched:
                values = [record for record in after if record.set == (name, kind)]
                kinds = zone.setdefault(name, {})
                kinds.pop(kind, None)
                if values:
                    kinds[kind] = [record.value for record in values]
                    kinds["TTL"] = [str(values[0].ttl)]
                if not kinds.keys() - {"TTL"}:
                    del zone[name]
            try:
                write_whole(self._file, json.dumps(zone, indent=1).encode(errors="surrogateescape"))
            except MachineError as error:
                raise Unavailable(str(error), hint=error.hint) from error
        self._tell()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            lock = os.open(
                self._file.with_name(f".{self._file.name}.lock"),
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
        except OSError as error:
            raise Unavailable(f"Cannot write beside {self._file}: {error.strerror}.") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ZoneLocked(f"Another process is changing {self._file}.") from None
            try:
                yield
            finally:
                # Closing is not enough: a program that another thread starts has this open until it runs.
                fcntl.flock(lock, fcntl.LOCK_UN)
        finally:
            os.close(lock)

    def _read(self) -> Zone:
        try:
            with self._file.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Unavailable(f"Cannot read {self._file}: {error.strerror}.") from error
        return parse_zone(data)

    def _tell(self) -> None:
        """Let the server read its zone again; one that does not run will read it when it starts.

        The file says its number, and may say when it began: then nobody who has the number now is told. Where
        it does not say, whoever began after the file was written is somebody else.
        """
        if self._pid_file is None:
            return
        try:
            pid, *began = [int(word) for word in self._pid_file.read_text().split()]
            if pid <= 1 or len(began) > 1:
                raise ValueError
            if not began and _is_younger(pid, self._pid_file):
                raise ValueError(f"process {pid} began after the file was written, so it is another one")
            if not began or process_start(pid) == began[0]:
                os.kill(pid, signal.SIGHUP)
        except (FileNotFoundError, ProcessLookupError):
            return
        except (OSError, ValueError) as error:
            raise Unavailable(
                f"The zone file is written, but the DNS server of {self._pid_file} cannot be told: {error}.",
                hint="Let it read its zone again: a SIGHUP, or start it anew.",
            ) from error


def _is_younger(pid: int, file: Path) -> bool:
    """Whether the process began after the file was written, as far as the system tells."""
    began = process_start(pid)
    if began is None:
        return False
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")
    return time.time() - age > file.stat().st_mtime + CLOCK_STEP


class ZoneFileMalformed(Unavailable):
    """The zone file is not of the form it must have."""

    code = "zone_file_malformed"
    hint = "Restore it, or move it away: what is published then makes it anew."


def parse_zone(data: bytes) -> Zone:
    """A zone from the bytes of its file. Raises `ZoneFileMalformed`."""
    if len(data) > MAX_FILE:
        raise ZoneFileMalformed(f"The zone file is larger than {MAX_FILE} bytes.")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ZoneFileMalformed(f"The zone file is no JSON: {error}.") from None
    zone: Zone = {}
    if not isinstance(value, dict):
        raise ZoneFileMalformed("The zone file is no JSON object.")
    for name, kinds in value.items():
        if not isinstance(kinds, dict):
            raise ZoneFileMalformed(f"What stands at {name[:80]!r} in the zone file is no object.")
        for kind, values in kinds.items():
            if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
                raise ZoneFileMalformed(
                    f"{kind[:20]!r} of {name[:80]!r} in the zone file is no list of texts."
                )
            zone.setdefault(name.lower().removesuffix("."), {})[kind.upper()] = values
    return zone


def _records(zone: Zone, wanted: Collection[RecordSet]) -> tuple[Record, ...]:
    found: list[Record] = []
    for name, kind in wanted:
        kinds = zone.get(name, {})
        said = kinds.get("TTL", [""])
        ttl = int(said[0]) if said and said[0].isdecimal() and len(said[0]) < 10 else DEFAULT_TTL
        found += [Record(name, kind, value, ttl) for value in kinds.get(kind, ())]
    return tuple(sorted(found))
