"""The command line of the node programs, and what follows from it."""

from pathlib import Path

import pytest

from wws.config import ConfigBadValue, ConfigUnreadable
from wws.runtime.arguments import Options, WrongUsage, parse_arguments, prepare
from wws.runtime.homes import BadNodeName

EVERYTHING = [
    "--config", "c.toml", "--home", "/h", "--node", "n", "--name", "alice", "--network", "example.org",
    "--bootstrap", "/a", "--bootstrap", "/b", "--listen", "/ip4/127.0.0.1/tcp/0",
    "--announce", "/ip4/203.0.113.4/tcp/1", "--dns-server", "127.0.0.1:53", "--rpc", "127.0.0.1:1",
    "--http", "",
    "--identity-path", "k", "--wws-name", "bob", "--swarm", "lab", "--relay-only", "--bootstrap-mode",
    "--allow-unsigned", "--log-format", "json",
]  # fmt: skip


def test_every_option_of_the_contract():
    assert parse_arguments(EVERYTHING) == Options(
        config="c.toml",
        home="/h",
        node="n",
        name="alice",
        network="example.org",
        bootstrap=("/a", "/b"),
        listen=("/ip4/127.0.0.1/tcp/0",),
        announce=("/ip4/203.0.113.4/tcp/1",),
        dns_server=("127.0.0.1:53",),
        rpc="127.0.0.1:1",
        http="",
        identity_path="k",
        wws_name="bob",
        swarm="lab",
        relay_only=True,
        bootstrap_mode=True,
        allow_unsigned=True,
        log_format="json",
    )
    assert parse_arguments([]) == Options()


@pytest.mark.parametrize(
    "arguments", [["--nope"], ["--log-format", "xml"], ["--home"], ["stray"], ["--boot", "/a"]]
)
def test_a_wrong_option_is_wrong_usage(arguments):
    with pytest.raises(WrongUsage) as caught:
        parse_arguments(arguments, program="wws-bootstrap")
    assert (caught.value.code, caught.value.exit_code) == ("wrong_usage", 2)
    assert "wws-bootstrap --help" in caught.value.hint


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_end_well(option, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        parse_arguments([option], program="wws-bootstrap")
    assert caught.value.code == 0
    assert "wws-bootstrap" in capsys.readouterr().out


def test_flags_become_settings(tmp_path: Path):
    options = parse_arguments(
        ["--home", str(tmp_path), "--name", "Alice", "--bootstrap", "/a", "--rpc", "", "--relay-only"]
    )
    found = prepare(options, {"WWS_BOOTSTRAP_PEERS": "/b"})
    assert found.config.network.bootstrap_peers == ("/a",)
    assert found.config.sources["network.bootstrap_peers"] == "flag --bootstrap"
    assert (found.config.rpc.tcp, found.config.is_explicit("rpc.tcp")) == ("", True)
    assert found.config.network.relay_only
    assert found.config.agent.wws_name == "alice"
    assert found.node.name == "alice"
    assert (found.identity.path, found.identity.source) == (tmp_path / "alice.key", "--name")


@pytest.mark.parametrize(
    "arguments, env, node",
    [
        ([], {}, "default"),
        (["--name", "alice"], {}, "alice"),
        (["--node", "n1", "--name", "alice"], {"WWS_NODE": "n2"}, "n1"),
        (["--name", "alice"], {"WWS_NODE": "n2"}, "n2"),
        ([], {"WWS_AGENT_NAME": "alice"}, "alice"),
        ([], {"WWS_NAME": "alice"}, "default"),
        (["--bootstrap-mode"], {"WWS_NODE": "n2"}, "bootstrap"),
        (["--bootstrap-mode", "--node", "b1"], {}, "b1"),
        (["--bootstrap-mode", "--name", "berlin"], {}, "berlin"),
    ],
)
def test_what_a_node_is_called(tmp_path: Path, arguments, env, node):
    assert prepare(parse_arguments(["--home", str(tmp_path), *arguments]), env).node.name == node


@pytest.mark.parametrize(
    "arguments, env, file, path",
    [
        ([], {}, "", "identity.key"),
        ([], {}, '[identity]\npath = "/c"\n', "/c"),
        (["--identity-path", "/f"], {}, '[identity]\npath = "/c"\n', "/f"),
        (["--identity-path", "/f"], {"WWS_IDENTITY_PATH": "/e"}, '[identity]\npath = "/c"\n', "/e"),
        (["--name", "alice"], {}, '[identity]\npath = "/c"\n', "/c"),
        (["--name", "alice"], {}, "", "alice.key"),
    ],
)
@pytest.mark.parametrize("bootstrap", [False, True])
def test_where_the_key_lies(tmp_path: Path, arguments, env, file, path, bootstrap):
    (tmp_path / "config.toml").write_text(file)
    mode = ["--bootstrap-mode"] if bootstrap else []
    found = prepare(parse_arguments(["--home", str(tmp_path), *mode, *arguments]), env)
    if bootstrap and not path.startswith("/"):
        assert (found.identity.path, found.identity.source) == (
            Path("bootstrap-identity.key"),
            "default (bootstrap mode)",
        )
    else:
        assert found.identity.path == tmp_path / path


def test_a_bootstrap_node_is_no_agent(tmp_path: Path):
    options = parse_arguments(["--home", str(tmp_path), "--bootstrap-mode", "--name", "berlin"])
    found = prepare(options, {"WWS_NAME": "alice"})
    assert found.config.agent.wws_name is None
    assert found.config.network.listen[0] == "/ip4/0.0.0.0/tcp/9000"
    assert found.config.limits.accepts_per_s == 1000


def test_a_configuration_file_that_was_named_must_exist(tmp_path: Path):
    for arguments, env in (
        (["--config", str(tmp_path / "c")], {}),
        ([], {"WWS_CONFIG": str(tmp_path / "c")}),
    ):
        with pytest.raises(ConfigUnreadable):
            prepare(parse_arguments(["--home", str(tmp_path), *arguments]), env)


def test_malformed_names_are_wrong_usage(tmp_path: Path):
    with pytest.raises(ConfigBadValue, match="flag --name"):
        prepare(parse_arguments(["--home", str(tmp_path), "--name", "../x"]), {})
    with pytest.raises(BadNodeName):
        prepare(parse_arguments(["--home", str(tmp_path), "--node", "../x"]), {})


def test_preparing_touches_nothing(tmp_path: Path):
    prepare(parse_arguments(["--home", str(tmp_path / "home"), "--name", "alice"]), {})
    assert list(tmp_path.iterdir()) == []
