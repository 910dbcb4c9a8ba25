"""The timers, the alerts and the workflow that keep the list in DNS from expiring: run, not only read."""

import asyncio
import base64
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml

from tests.prerequisites import require
from wws.discovery.bundle import Bundle, BundleEntry
from wws.identity.keys import Identity
from wws.runtime.keyfile import store
from wws.testing.dns_server import DnsServer
from wws_dns.textfile import Metrics, metrics_text

pytestmark = pytest.mark.net

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "packaging" / "systemd"
DOMAIN = "boot.test"
OLD = Identity.from_label("publisher a")
EXPOSURE = 1.1
"""What `systemd-analyze security` may say at most."""


class Unit(RawConfigParser):
    """A unit file; of settings that repeat, all values."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
        self.read_string(path.read_text())
        self.text = path.read_text()

    def all(self, name: str) -> list[str]:
        return re.findall(rf"^{name}=(.*)$", self.text, re.MULTILINE)


@pytest.mark.parametrize("name", ["wws-dns-renew", "wws-dns-verify"])
def test_the_units_are_shut_in_and_well_formed(name: str, tmp_path: Path) -> None:
    require("systemd-analyze")
    text = (UNITS / f"{name}.service").read_text().replace("/opt/wws-dns/bin/wws-dns", "/bin/true")
    for kind, content in (("service", text), ("timer", (UNITS / f"{name}.timer").read_text())):
        (tmp_path / f"{name}.{kind}").write_text(content)
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(tmp_path / f"{name}.{kind}")], capture_output=True, text=True
        )
        ours = [line for line in checked.stderr.splitlines() if "wws-dns" in line]
        assert ours == []
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", str(tmp_path / f"{name}.service")],
        capture_output=True,
        text=True,
    )
    found = re.search(r"exposure level for .*: ([0-9.]+)", judged.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE


async def test_what_the_timers_start_does_its_work(tmp_path: Path) -> None:
    """The very command lines of the units, with their folders moved, by a process of their own."""
    settings, state, credentials = (tmp_path / name for name in ("etc", "state", "credentials"))
    for folder in (settings, state, credentials):
        folder.mkdir(mode=0o700)
    store(OLD, credentials / "publisher.key")
    (credentials / "provider.secret").write_text("of no use to a zone file")
    zone = tmp_path / "zone.json"
    zone.write_text("{}")
    async with DnsServer({}) as server:
        (settings / "records.toml").write_text(
            f'domain = "{DOMAIN}"\npublishers = ["{OLD.public_key.hex()}"]\n'
            f'resolvers = ["{server.address}"]\nauthorities = ["{server.address}"]\n\n'
            f'[[node]]\npeer_id = "{Identity.from_label("alice").peer_id}"\nhost = "192.0.2.1"\n\n'
            f'[provider]\nkind = "zone-file"\nfile = "{zone}"\n'
        )
        places = {
            "/etc/wws-dns": str(settings),
            "%S/wws-dns-verify": str(state),
            "%S/wws-dns": str(state),
            "%d": str(credentials),
            "/opt/wws-dns/bin/wws-dns": f"{sys.executable} -m wws_dns.app",
        }

        async def start(unit: str, **changes: str) -> tuple[int, str]:
            service = Unit(UNITS / f"{unit}.service")
            (line,) = service.all("ExecStart")
            environment = dict(
                word.split("=", 1) for one in service.all("Environment") for word in one.split()
            )
            for place, moved in {**changes, **places}.items():
                line = line.replace(place, moved)
                environment = {name: value.replace(place, moved) for name, value in environment.items()}
            process = await asyncio.create_subprocess_exec(
                *shlex.split(line),
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'dns'}:{ROOT}", **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            out, _ = await process.communicate()
            server.replace(json.loads(zone.read_text()))
            assert process.returncode is not None
            return process.returncode, out.decode()

        code, said = await start("wws-dns-renew")
        assert code == 4, said  # nothing was published yet: that is not a renewal's to do
        assert f'wws_dns_renew_ok{{domain="{DOMAIN}"}} 0' in (state / "renew.prom").read_text()
        code, said = await start(
            "wws-dns-renew", **{"renew --within 16": "publish", "--textfile %S/wws-dns/renew.prom": ""}
        )
        assert code == 0, said
        code, said = await start("wws-dns-renew")
        assert code == 0, said
        figures = (state / "renew.prom").read_text()
        assert f'wws_dns_renew_ok{{domain="{DOMAIN}"}} 1' in figures
        assert "wws_dns_bundle_expires_timestamp_seconds" in figures
        code, said = await start(
            "wws-dns-verify", **{"--dial": "--least-resolvers 1", "--strict": "--timeout 1"}
        )
        assert code == 0, said
        assert f'wws_dns_verify_ok{{domain="{DOMAIN}"}} 1' in (state / "verify.prom").read_text()


def test_the_alerts_ask_for_figures_that_there_are() -> None:
    rules = yaml.safe_load((ROOT / "packaging" / "prometheus" / "wws-dns.rules.yml").read_text())
    bundle = Bundle(1, 1, 2, None, (BundleEntry(OLD.peer_id, "192.0.2.1", 9000),))
    written = "".join(
        metrics_text(Metrics(DOMAIN, run, 1_795_000_000, True, bundle)) for run in ("renew", "verify")
    )
    known = set(re.findall(r"^(wws_[a-z_]+)", written, re.MULTILINE))
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    names = {name for expression in asked for name in re.findall(r"wws_[a-z_]+", expression)}
    assert names <= known
    assert any("14 * 86400" in expression for expression in asked)


def test_figures_without_a_bundle_say_only_that_there_was_a_run() -> None:
    text = metrics_text(Metrics(DOMAIN, "renew", 1_795_000_000, False, None))
    assert "expires" not in text
    assert f'wws_dns_renew_ok{{domain="{DOMAIN}"}} 0' in text.splitlines()
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+\{domain="boot.test"\} [0-9]+', line)


def test_the_workflow_pins_what_it_uses_and_asks_for_little() -> None:
    path = ROOT / ".github" / "workflows" / "dns-renew.yml"
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == {"contents": "write"}
    assert job["environment"] == "dns"
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.search(r"@[0-9a-f]{40}\Z", action) for action in used)
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    assert not any("${{" in script for script in scripts)  # nothing from outside becomes part of a script
    lines = " ".join(scripts)
    assert "wws-dns renew" in lines
    assert "wws-dns verify --strict" in lines
    assert "--require-hashes" in lines


def test_the_scripts_of_the_workflow_are_good_shell(tmp_path: Path) -> None:
    require("shellcheck")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "dns-renew.yml").read_text())
    (job,) = workflow["jobs"].values()
    for number, step in enumerate(step for step in job["steps"] if "run" in step):
        script = tmp_path / f"{number}.sh"
        script.write_text(f"#!/bin/bash\n{step['run']}\n")
        checked = subprocess.run(["shellcheck", str(script)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout


class GitServer(http.server.BaseHTTPRequestHandler):
    """Repositories below a folder, for who shows the token: git's own server behind HTTP."""

    folder: Path

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        shown = base64.b64encode(b"x-access-token:secret-of-the-job").decode()
        if self.headers["Authorization"] != f"Basic {shown}":
            self.send_error(403)
            return
        path, _, query = self.path.partition("?")
        env = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "job",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env={**os.environ, **env}, capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().splitlines():
            self.send_header(*line.split(": ", 1))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def test_the_history_is_pushed_with_a_token_that_stands_on_no_command_line(tmp_path: Path) -> None:
    """The step as it stands in the workflow, with a git that writes down how it is called."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "dns-renew.yml").read_text())
    (job,) = workflow["jobs"].values()
    (step,) = (step for step in job["steps"] if step.get("name") == "Keep the history")
    require("git")
    real = str(shutil.which("git"))
    programs, checkout, served = tmp_path / "bin", tmp_path / "checkout", tmp_path / "served"
    programs.mkdir()
    (programs / "git").write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/said"\nexec "{real}" "$@"\n')
    (programs / "git").chmod(0o755)

    def git(*words: str | Path, at: Path) -> str:
        own = ("-c", "user.name=alice", "-c", "user.email=alice@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            [real, *own, *map(str, words)], cwd=at, check=True, capture_output=True, text=True
        ).stdout

    git("init", "--quiet", "--bare", "--initial-branch=main", served / "alice" / "wws", at=tmp_path)
    git("init", "--quiet", "--initial-branch=main", checkout, at=tmp_path)
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    (checkout / "dns").mkdir()
    git("add", ".", at=checkout)
    git("commit", "--quiet", "-m", "before", at=checkout)
    (checkout / "dns" / "records.history.json").write_text("{}\n")
    GitServer.folder = served
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), GitServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT")},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "GITHUB_SERVER_URL": f"http://127.0.0.1:{server.server_port}",
            "GITHUB_REPOSITORY": "alice/wws",
            "GITHUB_REF_NAME": "main",
            **dict.fromkeys(step["env"], "secret-of-the-job"),
        }
        done = subprocess.run(
            ["bash", "-e", "-c", step["run"]], cwd=checkout, env=env, capture_output=True, text=True
        )
        server.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    assert git("show", "main:dns/records.history.json", at=served / "alice" / "wws") == "{}\n"
    said = (tmp_path / "said").read_text()
    assert "push" in said
    assert "secret" not in said + done.stdout + done.stderr
