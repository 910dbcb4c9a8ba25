"""The pages of the HTTP server: `/healthz`, `/readyz`, `/metrics`, and `/` for people.

`/healthz` says that the process answers; `/readyz` that it does its job (503 with what is missing otherwise),
for load balancers, Ansible and container runtimes; the status page shows what `wws status` shows.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from wws.runtime.http_server import POLICY, Answer, Page
from wws.runtime.metrics import CONTENT_TYPE

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}"
    "th{text-align:left;padding-right:2rem;font-weight:600;vertical-align:top}"
    "td{word-break:break-all;font-family:ui-monospace,monospace}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#16181c}a{color:#8ab4f8}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

Facts = Callable[[], Awaitable[Mapping[str, object]]]
"""Asks the node what the status page shows, in the order it is shown."""


class Readiness:
    """Whether the node does its job: every named condition holds, and it is not on its way out."""

    def __init__(self, *conditions: str) -> None:
        self._holds = dict.fromkeys(conditions, False)
        self._draining = False

    def set(self, condition: str, holds: bool) -> None:
        """Say whether `condition` (one named at the beginning) holds now."""
        if condition not in self._holds:
            raise KeyError(condition)
        self._holds[condition] = holds

    def drain(self, on: bool = True) -> None:
        """From now on the node is not ready: it finishes what it has begun and ends. Or it stays."""
        self._draining = on

    @property
    def missing(self) -> list[str]:
        """What keeps the node from being ready."""
        missing = [condition for condition, holds in self._holds.items() if not holds]
        return [*missing, "draining"] if self._draining else missing


class Renders(Protocol):
    """What `/metrics` shows."""

    def render(self) -> bytes: ...


def make_pages(metrics: Renders, readiness: Readiness, facts: Facts | None = None) -> dict[str, Page]:
    """The pages of a node by path; `/` only with `facts`."""

    async def healthz() -> Answer:
        return Answer(b"ok\n")

    async def readyz() -> Answer:
        missing = readiness.missing
        body = json.dumps({"ready": not missing, "missing": missing}).encode() + b"\n"
        return Answer(body, "application/json", 503 if missing else 200)

    async def metrics_page() -> Answer:
        return Answer(metrics.render(), CONTENT_TYPE)

    pages: dict[str, Page] = {"/healthz": healthz, "/readyz": readyz, "/metrics": metrics_page}
    if facts is not None:
        ask = facts

        async def status_page() -> Answer:
            return render_status(await ask())

        pages["/"] = status_page
    return pages


def render_status(facts: Mapping[str, object]) -> Answer:
    """A page of `facts`: no script, nothing loaded from elsewhere, every value escaped."""
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{_value(value)}</td></tr>" for name, value in facts.items()
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>WWS node</title>'
        '<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="10">'
        f"<style>{_STYLE}</style></head><body><h1>WWS node</h1><table>{rows}</table>"
        '<p><a href="/healthz">health</a> · <a href="/readyz">readiness</a> · '
        '<a href="/metrics">metrics</a></p></body></html>\n'
    )
    policy = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; {POLICY}"
    return Answer(page.encode(), "text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


def _value(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, list | tuple):
        return "<br>".join(html.escape(str(item)) for item in value) or "–"
    return html.escape(str(value))
