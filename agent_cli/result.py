"""What a command gives back, and the one place that prints it and picks the exit code.

A command computes a `Result` and returns it. With `--json` it becomes one object, also on failure and
on wrong usage (contract, section 2):

    {"schema": "wws.<command>[.<sub>]/v1", "ok": bool, "data": {…}, "errors": [{"code", "message", "hint"}]}

Without, `text` goes to stdout, notes and errors to stderr.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from agent_cli.options import Options
from agent_cli.text import duration, printable
from wws.errors import LocalError, WwsError
from wws.rpc.codes import Exit, exit_code


@dataclass(frozen=True, slots=True)
class Problem:
    """One error as it is shown."""

    code: str
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a command. `ok` is having no errors; `exit_code` says the rest."""

    data: Mapping[str, object] = field(default_factory=dict)
    text: str = ""
    """For people, on stdout; without a final line feed."""
    notes: tuple[str, ...] = ()
    """What people should know besides; on stderr, not with --quiet."""
    for_others: tuple[str, ...] = ()
    """Notes too, on what somebody else has to do: their commands stay as they are written."""
    errors: tuple[Problem, ...] = ()
    exit_code: Exit = Exit.DONE
    is_printed: bool = False
    """Whether the command has printed everything already (--follow, --foreground)."""


class WrongUsage(LocalError):
    """The command line cannot be understood."""

    code = "wrong_usage"
    exit_code = Exit.USAGE


class ExtraMissing(LocalError):
    """What a program needs on top of the node is not installed."""

    code = "extra_missing"
    exit_code = Exit.MACHINE

    def __init__(self, program: str, extra: str) -> None:
        from agent_cli.installed_otherwise import extra_command  # most commands never need it

        super().__init__(f"{program} needs the extra: {extra_command(extra)}")


def exit_code_of(error: WwsError) -> Exit:
    """The exit code that an error ends a command with: its own, else by its word."""
    own = getattr(error, "exit_code", None)
    return Exit(own) if own in set(Exit) else exit_code(error.code)


def failed(error: WwsError, *, data: Mapping[str, object] | None = None, text: str = "") -> Result:
    """The result of a command that met this error; the error's details become data."""
    details = getattr(error, "details", None)
    members = dict(details) if isinstance(details, Mapping) else {}
    problem = Problem(error.code, str(error), _hint(error, members))
    return Result({**members, **(data or {})}, text, errors=(problem,), exit_code=exit_code_of(error))


def _hint(error: WwsError, details: Mapping[str, object]) -> str:
    """What to do next; and when, where the error knows. Who waits as long as it says has waited enough."""
    seconds = details.get("retry_after")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return error.hint
    if "again in" in f"{error} {error.hint}":  # said already, or the node itself tries again
        return error.hint
    step = 1 if seconds < 60 else 60
    return f"{error.hint} Try again in {duration(max(1, math.ceil(seconds / step)) * step)}.".lstrip()


def envelope(schema: str, result: Result) -> str:
    """The JSON object of a result, on one line. What could steer a terminal is escaped."""
    text = json.dumps(
        {
            "schema": schema,
            "ok": not result.errors,
            "data": dict(result.data),
            "errors": [
                {"code": problem.code, "message": problem.message, "hint": problem.hint}
                for problem in result.errors
            ],
        },
        ensure_ascii=False,
    )
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def emit(result: Result, schema: str, options: Options) -> Exit:
    """Print the result as the options ask for, and return the exit code."""
    if result.is_printed:
        return result.exit_code
    result = replace(
        result,
        notes=tuple(map(options.exact, result.notes)),
        errors=tuple(replace(problem, hint=options.exact(problem.hint)) for problem in result.errors),
    )
    if options.json:
        write_out(envelope(schema, result))
        return result.exit_code
    if result.text:
        write_out(printable(result.text))
    if not options.quiet:
        for note in (*result.notes, *result.for_others):
            write_error(printable(note))
    for problem in result.errors:
        write_error(f"{options.red('error:')} {printable(problem.message)}")
        if problem.hint:
            write_error(f"  {printable(problem.hint)}")
    return result.exit_code


def write_out(text: str) -> None:
    """One piece of output, whole, at once: a reader of a pipe sees it without delay."""
    print(_encodable(text, sys.stdout.encoding), flush=True)


def write_error(text: str) -> None:
    """One line of diagnostics on stderr; a closed stderr is no reason to fail."""
    try:
        print(_encodable(text, sys.stderr.encoding), file=sys.stderr, flush=True)
    except OSError:
        return


def silence_stdout() -> None:
    """Let what is still buffered go nowhere: whoever read our output has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _encodable(text: str, encoding: str | None) -> str:
    """The text with what the terminal cannot show replaced, as in a C locale."""
    chosen = encoding or "utf-8"
    return text.encode(chosen, "replace").decode(chosen)
