"""Settings: every member of the contract, which source wins, and what a mistake is told."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.config import (
    ConfigBadValue,
    ConfigError,
    ConfigUnknownKey,
    ConfigUnreadable,
    NodeConfig,
    load_config,
)
from wws.config.kinds import MAX_LIST, parse_host_port
from wws.config.loading import all_settings, value_of
from wws.config.toml_file import MAX_FILE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def load(
    file: Path,
    text: str | None = None,
    *,
    flags: dict[str, object] | None = None,
    env: dict[str, str] | None = None,
) -> NodeConfig:
    if text is not None:
        file.write_text(text)
    return load_config(flags or {}, env or {}, file=file)


def test_every_member_of_the_contract_has_its_default(file: Path):
    config = load(file)
    contract = {
        "identity.path": None,
        "network.name": None,
        "network.domain": None,
        "network.publishers": (),
        "network.bootstrap_peers": (),
        "network.listen": (),
        "network.enable_tcp": True,
        "network.enable_quic": True,
        "network.enable_mdns": True,
        "network.enable_relay_client": True,
        "network.enable_relay_server": True,
        "network.enable_autonat": True,
        "network.enable_dcutr": True,
        "network.relay_only": False,
        "network.auto_discover_bootstrap": True,
        "network.bootstrap_mode": False,
        "network.max_peers": 256,
        "network.dns_servers": (),
        "network.doh_servers": (),
        "agent.wws_name": None,
        "agent.swarm": "public",
        "rpc.socket": None,
        "rpc.tcp": "127.0.0.1:9370",
        "rpc.http": "127.0.0.1:9371",
        "rpc.http_hosts": (),
        "limits.accepts_per_s": 100.0,
        "limits.accepts_per_s_per_prefix": 10.0,
        "limits.connections_per_prefix": 32,
        "limits.connections_per_peer": 4,
        "limits.phase_timeout": 10.0,
        "log.level": "info",
        "log.format": "text",
    }
    assert {setting: value_of(config, setting) for setting in contract} == contract
    assert config.limits.prefix_exempt[0] == "127.0.0.0/8"
    assert set(config.sources) == set(all_settings())
    assert set(config.sources.values()) == {"default"}
    assert (config.name, config.file, config.warnings) == (None, None, ())


def test_a_bootstrap_node_has_other_defaults(file: Path):
    config = load(file, "[limits]\nconnections_per_prefix = 7\n", flags={"network.bootstrap_mode": True})
    assert config.network.max_peers == 10_000
    assert config.network.listen == (
        "/ip4/0.0.0.0/tcp/9000",
        "/ip4/0.0.0.0/udp/9000/quic-v1",
        "/ip6/::/tcp/9000",
        "/ip6/::/udp/9000/quic-v1",
    )
    assert (config.limits.accepts_per_s, config.limits.accepts_per_s_per_prefix) == (1000.0, 100.0)
    assert config.limits.connections_per_prefix == 7
    assert config.sources["network.max_peers"] == "default (bootstrap mode)"
    assert not config.is_explicit("network.max_peers")
    assert config.is_explicit("limits.connections_per_prefix")


@pytest.mark.parametrize("source", ["flag", "environment", "file"])
def test_bootstrap_mode_counts_wherever_it_is_set(file: Path, source):
    config = load(
        file,
        "[network]\nbootstrap_mode = true\n" if source == "file" else None,
        flags={"network.bootstrap_mode": True} if source == "flag" else {},
        env={"WWS_NETWORK_BOOTSTRAP_MODE": "1"} if source == "environment" else {},
    )
    assert config.network.max_peers == 10_000


def test_flags_beat_the_environment_beats_the_file_beats_defaults(file: Path):
    text = '[agent]\nswarm = "three"\n[log]\nformat = "json"\nlevel = "debug"\n[network]\nmax_peers = 3\n'
    env = {"WWS_AGENT_SWARM": "two", "WWS_LOG_FORMAT": "text", "WWS_LOG_LEVEL": ""}
    config = load(file, text, flags={"agent.swarm": "one"}, env=env)
    assert (config.agent.swarm, config.log.format, config.log.level, config.network.max_peers) == (
        "one",
        "text",
        "debug",
        3,
    )
    assert [config.sources[name] for name in ("agent.swarm", "log.format", "log.level", "rpc.tcp")] == [
        "flag --swarm",
        "environment WWS_LOG_FORMAT",
        f"{file}:5",
        "default",
    ]


def test_a_tenth_of_the_accepts_comes_from_one_prefix_unless_set(file: Path):
    assert load(file, "[limits]\naccepts_per_s = 50\n").limits.accepts_per_s_per_prefix == 5.0
    text = "[limits]\naccepts_per_s = 50\naccepts_per_s_per_prefix = 50\n"
    assert load(file, text).limits.accepts_per_s_per_prefix == 50.0


@pytest.mark.parametrize("text", ['["/a", "/b"]', "/a,/b", " /a , /b ,", ' [ "/a" ,"/b" ] '])
def test_lists_in_the_environment_are_json_or_separated_by_commas(file: Path, text):
    assert load(file, env={"WWS_NETWORK_BOOTSTRAP_PEERS": text}).network.bootstrap_peers == ("/a", "/b")


def test_the_names_of_the_seed(file: Path):
    env = {
        "WWS_IDENTITY_PATH": "/data/identity.key",
        "WWS_BOOTSTRAP_PEERS": "/a,/b",
        "WWS_AGENT_NAME": "Alice",
        "WWS_NETWORK_BOOTSTRAP_PEERS": "/c",
    }
    config = load(file, env=env)
    assert config.identity.path == "/data/identity.key"
    assert config.network.bootstrap_peers == ("/a", "/b")
    assert (config.name, config.agent.wws_name) == ("Alice", "alice")
    assert config.warnings == ()


@pytest.mark.parametrize(
    "flags, env, name, wws_name",
    [
        ({}, {"WWS_NAME": "bob"}, None, "bob"),
        ({}, {"WWS_NAME": "bob", "WWS_AGENT_NAME": "alice"}, "alice", "bob"),
        ({}, {"WWS_NAME": "bob", "WWS_AGENT_WWS_NAME": "carol"}, None, "bob"),
        ({"name": "alice"}, {"WWS_NAME": "bob", "WWS_AGENT_NAME": "carol"}, "alice", "alice"),
        ({"name": "alice", "agent.wws_name": "bob"}, {}, "alice", "bob"),
        ({"agent.wws_name": "bob"}, {"WWS_AGENT_NAME": "carol"}, "carol", "bob"),
    ],
)
def test_which_name_is_meant(file: Path, flags, env, name, wws_name):
    config = load(file, '[agent]\nwws_name = "dave"\n', flags=flags, env=env)
    assert (config.name, config.agent.wws_name) == (name, wws_name)


def test_an_empty_address_turns_a_server_off(file: Path):
    assert load(file, '[rpc]\ntcp = ""\n', env={"WWS_RPC_HTTP": ""}).rpc.tcp == ""
    assert load(file, env={"WWS_RPC_HTTP": ""}).rpc.http == ""
    assert load(file, flags={"rpc.tcp": ""}).is_explicit("rpc.tcp")


def test_unknown_variables_are_a_warning_with_the_nearest(file: Path):
    env = {
        "WWS_NETWRK_LISTEN": "x",
        "WWS_HOME": "/h",
        "WWS_ZZZZZZZZ": "1",
        "OTHER": "1",
        "WWS_TEST_SCALE": "1",
    }
    assert load(file, env=env).warnings == (
        "The variable WWS_NETWRK_LISTEN means nothing to WWS; did you mean WWS_NETWORK_LISTEN?",
        "The variable WWS_ZZZZZZZZ means nothing to WWS.",
    )


@pytest.mark.parametrize(
    "text, line, nearest",
    [
        ("[network]\n\n# a comment\nmax_pers = 3\n", 4, "max_peers"),
        ("[netwrk]\nmax_peers = 3\n", 1, "network"),
        ("[limits]\nmax_peers = 3\n", 2, "max_peers in [network]"),
        ("max_peers = 3\n", 1, "max_peers in [network]"),
        ("network.listn = []\n", 1, "listen"),
        ('[agent]\nwws_name = "alice"\n"swrm" = "x"\n', 3, "swarm"),
        ("network = { listn = [] }\n", 1, "listen"),
        ("[log]\nzzzzzzzzzz = 1\n", 2, None),
    ],
)
def test_an_unknown_key_names_file_line_and_nearest(file: Path, text, line, nearest):
    with pytest.raises(ConfigUnknownKey) as caught:
        load(file, text)
    message = str(caught.value)
    assert message.startswith(f"{file}:{line}: ")
    assert ("did you mean" in message) == (nearest is not None)
    assert nearest is None or f"did you mean {nearest}?" in message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "section, key, value",
    [
        ("network", "max_peers", "0"),
        ("network", "max_peers", "-1"),
        ("network", "max_peers", "true"),
        ("network", "max_peers", "1.5"),
        ("network", "max_peers", "9007199254740992"),
        ("network", "max_peers", '"many"'),
        ("network", "max_peers", "[]"),
        ("network", "enable_tcp", "2"),
        ("network", "enable_tcp", '"perhaps"'),
        ("network", "listen", '["/ip4/127.0.0.1/tcp/0", "127.0.0.1:9000"]'),
        ("network", "listen", "7"),
        ("network", "listen", "[7]"),
        ("network", "listen", '"[1"'),
        ("network", "announce", '["/ip4/256.0.0.1/tcp/1"]'),
        ("network", "publishers", '["abc"]'),
        ("network", "domain", '"a..b"'),
        ("network", "domain", '"exämple.org"'),
        ("network", "dns_servers", '["example.org"]'),
        ("network", "dns_servers", '["1.1.1.1:70000"]'),
        ("network", "doh_servers", '["http://dns.example/"]'),
        ("agent", "wws_name", '"a"'),
        ("agent", "wws_name", '"peer"'),
        ("agent", "wws_name", '"-alice"'),
        ("agent", "wws_name", '"\u212aate"'),
        ("agent", "swarm", '"a b"'),
        ("rpc", "tcp", '"localhost:9370"'),
        ("rpc", "tcp", '"127.0.0.1"'),
        ("rpc", "http", '"::1:9371"'),
        ("limits", "phase_timeout", "inf"),
        ("limits", "phase_timeout", "nan"),
        ("limits", "phase_timeout", "0"),
        ("limits", "prefix_exempt", '["10.0.0.1/8"]'),
        ("log", "level", '"loud"'),
        ("log", "format", '"xml"'),
        ("log", "files", "-1"),
        ("identity", "path", "7"),
        ("network", "bootstrap_peers", str([str(number) for number in range(MAX_LIST + 1)])),
    ],
)
def test_a_bad_value_names_file_line_and_setting(file: Path, section, key, value):
    with pytest.raises(ConfigBadValue) as caught:
        load(file, f"# settings\n\n[{section}]\n{key} = {value}\n")
    assert str(caught.value).startswith(f"{file}:4: {section}.{key}")
    assert (caught.value.code, caught.value.exit_code) == ("config_bad_value", 2)


def test_a_bad_value_names_the_variable_or_flag(file: Path):
    with pytest.raises(ConfigBadValue, match=r"^environment WWS_NETWORK_MAX_PEERS: network.max_peers"):
        load(file, env={"WWS_NETWORK_MAX_PEERS": "x"})
    with pytest.raises(ConfigBadValue, match=r"^flag --dns-server: network.dns_servers \(entry 2\)"):
        load(file, flags={"network.dns_servers": ("1.1.1.1", "x")})


def test_a_malformed_bootstrap_peer_never_stops_the_start(file: Path):
    assert load(file, '[network]\nbootstrap_peers = ["nonsense"]\n').network.bootstrap_peers == ("nonsense",)


@pytest.mark.parametrize(
    "content, says",
    [
        (b"[network\n", "line 1"),
        (b"\xff", "UTF-8"),
        (b"#" * (MAX_FILE + 1), "larger"),
        (b"a = " + b"[" * 100_000, "nested"),
        (b"network = 3\n", "write [network] above"),
    ],
)
def test_a_file_that_is_no_configuration(file: Path, content, says):
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=says.replace("[", r"\[")) as caught:
        load(file)
    assert str(file) in str(caught.value)


def test_a_file_that_was_asked_for_must_be_there(file: Path):
    with pytest.raises(ConfigUnreadable):
        load_config({}, {}, file=file, file_required=True)
    with pytest.raises(ConfigUnreadable):
        load_config({}, {}, file=file.parent)


@given(st.text(max_size=200))
def test_no_file_does_more_than_be_refused(tmp_path_factory: pytest.TempPathFactory, text):
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_config({}, {}, file=file)
    except ConfigError:
        pass


@given(
    st.sampled_from(all_settings()),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
def test_no_value_does_more_than_be_refused(setting, value):
    try:
        load_config({setting: value}, {}, file=Path("/nonexistent"))
    except ConfigBadValue:
        pass


@pytest.mark.parametrize(
    "text, expected",
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("2001:db8::35", ("2001:db8::35", 53)),
    ],
)
def test_servers_with_and_without_a_port(text, expected):
    assert parse_host_port(text, 53) == expected
