"""Stands in for what builds wheel, sdist, SBOM, image and release.json: files of the right names."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("packages", "sbom", "image", "release_json"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", default="0.0.0")
    for ignored in ("--stamp", "--artefact", "--commit", "--files"):
        parser.add_argument(ignored)
    options = parser.parse_args()
    if options.what == "packages":
        options.out.mkdir(exist_ok=True)
        for name in (f"wws-{options.version}-py3-none-any.whl", f"wws-{options.version}.tar.gz"):
            (options.out / name).write_text(name)
    elif options.what == "sbom":
        options.out.write_text(json.dumps({"bomFormat": "CycloneDX"}))
    elif options.what == "release_json":
        options.out.write_text(json.dumps({"version": options.version}))
    else:
        options.out.write_bytes(b"an image")


if __name__ == "__main__":
    main()
