"""Every resource of a stack at Hetzner keeps the policy; and the policy finds what it is there for.

The program runs under Pulumi's mocks: no engine and no account. What it registers is answered by the rules of
the cloud in a file and by our own dynamic providers, so values are as they would be.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import dill
import pulumi
import pytest
from google.protobuf import json_format
from pulumi.runtime import rpc
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs, Mocks, set_mocks

from tests.infra.policy import Secret, Seen, violations
from tests.infra.settings_hcloud import ALICE, BOB, settings_hcloud
from tests.infra.stand_in import cloud
from tests.infra.stand_in.cloud import ADDRESS, FIREWALL, SERVER, SSH_KEY, Account
from wws.errors import LocalError
from wws_infra.providers import provider_for
from wws_infra.stack import Stack

OURS = "pulumi-python:dynamic/wws:"
ACTING: dict[str, dict[str, Any]] = {
    f"{OURS}Playbook": {"state": {}, "running": True},
    f"{OURS}Discovery": {
        "seq": 1,
        "expires_at": 2_000_000_000,
        "bundle": "v=1",
        "records": [],
        "history": "{}",
    },
    f"{OURS}Addresses": {"served": True},
}
"""Dynamic resources that would act on hosts or DNS, and what they would give back."""


class Recorder(MockMonitor):
    """Keeps each resource with its options, as the engine would get it."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.seen: list[Seen] = []

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 -- the protocol's name
        answer = super().RegisterResource(request)
        for name in request.additionalSecretOutputs:  # which the engine marks, and mocks do not
            if name in answer.object.fields:
                marked = rpc.wrap_rpc_secret(json_format.MessageToDict(answer.object.fields[name]))
                json_format.ParseDict(marked, answer.object.fields[name])
        inputs = {
            name: _unwrapped(value)
            for name, value in rpc.deserialize_properties(request.object, True).items()
        }
        inputs.pop("__provider", None)
        self.seen.append(
            Seen(
                request.type,
                request.name,
                inputs,
                protect=request.protect,
                delete_before_replace=request.deleteBeforeReplace,
                secret_outputs=tuple(request.additionalSecretOutputs),
                id=answer.id,
            )
        )
        return answer


class Answers(Mocks):
    """Makes what is registered in the cloud in a file, and by our own classes."""

    def __init__(self) -> None:
        self.account = Account()
        self.secrets: list[str] = []

    def call(self, args: Any) -> Any:
        raise AssertionError(f"the stack asks {args.token}")

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        inputs = {name: _plain(value) for name, value in args.inputs.items()}
        if args.typ.startswith("hcloud:"):
            id_, props = cloud.create(self.account, args.typ, inputs)
            return id_, props
        if args.typ.startswith(OURS) and args.typ not in ACTING:
            made = dill.loads(base64.b64decode(inputs.pop("__provider"))).create(inputs)
            self.secrets += [made.outs[name] for name in ("seed", "private_key") if name in made.outs]
            return made.id, inputs | made.outs
        return f"{args.name}-id", inputs | ACTING.get(args.typ, {})


