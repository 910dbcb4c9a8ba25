"""SIGHUP: what a running node takes over, and what waits for its next start."""

from pathlib import Path

import pytest

from wws.config import NodeConfig, load_config
from wws.config.loading import all_settings, value_of
from wws.config.reloading import RELOADED, reload_config


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def load(file: Path, text: str) -> NodeConfig:
    file.write_text(text)
    return load_config({}, {}, file=file)


def test_networks_and_limits_are_taken_over_and_listeners_wait(file: Path):
    running = load(file, "")
    fresh = load(
        file,
        '[network]\nmax_peers = 9\nlisten = ["/ip4/127.0.0.1/tcp/1"]\nbootstrap_peers = ["/a"]\n'
        '[limits]\ndials = 3\nrelay_bytes_per_day = 5\n[log]\nlevel = "debug"\nformat = "json"\n'
        '[rpc]\nhttp_hosts = ["a"]\ntcp = ""\n',
    )
    reload = reload_config(running, fresh)
    assert set(reload.changed) == {
        "network.max_peers",
        "network.bootstrap_peers",
        "limits.relay_bytes_per_day",
        "log.level",
        "rpc.http_hosts",
    }
    assert set(reload.needs_restart) == {"network.listen", "log.format", "rpc.tcp", "limits.dials"}
    for setting in all_settings():
        expected = fresh if setting in reload.changed else running
        assert value_of(reload.config, setting) == value_of(expected, setting)
    assert reload.config.sources["network.max_peers"] == f"{file}:2"
    assert reload.config.sources["network.listen"] == "default"


def test_nothing_changed_changes_nothing(file: Path):
    running = load(file, "[limits]\ndials = 3\n")
    reload = reload_config(running, load(file, "[limits]\ndials = 3\n"))
    assert (reload.config, reload.changed, reload.needs_restart) == (running, (), ())


def test_the_table_names_settings_that_exist():
    assert set(all_settings()) >= RELOADED
