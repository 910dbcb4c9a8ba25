"""Writes an OCI image archive: layers of folders, a configuration, and nothing that changes from run to run.

    with Archive(path, created=time) as archive:
        archive.add_layer(folder, "/opt/wws/", uid=0, gid=0, comment="COPY wws/ /opt/wws/")
        archive.finish(config, reference="1.2.3")

The archive is an OCI image layout in a tar file (image-spec 1.1). It also has the `manifest.json` by which
`docker load` finds its way, old or new. Entries are sorted, times are one time, owners are numbers, and of a
file's mode only "may be run" counts; so the same folders make the same bits.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
CONFIG: Final = "application/vnd.oci.image.config.v1+json"
LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
COMPRESSION = 6


@dataclass(frozen=True, slots=True)
class Blob:
    """Something in the archive that others point to."""

    kind: str
    digest: str
    size: int

    @property
    def path(self) -> str:
        return f"blobs/sha256/{self.digest}"

    def to_json(self) -> dict[str, object]:
        return {"mediaType": self.kind, "digest": f"sha256:{self.digest}", "size": self.size}


class Archive:
    """An archive that is being written; it appears at its path whole, or not at all."""

    def __init__(self, path: Path, *, created: int, architecture: str = "amd64") -> None:
        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        self._created = created
        self._architecture = architecture
        self._layers: list[Blob] = []
        self._uncompressed: list[str] = []
        self._history: list[dict[str, object]] = []
        self._held: set[str] = set()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._tar = tarfile.open(self._unfinished, "w", format=tarfile.USTAR_FORMAT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._tar.close()
        if kind is None and "index.json" in self._held:
            self._unfinished.replace(self._path)
        self._unfinished.unlink(missing_ok=True)

    def add_layer(self, folder: Path, target: str, *, uid: int, gid: int, comment: str) -> None:
        """All of `folder` at `target`, owned by these numbers, which so far may not be there."""
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry, content in _entries(folder, target.strip("/"), uid, gid, self._created):
                tar.addfile(entry, io.BytesIO(content) if content is not None else None)
        self._uncompressed.append(f"sha256:{hashlib.sha256(raw.getbuffer()).hexdigest()}")
        self._layers.append(self._add_blob(LAYER, gzip.compress(raw.getbuffer(), COMPRESSION, mtime=0)))
        self._history.append({"created": self._time(), "created_by": comment})

    def finish(self, config: Mapping[str, object], *, reference: str) -> str:
        """Write what describes the layers; the digest of the image."""
        described = {
            "architecture": self._architecture,
            "os": "linux",
            "created": self._time(),
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": self._uncompressed},
            "history": self._history,
        }
        settings = self._add_blob(CONFIG, _json(described))
        manifest = self._add_blob(
            MANIFEST,
            _json(
                {
                    "schemaVersion": 2,
                    "mediaType": MANIFEST,
                    "config": settings.to_json(),
                    "layers": [layer.to_json() for layer in self._layers],
                }
            ),
        )
        pointed = {
            **manifest.to_json(),
            "platform": {"architecture": self._architecture, "os": "linux"},
            "annotations": {"org.opencontainers.image.ref.name": reference},
        }
        self._add_file("oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        layers = [layer.path for layer in self._layers]
        docker = [{"Config": settings.path, "RepoTags": [f"wws:{reference}"], "Layers": layers}]
        self._add_file("manifest.json", _json(docker))
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [pointed]}
        self._add_file("index.json", _json(index))
        return manifest.digest

    def _add_blob(self, kind: str, content: bytes) -> Blob:
        blob = Blob(kind, hashlib.sha256(content).hexdigest(), len(content))
        self._add_file(blob.path, content)
        return blob

    def _add_file(self, name: str, content: bytes) -> None:
        if name in self._held:
            return
        self._held.add(name)
        entry = tarfile.TarInfo(name)
        entry.size, entry.mtime, entry.mode = len(content), self._created, 0o644
        self._tar.addfile(entry, io.BytesIO(content))

    def _time(self) -> str:
        return datetime.fromtimestamp(self._created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _entries(
    folder: Path, target: str, uid: int, gid: int, time: int
) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Parents first. The folder itself is one, unless it becomes the root."""
    parents = list(Path(target).parents)[-2::-1] if target else []
    for parent in parents:
        yield _entry(parent.as_posix(), tarfile.DIRTYPE, 0o755, 0, 0, time), None
    if target:
        yield _entry(target, tarfile.DIRTYPE, 0o755, uid, gid, time), None
    for path in sorted(folder.rglob("*")):
        name = (Path(target) / path.relative_to(folder)).as_posix()
        if path.is_symlink():
            entry = _entry(name, tarfile.SYMTYPE, 0o777, uid, gid, time)
            entry.linkname = os.readlink(path)
            yield entry, None
        elif path.is_dir():
            yield _entry(name, tarfile.DIRTYPE, 0o755, uid, gid, time), None
        else:
            content = path.read_bytes()
            executable = path.stat().st_mode & stat.S_IXUSR
            entry = _entry(name, tarfile.REGTYPE, 0o755 if executable else 0o644, uid, gid, time)
            entry.size = len(content)
            yield entry, content


def _entry(name: str, kind: bytes, mode: int, uid: int, gid: int, time: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.uid, entry.gid, entry.mtime = kind, mode, uid, gid, time
    return entry


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
