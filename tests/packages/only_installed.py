"""A plugin of pytest: fails the run when anything of ours came from elsewhere than the installed wheel."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

OURS = ("wws", "agent_cli", "bootstrap_node", "wws_dns")
INSTALLED = Path(sysconfig.get_path("purelib")).resolve()


def strangers() -> list[str]:
    """Modules of ours that were not imported from the site-packages of this Python."""
    return [
        f"{name} from {module.__file__}"
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] in OURS
        and getattr(module, "__file__", None) is not None
        and not Path(str(module.__file__)).resolve().is_relative_to(INSTALLED)
    ]


def pytest_configure() -> None:
    import wws

    if found := strangers():
        raise pytest.UsageError(f"not the installed wheel: {found[0]}")
    assert Path(wws.__file__).resolve().is_relative_to(INSTALLED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if found := strangers():
        sys.stderr.write(f"not the installed wheel: {', '.join(found[:5])}\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
