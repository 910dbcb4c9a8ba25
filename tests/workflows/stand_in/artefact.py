"""Stands in for packaging/selfcontained.py and the others that build: a tiny release of the right form.

Its programs are scripts that say the version, find everything well, and join at once. What is tested with it
is how a release is made of its files, not what is in them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path

PROGRAM = """\
#!/bin/sh
# A stand-in: {program} {version}
case "$*" in
*--version*) echo "{program} {version}" ;;
id*) printf 'peer id  12D3KooWnobody\\ndid      did:swarm:nobody\\npath     nowhere\\n' ;;
join*) [ ! -e "${{GITHUB_STAND_IN:-/nowhere}}/joins-fail" ] || exit 9 ;;
esac
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--stamp", type=Path, required=True)
    parser.add_argument("--installer", type=Path, required=True)
    parser.add_argument("--glibc-floor")
    options = parser.parse_args()
    assert json.loads(options.stamp.read_text())["version"] == options.version
    files = {
        f"bin/{name}": script(name, options.version) for name in ("wws", "wws-connector", "wws-bootstrap")
    }
    files |= {"bin/wws-control": script("wws-control", options.version)}
    files |= {"share/install.sh": options.installer.read_bytes(), "VERSION": f"{options.version}\n".encode()}
    sums = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    files["MANIFEST"] = sums.encode()
    name = f"wws-{options.version}-linux-{platform.machine()}"
    with tarfile.open(options.out / f"{name}.tar.gz", "w:gz") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"wws-{options.version}/{path}")
            entry.size, entry.mode = len(content), 0o755 if path.startswith(("bin/", "share/")) else 0o644
            tar.addfile(entry, io.BytesIO(content))
    (options.out / f"{name}.MANIFEST").write_bytes(files["MANIFEST"])


def script(program: str, version: str) -> bytes:
    return PROGRAM.format(program=program, version=version).encode()


if __name__ == "__main__":
    main()
