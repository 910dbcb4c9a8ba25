#!/usr/bin/env python3
"""Writes what a release puts into its builds: the stamp (wws/stamp.py says what it is read as).

    scripts/release/stamp.py --version 1.2.3 --commit HASH --releases URL --out stamp.json

The root keys are the lines of `packaging/trust/roots`, the default network is `packaging/network.json`, both
reviewed like any other change. Without root keys no release is made: docs/releases.md says how they come to
be. Without a network the build has no default one, and that is said here and by the build.

Exit status: 1 no stamp can be made of this, 2 wrong usage. Standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ROOT / "packaging" / "trust" / "roots"
NETWORK = ROOT / "packaging" / "network.json"
MAX_NETWORK = 16 * 1024
"""Bytes of a network file that every wws reads."""

_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]{68}")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+){2}((a|b|rc)[0-9]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9_~-])?")


class NoStamp(Exception):
    """What was given makes no stamp. The text says why, and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the stamp; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="stamp.py", description="Write the stamp of a release.")
    parser.add_argument("--version", required=True)
    parser.add_argument("--commit", required=True, help="the hash of the commit it is built from")
    parser.add_argument(
        "--releases",
        required=True,
        metavar="URL",
        help="below it lies download/v<version>/…; no / at its end",
    )
    parser.add_argument("--roots", type=Path, default=ROOTS, help="default: packaging/trust/roots")
    parser.add_argument("--network", type=Path, default=NETWORK, help="default: packaging/network.json")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        stamp = make(options.version, options.commit, options.releases, options.roots, options.network)
    except NoStamp as error:
        sys.stderr.write(f"stamp.py: {error}\n")
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(stamp, indent=1, sort_keys=True) + "\n", "utf-8")
    if stamp["network"] is None:
        sys.stderr.write(f"stamp.py: there is no {options.network}: this build has no default network\n")
    return 0


def make(version: str, commit: str, releases: str, roots: Path, network: Path) -> dict[str, object]:
    """The members of a stamp. Raises `NoStamp`."""
    for text, form, what in (
        (version, _VERSION, "version"),
        (commit, _COMMIT, "commit"),
        (releases, _URL, "URL of releases"),
    ):
        if form.fullmatch(text) is None:
            raise NoStamp(f"{text!r} is no {what}")
    return {
        "schema": 1,
        "version": version,
        "commit": commit,
        "releases": releases,
        "roots": root_keys(roots),
        "network": _network(network),
    }


def root_keys(path: Path) -> list[str]:
    """The root keys of a file, one a line; lines that begin with # are for people. Raises `NoStamp`."""
    try:
        lines = path.read_text("ascii").splitlines()
    except FileNotFoundError:
        raise NoStamp(
            f"there is no {path}: this project has no root keys yet, so nobody could tell its releases from "
            "those of others. The key ceremony is described in docs/releases.md"
        ) from None
    except UnicodeDecodeError:
        raise NoStamp(f"{path} is not ASCII") from None
    # What follows a key on its line is a comment.
    keys = [" ".join(line.split()[:2]) for line in lines if line.strip() and not line.startswith("#")]
    for key in keys:
        if _KEY.fullmatch(key) is None:
            raise NoStamp(f"{path}: {key[:100]!r} is no key like `ssh-ed25519 AAAA…`")
    if not keys or len(set(keys)) != len(keys) or len(keys) > 8:
        raise NoStamp(f"{path} has {len(keys)} keys: 1 to 8 different ones are expected")
    return keys


def _network(path: Path) -> object:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NoStamp(f"{path} cannot be read: {error.strerror}") from None
    try:
        network: object = json.loads(text)
    except ValueError:
        raise NoStamp(f"{path} is not JSON") from None
    if not isinstance(network, dict) or len(text) > MAX_NETWORK:
        raise NoStamp(f"{path} is not an object of at most {MAX_NETWORK} bytes")
    return network


if __name__ == "__main__":
    raise SystemExit(main())
