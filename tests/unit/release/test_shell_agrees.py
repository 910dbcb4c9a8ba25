"""install.sh and this library read the same files: what both take means the same; what we write both take.

The functions of install.sh are run as they stand there; only its last line, which installs, is left out.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.release_signing import public
from wws.identity.keys import Identity
from wws.release.channel import Channel
from wws.release.errors import ReleaseMalformed
from wws.release.keys import PublicKey
from wws.release.lines import time_text
from wws.release.release_keys import MAX_KEYS, MAX_REVOKED, ReleaseKeys
from wws.release.version import Version
from wws.testing.scale import scale

INSTALLER = Path(__file__).parents[3] / "install.sh"
KEYS = [public(Identity.from_label(f"key {number}")) for number in range(MAX_KEYS + MAX_REVOKED)]
SEED = 20261122
NOW = 1_795_262_400


def shell(body: str, folder: Path) -> list[list[str]]:
    """Run some lines with the functions of install.sh at hand: the words of each line that they print."""
    functions = INSTALLER.read_text().removesuffix('main "$@"\n')
    assert functions.endswith("\n\n")
    done = subprocess.run(
        ["sh", "-c", f"{functions}\nset +e\ncd '{folder}'\n{body}\n:"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def mutations(good: list[bytes], count: int) -> Iterator[bytes]:
    """Files that are almost right: lines swapped, doubled, dropped; letters changed, cut, put in."""
    dice = random.Random(SEED)
    odd = [b"\n", b"\r", b" ", b"\t", b"\x00", b"0", b"9", b"|", b"key ", b"revoked ", b".", b"-", b"\xff"]
    for _ in range(count):
        data = dice.choice(good)
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            lines = data.splitlines(True) or [b""]
            first, second = (dice.randrange(len(lines)) for _ in range(2))
            at = dice.randrange(len(data) + 1)
            match dice.randrange(6):
                case 0:
                    lines[first], lines[second] = lines[second], lines[first]
                case 1:
                    lines.insert(first, lines[second])
                case 2:
                    del lines[first]
                case 3:
                    lines = [data[:at] + dice.choice(odd) + data[at:]]
                case 4:
                    lines = [data[:at] + dice.choice(odd) + data[at + 1 :]]
                case _:
                    lines = [data[:at]]
            data = b"".join(lines)
        yield data


def read(parse: Callable[[bytes], list[str]], data: bytes) -> list[str] | None:
    try:
        return parse(data)
    except ReleaseMalformed:
        return None


def compare(
    folder: Path,
    files: list[bytes],
    body: str,
    parse: Callable[[bytes], list[str]],
) -> tuple[int, int]:
    """How many of the files the shell takes, and how many we do. What both take must mean the same."""
    for number, data in enumerate(files):
        (folder / f"{number:05}").write_bytes(data)
    said = {line[0]: line[1:] for line in shell(f"for f in [0-9]*; do\n{body}\ndone", folder)}
    ours = 0
    for number, data in enumerate(files):
        theirs = said.get(f"{number:05}")
        found = read(parse, data)
        ours += found is not None
        if found is not None:
            assert theirs is not None, f"the shell refuses {data!r}"
            assert theirs == found, data
    return len(said), ours


def test_lists_of_keys(tmp_path: Path) -> None:
    good = [
        ReleaseKeys(3, NOW, tuple(KEYS[:2]), tuple(KEYS[2:4])).encode(),
        ReleaseKeys(999_999_999, NOW, tuple(KEYS[:1])).encode(),
        ReleaseKeys(1, NOW, tuple(KEYS[:MAX_KEYS]), tuple(KEYS[MAX_KEYS:])).encode(),
        ReleaseKeys(7, NOW, tuple(KEYS[:3]), tuple(KEYS[1:2])).encode(),  # one is both, and does not count
    ]

    def parse(data: bytes) -> list[str]:
        found = ReleaseKeys.parse(data)
        counted, revoked = (
            [word for key in keys for word in str(key).split()] for keys in (found.usable, found.revoked)
        )
        return [str(found.serial), time_text(found.expires_at), *counted, "revoked", *revoked]

    body = 'if statement "$f"; then echo "$f" $new_serial $end $new_keys revoked $new_revoked; fi'
    files = good + list(mutations(good, scale(1_000)))
    theirs, ours = compare(tmp_path, files, body, parse)
    assert theirs >= ours >= len(good)


def test_channels(tmp_path: Path) -> None:
    good = [
        Channel("stable", Version.parse(version), NOW, NOW + 86_400).encode()
        for version in ("1.2.3", "0.10.0", "1.3.0rc1", "999999.0.0a0")
    ]

    def parse(data: bytes) -> list[str]:
        found = Channel.parse(data)
        if found.name != "stable":
            raise ReleaseMalformed("the shell asks for stable")
        return [str(found.version), time_text(found.issued_at), time_text(found.expires_at)]

    # Signed and in time: what is left of the function is its reading.
    body = """\
( channel=stable source=x now=20261122000000 issued=0
  by_release_key() { :; }
  refuse() { exit 1; }
  follow_channel "$f" && echo "$f" $version $new_issued $end )"""
    files = good + list(mutations(good, scale(1_000)))
    theirs, ours = compare(tmp_path, files, body, parse)
    assert theirs >= ours >= len(good)


def test_the_order_of_versions(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    texts = ["0.0.1", "0.9.0", "0.10.0a2", "0.10.0a10", "0.10.0b1", "0.10.0rc1", "0.10.0", "0.10.1", "1.0.0"]
    texts += ["2.0.0", "10.0.0", "1.0.0rc999999", "999999.999999.999999"]
    pairs = [(dice.choice(texts), dice.choice(texts)) for _ in range(scale(400, least=100))]
    body = "".join(f"older {a} {b} && echo yes || echo no\n" for a, b in pairs)
    expected = ["yes" if Version.parse(a) < Version.parse(b) else "no" for a, b in pairs]
    assert [line[0] for line in shell(body, tmp_path)] == expected


def test_keys_as_other_tools_have_them(tmp_path: Path) -> None:
    key = KEYS[0]
    blob = str(key).split()[1]
    ((found,),) = shell(f"work=. && minisign_key {blob} && echo", tmp_path)
    assert found == key.minisign_text
    shell(f"x509_key {blob} >der", tmp_path)
    assert (tmp_path / "der").read_bytes()[-32:] == key.data
    assert PublicKey.parse(" ".join(shell(f"keys_in ' , {key} '", tmp_path)[0])) == key
