"""What is documented is what is enforced: the OpenRPC document and docs/rpc.md are made of the table."""

import json
import re
from pathlib import Path

import pytest

from wws.rpc import codes
from wws.rpc.manual import manual
from wws.rpc.methods import METHODS, Method
from wws.rpc.openrpc import COMMON_ERRORS, document
from wws.rpc.policy import role_words

ROOT = Path(__file__).parents[3]
DOCUMENT = document(METHODS.values(), version="1.2.3")


def test_the_page_is_the_one_that_the_table_makes() -> None:
    page = ROOT.joinpath("docs/rpc.md").read_text(encoding="utf-8")
    assert page == manual(METHODS.values()), "run: python -m wws.rpc.manual > docs/rpc.md"


def test_the_page_names_each_method_its_params_and_its_policy() -> None:
    page = manual(METHODS.values())
    for method in METHODS.values():
        (row,) = re.findall(rf"^\| `{re.escape(method.name)}` \|.*$", page, re.MULTILINE)
        assert f"| {', '.join(role_words(method.policy.who))} |" in row
        assert f"### `{method.name}`" in page
    assert all(f"`{word}`" in page for word in COMMON_ERRORS)


def test_the_document_is_json_and_says_what_it_is() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    only(DOCUMENT, {"openrpc", "info", "methods", "components"})
    assert re.fullmatch(r"1\.3\.\d+", DOCUMENT["openrpc"])
    only(DOCUMENT["info"], {"title", "version", "description"})
    assert DOCUMENT["info"]["version"] == "1.2.3"
    only(DOCUMENT["components"], {"schemas", "errors"})
    assert [entry["name"] for entry in DOCUMENT["methods"]] == list(METHODS)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_an_entry_is_a_method_object_of_openrpc(method: Method) -> None:
    entry = next(entry for entry in DOCUMENT["methods"] if entry["name"] == method.name)
    only(
        entry,
        {"name", "summary", "paramStructure", "params", "result", "errors"},
        {"x-who", "x-rate", "x-tier", "x-audited"},
    )
    assert entry["paramStructure"] in ("by-name", "by-position", "either")
    assert len({param["name"] for param in entry["params"]}) == len(entry["params"])
    required = [param["required"] for param in entry["params"]]
    assert required == sorted(required, reverse=True), "by position, what is optional comes last"
    for param in entry["params"]:
        only(param, {"name", "description", "required", "schema"})
        check_schema(param["schema"])
    only(entry["result"], {"name", "schema"})
    check_schema(entry["result"]["schema"])
    seen = []
    for error in entry["errors"]:
        error = resolved(error) if "$ref" in error else error
        only(error, {"code", "message", "data"})
        assert isinstance(error["code"], int)
        assert codes.rpc_number(error["message"]) == error["code"]
        seen.append(error["message"])
    assert len(set(seen)) == len(seen)
    assert set(COMMON_ERRORS) <= set(seen)
    assert entry["x-who"] == role_words(method.policy.who)
    assert entry["x-audited"] is method.policy.audited
    assert entry["x-tier"] is None
    assert (entry["x-rate"] is None) == (method.policy.rate is None)


def test_every_schema_in_the_components_is_one() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        check_schema(schema)
        assert set(schema["required"]) == set(schema["properties"])


WORDS = {
    "type", "description", "properties", "required", "items", "anyOf", "enum", "$ref", "additionalProperties",
    "minLength", "maxLength", "pattern", "minimum", "maximum", "default", "minItems", "maxItems",
    "uniqueItems", "maxProperties",
}  # fmt: skip
TYPES = {"object", "array", "string", "integer", "number", "boolean", "null"}


def check_schema(schema: object) -> None:
    """That this is JSON Schema draft 7, by the words that the document uses, and that each reference leads
    somewhere."""
    assert isinstance(schema, dict)
    assert set(schema) <= WORDS, set(schema) - WORDS
    if "$ref" in schema:
        assert set(schema) == {"$ref"}, "draft 7 ignores what stands beside a reference"
        resolved(schema)
        return
    assert schema.get("type", "object") in TYPES
    for inner in schema.get("anyOf", []):
        check_schema(inner)
    for inner in schema.get("properties", {}).values():
        check_schema(inner)
    for word in ("items", "additionalProperties"):
        if word in schema:
            check_schema(schema[word])
    if "pattern" in schema:
        re.compile(schema["pattern"])
    if "default" in schema and schema.get("type") == "integer":
        assert schema["minimum"] <= schema["default"] <= schema["maximum"]


def resolved(reference: dict) -> dict:
    path = reference["$ref"].removeprefix("#/").split("/")
    found: dict = DOCUMENT
    for step in path:
        found = found[step]
    return found


def only(value: object, required: set[str], more: frozenset[str] | set[str] = frozenset()) -> None:
    assert isinstance(value, dict)
    assert set(value) == required | set(more)
