"""Asks a running node how it is: for container health checks and service managers.

    python -m bootstrap_node.health [--live] [IP:PORT]

Exits 0 when the node is ready (`/readyz`; with `--live` when it answers at all, `/healthz`), else 1 with a
line on stderr. Standard library only: it runs every few seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import socket
import sys
import threading
from collections.abc import Sequence

DEFAULT_ADDRESS = "127.0.0.1:9371"
TIMEOUT = 5.0
MAX_ANSWER = 64 * 1024


def check(address: str, path: str) -> tuple[bool, str]:
    """Whether the node at `address` answers `path` with 200, and what it said."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    # Each step has its time-out; all together have this one, or an answer could be dripped for ever.
    end = threading.Timer(TIMEOUT, _hang_up, (connection,))
    end.daemon = True
    try:
        connection.connect()
        end.start()
        # A node that listens on all interfaces is at no address that it would accept as its name.
        connection.request("GET", path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        text = answer.read(MAX_ANSWER).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return False, f"no answer from {address}: {error}"
    finally:
        end.cancel()
        connection.close()
    return answer.status == 200, text


def _hang_up(connection: http.client.HTTPConnection) -> None:
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bootstrap_node.health", description="Ask a node how it is."
    )
    parser.add_argument(
        "--live", action="store_true", help="only whether it answers, not whether it is ready"
    )
    parser.add_argument("address", nargs="?", default=DEFAULT_ADDRESS, help=f"default: {DEFAULT_ADDRESS}")
    options = parser.parse_args(arguments)
    healthy, text = check(options.address, "/healthz" if options.live else "/readyz")
    if not healthy:
        print(text, file=sys.stderr)
    return 0 if healthy else 1


if __name__ == "__main__":
    raise SystemExit(main())
