"""Writes the list of what is shipped: CycloneDX 1.6 as JSON.

    python packaging/sbom.py --out wws-1.2.3.cdx.json [--version 1.2.3]
                             [--artefact wws-1.2.3-linux-x86_64.tar.gz]

In it are the project itself and everything that requirements/agent.txt locks for Linux and macOS, with the
hashes of the files that an installation accepts and with who needs what, as requirements/dev.txt says. With
`--artefact`, which may be repeated, also what is inside of such an archive beside those: CPython and each
shared library, with its own hash.

The same inputs make the same bits: the serial number is made of the content, there is no time but
`SOURCE_DATE_EPOCH`, else 2020, and everything is sorted. Where the locked cyclonedx-python-lib is
installed, the result is checked against its schema, and nothing is written when it does not fit.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
import tarfile
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import locked
from release import FIXED_TIME, source_version

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements"
SPEC = "1.6"
FOREIGN = ("sys_platform == 'emscripten'", "sys_platform == 'win32'")
"""Systems that no release is for: what is only needed there is not shipped."""
_SHARED = re.compile(r"\.so(\.[0-9.]+)?$|\.dylib$|^Python$")
_PYTHON = re.compile(rb"(?<![0-9.])(3\.1[0-9]\.[0-9]{1,2})(?: \(|\x00)")

Json = dict[str, object]


class SbomFailed(Exception):
    """The list was not written. The text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one list; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="sbom.py", description="List what is shipped, as CycloneDX JSON.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", help="default: that of the sources")
    parser.add_argument("--artefact", type=Path, action="append", default=[], help="may be repeated")
    options = parser.parse_args(arguments)
    try:
        text = make(options.version or source_version(), options.artefact)
        _check(text)
        unfinished = options.out.with_name(f".{options.out.name}.{os.getpid()}")
        unfinished.write_text(text, "ascii")
        unfinished.replace(options.out)
    except (SbomFailed, locked.NotLocked, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"sbom.py: {error}\n")
        return 1
    sys.stdout.write(f"{options.out}\n")
    return 0


def make(version: str, artefacts: Sequence[Path] = ()) -> str:
    """The text of the list."""
    shipped = [entry for entry in locked.read(REQUIREMENTS / "agent.txt") if not _is_foreign(entry.marker)]
    names = {entry.name for entry in shipped}
    needed_by = {
        (entry.name, entry.version): entry.needed_by for entry in locked.read(REQUIREMENTS / "dev.txt")
    }
    ours = _purl(locked.OURS, version)
    reference = {entry.name: _purl(entry.name, entry.version) for entry in shipped} | {locked.OURS: ours}
    needs: dict[str, set[str]] = {each: set() for each in reference.values()}
    for entry in shipped:
        for who in needed_by[entry.name, entry.version]:
            if who == locked.OURS or who in names:
                needs[reference[who]].add(reference[entry.name])
    inside = [part for artefact in artefacts for part in _inside(artefact, version)]
    components = [_library(entry) for entry in shipped] + inside
    for part in inside:
        needs[str(part["bom-ref"])] = set()
    content: Json = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "version": 1,
        "metadata": {"timestamp": _time(), "component": _ours(version, ours)},
        "components": sorted(components, key=lambda component: str(component["bom-ref"])),
        "dependencies": [{"ref": ref, "dependsOn": sorted(needs[ref])} for ref in sorted(needs)],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    content["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"
    return json.dumps(content, ensure_ascii=True, indent=2, sort_keys=True) + "\n"


def _ours(version: str, reference: str) -> Json:
    return {
        "type": "application",
        "bom-ref": reference,
        "name": locked.OURS,
        "version": version,
        "purl": reference,
        "description": "World Wide Swarm: a libp2p node for agents, with names",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }


def _library(entry: locked.Locked) -> Json:
    """The hashes are of all the files that are accepted, one of which is installed."""
    reference = _purl(entry.name, entry.version)
    hashes: list[Json] = [{"alg": "SHA-256", "content": digest} for digest in sorted(entry.hashes)]
    files: list[Json] = [
        {"type": "distribution", "url": reference, "comment": "one of these files", "hashes": hashes}
    ]
    component: Json = {
        "type": "library",
        "bom-ref": reference,
        "name": entry.name,
        "version": entry.version,
        "purl": reference,
        "externalReferences": files,
    }
    if entry.marker is not None:
        component["properties"] = [{"name": "wws:marker", "value": entry.marker}]
    return component


def _inside(artefact: Path, version: str) -> Iterator[Json]:
    """CPython, and the shared libraries in the folder of an artefact, by their paths in it."""
    python = None
    with tarfile.open(artefact) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if not member.isfile() or not _SHARED.search(Path(member.name).name):
                continue
            file = archive.extractfile(member)
            content = file.read() if file is not None else b""
            if Path(member.name).name.startswith(("libpython", "Python")):
                found = _PYTHON.search(content)
                python = found[1].decode() if found else None
            path = member.name.partition("/")[2]
            yield {
                "type": "file",
                "bom-ref": f"{artefact.name}#{path}",
                "name": path,
                "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
                "properties": [{"name": "wws:artefact", "value": artefact.name}],
            }
    if python is None:
        raise SbomFailed(f"{artefact.name} has no Python that says its version")
    yield {
        "type": "platform",
        "bom-ref": f"{artefact.name}#cpython",
        "name": "cpython",
        "version": python,
        "purl": f"pkg:generic/cpython@{python}",
        "cpe": f"cpe:2.3:a:python:python:{python}:*:*:*:*:*:*:*",
        "properties": [{"name": "wws:artefact", "value": artefact.name}],
    }


def _is_foreign(marker: str | None) -> bool:
    return marker is not None and any(marker.endswith(system) for system in FOREIGN)


def _purl(name: str, version: str) -> str:
    return f"pkg:pypi/{name}@{version}"


def _time() -> str:
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", FIXED_TIME))
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _check(text: str) -> None:
    """Against the schema, where the library that brings it is here."""
    if importlib.util.find_spec("cyclonedx") is None:
        sys.stderr.write("sbom.py: not checked against the schema: cyclonedx-python-lib is not installed\n")
        return
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    error = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text)
    if error is not None:
        raise SbomFailed(f"the list does not fit the schema: {str(error)[:2_000]}")


if __name__ == "__main__":
    raise SystemExit(main())
