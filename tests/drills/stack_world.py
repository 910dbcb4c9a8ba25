"""The world `local`: an operator with the stack `local`, the real engine, and three nodes on loopback.

Its folder holds `infra/` (the repository's program), `passphrase`, and `wws-state/`, the backend. Nothing is
made in it before the drill `first-deployment` does; another that is run alone has it made first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from typing_extensions import override

from tests.drills.pages import ROOT
from tests.drills.worlds import World
from tests.infra.engine import LANGUAGE_HOST, PASSPHRASE, pulumi_folder

CONFIG = """\
config:
  wws:provider: local
  wws:domain: local.wws.test
  wws:nodes:
    - name: boot1
    - name: boot2
    - name: boot3
  wws:local:
    folder: {folder}
"""


class LocalStack(World):
    """A stack on this machine, by the real engine."""

    name = "local"

    def __init__(self) -> None:
        super().__init__()
        self._has_old_keys = False
        """Whether the stack has taken its keys from files: that shows when it is taken down."""

    @override
    def make(self) -> None:
        infra = self.home / "infra"
        infra.mkdir()
        for name in ("Pulumi.yaml", "__main__.py", "wws_infra"):
            (infra / name).symlink_to(ROOT / "infra" / name)
        (infra / "Pulumi.local.yaml").write_text(CONFIG.format(folder=self.home / "nodes"))
        (self.home / ".venv").symlink_to(sys.prefix)
        (self.home / "wws-state").mkdir()
        (self.home / "passphrase").write_text(PASSPHRASE)
        host = self.folder / "bin" / "pulumi-language-python"
        host.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{LANGUAGE_HOST}" "$@"\n')
        host.chmod(0o755)
        (self.folder / "bin" / "pulumi").symlink_to(pulumi_folder() / "pulumi")

    @override
    def prepare(self, drill: str) -> None:
        if drill != "first-deployment" and not self._is_made():
            self.run("first-deployment")
        if drill == "all-gone" and not self._has_old_keys:
            self.run("lost-state")
        self._has_old_keys |= drill == "lost-state"

    @override
    def environment(self) -> dict[str, str]:
        inherited = super().environment()
        folders = [str(self.folder / "bin"), inherited["PATH"], str(_engine())]
        return {
            **inherited,
            "PATH": ":".join(folders),
            "PULUMI_HOME": str(self.folder / "pulumi"),
            "PULUMI_BACKEND_URL": f"file://{self.home / 'wws-state'}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.home / "passphrase"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "XDG_STATE_HOME": str(self.folder / "xdg"),
        }

    def _is_made(self) -> bool:
        return (self.home / "nodes").is_dir()


def _engine() -> Path:
    return pulumi_folder()
