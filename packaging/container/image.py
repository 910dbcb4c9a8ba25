"""Builds the container image of a release, without an engine and without root.

    python packaging/container/image.py --artefact wws-1.2.3-linux-x86_64.tar.gz
                                        (--out image.tar | --context DIR) [--root DIR] [--commit HASH]

`--out` writes an OCI archive and prints its path, its SHA-256 and the digest of the image; `docker load`,
`podman load` and `skopeo copy oci-archive:image.tar …` take it. `--context` makes the folder that the
Dockerfile is built with, for those who have an engine: `docker build --file Dockerfile DIR`. What the image
is comes from the Dockerfile alone, in both ways.

`--root` is a folder as packaging/container/root.py makes it; without one it is made, which needs mmdebstrap
and the network. The same artefact and the same root make the same bits. Times are `SOURCE_DATE_EPOCH`,
else 2020.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dockerfile import NotUnderstood, parse
from oci import Archive
from root import RootFailed, make_root

ROOT = Path(__file__).resolve().parents[2]
FIXED_TIME = 1_577_836_800
_ARTEFACT = re.compile(r"wws-([0-9][0-9A-Za-z.+-]*)-linux-x86_64\.tar\.gz")


class ImageFailed(Exception):
    """The image was not built. The text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Build one image or context; 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="image.py", description="Build the container image of a release.")
    parser.add_argument("--artefact", type=Path, required=True, help="the self-contained archive for Linux")
    parser.add_argument("--root", type=Path, help="the root folder, where it is made already")
    parser.add_argument("--commit", help="of the sources; becomes a label")
    to = parser.add_mutually_exclusive_group(required=True)
    to.add_argument("--out", type=Path, help="the OCI archive to write")
    to.add_argument("--context", type=Path, help="the folder to make, for an engine")
    options = parser.parse_args(arguments)
    try:
        if options.context is not None:
            make_context(options.context, options.artefact, options.root)
            sys.stdout.write(f"{options.context}\n")
        else:
            digest = build(options.out, options.artefact, root=options.root, commit=options.commit)
            with options.out.open("rb") as archive:
                sums = hashlib.file_digest(archive, "sha256").hexdigest()
            sys.stdout.write(f"{options.out}\n{sums}\nsha256:{digest}\n")
    except (ImageFailed, RootFailed, NotUnderstood, OSError, tarfile.TarError) as error:
        sys.stderr.write(f"image.py: {error}\n")
        return 1
    return 0


def build(out: Path, artefact: Path, *, root: Path | None = None, commit: str | None = None) -> str:
    """Write the OCI archive; the digest of the image."""
    version = version_of(artefact)
    image = parse((ROOT / "Dockerfile").read_text("utf-8"))
    image.labels["org.opencontainers.image.version"] = version
    if commit is not None:
        image.labels["org.opencontainers.image.revision"] = commit
    created = int(os.environ.get("SOURCE_DATE_EPOCH", FIXED_TIME))
    with tempfile.TemporaryDirectory(prefix="wws-image-") as temporary:
        context = Path(temporary, "context")
        make_context(context, artefact, root)
        with Archive(out, created=created) as archive:
            for copy in image.copies:
                owner = f"--chown={copy.uid}:{copy.gid} " if copy.uid else ""
                archive.add_layer(
                    context / copy.source,
                    copy.target,
                    uid=copy.uid,
                    gid=copy.gid,
                    comment=f"COPY {owner}{copy.source}/ {copy.target}",
                )
            return archive.finish(image.to_config(), reference=version)


def make_context(context: Path, artefact: Path, root: Path | None = None) -> None:
    """The folders that the Dockerfile copies, in a new folder."""
    version = version_of(artefact)
    context.mkdir(parents=True)
    if root is None:
        make_root(context / "root")
    else:
        shutil.copytree(root, context / "root", symlinks=True)
    with tarfile.open(artefact) as archive:
        archive.extractall(context, filter="data")
    (context / f"wws-{version}").rename(context / "wws")
    (context / "data").mkdir()


def version_of(artefact: Path) -> str:
    """The version that the name of an artefact says. Raises `ImageFailed`."""
    found = _ARTEFACT.fullmatch(artefact.name)
    if found is None:
        raise ImageFailed(f"{artefact.name} is no artefact: wws-<version>-linux-x86_64.tar.gz")
    return found[1]


if __name__ == "__main__":
    raise SystemExit(main())
