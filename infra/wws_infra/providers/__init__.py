"""Where nodes run: each module here is a provider, found by its name when a stack asks for it."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping

from wws_infra.providers.interface import Provider
from wws_infra.settings import Json, NodeSettings, Section, SettingsRefused, parse


def names() -> tuple[str, ...]:
    """The providers there are."""
    return tuple(sorted(found.name for found in pkgutil.iter_modules(__path__) if found.name != "interface"))


def provider_for(values: Mapping[str, Json]) -> Provider[NodeSettings, Section]:
    """The provider that a stack's values ask for, its settings checked. Raises `SettingsRefused`."""
    name, known = values.get("provider", "local"), names()
    if not isinstance(name, str) or name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        meant = f"; did you mean {close[0]}?" if close else "."
        raise SettingsRefused(f"There is no provider {str(name)[:80]!r}{meant} There are {', '.join(known)}.")
    provider_type: type[Provider[NodeSettings, Section]] = importlib.import_module(
        f"{__name__}.{name}"
    ).PROVIDER
    provider = provider_type(parse(values, provider_type.node_type, provider_type.section_type, known))
    provider.check()
    return provider
