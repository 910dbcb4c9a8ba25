"""Putting the settings together: flags beat environment beats `config.toml` beats defaults.

    flags ──► environment ──► config.toml ──► defaults of bootstrap mode ──► defaults

pydantic-settings merges the layers and checks the values; what comes out are the frozen records of
`wws.config.records`, with the source of every setting beside them. The one exception to the order is the
path of the identity, which `wws.runtime.keyfile.choose_identity_path` decides (contract section 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from wws.config.deny_file import read_deny_file
from wws.config.errors import ConfigBadValue
from wws.config.records import (
    BOOTSTRAP_DEFAULTS,
    SECTIONS,
    AgentSettings,
    DenySettings,
    IdentitySettings,
    LimitSettings,
    LogSettings,
    NetworkSettings,
    NodeConfig,
    RpcSettings,
)
from wws.config.toml_file import TomlFile, nearest, read_toml, section_keys

OTHER_NAMES: Mapping[str, str] = {
    "WWS_BOOTSTRAP_PEERS": "network.bootstrap_peers",
    "WWS_NAME": "agent.wws_name",
}
"""The seed's names of variables, beside `WWS_<SECTION>_<FIELD>`; on a tie they win."""

OTHER_VARIABLES = (
    *("WWS_HOME", "WWS_NODE", "WWS_CONFIG", "WWS_AGENT_NAME", "WWS_TEST_SCALE"),
    *("WWS_INVENTORY", "WWS_ANSIBLE"),
    *("WWS_DNS_RECORDS", "WWS_DNS_RESOLVERS", "WWS_DNS_TSIG", "WWS_DNS_TSIG_FILE"),
)
"""Variables that are no settings of a node, but the programs' around it: no warning for these."""

_MAY_BE_EMPTY = frozenset({"rpc.tcp", "rpc.http"})
"""Settings that an empty variable turns off; everywhere else an empty variable counts as not set."""


def load_config(
    flags: Mapping[str, object], env: Mapping[str, str], *, file: Path, file_required: bool = False
) -> NodeConfig:
    """The settings of a node.

    `flags` are the given ones only, by dotted setting (`network.listen`), and `name` for `--name`. `file` is
    the configuration file, which may be missing unless `file_required`. Raises `ConfigError`.
    """
    toml = read_toml(file, required=file_required)
    layers = [_from_flags(flags), _from_environment(env), _from_file(toml)]
    config = _merge(layers)
    if config.network.bootstrap_mode:
        layers.append(_from_bootstrap_defaults())
        config = _merge(layers)
    sources = {setting: layer.sources[setting] for layer in reversed(layers) for setting in layer.sources}
    config = replace(
        config,
        name=_name(flags, env),
        file=toml.path if toml else None,
        sources={**dict.fromkeys(all_settings(), "default"), **sources},
        warnings=tuple(unknown_variables(env)),
    )
    return _with_derived(_with_deny_file(config))


def all_settings() -> list[str]:
    """Every setting by its dotted name, in the order of the file."""
    return [f"{section}.{key}" for section in SECTIONS for key in section_keys(section)]


def value_of(config: NodeConfig, setting: str) -> object:
    """The value of a dotted setting."""
    section, _, key = setting.partition(".")
    return getattr(getattr(config, section), key)


def unknown_variables(env: Mapping[str, str]) -> list[str]:
    """A warning for each `WWS_*` variable that means nothing, with the nearest that does."""
    known = [*_variables(), *OTHER_VARIABLES]
    warnings = []
    for variable in sorted(env):
        if variable.startswith("WWS_") and variable not in known:
            close = nearest(variable, known)
            warnings.append(
                f"The variable {variable} means nothing to WWS"
                + (f"; did you mean {close}?" if close else ".")
            )
    return warnings


@dataclasses.dataclass(frozen=True, slots=True)
class _Layer:
    """What one source says: values by section and key, and the name of the source of each."""

    values: dict[str, dict[str, object]]
    sources: dict[str, str]

    @classmethod
    def of(cls, entries: Mapping[str, tuple[object, str]]) -> _Layer:
        values: dict[str, dict[str, object]] = {}
        for setting, (value, _) in entries.items():
            section, _, key = setting.partition(".")
            values.setdefault(section, {})[key] = value
        return cls(values, {setting: source for setting, (_, source) in entries.items()})


class _LayerSource(PydanticBaseSettingsSource):
    """One layer, in the form that pydantic-settings merges."""

    def __init__(self, settings_cls: type[BaseSettings], layer: _Layer) -> None:
        super().__init__(settings_cls)
        self._layer = layer

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self._layer.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._layer.values)


