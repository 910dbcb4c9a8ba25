"""What our dynamic resources have in common: how they compare, and how they fail.

A class of these lives in a module that can be imported, has no state of its own, and gets all it needs in its
inputs. `create` is idempotent: a run that was killed leaves things that the state does not know, and the next
run must take them over. Outputs hold every input that is compared, so the state alone says what there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)
from pulumi.output import Unknown
from typing_extensions import override

from agent_cli.text import printable
from wws.errors import WwsError

if TYPE_CHECKING:
    from wws_infra.settings import Json

UNKNOWN = pulumi.runtime.rpc.UNKNOWN
"""Stands for a value that is known only when something else has been made (in previews)."""

PROVIDER_KEY = "__provider"


def is_unknown(value: object) -> bool:
    """Whether a value, or one in it, is not known yet: as the engine spells that, or as its SDK does."""
    if isinstance(value, dict):
        return any(is_unknown(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(is_unknown(item) for item in value)
    return value == UNKNOWN or isinstance(value, Unknown)


class ResourceFailed(Exception):
    """What the engine shows for a resource that could not be made. The message is the whole story."""


class Crud(ResourceProvider):
    """A dynamic resource, its inputs compared one by one."""

    serialize_as_secret_always = False  # the class is no secret, and a readable state helps who must mend it
    replaced_by: ClassVar[tuple[str, ...]] = ()
    """Inputs whose change makes another resource of it. The old one goes first."""
    not_compared: ClassVar[tuple[str, ...]] = ()
    """Inputs that are no part of what the resource is: secrets known by their public half, switches."""

    def made(self, props: dict[str, Json]) -> tuple[str, dict[str, Json]]:
        """Make it; its id and further outputs."""
        raise NotImplementedError

    def found(self, id_: str, props: dict[str, Json]) -> dict[str, Json] | None:
        """How it is now: outputs that differ, or `None` when it is gone."""
        return {}

    def changed(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        """Make of the old what the new inputs say; its further outputs."""
        raise NotImplementedError

    def removed(self, id_: str, props: dict[str, Json]) -> None:
        """Remove it. What is gone already is no error."""

    def has_drifted(self, olds: dict[str, Json]) -> bool:
        """Whether what was found by a refresh needs mending, with the same inputs."""
        return False

    def refuse(self, id_: str, olds: dict[str, Json], news: dict[str, Json]) -> None:
        """Refuse a change before it is made, also in a preview. Raises `WwsError`."""

    def postponed(self, olds: dict[str, Json], news: dict[str, Json]) -> None:
        """Say in a preview that a change is judged later: not all inputs are known yet."""

    def checked(self, olds: dict[str, Json], news: dict[str, Json]) -> dict[str, Json]:
        """The inputs as they are kept, from those of the last run and those of this. Raises `WwsError`.

        What is refused here is refused in one line, before the resource and all that depend on it change.
        """
        return news

    @override
    def check(self, _olds: dict[str, Json], news: dict[str, Json]) -> CheckResult:
        try:
            return CheckResult(self.checked(_olds, news), [])
        except WwsError as error:
            return CheckResult(news, [CheckFailure("", _story(error))])

    @override
    def diff(self, _id: str, _olds: dict[str, Json], _news: dict[str, Json]) -> DiffResult:
        compared = self._compared(_news)
        differing = [name for name, value in compared.items() if _olds.get(name) != value]
        replaces = [name for name in differing if name in self.replaced_by]
        changes = bool(differing) or self.has_drifted(_olds)
        if changes and any(is_unknown(value) for value in _news.values()):
            self.postponed(_olds, _news)
        elif changes:
            with _told():
                self.refuse(_id, _olds, _news)
        return DiffResult(changes, replaces, delete_before_replace=True)

    @override
    def create(self, props: dict[str, Json]) -> CreateResult:
        with _told():
            id_, outs = self.made(props)
        return CreateResult(id_, {**self._compared(props), **outs})

    @override
    def read(self, id_: str, props: dict[str, Json]) -> ReadResult:
        with _told():
            outs = self.found(id_, props)
        return ReadResult("", {}) if outs is None else ReadResult(id_, {**props, **outs})

    @override
    def update(self, _id: str, _olds: dict[str, Json], _news: dict[str, Json]) -> UpdateResult:
        with _told():
            outs = self.changed(_id, _olds, _news)
        return UpdateResult({**self._compared(_news), **outs})

    @override
    def delete(self, _id: str, _props: dict[str, Json]) -> None:
        with _told():
            self.removed(_id, _props)

    def _compared(self, props: Mapping[str, Json]) -> dict[str, Json]:
        return {
            name: value
            for name, value in props.items()
            if name != PROVIDER_KEY and name not in self.not_compared
        }


class _told:  # noqa: N801 - reads as a word in `with _told():`
    """Turns our errors into the one line that the engine shows, without a story of modules."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, WwsError):
            raise ResourceFailed(_story(error)) from None


def _story(error: WwsError) -> str:
    hint = f" {error.hint[:1].upper()}{error.hint[1:]}" if error.hint else ""
    return printable(f"[{error.code}] {error}{hint}")


class DynamicResource(Resource, module="wws"):
    """A resource of ours; its type is said by the subclass."""


def text(props: Mapping[str, Json], name: str) -> str:
    """A property that is a text: the engine hands on what our own components gave."""
    value = props[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def number(props: Mapping[str, Json], name: str) -> int:
    """A property that is a whole number; the engine knows numbers only, and hands them on as floats."""
    value = props[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise TypeError(f"{name} is no whole number")
    return int(value)


def texts(props: Mapping[str, Json], name: str) -> list[str]:
    """A property that is a list of texts."""
    value = props[name]
    if not isinstance(value, list):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return [str(item) for item in value]
