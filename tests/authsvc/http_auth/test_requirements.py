"""Which methods need a token by default."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from http import HTTPStatus
from typing import Any

import pytest

from authsvc.http_auth.refusals import Refusal
from authsvc.http_auth.requirements import RequirementOf, needed_for_all, required, union
from mcp_adapter import Rate, RateLimit, Requirement, default_requirement, with_broader_scopes


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "logging/setLevel",
        "notifications/initialized",
        "notifications/cancelled",
    ],
)
def test_open(method: str) -> None:
    assert default_requirement(method, {}) is None


@pytest.mark.parametrize(
    "method",
    [
        "tools/call",
        "resources/read",
        "prompts/get",
        "completion/complete",
        "subscriptions/listen",
        "tasks/result",
        "",
        "notifications",
        "Ping",
        "ping ",
    ],
)
def test_closed(method: str) -> None:
    assert default_requirement(method, {}) == Requirement()


def test_a_union_needs_all_scopes_once() -> None:
    first, second = Requirement(("a", "b")), Requirement(("b", "c"))

    assert union([None, first, second]) == Requirement(("a", "b", "c"))
    assert union([None, Requirement()]) == Requirement()
    assert union([None, None]) is None
    assert union([]) is None


@pytest.mark.parametrize(
    ("granted", "met"),
    [
        (["read", "write"], True),
        (["write", "admin", "read"], True),
        (["all"], True),
        (["root"], True),
        (["editor", "read"], True),
        (["editor"], False),
        (["read"], False),
        (["alles"], False),
        ([], False),
    ],
)
def test_a_broader_scope_stands_for_what_it_implies(granted: list[str], met: bool) -> None:
    implied = {"root": ["all"], "all": ["read", "write", "all"], "editor": ["write"]}
    of = with_broader_scopes(
        lambda method, _: Requirement(("read", "write") if method == "tools/call" else ("read",)),
        implied,
    )

    needed = of("tools/call", {})

    assert needed is not None
    assert needed.met_by(granted) is met
    together = union([needed, of("resources/read", {})])
    assert together is not None
    assert together.met_by(granted) is met
    assert together.scopes == ("read", "write")


@pytest.mark.parametrize(
    "broader",
    [
        [{"write": {"admin"}}, {"write": {"admin", "owner"}}],
        [{"write": {"admin", "owner"}}, {"write": {"admin"}}],
        [{"write": {"admin"}}, {"write": {"admin"}, "read": {"owner"}}],
    ],
)
def test_a_union_is_met_by_what_meets_each(broader: list[dict[str, set[str]]]) -> None:
    """Otherwise a batch would open what none of its calls opens alone."""
    each = [
        Requirement(("write",), {scope: frozenset(names) for scope, names in implied.items()})
        for implied in broader
    ]
    together = union(each)
    assert together is not None
    for held in (["write"], ["admin"], ["owner"], ["read"]):
        assert together.met_by(held) == all(needed.met_by(held) for needed in each)


def test_a_scope_that_nothing_stands_for_in_one_call_is_needed_in_a_batch() -> None:
    strict, lenient = Requirement(("write",)), Requirement(("write",), {"write": frozenset({"x"})})
    for together in (union([strict, lenient]), union([lenient, strict])):
        assert together is not None
        assert not together.met_by(["x"])


def test_broader_scopes_of_a_requirement_are_kept() -> None:
    of = with_broader_scopes(
        with_broader_scopes(lambda _, __: Requirement(("read",)), {"inner": ["read"]}),
        {"outer": ["read"]},
    )
    needed = of("tools/call", {})
    assert needed is not None
    assert [needed.met_by([scope]) for scope in ("read", "inner", "outer", "x")] == [
        *(True, True, True),
        False,
    ]


def test_what_is_open_stays_open() -> None:
    of = with_broader_scopes(default_requirement, {"all": ["read"]})

    assert of("ping", {}) is None
    assert with_broader_scopes(default_requirement, {}) is default_requirement


# What a requirement is given is what the app gets, so it cannot be changed.

PARAMS: dict[str, Any] = {
    "name": "write",
    "arguments": {"path": "/a", "tags": ["x", {"deep": [1]}], "note": None},
}


def with_changed_params(change: Callable[[Any], object]) -> RequirementOf:
    def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
        change(params)
        return Requirement()

    return requirement


CHANGES: list[Callable[[Any], object]] = [
    lambda params: params.__setitem__("name", "read"),
    lambda params: params.update(name="read"),
    lambda params: params.pop("name"),
    lambda params: params["arguments"].__setitem__("path", "/b"),
    lambda params: params["arguments"].__delitem__("path"),
    lambda params: params["arguments"].__ior__({"path": "/b"}),
    lambda params: params["arguments"].clear(),
    lambda params: params["arguments"].pop("path"),
    lambda params: params["arguments"].popitem(),
    lambda params: params["arguments"].setdefault("more", 1),
    lambda params: params["arguments"].update(path="/b"),
    lambda params: params.get("arguments").clear(),
    lambda params: dict(params)["arguments"].clear(),
    lambda params: {**params}["arguments"].clear(),
    lambda params: params.copy()["arguments"].clear(),
    lambda params: (params | {})["arguments"].clear(),
    lambda params: ({} | params)["arguments"].clear(),
    lambda params: [value for _, value in params.items()][1].clear(),
    lambda params: list(params.values())[1].clear(),
    lambda params: copy(params)["arguments"].clear(),
    lambda params: params["arguments"]["tags"].__setitem__(0, "y"),
    lambda params: params["arguments"]["tags"].__delitem__(0),
    lambda params: params["arguments"]["tags"].__iadd__(["y"]),
    lambda params: params["arguments"]["tags"].__imul__(2),
    lambda params: params["arguments"]["tags"].append("y"),
    lambda params: params["arguments"]["tags"].clear(),
    lambda params: params["arguments"]["tags"].extend(["y"]),
    lambda params: params["arguments"]["tags"].insert(0, "y"),
    lambda params: params["arguments"]["tags"].pop(),
    lambda params: params["arguments"]["tags"].remove("x"),
    lambda params: params["arguments"]["tags"].reverse(),
    lambda params: params["arguments"]["tags"].sort(key=str),
    lambda params: params["arguments"]["tags"][1]["deep"].append(2),
]


@pytest.mark.parametrize("change", CHANGES)
def test_params_are_read_only_throughout(change: Callable[[Any], object]) -> None:
    params = deepcopy(PARAMS)
    with pytest.raises(Refusal) as caught:
        required(with_changed_params(change), "tools/call", params)
    assert caught.value.status == 500
    assert params == PARAMS


def test_params_are_read_like_a_dict() -> None:
    def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
        assert params == PARAMS
        assert list(params) == ["name", "arguments"]
        assert len(params) == 2
        assert params.get("more") is None
        assert isinstance(params, dict)
        assert isinstance(params["arguments"], dict)
        assert isinstance(params["arguments"]["tags"], list)
        assert json.dumps(params) == json.dumps(PARAMS)
        assert {**params} == dict(params.items()) == PARAMS
        deepcopy(params)["arguments"]["tags"].append("mine")
        copy(params)["name"] = "mine"
        copy(params["arguments"])["path"] = "mine"
        copy(params["arguments"]["tags"]).append("mine")
        match params:
            case {"name": "write", "arguments": {"path": str(path), "tags": [first, *_]}}:
                return Requirement((path, first))
        return None

    assert required(requirement, "tools/call", deepcopy(PARAMS)) == Requirement(("/a", "x"))


@pytest.mark.parametrize(
    "look",
    [
        lambda params: params["arguments"],
        lambda params: params.get("arguments"),
        lambda params: dict(params)["arguments"],
        lambda params: list(params.values())[1],
        lambda params: dict(params.items())["arguments"],
    ],
)
def test_params_are_copied_once_however_often_they_are_read(
    look: Callable[[Mapping[str, Any]], object],
) -> None:
    """A loop over them takes time in proportion to them, and not to their square."""

    def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
        assert look(params) is look(params)
        return None

    assert required(requirement, "tools/call", deepcopy(PARAMS)) is None


def test_a_requirement_may_refuse_by_itself() -> None:
    own = Refusal(HTTPStatus.FORBIDDEN, "Not on Sundays.")

    def requirement(method: str, params: Mapping[str, Any]) -> Requirement | None:
        raise own

    with pytest.raises(Refusal) as caught:
        required(requirement, "tools/call", {})
    assert caught.value is own


ONE, TWO = RateLimit("one", Rate(1.0, 2.0)), RateLimit("two", Rate(1.0, 2.0))


def test_a_union_of_what_one_call_needs_has_each_limit_once() -> None:
    first = Requirement(("a",), rate_limits=(ONE,))
    second = Requirement(("b",), rate_limits=(TWO, ONE))
    assert union([first, None, second]) == Requirement(("a", "b"), rate_limits=(ONE, TWO))


def test_several_calls_are_counted_by_themselves() -> None:
    """Together they may have more limits than one call."""
    many = [
        Requirement(("a",), rate_limits=tuple(RateLimit(f"{n}-{m}", ONE.rate) for m in range(16)))
        for n in range(3)
    ]
    assert needed_for_all(many) == Requirement(("a",))
    assert needed_for_all(many[:1]) == many[0]
    assert needed_for_all([None]) is None
    with pytest.raises(ValueError, match="at most 16 limits"):
        union(many)


def test_broader_scopes_leave_the_limits() -> None:
    limited = Requirement(("read",), rate_limits=(ONE,))
    broader = with_broader_scopes(lambda method, params: limited, {"admin": ["read"]})
    needed = broader("tools/call", {})
    assert needed is not None
    assert needed.rate_limits == (ONE,)
    assert needed.met_by(["admin"])


def test_the_limits_of_a_requirement_are_limits() -> None:
    assert Requirement(rate_limits=[ONE]).rate_limits == (ONE,)  # type: ignore[arg-type] # made a tuple
    with pytest.raises(TypeError, match="rate_limits is a sequence of RateLimit"):
        Requirement(rate_limits=ONE)  # type: ignore[arg-type] # wrong
    with pytest.raises(ValueError, match="twice"):
        Requirement(rate_limits=(ONE, ONE))