class _Settings(BaseSettings):
    """The whole file; pydantic fills the frozen records in it. Made with `layers`, the strongest first."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    identity: IdentitySettings = IdentitySettings()
    network: NetworkSettings = NetworkSettings()
    agent: AgentSettings = AgentSettings()
    rpc: RpcSettings = RpcSettings()
    limits: LimitSettings = LimitSettings()
    deny: DenySettings = DenySettings()
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Not the sources of pydantic-settings itself: ours say where each value came from.
        return tuple(_LayerSource(settings_cls, layer) for layer in init_settings()["layers"])


def _merge(layers: list[_Layer]) -> NodeConfig:
    try:
        merged = _Settings(layers=layers)  # type: ignore[call-arg]
    except ValidationError as error:
        raise _bad_value(error, layers) from None
    return NodeConfig(
        merged.identity,
        merged.network,
        merged.agent,
        merged.rpc,
        merged.limits,
        merged.deny,
        merged.log,
    )


def _bad_value(error: ValidationError, layers: list[_Layer]) -> ConfigBadValue:
    messages = []
    for problem in error.errors(include_url=False):
        setting = ".".join(str(part) for part in problem["loc"][:2])
        source = next((layer.sources[setting] for layer in layers if setting in layer.sources), "default")
        reason = problem["msg"].removeprefix("Value error, ").rstrip(".")
        index = problem["loc"][2] if len(problem["loc"]) > 2 else None
        entry = f" (entry {index + 1})" if isinstance(index, int) else ""
        messages.append(f"{source}: {setting}{entry}: {reason[0].lower() + reason[1:]}.")
    return ConfigBadValue(" ".join(messages[:4]), hint="See all settings with: wws config show")


def _from_flags(flags: Mapping[str, object]) -> _Layer:
    entries = {
        setting: (
            value,
            f"flag {FLAG_NAMES.get(setting, '--' + setting.partition('.')[2].replace('_', '-'))}",
        )
        for setting, value in flags.items()
        if "." in setting
    }
    if flags.get("name") and "agent.wws_name" not in entries:
        entries["agent.wws_name"] = (flags["name"], "flag --name")
    return _Layer.of(entries)


FLAG_NAMES: Mapping[str, str] = {
    "network.bootstrap_peers": "--bootstrap",
    "network.dns_servers": "--dns-server",
    "rpc.tcp": "--rpc",
    "rpc.http": "--http",
    "identity.path": "--identity-path",
    "log.format": "--log-format",
}
"""Flags that are not called like their setting."""


def _from_environment(env: Mapping[str, str]) -> _Layer:
    entries: dict[str, tuple[object, str]] = {}
    if env.get("WWS_AGENT_NAME"):
        # The key file and the name; what says the name alone comes later and wins.
        entries["agent.wws_name"] = (env["WWS_AGENT_NAME"], "environment WWS_AGENT_NAME")
    for variable, setting in _variables().items():
        value = env.get(variable)
        if value or (value == "" and setting in _MAY_BE_EMPTY):
            entries[setting] = (value, f"environment {variable}")
    return _Layer.of(entries)


def _from_file(toml: TomlFile | None) -> _Layer:
    if toml is None:
        return _Layer({}, {})
    return _Layer.of(
        {
            f"{section}.{key}": (value, toml.place(f"{section}.{key}"))
            for section, members in toml.values.items()
            for key, value in members.items()
        }
    )


def _from_bootstrap_defaults() -> _Layer:
    return _Layer.of(
        {
            f"{section}.{key}": (value, "default (bootstrap mode)")
            for section, members in BOOTSTRAP_DEFAULTS.items()
            for key, value in members.items()
        }
    )


def _variables() -> dict[str, str]:
    """The setting of each variable; the seed's names last, so that they win."""
    names = {f"WWS_{setting.replace('.', '_').upper()}": setting for setting in all_settings()}
    return {**names, **OTHER_NAMES}


def _name(flags: Mapping[str, object], env: Mapping[str, str]) -> str | None:
    name = flags.get("name") or env.get("WWS_AGENT_NAME")
    return str(name) if name else None


def _with_deny_file(config: NodeConfig) -> NodeConfig:
    """With the entries of the deny list's file among those of the settings."""
    deny = config.deny
    if not deny.file:
        return config
    listed = read_deny_file((config.file.parent if config.file else Path()) / Path(deny.file).expanduser())
    return replace(
        config,
        deny=replace(
            deny,
            peers=tuple(dict.fromkeys((*deny.peers, *listed.peers))),
            prefixes=tuple(dict.fromkeys((*deny.prefixes, *listed.prefixes))),
            names=tuple(dict.fromkeys((*deny.names, *listed.names))),
        ),
    )


def _with_derived(config: NodeConfig) -> NodeConfig:
    """With the defaults that follow from other settings."""
    limits = config.limits
    if not config.is_explicit("limits.accepts_per_s_per_prefix"):
        limits = replace(limits, accepts_per_s_per_prefix=limits.accepts_per_s / 10)
    return replace(config, limits=limits)
