"""The upkeep of a small swarm over hours and days, for tests that take seconds."""

from dataclasses import replace

from wws.dht.upkeep import UpkeepConfig

HOUR = 3_600
CALM = replace(
    UpkeepConfig(),
    refresh_interval=2 * HOUR,
    bucket_refresh_interval=2 * HOUR,
    check_interval=2 * HOUR,
    check_spacing=600,
    tick=180,
    newcomer_refresh_spacing=1_200,
    ask_newcomer_spacing=600,
    wanted_peers=0,
)
"""Peers are looked after more rarely; records are republished and handed over as ever."""
