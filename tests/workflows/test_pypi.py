"""The upload to PyPI by the real `uv publish`, to a stand-in for it: no token but the job's own identity."""

from __future__ import annotations

import http.server
import json
import os
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.workflows.tools import ROOT

pytestmark = pytest.mark.net
VERSION = "1.2.3"
METADATA = f"Metadata-Version: 2.4\nName: wws\nVersion: {VERSION}\n"


class Index(http.server.BaseHTTPRequestHandler):
    """PyPI's side of trusted publishing, and its upload; also who says which job this is."""

    said: list[str]

    def do_GET(self) -> None:
        self.said.append(f"GET {self.path.partition('?')[0]}")
        if self.path.startswith("/identity"):
            assert self.headers["Authorization"].lower() == "bearer of-the-job"
            assert "audience=pypi" in self.path
            self._answer({"value": "who.this.is"})
        elif self.path == "/_/oidc/audience":
            self._answer({"audience": "pypi"})
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        data = self._body()
        if "mint-token" in self.path:
            assert json.loads(data)["token"] == "who.this.is"
            self.said.append("mint")
            self._answer({"success": True, "token": "for-this-upload"})
        elif "burn-token" in self.path:
            self.said.append("burn")
            self._answer({})
        elif "Authorization" not in self.headers:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="index"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            name = data.partition(b'filename="')[2].partition(b'"')[0].decode()
            self.said.append(f"upload {name} {self.headers['Authorization']}")
            self._answer({})

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    Index.said = []
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"https://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


def test_wheel_and_sdist_are_uploaded_with_a_token_for_this_upload(index: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / f"wws-{VERSION}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"wws-{VERSION}.dist-info/METADATA", METADATA)
    (tmp_path / "PKG-INFO").write_text(METADATA)
    with tarfile.open(tmp_path / f"wws-{VERSION}.tar.gz", "w:gz") as sdist:
        sdist.add(tmp_path / "PKG-INFO", f"wws-{VERSION}/PKG-INFO")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    to = ("--upload", f"{index}/legacy/", "--check", f"{index}/simple/")
    script = str(ROOT / "scripts" / "release" / "pypi.sh")
    done = subprocess.run(
        [script, "--files", str(tmp_path), "--version", VERSION, *to],
        env={
            **kept,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(tmp_path),
            "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{index}/identity?a=b",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr + str(Index.said)
    uploads = [line for line in Index.said if line.startswith("upload")]
    token = b64encode(b"__token__:for-this-upload").decode()
    names = [f"wws-{VERSION}-py3-none-any.whl", f"wws-{VERSION}.tar.gz"]
    assert uploads == [f"upload {name} Basic {token}" for name in names]
    assert Index.said.index("mint") < Index.said.index(uploads[0])
    assert Index.said[-1] == "burn", "it is worth nothing afterwards"
    said = (done.stdout + done.stderr).replace("::add-mask::for-this-upload", "")
    assert "for-this-upload" not in said
