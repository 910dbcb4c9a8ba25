"""actionlint and act, built from their Go modules when they are not there (scripts/tools.sh)."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from tests.prerequisites import require, skip

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
_BUILD_WITHIN = 600.0


def tool(name: str) -> Path:
    """`actionlint` or `act`; skips, or in CI fails, where it cannot be built."""
    require("go")
    return _folder() / name


@functools.cache
def _folder() -> Path:
    built = subprocess.run(
        [str(ROOT / "scripts" / "tools.sh")],
        env={**os.environ, "PATH": os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/go/bin"])},
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN,
        check=False,
    )
    if built.returncode:
        skip(f"the tools cannot be built: {built.stderr.strip()[-500:]}")
    return Path(built.stdout.strip())
