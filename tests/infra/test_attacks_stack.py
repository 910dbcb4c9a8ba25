"""What a stack says and remembers, when others have written some of it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pulumi
import pytest

from tests.infra.test_resources import ALICE, BOB, CAROL, DAVE, DOMAIN, PUBLISHER, discovery, entry, served
from wws.discovery.bundle import Bundle
from wws.discovery.txt import bundle_name, dnsaddr_name
from wws.errors import WwsError
from wws.identity.keys import Identity
from wws_dns.signing import SigningRequest
from wws_infra import stack
from wws_infra.dynamic.crud import ResourceFailed, _told
from wws_infra.dynamic.discovery import DiscoveryProvider
from wws_infra.dynamic.playbook import FORGOTTEN, _Teller
from wws_infra.stack import MAX_SIGNED, read_signed, refuse_plain_secrets

DAY = 86_400
MALLORY = Identity.from_label("mallory")
EVIL = [entry("mallory1", "192.0.2.66"), entry("mallory2", "192.0.2.67"), entry("mallory3", "192.0.2.68")]
Props = dict[str, Any]


@pytest.fixture
def published(tmp_path: Path) -> Props:
    outs = DiscoveryProvider().create(discovery(tmp_path, ALICE, BOB, CAROL)).outs
    assert outs is not None
    return outs


def test_records_of_others_steer_no_terminal(
    tmp_path: Path, published: Props, capsys: pytest.CaptureFixture[str]
) -> None:
    zone = json.loads((tmp_path / "zone.json").read_text())
    zone[dnsaddr_name(DOMAIN)]["TXT"] += ["\x1b[2K\nno changes", "\udcff"]
    (tmp_path / "zone.json").write_text(json.dumps(zone))
    DiscoveryProvider().diff(DOMAIN, published, discovery(tmp_path, ALICE, BOB, CAROL, DAVE))
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\nno changes" not in said
    said.encode()


class Loud(WwsError):
    code = "loud"
    hint = "\x1b[1m\udcff"


def test_errors_and_hosts_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ResourceFailed) as failed, _told():
        raise Loud("\x1b]0;title\x07\udcff")
    str(failed.value).encode()
    assert "\x1b" not in str(failed.value)
    teller = _Teller()
    for line in ("TASK [\x1b[2J]", 'fatal: [boot1]: {"msg": "\x1b[8m\udcff"}', "changed: [\x1b[2J]"):
        teller(line)
    assert "\x1b" not in capsys.readouterr().out


def test_a_node_that_begins_without_its_promises_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """The task is known by its name: it is one of the role's."""
    role = Path(__file__).parents[2] / "ansible" / "roles" / "bootstrap_node" / "tasks" / "config.yml"
    assert FORGOTTEN in role.read_text()
    teller = _Teller()
    for line in (f"TASK [bootstrap_node : Config | {FORGOTTEN}] ****", "ok: [boot1]", "changed: [boot2]"):
        teller(line)
    told = capsys.readouterr().out
    assert "warning: boot2 has lost its promises as a witness" in told
    assert "boot1" not in told


def forged(published: Props, *entries: str) -> Props:
    """The state as somebody left it who can write it, and has no key."""
    history = json.loads(published["history"])
    now = int(time.time())
    parsed = Bundle.parse(published["bundle"])
    keys = (PUBLISHER.public_key, MALLORY.public_key)
    past = Bundle(now - 40 * DAY, now - 40 * DAY, now + 20 * DAY, keys, parsed.entries)  # type: ignore[arg-type]
    history["publishers"] = [MALLORY.public_key.hex()]
    history["published"].insert(0, {"bundle": past.sign(DOMAIN, [MALLORY]).text, "at": now - 40 * DAY})
    return {**published, "history": json.dumps(history), "expires_at": now + DAY}


def test_a_key_in_the_states_history_is_not_signed(tmp_path: Path, published: Props) -> None:
    before = served(tmp_path)
    with pytest.raises(ResourceFailed, match="only the history"):
        DiscoveryProvider().update(DOMAIN, forged(published), discovery(tmp_path, ALICE, BOB, CAROL, DAVE))
    assert served(tmp_path) == before


def test_force_that_is_left_in_forces_once(tmp_path: Path, published: Props) -> None:
    provider = DiscoveryProvider()
    forced = discovery(tmp_path, ALICE, force_unsafe=True)
    once = provider.update(DOMAIN, published, forced).outs or {}
    assert not provider.diff(DOMAIN, once, forced).changes
    again = discovery(tmp_path, *EVIL, force_unsafe=True)
    before = served(tmp_path)
    with pytest.raises(ResourceFailed, match="force_spent"):
        provider.diff(DOMAIN, once, again)
    with pytest.raises(ResourceFailed, match="force_spent"):
        provider.update(DOMAIN, once, again)
    assert served(tmp_path) == before
    taken_out = discovery(tmp_path, ALICE)
    assert provider.diff(DOMAIN, once, taken_out).changes
    clean = provider.update(DOMAIN, once, taken_out).outs or {}
    assert not provider.diff(DOMAIN, clean, taken_out).changes
    provider.update(DOMAIN, clean, again)
    assert served(tmp_path) != before


@pytest.mark.parametrize("key", ["hcloud:token", "cloudflare:apiToken", "wws:token", "aws:secretKey"])
def test_a_secret_in_plain_is_refused(key: str) -> None:
    config = {"wws:domain": DOMAIN, key: "v1-very-secret"}
    with pytest.raises(pulumi.RunError, match="--secret") as refused:
        refuse_plain_secrets(config, [])
    assert "very-secret" not in str(refused.value)
    refuse_plain_secrets(config, [key])
    refuse_plain_secrets({"wws:domain": DOMAIN, "wws:publisher_key_file": "/srv/key"}, [])


def signed_elsewhere(tmp_path: Path, domain: str = DOMAIN) -> tuple[Path, Bundle]:
    now = int(time.time())
    entries = Bundle.parse(_text(tmp_path)).entries
    bundle = Bundle(now, now - 60, now + 20 * DAY, None, entries).sign(domain, [PUBLISHER])
    path = tmp_path / "signed.json"
    path.write_text(SigningRequest(domain, bundle).to_text())
    return path, bundle


def _text(tmp_path: Path) -> str:
    (text,) = served(tmp_path)[bundle_name(DOMAIN)]["TXT"]
    return text


def test_what_sign_writes_is_what_the_stack_reads(tmp_path: Path, published: Props) -> None:
    path, bundle = signed_elsewhere(tmp_path)
    assert read_signed(path, DOMAIN) == bundle.text
    path.write_text(bundle.text + "\n")
    assert read_signed(path, DOMAIN) == bundle.text


@pytest.mark.parametrize("content", ["{", "", "x" * (MAX_SIGNED + 1), '{"schema": 1}', "v=wws1;seq=1", "é"])
def test_a_signed_list_that_is_none_ends_the_run(tmp_path: Path, content: str) -> None:
    path = tmp_path / "signed.json"
    path.write_text(content)
    with pytest.raises(pulumi.RunError, match="wws:signed"):
        read_signed(path, DOMAIN)


def test_a_list_signed_for_another_domain_ends_the_run(tmp_path: Path, published: Props) -> None:
    path, _ = signed_elsewhere(tmp_path, "example.net")
    with pytest.raises(pulumi.RunError, match=r"example\.net"):
        read_signed(path, DOMAIN)


def test_the_stack_checks_its_secrets_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "configuration", lambda: {"wws:domain": DOMAIN, "hcloud:token": "plain"})
    with pytest.raises(pulumi.RunError, match="hcloud:token"):
        stack.deploy()
