"""A callback of Ansible that writes what happened as JSON lines, for `agent_cli.ops.playbooks`.

Ansible loads this file by its path, in its own process: it imports nothing of ours. One line an event:

    {"event": "task", "name": …}
    {"event": "failed" | "unreachable", "host": …, "task": …, "message": …}
    {"event": "stats", "hosts": {host: {"ok": n, "changed": n, "failures": n, "unreachable": n, …}}}

What a task with `no_log` says is not there: Ansible has taken it out of the result before.
"""

from __future__ import annotations

import json
import os
from typing import Any, TextIO

from ansible.plugins.callback import CallbackBase  # type: ignore[import-untyped]  # ansible-core has no types

DOCUMENTATION = """
name: wws_events
type: notification
short_description: Writes events of a play as JSON lines.
description: To the file in $WWS_PLAYBOOK_EVENTS; does nothing without it.
"""
MAX_MESSAGE = 4_000


class CallbackModule(CallbackBase):  # type: ignore[misc]  # its base has no types
    """The events that decide how a play is judged."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "wws_events"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - whatever Ansible hands on
        super().__init__(*arguments, **options)
        path = os.environ.get("WWS_PLAYBOOK_EVENTS")
        self._file: TextIO | None = open(path, "a", encoding="utf-8") if path else None  # noqa: SIM115

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: ANN401
        self._write({"event": "task", "name": task.get_name().strip()})

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:  # noqa: ANN401
        self._write({"event": "task", "name": task.get_name().strip()})

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ANN401
        if not ignore_errors:
            self._failed("failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:  # noqa: ANN401
        self._failed("unreachable", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ANN401
        hosts = {host: stats.summarize(host) for host in stats.processed}
        self._write({"event": "stats", "hosts": hosts})

    def _failed(self, event: str, outcome: Any) -> None:  # noqa: ANN401
        said = outcome.result
        parts = [said.get("censored") or said.get("msg")]
        if not said.get("censored"):
            parts += [said.get("stderr"), said.get("module_stderr")]
            parts += [one.get("msg") for one in said.get("results", ()) if one.get("failed")]
        message = "\n".join(str(part) for part in parts if part) or "it failed without a word"
        self._write(
            {
                "event": event,
                "host": outcome.host.get_name(),
                "task": outcome.task_name,
                "message": message[:MAX_MESSAGE],
            }
        )

    def _write(self, event: dict[str, object]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(event) + "\n")
            self._file.flush()
