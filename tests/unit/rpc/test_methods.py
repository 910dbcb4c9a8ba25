"""The table of methods: parameters checked strictly, the document complete, access decided in one place."""

import dataclasses
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wws.rpc import api, codes
from wws.rpc.method_params import PingParams, StopParams
from wws.rpc.methods import METHODS, Method
from wws.rpc.params import InvalidParams, parse_params
from wws.testing.fake_node import FakeNode
from wws.testing.rpc import call

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def test_by_name_by_position_and_by_default() -> None:
    assert parse_params(PingParams, {"target": "bob"}) == PingParams("bob", 4)
    assert parse_params(PingParams, ["bob", 9]) == PingParams("bob", 9)
    assert parse_params(PingParams, {"target": "bob", "count": None}) == PingParams("bob", 4)
    assert parse_params(StopParams, None) == StopParams(release_name=False)


@pytest.mark.parametrize(
    "params",
    [
        {},
        None,
        [],
        {"target": None},
        {"target": ""},
        {"target": "x" * 1025},
        {"target": "a\tb"},
        {"target": "bob", "count": 0},
        {"target": "bob", "count": 101},
        {"target": "bob", "count": 4.0},
        {"target": "bob", "extra": None},
        ["bob", 4, None, None],
        {"target": "bob", "wait_direct": 31},
        {"target": "bob", "wait_direct": True},
        "bob",
    ],
)
def test_what_does_not_fit_is_refused(params: object) -> None:
    with pytest.raises(InvalidParams):
        parse_params(PingParams, params)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
@given(raw=JSON)
def test_any_params_fit_or_are_refused(method: Method, raw: api.Json) -> None:
    try:
        parsed = parse_params(method.params, raw)
    except InvalidParams:
        return
    assert isinstance(parsed, method.params)


async def test_the_document_lists_each_method_with_its_params_and_result() -> None:
    document = await call(FakeNode("alice"), "rpc.discover")
    assert isinstance(document, dict)
    described = {entry["name"]: entry for entry in document["methods"]}
    assert list(described) == list(METHODS)
    for name, method in METHODS.items():
        assert described[name]["summary"] == method.summary
        assert [param["name"] for param in described[name]["params"]] == [
            field.name for field in dataclasses.fields(method.params)
        ]
    schemas = document["components"]["schemas"]
    for entry in described.values():
        reference = entry["result"]["schema"].get("$ref")
        assert reference is None or reference.rpartition("/")[2] in schemas


@pytest.mark.parametrize(
    "name, params",
    [
        ("swarm.get_status", None),
        ("swarm.get_network_stats", None),
        ("swarm.get_identity", None),
        ("swarm.peers", None),
        ("swarm.connect", ["bob"]),
        ("swarm.ping", ["bob"]),
        ("swarm.register_name", ["alice"]),
        ("swarm.resolve_name", ["bob"]),
        ("swarm.my_names", None),
    ],
)
async def test_answers_have_the_members_that_the_document_promises(name: str, params: api.Json) -> None:
    alice = FakeNode("alice")
    await FakeNode("bob", alice.swarm).register_name("bob")
    document = await call(alice, "rpc.discover")
    assert isinstance(document, dict)
    answer = api.to_json(await call(alice, name, params))
    entry = next(entry for entry in document["methods"] if entry["name"] == name)
    _check(answer, entry["result"]["schema"], document["components"]["schemas"])


def test_the_fake_node_has_every_method_of_the_api() -> None:
    wanted = [name for name, member in vars(api.NodeApi).items() if inspect.iscoroutinefunction(member)]
    assert wanted
    for name in wanted:
        promised = inspect.signature(getattr(api.NodeApi, name))
        assert list(inspect.signature(getattr(FakeNode, name)).parameters) == list(promised.parameters)


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_the_errors_of_a_method_have_numbers(method: Method) -> None:
    assert all(codes.rpc_number(word) is not None for word in method.errors)


def test_words_end_in_the_exit_codes_of_the_contract() -> None:
    for word, code in [
        ("node_not_running", 3),
        ("name_not_found", 4),
        ("name_released", 4),
        ("no_identity", 4),
        ("peer_unreachable", 5),
        ("relayed_only", 6),
        ("name_taken", 7),
        ("rate_limited", 7),
        ("owner_changed", 8),
        ("no_way_in", 9),
        ("port_taken", 10),
        ("malformed_name", 2),
        ("internal_error", 1),
    ]:
        assert codes.exit_code(word) == code
    assert codes.exit_code("a_new_word", codes.NOT_FOUND) == 4
    assert codes.exit_code("a_new_word") == 1


def _check(value: api.Json, schema: dict, schemas: dict) -> None:
    """A check of a value against the few forms of JSON Schema that the document uses."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        assert any(_fits(value, option, schemas) for option in schema["anyOf"]), (value, schema)
        return
    if "enum" in schema:
        assert value in schema["enum"]
    match schema.get("type"):
        case "object" if "properties" in schema:
            assert isinstance(value, dict)
            assert set(value) == set(schema["properties"]) == set(schema["required"])
            for name, member in value.items():
                _check(member, schema["properties"][name], schemas)
        case "array":
            assert isinstance(value, list)
            for member in value:
                _check(member, schema["items"], schemas)
        case "string":
            assert isinstance(value, str)
        case "integer":
            assert isinstance(value, int)
            assert not isinstance(value, bool)
        case "number":
            assert isinstance(value, (int, float))
        case "boolean":
            assert isinstance(value, bool)
        case "null":
            assert value is None


def _fits(value: api.Json, schema: dict, schemas: dict) -> bool:
    try:
        _check(value, schema, schemas)
    except AssertionError:
        return False
    return True
