#!/usr/bin/python
"""Ansible module: makes and opens backups of a node. What they are is told in docs/operators/.

A backup is a tar file that age has encrypted to the operators' public keys, on the host, as it is written: no
disk ever holds the plain text but in the places it came from. Its first member says what is in it::

    manifest.json     {"schema": 1, "id", "host", "peer_id", "version", "made_at", "final", "book", "files": [
                       {"path", "size", "sha256"}]}
    etc/…             identity.key, config.toml, network.json, deny.txt
    home/…            networks/*, state/<node>/{relay.json,peers.json,witness.sqlite}

A node's book of promises is only ever put back from a *final* backup: one whose node was stopped for it, has
been sealed since, and lives nowhere else. Any other copy may lack promises that were given after it was
made; the marker `lost` takes its place, with which a witness makes no first claims while such promises live.

The home belongs to the node, which somebody may have taken over: whatever is read, made or written there is
so by its own user, or a link that was put there would lead root to any file of the host. And a backup may
come from a host that somebody has taken over: of what it says nothing is believed unseen.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: wws_backup
short_description: Makes, opens and puts back backups of a bootstrap node
description:
  - C(make) writes an encrypted backup on the host. C(seal) keeps the node from ever starting there again.
  - C(open) decrypts one on the controller. C(put) puts its content on a host whose node does not run.
options:
  action: {type: str, required: true, choices: [make, seal, open, put]}
  file: {type: path, description: The backup; for C(put) the opened one.}
  recipients: {type: list, elements: str, default: [], description: Public keys of age.}
  identity_file: {type: path, description: The private key of age, on the controller.}
  opened: {type: path, description: Where C(open) puts the plain tar file. In a folder of this user alone.}
  final: {type: bool, default: false, description: The node is stopped and sealed for this backup.}
  consume: {type: bool, default: false, description: C(put) removes the file as soon as it is open.}
  put_book: {type: bool, default: false, description: The book may be put back; else the marker is.}
  peer_id: {type: str, description: Who the node is.}
  settings: {type: path, default: /etc/wws, description: Where key and settings lie.}
  home: {type: path, default: /var/lib/wws, description: The home of the node.}
  node: {type: str, default: bootstrap, description: Its name there.}
  user: {type: str, default: wws, description: Whom its files belong to.}
  root: {type: path, default: /opt/wws, description: Where releases lie.}
  unit: {type: str, default: wws-bootstrap.service, description: The unit of the node.}
author: [the WWS maintainers]
"""

EXAMPLES = r"""
- name: Back up a node
  wws_backup: {action: make, file: /var/backups/wws/one.age, recipients: [age1…], peer_id: 12D3KooW…}
"""

RETURN = r"""
manifest: {type: dict, returned: make and open, description: What is in the backup.}
"""

SCHEMA = 1
STOP_WITHIN = 60
"""Seconds that a node has to stop by itself."""
ASK_WITHIN = 20
"""Seconds for systemd to say or do what takes no time."""
COPY_WITHIN = 900
"""Seconds for a copy of the book, or to open a backup with one: gigabytes, on a slow disk."""
MAX_FILE = 16 * 1024 * 1024
"""Largest file besides the book, in bytes."""
MAX_BOOK = 2 * 1024 * 1024 * 1024
MAX_FILES = 256
MAX_ALL = 64 * 1024 * 1024
"""Most files, and most bytes of all together, besides the book."""
BLOCK = 512
"""A tar file is made of blocks of so many bytes."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")
SMALL = ("config.toml", "network.json", "deny.txt")
LOST = b"lost"


class Failed(Exception):
    """The action did not come to its end, for the reason that the text tells."""


def seal(module: AnsibleModule) -> dict[str, object]:
    """Stop the node; the unit's condition keeps it from starting here from now on, also after a boot."""
    path, unit = Path(module.params["settings"], "sealed"), module.params["unit"]
    if path.exists():
        if not module.check_mode:
            _stop(unit)
        return {"changed": False, "seal": _seal(module).get("id", "")}
    if module.check_mode:
        return {"changed": True}
    mark = {"id": secrets.token_hex(16), "at": int(time.time()), "why": "a final backup was made"}
    _write(path, json.dumps(mark).encode() + b"\n", 0o644)
    _stop(unit)
    return {"changed": True, "seal": mark["id"]}


