"""The pages of docs/operators and what drills print: which block shows what, and when outputs are the same.

    <!-- drill: dns-outage#from-memory -->      the next block shows this step of drills/dns-outage.sh,
    ```console                                  without `#…` all of it

What is another each time (identifiers, keys, times, sizes, ports, counts of two digits and more) counts as
equal; order, words and small counts do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "operators"
DRILLS = ROOT / "drills"

_BLOCK = re.compile(
    r"^<!-- drill: (?P<drill>[\w-]+)(?:#(?P<step>[\w-]+))? -->\n```console\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"^=== ([\w-]+)\n", re.MULTILINE)
_WORLD = re.compile(r"^# world: ([\w-]+)$", re.MULTILINE)
_PROGRESS = re.compile(
    r"^ *@ \w+ing\.*$"
    r"|^ *(\+|-|~|\+-|\+\+|--|~~|>|)? *(pulumi:|wws:infra:|pulumi-)\S.*$"
    r"|^ *warning: using pulumi-language-python from .*$"
    r"|^Diagnostics:\n *pulumi:pulumi:Stack .*\n *warning: using pulumi-language-python from .*\n$",
    re.MULTILINE,
)
"""What the engine says while it works: in no fixed order, and of no use on a page."""
_GONE = "\0"
_RECORD = re.compile(r"[-+~] _\S+ ")
_ROW = re.compile(r"^\w+ +\S+ +(protected|goes|stays) ")
LONGEST = 118
"""Longest line about a record."""

_NORMALISED: tuple[tuple[str, str], ...] = (
    (r"activating \(\S+\), result \S+, restarted \d+ times", "STATE"),
    (r"12D3KooW\w+", "PEER"),
    (r"\b\d+(\.\d+)?e[+-]?\d+\b", "N"),
    (r"did:swarm:[0-9a-f]+", "DID"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?\b|\b\d{4}-\d\d-\d\d\b", "TIME"),
    (r"\b\d{8}T\d{6}Z\b", "TIME"),
    (r"[A-Za-z0-9+/_-]{40,}={0,2}", "TOKEN"),
    (r"\b(?=\d*[a-f])[0-9a-f]{6,}\b", "N"),  # one in 43 ids of eight digits has no letter: it is a number
    (r"\b(\d+h)?(\d+m)\d+s\b", "SIZE"),
    (
        r"\b\d+(\.\d+)?\s?(ns|µs|us|ms|s|min|h|d|B|kB|KB|KiB|MB|MiB|GB|GiB|seconds?|minutes?|hours?|days?)\b",
        "SIZE",
    ),
    (r"\b(\d+m)?\d+s\b|\b\d+(\.\d+)?[KMGT]\b", "SIZE"),
    (r"(?<=: )0(?=\s+/)", "SIZE"),  # du, of a folder with nothing in it
    (r"\bSIZE( SIZE)+\b", "SIZE"),
    (r"\b\d{2,}(\.\d+)?\b|\b\d+\.\d+\b", "N"),
    (r"^(\S+ +\S+ +joined) .*$", r"\1"),
    (r"^(peers|swarm) .*$", r"\1"),
    (r"found through .*$", "found"),
    (r"[ \t]+", " "),
    (r"[─━-]{3,}", "-"),
)


@dataclass(frozen=True)
class Shown:
    """A block of a page that shows what a drill prints."""

    page: Path
    drill: str
    step: str | None
    text: str


def drills() -> dict[str, str]:
    """Every drill and the world that it is made for."""
    found = {}
    for path in sorted(DRILLS.glob("*.sh")):
        if path.name == "drill.sh":
            continue
        world = _WORLD.search(path.read_text())
        if world is None:
            raise ValueError(f"{path.name} says no world: # world: NAME")
        found[path.stem] = world[1]
    return found


def shown_blocks() -> list[Shown]:
    """Every block of every page that shows a drill."""
    return [
        Shown(page, found["drill"], found["step"], found["text"])
        for page in sorted(PAGES.glob("*.md"))
        for found in _BLOCK.finditer(page.read_text())
    ]


def steps_of(output: str) -> dict[str, str]:
    """What a drill printed, by step; before the first one it is the step `""`."""
    first, *rest = _MARK.split(output)
    steps = {"": first} if first.strip() else {}
    for name, text in zip(rest[::2], rest[1::2], strict=True):
        if name in steps:
            raise ValueError(f"two steps are called {name}")
        steps[name] = text
    return steps


def text_of(steps: Mapping[str, str], step: str | None) -> str:
    """What a block that names this step shows; without one it shows the whole drill."""
    return "\n".join(text.strip("\n") for text in steps.values()) if step is None else steps[step].strip("\n")


def readable(output: str, places: Mapping[str, str]) -> str:
    """The output as a page shows it: no paths of this machine, no progress, no blank ends."""
    for path, name in sorted(places.items(), key=lambda item: -len(item[0])):
        output = output.replace(path, name)
    lines = [line.rstrip() for line in _PROGRESS.sub(_GONE, output.replace("\r", "\n")).splitlines()]
    kept = [_cut(line) for line in _folded([line for line in lines if _GONE not in line])]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)) + "\n"


def _folded(lines: list[str]) -> list[str]:
    """Of lines about one change to one name of the zone only the first, and how many there are more."""
    folded: list[str] = []
    more = 0
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        change = _RECORD.match(line)
        if change and after.startswith(change[0]):
            more += 1
            if more == 1:
                folded.append(line)
            continue
        if more:
            folded.append(f"  … and {more} more")
            more = 0
        else:
            folded.append(line)
    return folded


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST or not _RECORD.match(line) else f"{line[: LONGEST - 1].rstrip()}…"


def normalised(text: str) -> list[str]:
    """The lines of an output without what is another each time."""
    text = re.sub(r"\S*…$", "…", text, flags=re.MULTILINE)
    for pattern, name in _NORMALISED:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [
        line for _, group in groupby(lines, lambda line: bool(_ROW.search(line))) for line in _in_order(group)
    ]


def _in_order(lines: Iterable[str]) -> list[str]:
    """Rows of a table of resources stand in the order in which the engine knows them; others as they are."""
    found = list(lines)
    return sorted(found) if all(_ROW.search(line) for line in found) else found


def record(drill: str, steps: Mapping[str, str]) -> list[Path]:
    """Write what a drill printed into the pages that show it; the pages that changed."""
    changed = []
    for page in sorted(PAGES.glob("*.md")):

        def fresh(found: re.Match[str]) -> str:
            if found["drill"] != drill:
                return found[0]
            head, _, _ = found[0].partition("```console\n")
            return f"{head}```console\n{text_of(steps, found['step'])}\n```"

        before = page.read_text()
        after = _BLOCK.sub(fresh, before)
        if after != before:
            page.write_text(after)
            changed.append(page)
    return changed
