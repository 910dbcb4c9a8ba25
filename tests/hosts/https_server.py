"""A web server with TLS for a folder: `python https_server.py ADDRESS FOLDER CERTIFICATE KEY`.

Serves port 443 of that address until it is ended, and prints a line for each request.
"""

from __future__ import annotations

import functools
import http.server
import ssl
import sys
from pathlib import Path


class Handler(http.server.SimpleHTTPRequestHandler):
    """Its lines go to standard output, for who has started it."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        sys.stdout.write(f"{format % arguments}\n")
        sys.stdout.flush()


def main() -> None:
    address, folder, certificate, key = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(certificate), Path(key))
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer((address, 443), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.serve_forever()


if __name__ == "__main__":
    main()
