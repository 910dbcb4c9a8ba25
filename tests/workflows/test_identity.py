"""A job's own identity in place of a stored key: asked of GitHub, taken to AWS, and in no log."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workflows.tools import ROOT

ROLE = "arn:aws:iam::123456789012:role/wws-deploy"
ANSWER = """<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
<SessionToken>c2Vzc2lvbg==</SessionToken><SecretAccessKey>secret/Access+Key</SecretAccessKey>
<AccessKeyId>ASIAEXAMPLE</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""
pytestmark = pytest.mark.net


class Both(http.server.BaseHTTPRequestHandler):
    """GitHub's issuer (GET) and AWS (POST)."""

    def do_GET(self) -> None:
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        is_asked_well = self.headers["Authorization"] == "bearer of-the-job"
        assert query["audience"] == ["sts.amazonaws.com"]
        self._say(200 if is_asked_well else 401, json.dumps({"value": "who.this.is"}))

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        is_known = form["WebIdentityToken"] == ["who.this.is"] and form["RoleArn"] == [ROLE]
        denied = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        self._say(200 if is_known else 403, ANSWER if is_known else denied)

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.HTTPServer(("127.0.0.1", 0), Both) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def taken(address: str, output: Path, *, role: str = ROLE, bearer: str = "of-the-job") -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ACTIONS_")}
    asked = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{address}?a=b", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": bearer}
    script = str(ROOT / "scripts" / "deploy" / "aws_role.py")
    done = subprocess.run(
        [sys.executable, script, "--role", role, "--region", "eu-central-1", "--sts", address],
        env={**environment, **(asked if bearer else {}), "GITHUB_ENV": str(output)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_credentials_reach_the_next_step_and_are_masked(address: str, tmp_path: Path) -> None:
    code, said = taken(address, tmp_path / "env")
    assert code == 0, said
    handed = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert handed == {
        "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret/Access+Key",
        "AWS_SESSION_TOKEN": "c2Vzc2lvbg==",
        "AWS_REGION": "eu-central-1",
    }
    assert "::add-mask::secret/Access+Key\n" in said
    assert "who.this.is" not in said


@pytest.mark.parametrize(
    ("given", "because"),
    [
        ({"role": "arn:aws:iam::123456789012:role/another"}, "AWS refuses: 403 AccessDenied"),
        ({"bearer": "of-nobody"}, "GitHub refuses: 401"),
        ({"bearer": ""}, "needs `id-token: write`"),
        ({"role": "wws-deploy"}, "that is no role"),
    ],
)
def test_without_them_it_says_why(address: str, tmp_path: Path, given: dict[str, str], because: str) -> None:
    code, said = taken(address, tmp_path / "env", **given)
    assert code == 1
    assert because in said
    assert not (tmp_path / "env").exists()
