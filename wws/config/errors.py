"""What can be wrong with settings. Each is wrong usage: exit code 2."""

from __future__ import annotations

from wws.errors import LocalError


class ConfigError(LocalError):
    """The settings cannot be used."""

    code = "config_error"
    exit_code = 2


class ConfigUnreadable(ConfigError):
    """The configuration file is missing, cannot be read, or is not TOML."""

    code = "config_unreadable"


class ConfigUnknownKey(ConfigError):
    """The configuration file sets something that does not exist."""

    code = "config_unknown_key"


class ConfigBadValue(ConfigError):
    """A setting has a value that cannot be right."""

    code = "config_bad_value"