def _stop(unit: str) -> None:
    """Stop what runs, whatever it thinks of it: a node may ask systemd for ever more time."""
    if not _is_active(unit):
        return
    command = ["systemctl", "stop", unit]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, capture_output=True, timeout=STOP_WITHIN, check=False)
    if _is_active(unit):
        for last in (["systemctl", "kill", "--signal=SIGKILL", unit], command):
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(last, capture_output=True, timeout=ASK_WITHIN, check=False)


def make(module: AnsibleModule) -> dict[str, object]:
    """Write the backup: it is there whole, or not at all."""
    given = module.params
    target, settings, home = Path(given["file"]), Path(given["settings"]), Path(given["home"])
    if not given["recipients"]:
        raise Failed("nobody is named who could read the backup: wws_backup_recipients")
    if shutil.which("age") is None:
        raise Failed("there is no age on this host")
    if given["final"] and (not _seal(module) or _is_active(given["unit"])):
        raise Failed("a final backup is made of a node that is stopped and sealed")
    if module.check_mode:
        return {"changed": True}
    os.umask(0o077)
    state = home / "state" / given["node"]
    content: dict[str, bytes] = {}
    _collect(content, {f"etc/{name}": settings / name for name in ("identity.key", *SMALL)})
    with _as_user(_owner(given["user"])):
        known = sorted(path for path in (home / "networks").glob("*") if NAME.match(path.name))
        small = {f"home/networks/{path.name}": path for path in known}
        small |= {f"home/state/{given['node']}/{name}": state / name for name in ("relay.json", "peers.json")}
        _collect(content, small)
    if len(content.get("etc/identity.key", b"")) != 32:
        raise Failed(f"{settings}/identity.key is no identity: nothing was backed up")
    with _copied_book(module, state / "witness.sqlite") as book:
        files = [{"path": name, "size": len(data), "sha256": _digest(data)} for name, data in content.items()]
        if book is not None:
            where = f"home/state/{given['node']}/witness.sqlite"
            size = os.fstat(book.fileno()).st_size
            if size > MAX_BOOK:
                raise Failed(f"the witness's book is larger than {MAX_BOOK} bytes")
            files.append({"path": where, "size": size, "sha256": _digest_of(book)})
        manifest = {
            "schema": SCHEMA,
            "id": _seal(module).get("id", "") if given["final"] else secrets.token_hex(16),
            "host": socket.gethostname(),
            "peer_id": given["peer_id"] or "",
            "version": _version(Path(given["root"])),
            "made_at": int(time.time()),
            "final": given["final"],
            "book": book is not None,
            "node": given["node"],
            "files": files,
        }
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = target.with_name(f".{target.name}.part")
        try:
            with (
                _encrypting(unfinished, given["recipients"]) as stream,
                tarfile.open(fileobj=stream, mode="w|") as tar,
            ):
                _add(tar, "manifest.json", json.dumps(manifest, indent=1).encode() + b"\n")
                for name, data in content.items():
                    _add(tar, name, data)
                if book is not None:
                    book.seek(0)
                    tar.addfile(_entry(files[-1]["path"], files[-1]["size"]), book)
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    return {
        "changed": True,
        "manifest": manifest,
        "sha256": _digest_of(target),
        "size": target.stat().st_size,
    }


