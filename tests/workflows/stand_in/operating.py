"""Stands in for `pulumi`, `wws-ops` and `wws-dns`: three nodes that are lines of a file.

$GITHUB_STAND_IN/nodes       HOST VERSION [PREVIOUS]
$GITHUB_STAND_IN/breaks      HOST VERSION: this version is not well on that host, which then keeps its own
$GITHUB_STAND_IN/release     the stack's wws:release
$GITHUB_STAND_IN/said        every command line
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

HOME = Path(os.environ["GITHUB_STAND_IN"])
NETWORK = "example.org#" + "ab" * 32


def nodes() -> dict[str, str]:
    return dict(line.split() for line in (HOME / "nodes").read_text().splitlines())


def save(found: dict[str, str]) -> None:
    (HOME / "nodes").write_text("".join(f"{name} {version}\n" for name, version in found.items()))


def pulumi(words: Sequence[str]) -> int:
    release = HOME / "release"
    if "--cwd" in words:
        infra = Path(words[words.index("--cwd") + 1])
        infra.mkdir(exist_ok=True)
        if not (infra / "release").exists() and release.exists():
            shutil.copy(release, infra)
        release = infra / "release"
    match list(words[:4]):
        case ["config", "--json", *_]:
            value = json.loads(release.read_text()) if release.exists() else None
            print(json.dumps({} if value is None else {"wws:release": {"objectValue": value}}))
        case ["config", "set", "--path", name]:
            value = json.loads(release.read_text()) if release.exists() else {}
            release.write_text(json.dumps({**value, name.rpartition(".")[2]: words[4]}))
        case ["config", "rm", *_]:
            release.unlink()
        case ["stack", "output", "--json", *_]:
            print(json.dumps({"inventory": {}} if nodes() else {}))
        case ["stack", "output", "inventory", "--json"]:
            hosts = [{"name": name, "multiaddrs": [], "peer_id": f"12D3{name}"} for name in nodes()]
            print(json.dumps({"network": NETWORK, "dns_servers": [], "hosts": hosts}))
        case ["stack", "output", "network_json", *_]:
            print('{"schema": 1}')
        case ["up", *_]:
            wanted = json.loads(release.read_text())["version"]
            save(dict.fromkeys(nodes() or ("eu", "us", "ap"), wanted))
        case ["preview", *_]:
            print("    ~ 3 to update")
        case ["version", *_]:
            print("v3.221.0")
        case _:
            raise SystemExit(f"pulumi: {words}")
    return 0


def ops(words: Sequence[str]) -> int:
    found = nodes()
    breaks = (HOME / "breaks").read_text().splitlines() if (HOME / "breaks").exists() else []
    chosen = [words[1]] if words[1] in found else list(found)
    match words[0]:
        case "status":
            rows = [{"host": name, "version": version, "state": "joined"} for name, version in found.items()]
            print(json.dumps({"data": {"nodes": rows}}))
        case "upgrade":
            version = words[words.index("--version") + 1]
            for name in chosen:
                if f"{name} {version}" in breaks:
                    print(f"{name} rolled_back")
                    return 7
                found[name] = version
                save(found)
        case "rollback":
            found[words[1]] = words[words.index("--to") + 1]
            save(found)
        case "exec":
            pass
        case _:
            raise SystemExit(f"wws-ops: {words}")
    return 0


def dns(words: Sequence[str]) -> int:
    assert words[:2] == ["verify", NETWORK]
    return 8 if (HOME / "dns-is-wrong").exists() else 0


PROGRAMS: dict[str, Callable[[Sequence[str]], int]] = {"pulumi": pulumi, "wws-ops": ops, "wws-dns": dns}


def main() -> int:
    program, *words = sys.argv[1:]
    with (HOME / "said").open("a") as said:
        said.write(f"{program} {' '.join(words)}\n")
    return PROGRAMS[program](words)


if __name__ == "__main__":
    raise SystemExit(main())
