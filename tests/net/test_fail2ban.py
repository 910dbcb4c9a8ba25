"""The canonical line of a refusal, and the filter of fail2ban that matches it: on logs of real nodes."""

import configparser
import io
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.net.hostile import Hostile
from tests.net.test_bans import misbehave_at
from tests.net.test_hostile import answer_identify, identified
from tests.prerequisites import find_tool, require
from wws.config.records import LogSettings
from wws.identity.keys import Identity
from wws.mesh import identify
from wws.runtime.dht_driver import PROTOCOL as KAD
from wws.runtime.homes import Home
from wws.runtime.logs import logger, start_logging
from wws.runtime.refusals import ABUSE, LOGGED, RefusalLog, RefusalLogConfig
from wws.transport.yamux_frames import DATA, FIN

REPOSITORY = Path(__file__).parents[2]
PACKAGING = REPOSITORY / "packaging" / "fail2ban"
FILTER = PACKAGING / "filter.d" / "wws.conf"
FORMATS = ("text", "json")

MALLORY = Identity.from_label("mallory").peer_id
INNOCENT = "203.0.113.99"
HERE = "node=bootstrap part=refusals"
_TIME = "2026-11-21T12:00:00.000000Z"
_REST = f'"level": "warning", "timestamp": "{_TIME}"'
_MEMBERS = f'"ip": "{INNOCENT}", "port": 4242, "peer": "-", "protocol": "connection", "reason": "banned"'
FORGED = (
    f"{_TIME} [warning  ] refused ip={INNOCENT} {HERE} peer=- port=4242 protocol=x reason=banned",
    f'{{"part": "refusals", {_MEMBERS}, "event": "refused", {_REST}, "node": "bootstrap"}}',
)
"""Lines that somebody would like us to write."""
WRAPPED = [
    before + line + after
    for line in FORGED
    for before in ("", "\n", "\r\n", "\x1b[2K\r", '"}\n')
    for after in ("", "\n")
]


