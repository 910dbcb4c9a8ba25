"""The log: two forms, one line an event, bounded, and nothing secret in it."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from wws.config.records import LogSettings
from wws.runtime.logs import HIDDEN, MAX_VALUE, hide_secrets, logger, set_level, start_logging
from wws.runtime.machine_errors import CannotWrite


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, ours = list(root.handlers), root.level, logging.getLogger("wws").level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    logging.getLogger("wws").setLevel(ours)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def start(**settings: object) -> io.StringIO:
    stream = io.StringIO()
    start_logging(LogSettings(**settings), file=None, stream=stream, fields={"node": "alice"})  # type: ignore[arg-type]
    return stream


def test_text_has_one_line_an_event_with_its_keys():
    stream = start()
    logger("host").info("peer_connected", peer="12D3KooW", direction="inbound")
    (line,) = stream.getvalue().splitlines()
    for word in ("info", "peer_connected", "peer=12D3KooW", "direction=inbound", "node=alice", "part=host"):
        assert word in line


def test_json_has_one_object_a_line():
    stream = start(format="json")
    logger("host").warning("peer_lost", peer="12D3KooW", count=3)
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "peer_lost",
        "level": "warning",
        "node": "alice",
        "part": "host",
        "peer": "12D3KooW",
        "count": 3,
    }


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_peers_send_cannot_forge_a_line(form):
    stream = start(format=form)
    logger("host").info(
        "refused", agent="x\n2026-01-01T00:00:00Z [info] all_is_well\x1b[2K\r", reason="\u2028"
    )
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line


def test_secrets_and_bytes_never_reach_the_log():
    stream = start()
    logger("rpc").warning(
        "odd", rpc_token="hunter2", cookie="hunter2", seed=b"hunter2", passphrase="hunter2", data=b"hunter2"
    )
    assert "hunter2" not in stream.getvalue()
    assert "data='7 bytes'" in stream.getvalue()
    assert hide_secrets(None, "info", {"api_password": 1})["api_password"] == HIDDEN


def test_a_long_value_is_cut():
    assert len(hide_secrets(None, "info", {"text": "x" * 10_000})["text"]) == MAX_VALUE + 1


def test_levels_and_libraries():
    stream = start(level="warning")
    logger("host").info("quiet")
    logging.getLogger("some.library").info("quiet")
    logging.getLogger("some.library").warning("loud %s", 1)
    assert "quiet" not in stream.getvalue()
    assert "loud 1" in stream.getvalue()
    set_level("debug")
    logger("host").debug("now_heard")
    assert "now_heard" in stream.getvalue()


def test_exceptions_are_shown_with_their_traceback():
    stream = start()
    try:
        raise ValueError("a bug")
    except ValueError:
        logger("host").exception("broke")
    assert "Traceback" in stream.getvalue()
    assert "ValueError: a bug" in stream.getvalue()


def test_started_again_it_writes_once():
    first = start()
    second = start(format="json")
    logger("host").info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_the_file_is_private_rotated_and_bounded(tmp_path: Path):
    path = tmp_path / "state" / "log"
    start_logging(LogSettings(file_bytes=2000, files=2), file=path, stream=io.StringIO())
    for number in range(200):
        logger("host").info("event", number=number)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 2000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert "number=199" in path.read_text()


def test_a_file_that_cannot_be_opened_is_a_typed_error(tmp_path: Path):
    (tmp_path / "state").write_text("")
    with pytest.raises(CannotWrite):
        start_logging(LogSettings(), file=tmp_path / "state" / "log", stream=io.StringIO())
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotWrite):
        start_logging(LogSettings(), file=tmp_path / "log", stream=io.StringIO())
    assert not (tmp_path / "elsewhere").exists()


def test_a_stream_that_leads_to_the_file_does_not_double_it(tmp_path: Path):
    path = tmp_path / "log"
    with path.open("a") as stream:
        start_logging(LogSettings(), file=path, stream=stream)
        logger("host").info("once")
        stream.flush()
    assert path.read_text().count("once") == 1


def test_without_a_start_only_warnings_are_shown_and_nothing_on_stdout():
    script = "from wws.runtime.logs import logger\nlogger('x').info('quiet')\nlogger('x').warning('loud')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout == ""
    assert "loud" in done.stderr
    assert "quiet" not in done.stderr
