"""Foreign peers inside the lab: the programs of tests/interop, commanded from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.interop.peer import Implementation, _command, build
from tests.lab.namespaces import Namespace

_SHOWN = 4_000


class Stranger:
    """A running foreign peer in a namespace."""

    def __init__(self, namespace: Namespace, process: subprocess.Popen[bytes], errors: Any) -> None:
        self._namespace = namespace
        self._errors = errors
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"the foreign peer did not start: {self.said()}")
        ready = json.loads(line)
        self._control = int(ready["control"])
        self.peer_id = str(ready["peer_id"])

    @classmethod
    @contextlib.contextmanager
    def run(
        cls, implementation: Implementation, namespace: Namespace, **config: object
    ) -> Iterator[Stranger]:
        """Start the peer inside; it is ended with the block."""
        build(implementation)
        with tempfile.TemporaryFile() as errors:
            with namespace.entered():
                process = subprocess.Popen(
                    [
                        "setpriv",
                        "--pdeathsig",
                        "KILL",
                        "--",
                        *_command(implementation),
                        "0",
                        json.dumps(config),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            with process:
                try:
                    yield cls(namespace, process, errors)
                finally:
                    process.kill()

    def command(self, name: str, **arguments: object) -> Any:
        """One command of tests/interop/peers/README.md, and its answer."""
        with self._namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", self._control, timeout=30)
            connection.connect()
        with contextlib.closing(connection):
            connection.request("POST", "/", json.dumps({"cmd": name, **arguments}))
            answer = json.loads(connection.getresponse().read())
        if "ok" not in answer:
            raise AssertionError(f"{name} failed: {answer}\n{self.said()}")
        return answer["ok"]

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        self._errors.seek(0)
        text: str = self._errors.read().decode(errors="replace")
        return text[-_SHOWN:]
