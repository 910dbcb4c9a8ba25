"""`wws-bootstrap`: the node process in bootstrap mode.

It keeps its key (`./bootstrap-identity.key`), prints PeerId, DID and ready-made TXT lines, listens on port
9000, drains on SIGTERM, and never takes part as an agent. All of that is the connector's doing: an operator
gets the same from `wws-connector --bootstrap-mode`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wws.runtime.__main__ import main as run_connector


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bootstrap node in the foreground, and return its exit code."""
    return run_connector(sys.argv[1:] if arguments is None else list(arguments), bootstrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
