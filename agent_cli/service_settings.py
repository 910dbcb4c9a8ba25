"""What a node is to be run with as a service: what was said, over what it has been run with so far.

    options of `wws service install`  over  the unit that is there, else the running node's command line
    variables of this shell           over  those of that unit or process

So `wws service install` after `wws join --name alice --network …` keeps the network, and once more keeps
everything. The node of a service starts in another folder, without a shell: paths become absolute, and the
variables that choose home, node, name and settings file become options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from agent_cli.node_process import Process
from agent_cli.user_unit import UserUnit, link_of
from wws.config.loading import OTHER_NAMES, all_settings
from wws.errors import WwsError
from wws.programs import command_of
from wws.runtime.arguments import BOOTSTRAP_KEY, Options, parse_arguments, prepare
from wws.runtime.homes import NodePaths, Ready, expand

PROGRAM: Final = "wws-connector"
IDENTITY_PATH: Final = "WWS_IDENTITY_PATH"
Environment = Mapping[str, str]


def make_unit(
    node: NodePaths, given: Options, env: Environment, *, before: UserUnit | None, running: Ready | None
) -> UserUnit:
    """The unit that this node is to have. Raises what a node says of settings that it cannot take."""
    options, variables = Options(), dict[str, str]()
    if before is not None:
        options, variables = parse_arguments(before.arguments), dict(before.environment)
    elif running is not None and (found := _of_process(running)) is not None:
        options, variables = found
    variables |= variables_of(env, Path.cwd())
    options = _absolute(_over(_with_variables(given, env), options), Path.cwd(), env)
    name = options.name
    if name is None and before is None and running is None and node.home.named_key(node.name).is_file():
        name = node.name  # it has run here with that name, and takes its key again
    options = replace(options, home=str(node.home.root.absolute()), node=node.name, name=name)
    prepare(options, {**_without_ours(env), **variables})
    return UserUnit(node.name, program(), tuple(arguments_of(options)), tuple(sorted(variables.items())))


def program() -> tuple[str, ...]:
    """What runs a node, by a path that upgrades leave alone: the installation's link, else what runs us."""
    command = command_of(PROGRAM)
    link = link_of(Path(os.path.abspath(command[0])), PROGRAM)
    if link is not None and os.access(link, os.X_OK):
        return (str(link),)
    script = Path(command[0]).with_name(PROGRAM)  # beside the interpreter of the environment we lie in
    if len(command) > 1 and os.access(script, os.X_OK):
        return (str(script),)
    return tuple(command)


def arguments_of(options: Options) -> list[str]:
    """The command line that `parse_arguments` makes these options of."""
    arguments: list[str] = []
    for field in fields(options):
        flag, value = f"--{field.name.replace('_', '-')}", getattr(options, field.name)
        match value:
            case bool():
                arguments += [flag] if value else []
            case str():
                arguments.append(f"{flag}={value}")
            case tuple():
                arguments += [f"{flag}={entry}" for entry in value]
    return arguments


def variables_of(env: Environment, folder: Path) -> dict[str, str]:
    """The variables that are settings of a node; a key's path is made absolute from `folder`.

    No others: an operator's may be secrets, and these end up in a file.
    """
    settings = {f"WWS_{setting.replace('.', '_').upper()}" for setting in all_settings()} | OTHER_NAMES.keys()
    kept = {name: value for name, value in env.items() if name in settings}
    if kept.get(IDENTITY_PATH):
        kept[IDENTITY_PATH] = str(folder / expand(kept[IDENTITY_PATH], env))
    return kept


def _of_process(ready: Ready) -> tuple[Options, dict[str, str]] | None:
    """The options and variables of a running node; `None` where they cannot be told."""
    found = Process.of(ready.pid)
    if found is None:
        return None
    words, env, cwd = found.command, found.env, found.folder
    first = next((at for at, word in enumerate(words) if at and word.startswith("--")), len(words))
    try:
        options = parse_arguments(words[first:])
    except WwsError:
        return None
    return _absolute(_with_variables(options, env), cwd, env), variables_of(env, cwd)


def _with_variables(options: Options, env: Environment) -> Options:
    """With the variables that are no settings, but stand for these options."""
    name, config = env.get("WWS_AGENT_NAME") or None, env.get("WWS_CONFIG") or None
    return replace(options, name=options.name or name, config=options.config or config)


def _over(given: Options, under: Options) -> Options:
    """What was said, and of the rest what was so before."""
    said = {field.name: getattr(given, field.name) for field in fields(given)}
    return replace(under, **{name: value for name, value in said.items() if value not in (None, (), False)})


def _absolute(options: Options, folder: Path, env: Environment) -> Options:
    def path(text: str | None) -> str | None:
        return None if text is None else str(folder / expand(text, env))

    network = options.network
    key = options.identity_path or (BOOTSTRAP_KEY if options.bootstrap_mode else None)
    return replace(
        options,
        config=path(options.config),
        identity_path=path(key),
        network=path(network) if network is not None and network.endswith(".json") else network,
    )


def _without_ours(env: Environment) -> dict[str, str]:
    return {name: value for name, value in env.items() if not name.startswith("WWS_")}
