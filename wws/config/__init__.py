"""Settings: read once, at start, from flags, environment and `config.toml` (contract section 4).

`wws.config.records` has the members and defaults, `wws.config.kinds` what each accepts,
`wws.config.loading` puts them together.
"""

from wws.config.errors import ConfigBadValue, ConfigError, ConfigUnknownKey, ConfigUnreadable
from wws.config.loading import load_config
from wws.config.records import NodeConfig

__all__ = [
    "ConfigBadValue",
    "ConfigError",
    "ConfigUnknownKey",
    "ConfigUnreadable",
    "NodeConfig",
    "load_config",
]
