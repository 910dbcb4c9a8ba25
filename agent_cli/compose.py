"""Where the commands meet the node: which home, which node, one call. Nothing heavy is imported here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agent_cli.options import Options
from wws import client
from wws.runtime.homes import Home, NodePaths, Ready, choose_home

STATUS_TIMEOUT = 10.0
"""Seconds to wait for what a node answers at once."""


def home_of(options: Options) -> Home:
    """The home that the command is about."""
    return choose_home(options.home, os.environ)


def asked_node(options: Options) -> str | None:
    """The node that was named: `--node`, else `$WWS_NODE`."""
    return options.node or os.environ.get("WWS_NODE") or None


def node_of(options: Options) -> NodePaths | None:
    """The node that a command is about which needs no running one; None when there is none.

    Raises `SeveralNodes`.
    """
    return home_of(options).pick_node(asked_node(options))


def running_node(options: Options) -> Ready:
    """The running node that the command acts as. Raises `NodeNotRunning`, `SeveralNodes`."""
    return client.find(home_of(options).root, asked_node(options))


def call(
    options: Options,
    method: str,
    params: Mapping[str, object] | list[object] | None = None,
    *,
    timeout: float = client.DEFAULT_TIMEOUT,
) -> Any:  # noqa: ANN401 - a method's answer is any JSON value
    """Ask the node that the command acts as. Raises `NodeNotRunning`, `SeveralNodes`, `RpcError`."""
    return client.call_once(running_node(options), method, params, timeout=timeout)
