"""How a run ends, whatever happened in it: typed errors, interruption, a closed pipe, or a bug.

A bug ends with exit code 1 and a report file, never with a traceback on the screen.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agent_cli.options import Options
from agent_cli.result import Problem, Result, emit, failed, silence_stdout
from wws import __version__
from wws.errors import WwsError
from wws.rpc.codes import Exit
from wws.runtime.homes import choose_home, private_folder, temporary_folder
from wws.runtime.whole_files import write_whole


def guarded(work: Callable[[], Result], *, schema: str, options: Options) -> int:
    """Do the work, print what came of it, return the exit code. Raises nothing."""
    try:
        result = _outcome(work, options)
        return emit(result, schema, options)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has seen enough
            silence_stdout()
            return Exit.DONE
        silence_stdout()
        print(f"error: cannot write the output: {error.strerror or error}", file=sys.stderr)
        return Exit.MACHINE


def _outcome(work: Callable[[], Result], options: Options) -> Result:
    try:
        return work()
    except WwsError as error:
        return failed(error)
    except KeyboardInterrupt:
        return Result(errors=(Problem("interrupted", "Interrupted."),), exit_code=Exit.INTERRUPTED)
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - this is where a bug ends: in a report, not on the screen
        return _bug(error, options)


def _bug(error: Exception, options: Options) -> Result:
    path = _write_report(error, options)
    where = f"The report is in {path}." if path else "No report could be written."
    problem = Problem(
        "bug",
        f"This is a bug in wws: {type(error).__name__}: {error}"[:500],
        f"{where} It holds the command line, versions and where it went wrong; no keys.",
    )
    return Result({"report": None if path is None else str(path)}, errors=(problem,), exit_code=Exit.BUG)


def _write_report(error: Exception, options: Options) -> Path | None:
    """Into the home, else into this user's folder for temporary files."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    text = "\n".join(
        [
            f"wws {__version__}, Python {platform.python_version()}, {platform.platform()}",
            f"command line: wws {' '.join(options.arguments)}",
            "",
            "".join(traceback.format_exception(error)),
        ]
    )
    home = choose_home(options.home, os.environ)
    for folder in (home.root / "reports", temporary_folder(os.environ)):
        path = folder / f"report-{moment}-{os.getpid()}.txt"
        try:
            if folder.parent == home.root and not home.root.is_dir():
                continue
            private_folder(folder)
            write_whole(path, text.encode(errors="backslashreplace"))
        except (WwsError, OSError):
            continue
        return path
    return None
