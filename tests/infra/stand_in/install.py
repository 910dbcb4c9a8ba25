"""Puts the plugin where an engine finds it."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.infra.engine import ROOT


def install(folder: Path) -> Path:
    """A folder for `PATH` with `pulumi-resource-hcloud` in it."""
    folder.mkdir(parents=True, exist_ok=True)
    plugin = folder / "pulumi-resource-hcloud"
    plugin.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m tests.infra.stand_in.hcloud_plugin "$@"\n'
    )
    plugin.chmod(0o755)
    return folder
