"""The deny list: in `config.toml`, in a file of its own, and at a reload."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.config import deny_file
from wws.config.deny_file import DenyEntries, parse_deny_file
from wws.config.errors import ConfigBadValue, ConfigError, ConfigUnreadable
from wws.config.loading import load_config
from wws.config.reloading import reload_config
from wws.identity.keys import Identity
from wws.names.record import name_key
from wws.runtime.node_config import deny_list

ALICE = Identity.from_label("alice").peer_id


def test_one_entry_a_line_of_any_kind_and_comments() -> None:
    text = f"""
# bad people
{ALICE}   # alice, of all people
{ALICE.cid}
  203.0.113.0/24
2001:db8::7#one address
wws:Casino
wws:casino@lab
"""
    assert parse_deny_file(text, "deny") == DenyEntries(
        (str(ALICE),), ("203.0.113.0/24", "2001:db8::7/128"), ("casino", "casino@lab")
    )


@pytest.mark.parametrize(
    "line",
    ["casino", "203.0.113.7/24", "0.0.0.0/0", "12D3KooWnot", "wws:", "wws:a", "wws:-x-", "10.0.0.1 10.0.0.2"],
)  # fmt: skip
def test_a_mistake_is_told_with_file_and_line(line: str) -> None:
    with pytest.raises(ConfigBadValue) as caught:
        parse_deny_file(f"# list\n10.0.0.0/8\n{line}\n", "/etc/wws/deny.txt")
    assert str(caught.value).startswith("/etc/wws/deny.txt:3: ")


def test_one_entry_more_than_a_file_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deny_file, "MAX_ENTRIES", 3)
    assert len(parse_deny_file("10.0.0.1\n10.0.0.2\n\n#\n10.0.0.3\n", "deny").prefixes) == 3
    with pytest.raises(ConfigBadValue, match="deny:4: more than 3 entries"):
        parse_deny_file("10.0.0.1\n10.0.0.2\n10.0.0.3\n10.0.0.4\n", "deny")


def test_one_byte_more_than_a_file_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deny_file, "MAX_FILE", 10)
    (tmp_path / "deny").write_bytes(b"10.0.0.1\n#")
    assert deny_file.read_deny_file(tmp_path / "deny").prefixes == ("10.0.0.1/32",)
    (tmp_path / "deny").write_bytes(b"10.0.0.1\n#x")
    with pytest.raises(ConfigUnreadable):
        deny_file.read_deny_file(tmp_path / "deny")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "deny").write_bytes(content)
    with pytest.raises(ConfigUnreadable):
        deny_file.read_deny_file(tmp_path / "deny")


@given(st.text())
def test_any_text_is_a_list_or_refused(text: str) -> None:
    try:
        entries = parse_deny_file(text, "deny")
    except ConfigError:
        return
    again = "\n".join([*entries.peers, *entries.prefixes, *(f"wws:{name}" for name in entries.names)])
    assert parse_deny_file(again, "deny") == entries


# Together with the settings


def test_the_file_is_beside_the_settings_and_its_entries_are_among_theirs(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[deny]\nfile = "list"\nprefixes = ["10.0.0.0/8"]\n')
    (tmp_path / "list").write_text(f"{ALICE}\n192.0.2.0/24\nwws:casino@lab\n")
    denied = deny_list(load_config({}, {}, file=tmp_path / "config.toml"))
    assert denied.denies_peer(ALICE)
    assert denied.denies_ip("10.1.1.1")
    assert denied.denies_ip("192.0.2.9")
    assert denied.denies_name(name_key("casino", "lab"))
    assert not denied.denies_name(name_key("casino"))


@pytest.mark.parametrize(
    "entry",
    ['peers = ["alice"]', 'prefixes = ["10.0.0.0/8", "10.0.0.1/8"]', 'names = ["x"]', 'names = ["casino@"]'],
)
def test_a_bad_entry_of_the_settings_names_file_and_line(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[deny]\n{entry}\n")
    with pytest.raises(ConfigBadValue) as caught:
        load_config({}, {}, file=file)
    assert str(caught.value).startswith(f"{file}:2: deny.{entry.partition(' ')[0]} (entry ")


def test_a_reload_takes_the_list_over_also_when_only_the_file_has_changed(tmp_path: Path) -> None:
    file, listed = tmp_path / "config.toml", tmp_path / "list"
    file.write_text('[deny]\nfile = "list"\n')
    listed.write_text("10.0.0.1\n")
    running = load_config({}, {}, file=file)
    listed.write_text("10.0.0.2\nwws:casino\n")
    reload = reload_config(running, load_config({}, {}, file=file))
    assert set(reload.changed) == {"deny.prefixes", "deny.names"}
    assert reload.needs_restart == ()
    assert deny_list(reload.config).denies_ip("10.0.0.2")
    assert not deny_list(reload.config).denies_ip("10.0.0.1")
    file.write_text("")
    assert not deny_list(reload_config(reload.config, load_config({}, {}, file=file)).config)
