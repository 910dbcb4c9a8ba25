"""`wws config show`: the settings that hold, and where each came from."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING

import typer

from agent_cli import text
from agent_cli.compose import home_of
from agent_cli.options import Options
from agent_cli.registration import command, group, make_app
from agent_cli.result import Result, WrongUsage
from wws.errors import WwsError

if TYPE_CHECKING:
    from wws.config import NodeConfig
    from wws.runtime.homes import Home


def register(app: typer.Typer) -> None:
    settings = make_app()
    group(settings, config, examples=("wws config show",))
    command(settings, show, examples=("wws config show", "wws config show --verbose --json"))
    app.add_typer(settings, name="config")


def config(options: Options, context: typer.Context) -> None:
    """Look at the settings."""
    if context.invoked_subcommand is None:
        raise WrongUsage("Missing command.", hint="See: wws config --help")


def show(options: Options) -> Result:
    """Show the effective settings, and where each came from: environment, file or default."""
    from wws.config import load_config  # pydantic is not for the fast paths
    from wws.config.loading import all_settings, value_of
    from wws.runtime.homes import expand

    home = home_of(options)
    chosen = options.config or os.environ.get("WWS_CONFIG")
    file = expand(chosen, os.environ) if chosen else home.config_file
    loaded = load_config({}, os.environ, file=file, file_required=bool(chosen))
    settings = {
        name: {"value": _json(value_of(loaded, name)), "source": loaded.sources.get(name, "default")}
        for name in all_settings()
    }
    data: dict[str, object] = {
        "home": str(home.root),
        "file": None if loaded.file is None else str(loaded.file),
        "settings": settings,
    }
    data["network"], known = _network(loaded, home)
    rows = [
        (name, _shown(entry["value"]), entry["source"])
        for name, entry in settings.items()
        if options.verbose or not name.startswith("limits.") or entry["source"] != "default"
    ]
    shown = text.pairs([("home", home.root), ("file", loaded.file or "none"), ("network", known)])
    shown += "\n\n" + text.table(("setting", "value", "from"), rows)
    notes = tuple(f"warning: {warning}" for warning in loaded.warnings)
    if not options.verbose:
        notes += ("The limits that are at their defaults are left out; --verbose shows them.",)
    return Result(data, shown, notes=notes)


def _network(loaded: NodeConfig, home: Home) -> tuple[dict[str, object] | None, str]:
    """The network that a plain `wws join` is about, and in words where that comes from."""
    from wws.runtime.default_network import default_network
    from wws.runtime.network_choice import choose_network
    from wws.runtime.state_files import NetworkFiles

    default = default_network()
    try:
        choice = choose_network(
            None,
            loaded,
            NetworkFiles(home),
            allow_unsigned=True,
            default=None if default is None else default.network,
        )
    except WwsError as error:
        return None, f"none: {error}"
    network = choice.network
    data: dict[str, object] = {"name": network.name, "domain": network.domain, "source": choice.origin}
    return data, f"{network.name} (from: {choice.origin})"


def _json(value: object) -> object:
    if isinstance(value, (tuple, list, frozenset)):
        return [_json(member) for member in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(str(member) for member in value) or "[]"
    return str(value) if value != "" else '""'
