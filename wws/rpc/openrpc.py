"""The OpenRPC document that `rpc.discover` answers, generated from the method table.

Result types are read off the records of `wws.rpc.api`: their annotations become JSON Schema, shared
records and the errors that any method may give go into `components`. What OpenRPC has no word for stands in
members that begin with `x-`: who may call, how often, the tier, and whether it is written to the audit log.
Format: OpenRPC 1.3 (spec.open-rpc.org).
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from wws.rpc.api import Json, to_json
from wws.rpc.codes import REFUSED, rpc_number
from wws.rpc.methods import Method
from wws.rpc.params import is_required, rule_of
from wws.rpc.policy import Rate, role_words

COMMON_ERRORS: Final = (
    "invalid_params",
    "unauthorised",
    "token_expired",
    "agent_unknown",
    "two_credentials",
    "timestamp_off",
    "nonce_seen",
    "nonce_window_full",
    "not_canonical",
    "other_node",
    "request_signature_wrong",
    "not_allowed",
    "tier_too_low",
    "rate_limited",
    "timeout",
    "internal_error",
    "cannot_write",
)
"""The words of the errors that any method may give."""
_SIMPLE: dict[object, Json] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def document(methods: Iterable[Method], *, version: str) -> Json:
    """The whole document; the same table gives the same document."""
    schemas: dict[str, Json] = {}
    described = [_method(method, schemas) for method in methods]
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "WWS node",
            "version": version,
            "description": "JSON-RPC 2.0, one JSON value a line, on a unix socket and on loopback TCP.",
        },
        "methods": [*described],
        "components": {"schemas": schemas, "errors": {word: _error(word) for word in COMMON_ERRORS}},
    }


def _method(method: Method, schemas: dict[str, Json]) -> Json:
    entry: dict[str, Json] = {
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": [_param(field) for field in dataclasses.fields(method.params)],
        "result": {"name": "result", "schema": _schema(method.result, schemas)},
        "errors": [*map(_error, method.errors), *map(_common_error, COMMON_ERRORS)],
        "x-who": [*role_words(method.policy.who)],
        "x-rate": _rate(method.policy.rate),
        "x-tier": None if method.policy.tier is None else method.policy.tier.name.lower(),
        "x-audited": method.policy.audited,
    }
    return entry


def _error(word: str) -> dict[str, Json]:
    return {"code": rpc_number(word) or REFUSED, "message": word, "data": {"code": word}}


def _common_error(word: str) -> Json:
    return {"$ref": f"#/components/errors/{word}"}


def _rate(rate: Rate | None) -> Json:
    if rate is None:
        return None
    return {"times": rate.times, "seconds": rate.per, "counts": rate.counted.value}


def _param(field: dataclasses.Field[Any]) -> Json:
    rule = rule_of(field)
    schema = rule.schema()
    if not is_required(field) and field.default is not None:
        schema["default"] = to_json(field.default)
    return {
        "name": field.name,
        "description": rule.description,
        "required": is_required(field),
        "schema": schema,
    }


def _schema(annotation: object, schemas: dict[str, Json]) -> Json:
    """JSON Schema of a type annotation; records are put into `schemas` and referred to."""
    if annotation in (Any, object):
        return {}
    if annotation is type(None):
        return {"type": "null"}
    if annotation in _SIMPLE:
        return {"type": _SIMPLE[annotation]}
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _record(annotation, schemas)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(argument, schemas) for argument in arguments]}
    if origin in (tuple, list):
        return {"type": "array", "items": _schema(arguments[0], schemas)}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _schema(arguments[1], schemas)}
    raise TypeError(f"no schema for {annotation!r}")


def result_text(annotation: object) -> str:
    """What a method answers, for people: the members of its record."""
    arguments = get_args(annotation)
    if get_origin(annotation) is list:
        return f"an array of {result_text(arguments[0])}"
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        members = ", ".join(f"`{field.name}`" for field in dataclasses.fields(annotation))
        return f"`{annotation.__name__}` {{{members}}}"
    return "an object"


def _record(record: type[Any], schemas: dict[str, Json]) -> Json:
    name = record.__name__
    if name not in schemas:
        schemas[name] = {}
        hints = get_type_hints(record)
        names = [field.name for field in dataclasses.fields(record)]
        schemas[name] = {
            "type": "object",
            "description": (record.__doc__ or "").split("\n")[0],
            "properties": {member: _schema(hints[member], schemas) for member in names},
            "required": [*names],
        }
    return {"$ref": f"#/components/schemas/{name}"}
