"""Filters of the playbooks: what is refused before a host is changed, and what a change of settings needs.

They run on the controller, where `wws` is installed; the node's own code judges its settings and keys.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import difflib
import ipaddress
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # comes with ansible-core
from ansible.errors import AnsibleFilterError  # type: ignore[import-untyped]  # ansible-core has no types

from wws.config.loading import load_config
from wws.config.reloading import RELOADED
from wws.errors import WwsError
from wws.identity.keys import SEED_LENGTH, Identity

PREFIX = "wws_"


def unknown_variables(names: Iterable[str], folder: str) -> list[str]:
    """What is wrong with the names of variables: one line for each that no role knows, with the nearest.

    `folder` is that of the playbooks, with the roles' `argument_specs.yml` in it.
    """
    specifications = Path(folder).glob("roles/*/meta/argument_specs.yml")
    options = {option for path in specifications for option in _options(path.read_text("utf-8"))}
    known = sorted(option.removeprefix(PREFIX) for option in options)  # the prefix makes all alike
    problems = []
    for name in sorted(set(names)):
        if name.startswith(PREFIX) and name not in options:
            near = difflib.get_close_matches(name.removeprefix(PREFIX), known, 1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            problems.append(f"there is no variable {name}{hint}")
    return problems


def _options(specification: str) -> Iterator[str]:
    for entry in yaml.safe_load(specification)["argument_specs"].values():
        yield from entry.get("options", {})


def network_problems(networks: Iterable[str]) -> list[str]:
    """What is wrong with an allow-list: what is no network, and what together is the whole internet."""
    problems, good = [], []
    for text in networks:
        try:
            good.append(ipaddress.ip_network(text))
        except ValueError as error:
            problems.append(f"{text} is no network: {error}")
    for version in (4, 6):
        merged = ipaddress.collapse_addresses(network for network in good if network.version == version)  # type: ignore[type-var]
        problems += [f"{network} is the whole internet" for network in merged if network.prefixlen == 0]
    return problems


def covers(networks: Iterable[str], address: str) -> bool:
    """Whether an address is in one of the networks; what is no network covers nothing."""
    wanted = ipaddress.ip_address(address)
    plain = getattr(wanted, "ipv4_mapped", None) or wanted
    for text in networks:
        with contextlib.suppress(ValueError):
            if plain in ipaddress.ip_network(text):
                return True
    return False


def config_problem(text: str) -> str:
    """Why a node would not start with this `config.toml`; empty when it would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_text(text, "utf-8")
        Path(folder, "deny.txt").touch()  # the role makes one beside the settings
        try:
            load_config({}, {}, file=path, file_required=True)
        except WwsError as error:
            return " ".join(filter(None, (str(error).replace(f"{folder}/", ""), error.hint)))
    return ""


def config_change(old: str, new: str) -> str:
    """What a node needs that runs with one `config.toml` and is to run with another.

    `nothing`, `reload` or `restart`.
    """
    before, after = _settings(old), _settings(new)
    differing = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    if not differing:
        return "nothing"
    return "reload" if differing <= RELOADED else "restart"


def _settings(text: str) -> dict[str, object]:
    try:
        sections = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):  # a host may have anything there
        return {"": text}
    return {
        f"{section}.{key}": value
        for section, values in sections.items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def peer_id(identity: str) -> str:
    """The PeerId of an identity in base64. Says nothing of the identity when it is none."""
    try:
        seed = base64.b64decode(identity, validate=True)
    except (binascii.Error, ValueError):
        seed = b""
    if len(seed) != SEED_LENGTH:
        raise AnsibleFilterError(f"wws_identity is not the base64 of {SEED_LENGTH} bytes")
    return str(Identity(seed).peer_id)


class FilterModule:
    """Where Ansible finds them."""

    def filters(self) -> Mapping[str, Callable[..., object]]:
        return {
            "wws_unknown_variables": unknown_variables,
            "wws_network_problems": network_problems,
            "wws_covers": covers,
            "wws_config_problem": config_problem,
            "wws_config_change": config_change,
            "wws_peer_id": peer_id,
        }
