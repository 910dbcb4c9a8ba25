"""The node's log: to stderr, and to a rotated, bounded file in the node's state folder.

Events have names in snake_case that do not change (`peer_connected`, `name_claimed`); what is particular to
one is a key beside it. Secrets never reach the log: keys whose names speak of secrets are blanked, bytes are
counted, and what peers send is escaped, so that no line of theirs can pass for one of ours.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import structlog

from wws.runtime.machine_errors import writing_failed
from wws.runtime.whole_files import make_folder

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

    from wws.config.records import LogSettings

MAX_VALUE = 2000
"""Longest value in a log line, in characters."""
HIDDEN = "[hidden]"

_SECRET_WORDS = ("seed", "secret", "token", "cookie", "passphrase", "password", "private_key", "credential")
_MAIN = "wws"


def logger(name: str) -> FilteringBoundLogger:
    """The logger of one part of the node, bound at its first use: made at import it costs nothing."""
    if not structlog.is_configured():
        _configure(
            [structlog.stdlib.add_log_level, hide_secrets]
        )  # used as a library: only warnings are shown
    return cast("FilteringBoundLogger", structlog.get_logger(_MAIN, part=name))


def start_logging(
    settings: LogSettings,
    *,
    file: Path | None,
    stream: TextIO | None = None,
    fields: Mapping[str, str] | None = None,
) -> None:
    """Send the log to `stream` (stderr unless said) and, where given, to the rotated file at `file`.

    A stream that already leads to that file gets nothing, or every line would stand there twice. `fields`
    stand in every line (the node's name, say). Done again it replaces what was set before.
    Raises `MachineError` when the file cannot be written.
    """
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        _with_fields(dict(fields or {})),
        hide_secrets,
    ]
    _configure(shared)
    output = stream or sys.stderr
    handlers: list[logging.Handler] = []
    if file is None or not _leads_to(output, file):
        colours = settings.format == "text" and output.isatty() and "NO_COLOR" not in os.environ
        handlers.append(_handler(logging.StreamHandler(output), settings, shared, colours=colours))
    if file is not None:
        handlers.append(_handler(_open_file(file, settings), settings, shared, colours=False))
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(handler)
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    set_level(settings.level)
    logging.captureWarnings(True)


def _configure(shared: list[Processor]) -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def set_level(level: str) -> None:
    """Log `level` and above; libraries only from warnings on, unless everything is asked for."""
    number = getattr(logging, level.upper())
    logging.getLogger().setLevel(number if level == "debug" else max(number, logging.WARNING))
    logging.getLogger(_MAIN).setLevel(number)


def hide_secrets(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank what must not be logged, and make every value one short line."""
    for key, value in event.items():
        if any(word in key for word in _SECRET_WORDS):
            event[key] = HIDDEN
        elif isinstance(value, bytes | bytearray | memoryview):
            event[key] = f"{len(value)} bytes"
        elif isinstance(value, str) and key not in ("exception", "stack"):
            event[key] = _one_line(value)
    return event


def _one_line(text: str) -> str:
    shown = text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in shown)


def _leads_to(stream: TextIO, file: Path) -> bool:
    """Whether `stream` goes to `file` already, as for a node in the background."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(file))
    except (OSError, ValueError):
        return False


def _with_fields(fields: dict[str, str]) -> Processor:
    def add(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in fields.items():
            event.setdefault(key, value)
        return event

    return add


def _handler(
    handler: logging.Handler, settings: LogSettings, shared: list[Processor], *, colours: bool
) -> logging.Handler:
    renderer: Processor
    if settings.format == "json":
        renderer = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, exception_formatter=plain)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    return handler


class _PrivateRotatingFile(logging.handlers.RotatingFileHandler):
    """A rotated file that only its owner can read."""

    def _open(self) -> io.TextIOWrapper:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return io.TextIOWrapper(open(descriptor, "ab"), encoding="utf-8", errors="backslashreplace")


def _open_file(path: Path, settings: LogSettings) -> logging.Handler:
    make_folder(path.parent)
    try:
        return _PrivateRotatingFile(
            path, maxBytes=settings.file_bytes, backupCount=settings.files, encoding="utf-8"
        )
    except OSError as error:
        raise writing_failed(path, error) from error