def open_backup(module: AnsibleModule) -> dict[str, object]:
    """Decrypt a backup and hold its content to its manifest."""
    source, target = Path(module.params["file"]), Path(module.params["opened"])
    if not source.is_file():
        raise Failed(f"there is no backup {source}")
    parent = target.parent.stat()
    if parent.st_uid != os.geteuid() or parent.st_mode & 0o077:
        raise Failed(f"{target.parent} is open to others")
    if source.stat().st_size > 2 * MAX_ALL + MAX_BOOK:  # what comes out is no larger
        raise Failed(f"{source} is larger than a backup can be")
    os.umask(0o077)
    command = [
        "age",
        "--decrypt",
        "--identity",
        str(module.params["identity_file"]),
        "--output",
        str(target),
        str(source),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COPY_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:  # a key with a passphrase asks the terminal for it
        target.unlink(missing_ok=True)
        raise Failed(f"{source} was not decrypted within {COPY_WITHIN} s") from None
    except FileNotFoundError:
        raise Failed("there is no age on this machine") from None
    if done.returncode:
        target.unlink(missing_ok=True)
        raise Failed(f"{source} cannot be decrypted: {done.stderr.strip()[:300]}")
    with contextlib.ExitStack() as undo:
        undo.callback(target.unlink, missing_ok=True)
        with _opened(target) as tar:
            manifest = _manifest(tar)
            for wanted in manifest["files"]:
                content = tar.extractfile(wanted["path"])
                if content is None or _digest_of(content) != wanted["sha256"]:
                    raise Failed(f"{wanted['path']} in the backup is not what its manifest says")
        undo.pop_all()
    return {"changed": True, "manifest": manifest}


def put(module: AnsibleModule) -> dict[str, object]:
    """Put what a backup holds where it belongs. What the host has of its own is never replaced."""
    given = module.params
    settings, home = Path(given["settings"]), Path(given["home"])
    os.umask(0o077)
    owner = _owner(given["user"])
    with _opened(Path(given["file"])) as tar:
        if given.get("consume"):  # it is plain text: whatever ends us, nothing of it stays
            Path(given["file"]).unlink()
        manifest = _manifest(tar)
        names = {wanted["path"] for wanted in manifest["files"]}
        if given["peer_id"] and manifest["peer_id"] != given["peer_id"]:
            raise Failed(f"the backup is one of {manifest['peer_id']}, not of {given['peer_id']}")
        if _is_active(given["unit"]):
            raise Failed("the node runs on this host: a backup is put back where none does")
        mark = _seal(module)
        if mark and mark.get("id") != manifest["id"]:
            raise Failed(
                "the node was sealed here for another backup than this one: use that, which is newer"
            )
        identity = tar.extractfile("etc/identity.key").read()
        key = settings / "identity.key"
        if key.exists() and key.read_bytes() != identity:
            raise Failed(f"{key} is the key of another node: nothing was changed")
        state = home / "state" / manifest["node"]
        book, done = state / "witness.sqlite", []
        if module.check_mode:
            return {"changed": True}
        for folder, mode in ((settings, 0o750), (home, 0o700)):
            if not folder.exists():
                folder.mkdir(parents=True)
                folder.chmod(mode)
        if owner is not None:
            os.chown(home, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
            os.chown(settings, 0, owner.pw_gid)
        with _as_user(owner):
            for folder in (home / "networks", home / "state", state):
                folder.mkdir(mode=0o700, exist_ok=True)
            # The book first: should the node be started before all is done, it knows what it has forgotten.
            if book.exists():
                kept = "its own"
            elif given["put_book"] and manifest["final"] and manifest["book"]:
                _write(book, tar.extractfile(f"home/state/{manifest['node']}/witness.sqlite"), 0o600)
                kept = "put back"
                done.append(str(book))
            else:
                _write(book, LOST, 0o600)
                kept = "lost"
                done.append(str(book))
            for name in sorted(name for name in names if name.startswith("home/")):
                place = _place(name, settings, home)
                if place is not None and place.parent.is_dir() and not place.exists():
                    _write(place, tar.extractfile(name), 0o600)
                    done.append(str(place))
        for name in sorted(name for name in names if name.startswith("etc/")):
            place = _place(name, settings, home)
            if place is None or place.exists():
                continue
            _write(place, tar.extractfile(name), 0o600 if place == key else 0o640)
            if owner is not None and place != key:
                os.chown(place, 0, owner.pw_gid)
            done.append(str(place))
    if mark:
        (settings / "sealed").unlink()
        done.append(str(settings / "sealed"))
    return {"changed": bool(done), "book": kept, "written": done, "was_sealed": bool(mark)}


def _place(name: str, settings: Path, home: Path) -> Path | None:
    """Where a member of the backup belongs; nowhere, when it is not one that we write."""
    top, _, rest = name.partition("/")
    words = rest.split("/")
    if any(word in {"", ".", ".."} for word in words):
        return None
    if top == "etc" and len(words) == 1 and (rest in SMALL or rest == "identity.key"):
        return settings / rest
    if top == "home" and (
        (words[0] == "networks" and len(words) == 2) or (words[0] == "state" and len(words) == 3)
    ):
        return home.joinpath(*words)
    return None


def _owner(user: str):
    """The node's user; `None` while there is none: then systemd gives it the home when the node starts."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        return None


@contextlib.contextmanager
def _as_user(owner):
    """Be the node's user: wherever a link in its home leads, one gets no further than the node itself."""
    if owner is None or owner.pw_uid == 0 or os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(owner.pw_gid)
    os.seteuid(owner.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _collect(content: dict[str, bytes], paths: dict[str, Path]) -> None:
    """Read the files that are there into `content`."""
    for name, path in paths.items():
        try:
            with _open_file(path) as file:
                content[name] = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            continue
        if len(content[name]) > MAX_FILE:
            raise Failed(f"{path} is larger than {MAX_FILE} bytes")
        if len(content) > MAX_FILES or sum(map(len, content.values())) > MAX_ALL:
            raise Failed(f"there are more than {MAX_FILES} files or {MAX_ALL} bytes to back up")


def _open_file(path: Path):
    """A file, and neither a link nor something that has one wait."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise Failed(f"{path} is a link, which no node makes: who has been at it?") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Failed(f"{path} is no file: who has been at it?")
    return file


@contextlib.contextmanager
def _copied_book(module: AnsibleModule, book: Path):
    """A copy of the book that is whole, made by the node's own program; `None` where there is none."""
    owner = _owner(module.params["user"])
    with _as_user(owner):
        try:
            with _open_file(book) as file:
                is_book = file.read(16) == b"SQLite format 3\0"
        except FileNotFoundError:
            is_book = False
        if not is_book:
            folder = None
        elif owner is None:
            raise Failed(f"there is no user {module.params['user']}, whose book {book} could be")
        else:
            # Beside the book: the same disk, and nobody else may look into the home.
            folder = Path(tempfile.mkdtemp(prefix=".backup-", dir=module.params["home"]))
    if folder is None:
        yield None
        return
    try:
        copy = folder / "witness.sqlite"
        # As the node's user: files that SQLite makes beside the book must be the node's.
        command = [f"{module.params['root']}/current/bin/wws-control", "--home", module.params["home"]]
        command += ["--node", module.params["node"], "witness-copy", str(copy)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=COPY_WITHIN,
                check=False,
                user=owner.pw_uid,
                group=owner.pw_gid,
                extra_groups=[],
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"the witness's book was not copied within {COPY_WITHIN} s") from None
        if done.returncode:
            raise Failed(f"the witness's book cannot be copied: {done.stderr.strip()[:300]}")
        with _as_user(owner):
            copied = _open_file(copy)
        with copied:
            yield copied
    finally:
        with _as_user(owner):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _encrypting(target: Path, recipients: list[str]):
    """A stream that age encrypts into a new file."""
    command = ["age", "--encrypt", "--output", str(target)]
    for recipient in recipients:
        command += ["--recipient", recipient]
    target.unlink(missing_ok=True)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    broken = False
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:
            yield process.stdin
    except BrokenPipeError:
        broken = True
    except BaseException:
        process.kill()
        raise
    finally:
        errors = process.stderr.read().decode("utf-8", "replace").strip()
        process.stderr.close()
        process.wait()
    if process.returncode or broken:
        raise Failed(f"age did not encrypt: {errors[:300]}")
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> tarfile.TarFile:
    """A tar file as `make` writes them: some plain files. What could grow as it is read is not even begun."""
    if path.stat().st_size > 2 * MAX_ALL + MAX_BOOK:
        raise Failed("the backup is larger than one can be")
    with path.open("rb") as file:
        for _ in range(MAX_FILES + 3):
            head = file.read(BLOCK)
            if len(head) < BLOCK or not head.strip(b"\0"):
                break
            try:
                size = int(head[124:136].rstrip(b"\0 ") or b"0", 8)
            except ValueError:
                size = -1
            if head[156:157] not in (b"0", b"\0") or size < 0:
                raise Failed("this is no backup of a node: it holds something else than files")
            file.seek(-(-size // BLOCK) * BLOCK, os.SEEK_CUR)
        else:
            raise Failed(f"the backup holds more than {MAX_FILES} files")
    try:
        return tarfile.open(path, "r:")
    except tarfile.TarError as error:
        raise Failed(f"this is no backup of a node: {error}") from error


def _manifest(tar: tarfile.TarFile) -> dict:
    """The first member, after a look at the others: files that it names, each once."""
    entries = tar.getmembers()
    if not entries or entries[0].name != "manifest.json" or entries[0].size > MAX_FILE:
        raise Failed("this is no backup of a node: it has no manifest")
    try:
        manifest = json.load(tar.extractfile(entries[0]))
        listed = [(wanted["path"], wanted["size"]) for wanted in manifest["files"]]
        schema = manifest["schema"]
        texts = [manifest["id"], manifest["peer_id"], manifest["node"]]
        texts += [wanted["sha256"] for wanted in manifest["files"]]
        # The name of the node becomes part of a path.
        is_sound = all(isinstance(text, str) for text in texts) and NAME.match(manifest["node"])
        is_sound = is_sound and isinstance(manifest["final"], bool) and isinstance(manifest["book"], bool)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_sound, schema, listed = False, None, []
    if not is_sound:
        raise Failed("the manifest of the backup cannot be read")
    if schema not in (SCHEMA, SCHEMA + 1):
        raise Failed(f"the backup has schema {schema!r}, this version reads {SCHEMA}")
    found = [(entry.name, entry.size) for entry in entries[1:] if entry.isreg()]
    if found != listed or len(found) != len(entries) - 1 or len({name for name, _ in found}) != len(found):
        raise Failed("the backup holds other files than its manifest says")
    if any(size > MAX_BOOK for _, size in found):
        raise Failed("the backup holds a file that is too large")
    if "etc/identity.key" not in dict(found):
        raise Failed("the backup holds no identity")
    return manifest


def _seal(module: AnsibleModule) -> dict:
    path = Path(module.params["settings"], "sealed")
    if not path.exists():
        return {}
    with contextlib.suppress(ValueError, OSError):
        mark = json.loads(path.read_text("utf-8"))
        if isinstance(mark, dict) and mark.get("id"):
            return mark
    return {"id": "unknown"}


def _is_active(unit: str) -> bool:
    command = ["systemctl", "show", "--property", "ActiveState", "--value", unit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_WITHIN, check=False)
    except subprocess.TimeoutExpired:
        return True  # who cannot tell must not be taken for stopped
    return done.stdout.strip() not in {"inactive", "failed"}


def _version(root: Path) -> str:
    try:
        return (root / "current" / "VERSION").read_text("utf-8").strip()
    except OSError:
        return ""


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
    return entry


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_entry(name, len(data)), io.BytesIO(data))


def _write(path: Path, content, mode: int) -> None:
    """A new file that is whole, or not there."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(descriptor)
    os.replace(unfinished, path)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_of(source) -> str:
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
        while block := file.read(1024 * 1024):
            digest.update(block)
    return digest.hexdigest()


ACTIONS = {"make": make, "seal": seal, "open": open_backup, "put": put}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "action": {"type": "str", "required": True, "choices": list(ACTIONS)},
            "file": {"type": "path"},
            "recipients": {"type": "list", "elements": "str", "default": []},
            "identity_file": {"type": "path"},
            "opened": {"type": "path"},
            "final": {"type": "bool", "default": False},
            "consume": {"type": "bool", "default": False},
            "put_book": {"type": "bool", "default": False},
            "peer_id": {"type": "str"},
            "settings": {"type": "path", "default": "/etc/wws"},
            "home": {"type": "path", "default": "/var/lib/wws"},
            "node": {"type": "str", "default": "bootstrap"},
            "user": {"type": "str", "default": "wws"},
            "root": {"type": "path", "default": "/opt/wws"},
            "unit": {"type": "str", "default": "wws-bootstrap.service"},
        },
        required_if=[
            ("action", "make", ("file",)),
            ("action", "open", ("file", "identity_file", "opened")),
            ("action", "put", ("file",)),
        ],
        supports_check_mode=True,
    )
    try:
        result = ACTIONS[module.params["action"]](module)
    except Failed as error:
        module.fail_json(msg=str(error))
    except (OSError, tarfile.TarError) as error:
        module.fail_json(msg=f"{module.params['action']}: {error}")
    module.exit_json(**{"changed": False, **result})


if __name__ == "__main__":
    main()
