"""Stands in for GitHub's `gh`: keeps releases in a folder, and serves from there what is published.

    $GITHUB_STAND_IN/drafts/TAG/FILE          of drafts
    $GITHUB_STAND_IN/served/download/TAG/FILE what is published (an HTTP server shows `served`)
    $GITHUB_STAND_IN/said                     every command line
    $GITHUB_STAND_IN/ci                       what ci.yml came to

It knows what our scripts ask for and nothing else. `gh` itself is not tested by this.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

HOME = Path(os.environ["GITHUB_STAND_IN"])
WITH_VALUE = ("--title", "--notes", "--notes-file", "--target", "--json", "--jq", "--dir", "-f")


def main(words: Sequence[str]) -> int:
    if not os.environ.get("GH_TOKEN"):
        sys.stderr.write("gh: log in first\n")
        return 4
    with (HOME / "said").open("a") as said:
        said.write(" ".join(words) + "\n")
    match list(words[:2]):
        case ["run", "list"]:
            print((HOME / "ci").read_text().strip())
        case ["release", what]:
            return release(what, words[2], words[3:])
        case ["workflow", "run"] | ["pr", "create"]:
            pass
        case ["pr", "list"]:
            print(0)
        case _:
            raise SystemExit(f"gh: {words}")
    return 0


def release(what: str, tag: str, options: Sequence[str]) -> int:
    draft, served = HOME / "drafts" / tag, HOME / "served" / "download" / tag
    place = draft if draft.exists() else served
    match what:
        case "create":
            assert not place.exists(), f"{tag} is there"
            (draft if "--draft" in options else served).mkdir(parents=True)
        case "view" if not place.exists():
            return 1
        case "view" if "assets" in options:
            print("\n".join(sorted(file.name for file in place.iterdir())))
        case "view" if "--jq" in options:
            print("true" if draft.exists() else "false")
        case "edit" if "--draft=false" in options:
            served.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(served)
        case "upload":
            assert place.exists(), f"there is no {tag}"
            for name in arguments(options):
                shutil.copy(name, place)
        case "download":
            target = Path(options[options.index("--dir") + 1])
            for file in place.iterdir():
                if not any(fnmatch.fnmatch(other.name, file.name) for other in target.iterdir()):
                    shutil.copy(file, target)
    return 0


def arguments(options: Sequence[str]) -> list[str]:
    """What is neither an option nor its value."""
    found, skip = [], False
    for word in options:
        if not skip and not word.startswith("-"):
            found.append(word)
        skip = word in WITH_VALUE
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
