"""`wws-connector`: the node process, in the foreground.

    arguments, settings ─► key, its lock ─► network ─► node ─► RPC, HTTP ─► ready.json ─► SIGTERM, exit 0

A start that fails leaves its reason in `error.json` and on stderr, with the exit code of the contract.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from wws.errors import LocalError, WwsError
from wws.runtime.arguments import Options, Preparation, parse_arguments, prepare
from wws.runtime.homes import NodePaths


def main(arguments: Sequence[str] | None = None, *, bootstrap: bool = False) -> int:
    """Run a node until it is told to stop; its exit code."""
    program = "wws-bootstrap" if bootstrap else "wws-connector"
    argv = list(sys.argv[1:] if arguments is None else arguments)
    if bootstrap and "--bootstrap-mode" not in argv:
        argv.append("--bootstrap-mode")
    node: NodePaths | None = None
    try:
        options = parse_arguments(argv, program=program)
        preparation = prepare(options, os.environ)
        node = preparation.node
        return _run(options, preparation, os.environ)
    except WwsError as error:
        return _report(program, node, error)
    except KeyboardInterrupt:
        return 130


def _run(options: Options, preparation: Preparation, env: Mapping[str, str]) -> int:
    # Imported here: --help and a wrong option answer without loading the node.
    from wws.runtime.process import run

    return run(options, preparation, env)


def _report(program: str, node: NodePaths | None, error: WwsError) -> int:
    from wws.rpc import codes

    exit_code = error.exit_code if isinstance(error, LocalError) else int(codes.exit_code(error.code))
    hint = f"  {error.hint}\n" if error.hint else ""
    sys.stderr.write(f"{program}: {error}\n{hint}")
    if node is not None and error.code != "node_running":
        try:
            node.write_error(error)
        except WwsError as second:
            sys.stderr.write(f"{program}: {second}\n")
    return exit_code


if __name__ == "__main__":
    raise SystemExit(main())