def _unwrapped(value: Any) -> Any:
    if rpc.is_rpc_secret(value):
        return Secret(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {name: _unwrapped(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    return rpc.unwrap_rpc_secret(value) if rpc.is_rpc_secret(value) else value


@dataclasses.dataclass
class Registered:
    seen: list[Seen]
    secrets: list[str]
    exports: dict[str, Any]


def registered(**settings: Any) -> Registered:
    """What the program registers with these settings."""
    answers = Answers()
    recorder = Recorder(answers)
    set_mocks(answers, project="wws", stack="test", preview=False, monitor=recorder)

    exports: dict[str, Any] = {}

    async def look_at_exports() -> None:
        for name, value in pulumi.runtime.get_root_resource().outputs.items():
            output = pulumi.Output.from_input(value)
            known = await output.future()
            exports[name] = Secret(known) if await output.is_secret() else known

    @pulumi.runtime.test
    def run() -> Any:
        Stack(provider_for(settings_hcloud(**settings))).deploy()
        return look_at_exports()

    run()
    return Registered(recorder.seen, answers.secrets, exports)


@pytest.fixture(autouse=True, scope="module")
def _loop() -> Iterator[None]:
    """Pulumi's SDK wants the thread to have a loop; tests that ran before may have left none."""
    made: list[asyncio.AbstractEventLoop] = []
    new_event_loop = asyncio.DefaultEventLoopPolicy.new_event_loop

    def noted(policy: asyncio.DefaultEventLoopPolicy) -> asyncio.AbstractEventLoop:
        made.append(new_event_loop(policy))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio.DefaultEventLoopPolicy, "new_event_loop", noted)
        asyncio.set_event_loop(asyncio.new_event_loop())
        yield
        for loop in made:  # the SDK makes further ones, and closes none
            loop.close()
        asyncio.set_event_loop(None)


@pytest.fixture(scope="module")
def stack() -> Registered:
    return registered()


def test_every_resource_keeps_the_policy(stack: Registered) -> None:
    assert violations(stack.seen, stack.secrets) == []


def test_the_policy_has_seen_everything(stack: Registered) -> None:
    kinds = [resource.kind for resource in stack.seen]
    assert {kind: kinds.count(kind) for kind in (SERVER, ADDRESS, FIREWALL, SSH_KEY)} == {
        SERVER: 3,
        ADDRESS: 6,
        FIREWALL: 3,
        SSH_KEY: 1,
    }
    assert {name: kinds.count(f"{OURS}{name}") for name in ("Playbook", "Addresses", "Discovery")} == {
        "Playbook": 3,
        "Addresses": 3,
        "Discovery": 1,
    }
    assert len(stack.secrets) == 3 + 3 + 1, "three nodes, three host keys, one publisher"


def test_no_secret_is_given_out_in_plain(stack: Registered) -> None:
    shown = {name: value for name, value in stack.exports.items() if not isinstance(value, Secret)}
    assert {"inventory", "join_command", "multiaddrs", "network_json", "peer_ids"} <= set(shown)
    assert not [secret for secret in stack.secrets if secret in json.dumps(shown)]
    assert "PRIVATE KEY" not in json.dumps(shown)


Change = Callable[[Seen], Seen | None]


def _of(kind: str, change: Change) -> Change:
    return lambda seen: change(seen) if seen.kind == kind else seen


def _inputs(kind: str, **changed: Any) -> Change:
    return _of(kind, lambda seen: dataclasses.replace(seen, inputs={**seen.inputs, **changed}))


def _opened(protocol: str, port: str | None, *sources: str) -> Change:
    rule = {"direction": "in", "protocol": protocol, "port": port, "sourceIps": list(sources)}
    return _of(
        FIREWALL,
        lambda seen: dataclasses.replace(
            seen, inputs={**seen.inputs, "rules": [*seen.inputs["rules"], rule]}
        ),
    )


def _without(kind: str) -> Change:
    return _of(kind, lambda seen: None)


def _unprotected(kind: str) -> Change:
    return _of(kind, lambda seen: dataclasses.replace(seen, protect=False))


MISTAKES: dict[str, tuple[Change, str]] = {
    "SSH for the world": (_opened("tcp", "22", "0.0.0.0/0"), "lets 0.0.0.0/0 to"),
    "SSH for the world in IPv6": (_opened("tcp", "22", "::/0"), "lets ::/0 to"),
    "SSH for both worlds": (_opened("tcp", "22", "0.0.0.0/0", "::/0"), "open to the world are"),
    "SSH for half of the world": (_opened("tcp", "22", "128.0.0.0/1"), "lets 128.0.0.0/1 to"),
    "metrics for the world": (_opened("tcp", "9371", "::/0"), "lets ::/0 to"),
    "a port too many": (_opened("tcp", "8080", "203.0.113.0/24"), "opens ('tcp', '8080')"),
    "RPC": (_opened("tcp", "9370", "203.0.113.7/32"), "opens ('tcp', '9370')"),
    "all ports": (_opened("tcp", "any", "0.0.0.0/0", "::/0"), "open to the world are"),
    "a range of ports": (_opened("udp", "9000-9001", "0.0.0.0/0", "::/0"), "open to the world are"),
    "another protocol": (_opened("gre", None, "203.0.113.7/32"), "opens ('gre', None)"),
    "no rules": (_inputs(FIREWALL, rules=[]), "open to the world are []"),
    "no firewall": (_inputs(SERVER, firewallIds=[]), "has no firewall"),
    "a firewall of somebody else": (_inputs(SERVER, firewallIds=[4711]), "does not know"),
    "firewalls taken out": (_without(FIREWALL), "does not know"),
    "user data in plain": (_inputs(SERVER, userData="#cloud-config"), "is not secret"),
    "no SSH key": (_inputs(SERVER, sshKeys=[]), "sent by mail"),
    "addresses of the server": (_inputs(SERVER, publicNets=[{"ipv4Enabled": True}]), "goes with it"),
    "no addresses named": (_inputs(SERVER, publicNets=[]), "goes with it"),
    "no delete protection": (_inputs(SERVER, deleteProtection=False), "can be deleted"),
    "no rebuild protection": (_inputs(SERVER, rebuildProtection=False), "can be deleted"),
    "servers not protected": (_unprotected(SERVER), "can be deleted"),
    "addresses not protected": (_unprotected(ADDRESS), "can be deleted"),
    "addresses deletable": (_inputs(ADDRESS, deleteProtection=False), "can be deleted"),
    "addresses that go with servers": (_inputs(ADDRESS, autoDelete=True), "goes with its server"),
    "identities not protected": (_unprotected(f"{OURS}Seed"), "can be deleted"),
    "host keys not protected": (_unprotected(f"{OURS}SshHostKey"), "can be deleted"),
    "seed in plain": (
        _of(f"{OURS}Seed", lambda seen: dataclasses.replace(seen, secret_outputs=())),
        "its seed is not secret",
    ),
    "no identity": (_without(f"{OURS}Seed"), "its identity does not outlive it"),
    "one region": (_inputs(SERVER, location="nbg1"), "no two in one place"),
    "too few": (_of(SERVER, lambda seen: None if seen.name == "boot3" else seen), "at least three"),
    "something new": (
        _of(SSH_KEY, lambda seen: dataclasses.replace(seen, kind="hcloud:index/volume:Volume")),
        "no rule knows the type",
    ),
}


@pytest.mark.parametrize("change, said", MISTAKES.values(), ids=MISTAKES)
def test_the_policy_finds_a_mistake(stack: Registered, change: Change, said: str) -> None:
    changed = [result for seen in stack.seen if (result := change(seen)) is not None]
    assert changed != stack.seen
    assert any(said in line for line in violations(changed, stack.secrets)), violations(changed)


def test_the_policy_finds_each_secret_in_plain(stack: Registered) -> None:
    for secret in stack.secrets:
        plain = [_inputs(SERVER, labels={"note": f"it is {secret}"})(seen) for seen in stack.seen]
        found = violations([seen for seen in plain if seen is not None], stack.secrets)
        assert sorted(found) == [f"Server boot{n}: labels.note holds a secret in plain" for n in (1, 2, 3)]


def test_each_server_is_told_its_own_host_key_and_no_identity(stack: Registered) -> None:
    told = [seen.inputs["userData"].value for seen in stack.seen if seen.kind == SERVER]
    keys = [json.loads(text.removeprefix("#cloud-config\n"))["ssh_keys"] for text in told]
    assert len({key["ed25519_private"] for key in keys}) == 3
    assert all("ssh-ed25519 " in key["ed25519_public"] for key in keys)
    seeds = [secret for secret in stack.secrets if "PRIVATE" not in secret]
    assert not [seed for seed in seeds if any(seed in text for text in told)]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "SSH for the world": ({"ssh_allow": ["0.0.0.0/0"]}, "ssh_allow"),
    "SSH for the world in IPv6": ({"ssh_allow": ["::/0"]}, "ssh_allow"),
    "SSH for two halves": ({"ssh_allow": ["0.0.0.0/1", "128.0.0.0/1"]}, "ssh_allow"),
    "SSH for one half": ({"ssh_allow": ["::/1"]}, "ssh_allow"),
    "SSH for IPv4 in IPv6": ({"ssh_allow": ["::ffff:0:0/96"]}, "ssh_allow"),
    "metrics for the world": ({"metrics_allow": ["0.0.0.0/0"]}, "metrics_allow"),
    "SSH for nobody": ({"ssh_allow": []}, "ssh_allow"),
    "one region twice": (
        {"nodes": [{"name": "boot1", "region": "ash"}, {"name": "boot2", "region": "ash"}]},
        "no two have the same",
    ),
    "a region that is none": ({"nodes": [{"name": "boot1", "region": "mars"}]}, "region"),
    "a renamed setting": (
        {"hcloud": {"operator_keys": ["alice"], "server-type": "cx23"}},
        "did you mean server_type",
    ),
    "nobody's key": ({"hcloud": {"operator_keys": []}}, "operator_keys"),
    "a private key": (
        {"hcloud": {"operator_keys": ["-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNzaC1rZXk="]}},
        "private key",
    ),
    "a key that is cut off": (
        {"hcloud": {"operator_keys": [ALICE[:-20]]}},
        "cut off",
    ),
    "an image that the role does not know": (
        {"hcloud": {"operator_keys": ["alice"], "image": "fedora-43"}},
        "image",
    ),
}


@pytest.mark.parametrize("settings, said", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_right_is_refused_before_anything_is_made(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(LocalError, match=said):
        provider_for(settings_hcloud(**settings))


def test_a_node_without_ipv6_and_with_a_key_that_is_there_keeps_the_policy() -> None:
    account_has = registered(hcloud={"operator_keys": [f"{ALICE} alice", f"{BOB} bob"], "ipv6": False})
    assert violations(account_has.seen, account_has.secrets) == []
    assert [seen.inputs["type"] for seen in account_has.seen if seen.kind == ADDRESS] == ["ipv4"] * 3


def test_lifting_the_protection_of_a_server_leaves_everything_else_protected() -> None:
    nodes = settings_hcloud()["nodes"]
    lifted = registered(nodes=[{**nodes[0], "protected": False}, *nodes[1:]])
    assert violations(lifted.seen, lifted.secrets) == ["Server boot1: can be deleted"]