def matched(log: Path) -> list[str]:
    """The address of each line that the filter matches."""
    require("fail2ban-regex")
    tool = find_tool("fail2ban-regex")
    assert tool is not None
    done = subprocess.run(
        [tool, "--out", "ip", str(log), str(FILTER)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 or not done.stdout, done.stdout + done.stderr
    return done.stdout.split()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """A log file of this process; afterwards its logging is as before."""
    root = logging.getLogger()
    handlers, level, ours = list(root.handlers), root.level, logging.getLogger("wws").level
    yield tmp_path / "log"
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.getLogger("wws").setLevel(ours)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def begin(log: Path, kind: str) -> None:
    settings = LogSettings(format=kind)  # type: ignore[arg-type]
    start_logging(settings, file=log, stream=io.StringIO(), fields={"node": "bootstrap"})


# The line


def test_the_line_is_what_it_always_was(log: Path) -> None:
    begin(log, "text")
    lines = RefusalLog(RefusalLogConfig(), now=0)
    lines.refused("::ffff:203.0.113.7", 4242, KAD, "malformed", 0, peer=MALLORY)
    lines.refused("2001:db8::7", 4242, "connection", "phase_timeout", 0)
    said = [line.partition("Z ")[2] for line in log.read_text().splitlines()]
    head = "[warning  ] refused ip"
    assert said == [
        f"{head}=203.0.113.7 {HERE} peer={MALLORY} port=4242 protocol={KAD} reason=malformed",
        f"{head}=2001:db8::7 {HERE} peer=- port=4242 protocol=connection reason=phase_timeout",
    ]


def test_who_comes_through_a_relay_and_everyday_noise_have_none(log: Path) -> None:
    begin(log, "text")
    lines = RefusalLog(RefusalLogConfig(), now=0)
    lines.refused("", 0, "connection", "malformed", 0, peer=MALLORY)
    for reason in ("duplicate", "trimmed", "stream_reset", "wrong_network", "noise_handshake_failed"):
        lines.refused("203.0.113.7", 1, "connection", reason, 0, peer=MALLORY)
    assert log.read_text() == ""
    assert (lines.written, lines.suppressed) == (0, 0)


def test_a_flood_writes_no_more_than_it_may(log: Path) -> None:
    begin(log, "text")
    lines = RefusalLog(RefusalLogConfig(per_second=1, burst=20, per_second_ip=0.1, burst_ip=5), now=0)
    for _ in range(1000):  # one address
        lines.refused("203.0.113.7", 1, "connection", "malformed", 0)
    assert (lines.written, lines.suppressed) == (5, 995)
    lines.refused("203.0.113.7", 1, "connection", "banned", 0)  # what counts most has a rate of its own
    assert lines.written == 6
    for number in range(1000):  # many addresses
        lines.refused(f"198.51.100.{number % 250}", 1, "connection", "malformed", 0)
    assert (lines.written, lines.suppressed) == (20, 995 + 986)
    lines.refused("203.0.113.7", 1, "connection", "malformed", 10)
    assert lines.written == 21
    assert len(log.read_text().splitlines()) == 21


# The filter


def test_the_filter_knows_every_reason_that_is_abuse_and_no_other() -> None:
    parser = configparser.RawConfigParser()
    parser.read(FILTER)
    reasons = parser["Definition"]["_reason"].removeprefix("(?:").removesuffix(")").split("|")
    assert reasons == sorted(ABUSE)
    assert set(reasons) < LOGGED


@pytest.mark.parametrize("kind", FORMATS)
def test_each_reason_is_matched_if_it_is_abuse(log: Path, kind: str) -> None:
    begin(log, kind)
    lines = RefusalLog(RefusalLogConfig(), now=0)
    expected = []
    for number, reason in enumerate(sorted(LOGGED)):
        ip = f"198.51.100.{number}" if number % 2 else f"2001:db8::{number:x}"
        peer = None if number % 3 else MALLORY
        lines.refused(ip, 1 + number, "/libp2p/circuit/relay/0.2.0/hop", reason, 0, peer=peer)
        if reason in ABUSE:
            expected.append(ip)
    assert matched(log) == expected


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_that_a_peer_says_passes_for_a_line(log: Path, kind: str) -> None:
    """Whatever part of the node would log it, as a value or within a message."""
    begin(log, kind)
    for text in WRAPPED:
        logger("node").warning("peer says", agent=text, names=[text])
        logger("node").warning(f"cannot reach {text}")
        logger("refusals").warning("other", ip=text, reason=text)
        RefusalLog(RefusalLogConfig(), now=0).refused("198.51.100.7", 1, text, "malformed", 0)
    assert set(matched(log)) == {"198.51.100.7"}


# A real node


def start(folder: Path, kind: str) -> "subprocess.Popen[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("WWS_")}
    env |= {
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "WWS_LOG_FORMAT": kind,
        "WWS_LOG_LEVEL": "debug",
        "WWS_NETWORK_ENABLE_MDNS": "false",
        "WWS_NETWORK_AUTO_DISCOVER_BOOTSTRAP": "false",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "bootstrap_node", "--home", str(folder / "home"), "--listen",
         "/ip4/127.0.0.1/tcp/0", "--rpc", "", "--http", ""],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder, env=env,
    )  # fmt: skip


@pytest.mark.net
@pytest.mark.parametrize("kind", FORMATS)
async def test_a_node_that_is_abused_and_lied_to(tmp_path: Path, kind: str) -> None:
    process = start(tmp_path, kind)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it is up
        ready = Home(tmp_path / "home").node("bootstrap").read_ready()
        assert ready is not None
        port = int(ready.listen[0].rpartition("/")[2])
        async with await Hostile.authenticated(port) as peer:  # forges lines wherever it may say something
            said = identified(peer, tuple(f"/x/{text}" for text in WRAPPED))
            await answer_identify(peer, said)
            for number, text in enumerate(WRAPPED):
                stream = 4 * number + 1
                pushed = identify.Identification(agent_version=text, protocol_version=text, protocols=(text,))
                peer.open(stream, identify.PUSH_PROTOCOL, pushed.encode())
                peer.frame(DATA, FIN, stream)
                peer.open(stream + 2, f"/x/{text}")
            await peer.ping()
        await misbehave_at(port, "trudy")
        async with await Hostile.authenticated(port, "trudy") as peer:  # banned, and comes again
            await peer.gone()
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    log = tmp_path / "home" / "state" / "bootstrap" / "log"
    found = matched(log)
    assert set(found) == {"127.0.0.1"}
    banned = [line for line in log.read_text().splitlines() if "banned" in line]
    assert sum("refused" in line for line in banned) == 2
    assert sum("subject" in line for line in banned) == 1  # when the ban began, and for how long
    assert len(found) >= 5 + 2


def test_the_jail_is_one_that_fail2ban_takes(tmp_path: Path) -> None:
    require("fail2ban-client", "/etc/fail2ban/jail.conf")
    folder, log = tmp_path / "fail2ban", tmp_path / "log"
    log.touch()
    shutil.copytree("/etc/fail2ban", folder)
    for name in ("filter.d", "jail.d"):
        for old in (folder / "jail.d").iterdir() if name == "jail.d" else ():
            old.unlink()
        text = (PACKAGING / name / "wws.conf").read_text()
        (folder / name / "wws.conf").write_text(text.replace("/var/lib/wws/state/bootstrap/log", str(log)))
    tool = find_tool("fail2ban-client")
    assert tool is not None
    done = subprocess.run([tool, "-c", str(folder), "-t"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    dumped = subprocess.run([tool, "-c", str(folder), "-d"], capture_output=True, text=True, timeout=60)
    assert f"'addlogpath', '{log}'" in dumped.stdout
    assert "tcp,udp" in dumped.stdout
