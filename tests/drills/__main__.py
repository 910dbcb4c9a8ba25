"""`python -m tests.drills record NAME…`: run drills, and write what they print into the pages that show them.

`python -m tests.drills run NAME…` only prints it.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

from tests.drills.pages import drills, record, steps_of
from tests.drills.registry import WORLDS, in_order
from tests.drills.worlds import World


def main() -> None:
    """Run the drills that are named, those of one world in one world."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("what", choices=("record", "run"))
    parser.add_argument("names", nargs="+", choices=sorted(drills()), metavar="NAME")
    options = parser.parse_args()
    made: dict[str, World] = {}
    with ExitStack() as stack:
        for name in in_order(options.names):
            world = drills()[name]
            if world not in made:
                made[world] = stack.enter_context(WORLDS[world]())
            output = made[world].run(name)
            print(output)
            if options.what == "record":
                for page in record(name, steps_of(output)):
                    print(f"written: {page.name}")


main()
