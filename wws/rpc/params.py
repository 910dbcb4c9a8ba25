"""Parameters of RPC methods: a frozen dataclass a method, checked strictly, described once.

A field carries its rule as metadata (`text()`, `integer()`, `flag()`); the rule checks the value and
gives the JSON Schema that `rpc.discover` publishes, so the documentation cannot lag behind the check.
Unknown members, missing members and values of another type are refused (`invalid_params`); nothing
is converted: "4" is no integer and 1 is no boolean.

Not by pydantic, which reads our settings: what is refused, and in which words, is part of the contract here,
and must not change with a library.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, TypeVar

from wws.errors import WwsError
from wws.rpc.api import Json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")

MAX_TEXT: Final = 1024
"""Characters in a text parameter unless its field says otherwise: a multiaddr has room."""

_HEX: Final = frozenset("0123456789abcdef")


class InvalidParams(WwsError):
    """The parameters do not fit the method."""

    code = "invalid_params"


class Rule(Protocol):
    """How one parameter is checked and described."""

    @property
    def description(self) -> str: ...

    def check(self, name: str, value: Json) -> Json:
        """The value itself, or `InvalidParams`."""
        ...

    def schema(self) -> dict[str, Json]: ...


@dataclass(frozen=True, slots=True)
class TextRule:
    description: str
    max_length: int = MAX_TEXT

    def check(self, name: str, value: Json) -> Json:
        if not isinstance(value, str):
            raise InvalidParams(f"{name} must be a text")
        if not value or len(value) > self.max_length:
            raise InvalidParams(f"{name} must have 1 to {self.max_length} characters, it has {len(value)}")
        if not value.isprintable():  # it is shown in lists and logs, and must not steer a terminal
            raise InvalidParams(f"{name} contains control characters")
        return value

    def schema(self) -> dict[str, Json]:
        return {"type": "string", "minLength": 1, "maxLength": self.max_length}


@dataclass(frozen=True, slots=True)
class IntegerRule:
    description: str
    minimum: int
    maximum: int

    def check(self, name: str, value: Json) -> Json:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidParams(f"{name} must be an integer")
        if not self.minimum <= value <= self.maximum:
            raise InvalidParams(f"{name} must lie in {self.minimum} to {self.maximum}")
        return value

    def schema(self) -> dict[str, Json]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class FlagRule:
    description: str

    def check(self, name: str, value: Json) -> Json:
        if not isinstance(value, bool):
            raise InvalidParams(f"{name} must be true or false")
        return value

    def schema(self) -> dict[str, Json]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class HexRule:
    """Bytes as lower-case hex digits, all of them."""

    description: str
    digits: int

    def check(self, name: str, value: Json) -> Json:
        if not isinstance(value, str) or len(value) != self.digits or not set(value) <= _HEX:
            raise InvalidParams(f"{name} must be {self.digits} lower-case hex digits")
        return value

    def schema(self) -> dict[str, Json]:
        return {"type": "string", "pattern": f"^[0-9a-f]{{{self.digits}}}$"}


@dataclass(frozen=True, slots=True)
class SignedObjectRule:
    """A small flat object of texts and integers, as it is or as its JSON text (how people paste it)."""

    description: str
    max_length: int = 4096
    """Characters of the text."""
    max_members: int = 16

    def check(self, name: str, value: Json) -> Json:
        if isinstance(value, str):
            value = self._parsed(name, value)
        if not isinstance(value, dict):
            raise InvalidParams(f"{name} must be an object, or the JSON text of one")
        if len(value) > self.max_members:
            raise InvalidParams(f"{name} has {len(value)} members, at most {self.max_members} are read")
        for key, member in value.items():
            is_integer = isinstance(member, int) and not isinstance(member, bool)
            if not (isinstance(member, str) or is_integer) or len(str(member)) > self.max_length:
                raise InvalidParams(f"{name}: {key[:32]!r} is neither a text nor an integer of usual size")
        return value

    def schema(self) -> dict[str, Json]:
        members: dict[str, Json] = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
        whole: dict[str, Json] = {
            "type": "object",
            "maxProperties": self.max_members,
            "additionalProperties": members,
        }
        return {"anyOf": [whole, {"type": "string", "maxLength": self.max_length}]}

    def _parsed(self, name: str, text: str) -> Json:
        if len(text) > self.max_length or text.count("{") > 1 or "[" in text:
            raise InvalidParams(f"{name} is not the JSON text of a small flat object")
        try:
            value: Json = json.loads(text, object_pairs_hook=_without_duplicates, parse_float=_no_number)
        except (ValueError, RecursionError):
            raise InvalidParams(f"{name} is not the JSON text of a small flat object") from None
        return value


@dataclass(frozen=True, slots=True)
class TextsRule:
    """An array of different texts, one at least."""

    description: str
    most: int
    each: TextRule

    def check(self, name: str, value: Json) -> Json:
        if not isinstance(value, list) or not 1 <= len(value) <= self.most:
            raise InvalidParams(f"{name} must be an array of 1 to {self.most} texts")
        checked = [self.each.check(f"a member of {name}", member) for member in value]
        if len(set(value)) != len(value):
            raise InvalidParams(f"{name} says the same twice")
        return checked

    def schema(self) -> dict[str, Json]:
        return {
            "type": "array",
            "items": self.each.schema(),
            "minItems": 1,
            "maxItems": self.most,
            "uniqueItems": True,
        }


def texts(description: str, *, most: int, max_length: int = 128) -> dict[str, Rule]:
    """Field metadata: an array of 1 to `most` texts."""
    return {"rule": TextsRule(description, most, TextRule(description, max_length))}


def hexadecimal(description: str, *, digits: int) -> dict[str, Rule]:
    """Field metadata: exactly so many lower-case hex digits."""
    return {"rule": HexRule(description, digits)}


def signed_object(description: str) -> dict[str, Rule]:
    """Field metadata: a flat object, or its JSON text."""
    return {"rule": SignedObjectRule(description)}


def text(description: str, *, max_length: int = MAX_TEXT) -> dict[str, Rule]:
    """Field metadata: a text of 1 to `max_length` characters, none of them one that cannot be shown."""
    return {"rule": TextRule(description, max_length)}


def integer(description: str, *, minimum: int, maximum: int) -> dict[str, Rule]:
    """Field metadata: an integer within bounds."""
    return {"rule": IntegerRule(description, minimum, maximum)}


def flag(description: str) -> dict[str, Rule]:
    """Field metadata: true or false."""
    return {"rule": FlagRule(description)}


def rule_of(field: dataclasses.Field[Any]) -> Rule:
    """The rule that a parameter's field carries."""
    rule: Rule = field.metadata["rule"]
    return rule


def is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING


def parse_params(model: type[P], raw: Json) -> P:
    """The parameters as a record of the model.

    By name (an object) or by position (an array), as JSON-RPC 2.0 section 4.2 allows; absent is an
    empty object. Null for an optional member means its default. Raises `InvalidParams`.
    """
    fields = {field.name: field for field in dataclasses.fields(model)}
    members = _by_name(list(fields), raw)
    for name in members:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidParams(f"unknown parameter {name[:64]!r}; this method takes: {known}")
    values: dict[str, Json] = {}
    for name, field in fields.items():
        value = members.get(name)
        if value is None and not is_required(field):
            continue
        if name not in members:
            raise InvalidParams(f"the parameter {name} is missing")
        values[name] = rule_of(field).check(name, value)
    return model(**values)


def _without_duplicates(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member appears twice")
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no integer")


def _by_name(names: list[str], raw: Json) -> Mapping[str, Json]:
    if raw is None:
        return {}
    if isinstance(raw, dict):
        return raw
    if isinstance(raw, list):
        if len(raw) > len(names):
            raise InvalidParams(f"{len(raw)} parameters given, this method takes {len(names)}")
        return dict(zip(names, raw, strict=False))
    raise InvalidParams("params must be an object or an array")
