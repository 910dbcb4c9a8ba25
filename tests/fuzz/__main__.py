"""`python -m tests.fuzz [TARGET…] [--seed N] [--cases N] [--rounds N]`: fuzz by hand, or repeat a failure."""

from __future__ import annotations

import argparse
import sys

from tests.fuzz.running import CaseFailed, measure_largest, run
from tests.fuzz.table import TARGETS, find


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the parsers of WWS.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help="rows of the table; all when none is given"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1, help="so many seeds, one after the other")
    parser.add_argument("--largest", type=int, default=0, help="also so many of the largest inputs")
    parser.add_argument("--list", action="store_true", help="show the table and end")
    options = parser.parse_args()
    if options.list:
        for target in TARGETS:
            print(f"{target.name:<30} {', '.join(function.__qualname__ for function in target.covers)}")
        return 0
    try:
        chosen = [find(name) for name in options.targets] or list(TARGETS)
    except KeyError as unknown:
        parser.error(f"no target {unknown}; see --list")
    failed = 0
    for seed in range(options.seed, options.seed + options.rounds):
        for target in chosen:
            try:
                print(run(target, seed, options.cases), flush=True)
                if options.largest:
                    peak, slowest = measure_largest(target, seed, options.largest)
                    print(f"  largest: {peak / 1024:.0f} KiB, {1e3 * slowest:.1f} ms", flush=True)
            except CaseFailed as failure:
                failed += 1
                print(failure, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
