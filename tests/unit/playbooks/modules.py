"""Our Ansible modules, run without Ansible: their actions are functions of what they were given."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import ModuleType

LIBRARY = Path(__file__).parents[3] / "ansible" / "library"


def load(name: str) -> ModuleType:
    """A module of the playbooks, as Ansible would load it."""
    spec = importlib.util.spec_from_file_location(name, LIBRARY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Params(dict[str, object]):
    """What the task does not say is None, as it is for Ansible where there is no default."""

    def __missing__(self, name: str) -> object:
        return None


class Given:
    """What the task says: all that an action asks of an `AnsibleModule`."""

    def __init__(self, check_mode: bool = False, **params: object) -> None:
        self.params = _Params(params)
        self.check_mode = check_mode


def archive(path: Path, top: str, files: Mapping[str, bytes], *, manifest: bool = True) -> Path:
    """A release of these files; names that end in a slash are folders."""
    if manifest:
        listed = {name: data for name, data in files.items() if not name.endswith("/")}
        lines = "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in sorted(listed.items()))
        files = {**files, "MANIFEST": lines.encode()}
    with tarfile.open(path, "w:gz") as tar:
        folder = tarfile.TarInfo(top)
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, data in files.items():
            entry = tarfile.TarInfo(f"{top}/{name}".rstrip("/"))
            if name.endswith("/"):
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            else:
                entry.size, entry.mode = len(data), 0o755 if "bin/" in name else 0o644
                tar.addfile(entry, io.BytesIO(data))
    return path
