"""Arguments find their parameters as in Python, and errors name them."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrpc.call import MethodInfo, bind, describe_service, explain, read_arguments, split_payload
from fastrpc.codec import Mismatch, default_codecs
from fastrpc.errors import InvalidArgument

codecs = default_codecs()
convert = codecs.get("msgpack").convert


def info_of(fn: Any, name: str = "S.m") -> MethodInfo:
    return describe_service(fn, name).methods[name]


@dataclass
class Point:
    x: int
    y: int = 0


def add(a: int, b: int = 2) -> None: ...
def untyped(a, b=2): ...
def none() -> None: ...
def one_map(options: dict[str, int]) -> None: ...
def only_position(a: int, b: int = 1, /) -> None: ...
def only_name(*, a: int, b: str = "x") -> None: ...
def rest(a: int, *more: float) -> None: ...
def words(a: int, **others: bool) -> None: ...
def everything(a: int, /, b: int, *c: int, d: int, e: int = 5, **f: int) -> None: ...
def shadow(a: int, /, **kw: int) -> None: ...
def points(points: list[Point], by: dict[str, Point] = {}) -> None: ...  # noqa: B006


GOOD: list[tuple[Any, Any, list[Any], dict[str, Any]]] = [
    (add, [1, 5], [1, 5], {}),
    (add, [1], [1], {}),
    (add, {"a": 1}, [], {"a": 1}),
    (add, {"b": 1, "a": 2}, [], {"b": 1, "a": 2}),
    (add, {"*": [1], "b": 3}, [1], {"b": 3}),
    (add, {"*": [1, 2]}, [1, 2], {}),
    (add, {"*": [], "a": 1}, [], {"a": 1}),
    (untyped, ["x", None], ["x", None], {}),
    (none, [], [], {}),
    (none, {}, [], {}),
    (none, {"*": []}, [], {}),
    (none, b"", [], {}),
    (one_map, [{"a": 1}], [{"a": 1}], {}),
    (one_map, [{"*": 1}], [{"*": 1}], {}),
    (one_map, {"options": {"a": 1}}, [], {"options": {"a": 1}}),
    (only_position, [1, 2], [1, 2], {}),
    (only_name, {"a": 1}, [], {"a": 1}),
    (only_name, {"*": [], "a": 1, "b": "y"}, [], {"a": 1, "b": "y"}),
    (rest, [1], [1], {}),
    (rest, [1, 2, 3.5], [1, 2.0, 3.5], {}),
    (rest, {"a": 1}, [], {"a": 1}),
    (words, {"a": 1, "x": True, "y": False}, [], {"a": 1, "x": True, "y": False}),
    (words, {"*": [1], "x": True}, [1], {"x": True}),
    (everything, {"*": [1, 2, 3, 4], "d": 5, "g": 6}, [1, 2, 3, 4], {"d": 5, "g": 6}),
    (everything, {"*": [1], "b": 2, "d": 5, "e": 6}, [1], {"b": 2, "d": 5, "e": 6}),
    (shadow, {"*": [1], "a": 2}, [1], {"a": 2}),
    (points, [[{"x": 1}]], [[Point(1)]], {}),
    (
        points,
        {"points": [], "by": {"q": {"x": 1, "y": 2}}},
        [],
        {"points": [], "by": {"q": Point(1, 2)}},
    ),
]


@pytest.mark.parametrize(("fn", "payload", "args", "kwargs"), GOOD)
def test_fits(fn: Any, payload: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    info = info_of(fn)
    assert read_arguments(info, payload, convert) == (args, kwargs)
    info.handler(*args, **kwargs)


BAD: list[tuple[Any, Any, str]] = [
    (add, [], "argument 'a' is missing"),
    (add, {}, "argument 'a' is missing"),
    (add, {"b": 1}, "argument 'a' is missing"),
    (add, ["x"], "argument 'a': expected int, got str"),
    (add, {"a": 1, "b": None}, "argument 'b': expected int, got None"),
    (add, [1, 2, 3], "takes at most 2 positional arguments, got 3"),
    (add, {"*": [1], "a": 2}, "argument 'a' is given twice, by position and by name"),
    (add, {"a": 1, "c": 2}, "unexpected argument 'c'; the method takes (a: int, b: int = 2)"),
    (
        add,
        {"a": 1, "k" * 50: 2},
        f"unexpected argument '{'k' * 40}...'; the method takes (a: int, b: int = 2)",
    ),
    (add, {"*": 5}, "'*' must hold an array, got int"),
    (add, {"*": {}}, "'*' must hold an array, got dict"),
    (add, {"a": 1, 5: 2}, "argument names must be str, got int"),
    (add, 5, "arguments must be an array or a map, got int"),
    (add, None, "arguments must be an array or a map, got NoneType"),
    (add, "ab", "arguments must be an array or a map, got str"),
    (add, b"ab", "argument 'a': expected int, got bytes"),
    (none, [1], "takes no positional arguments, got 1"),
    (none, {"a": 1}, "unexpected argument 'a'; the method takes ()"),
    (none, b"x", "takes no positional arguments, got 1"),
    (only_position, {"a": 1}, "argument 'a' can be given by position only"),
    (only_position, {"*": [1], "b": 1}, "argument 'b' can be given by position only"),
    (only_name, [1], "takes no positional arguments, got 1"),
    (only_name, {"b": "x"}, "argument 'a' is missing"),
    (rest, [], "argument 'a' is missing"),
    (rest, [1, 2.5, "x"], "argument 'more': expected float, got str"),
    (
        rest,
        {"a": 1, "more": [1]},
        "unexpected argument 'more'; the method takes (a: int, *more: float)",
    ),
    (words, {"a": 1, "x": 5}, "argument 'x': expected bool, got int"),
    (words, {"*": [1, 2]}, "takes at most 1 positional argument, got 2"),
    (shadow, {"a": 1}, "argument 'a' is missing"),
    (
        points,
        [[{"x": 1}, {}, {"x": 2}, {"x": "s"}]],
        "argument 'points', item 1: field 'x' is missing",
    ),
    (
        points,
        [[{"x": 1}, {"x": "s"}]],
        "argument 'points', item 1, field 'x': expected int, got str",
    ),
    (
        points,
        {"points": [], "by": {"q": {"x": 1, "y": 2.5}}},
        "argument 'by', value of 'q', field 'y': expected int, got float",
    ),
]


@pytest.mark.parametrize(("fn", "payload", "text"), BAD)
def test_does_not_fit(fn: Any, payload: Any, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_arguments(info_of(fn), payload, convert)
    assert str(caught.value) == f"S.m: {text}"
    assert caught.value.method == "S.m"
    assert (caught.value.status, caught.value.ran) == (40, "no")


def test_json_keys_become_what_the_annotation_says() -> None:
    def fn(a: dict[int, str]) -> None: ...

    args, _ = read_arguments(info_of(fn), [{"1": "x"}], codecs.get("json").convert)
    assert args == [{1: "x"}]


def test_raw_bytes_are_one_argument() -> None:
    def fn(data: bytes = b"-") -> None: ...

    raw = codecs.get("raw")
    assert read_arguments(info_of(fn), b"abc", raw.convert) == ([b"abc"], {})
    assert read_arguments(info_of(fn), b"", raw.convert) == ([b""], {})


def test_split_payload() -> None:
    payload = {"*": [1], "a": 2}
    assert split_payload(info_of(add), payload) == ([1], {"a": 2})
    assert payload == {"*": [1], "a": 2}
    assert split_payload(info_of(add), (1, 2)) == ([1, 2], {})


def test_bind_gives_parameters() -> None:
    info = info_of(everything)
    bound = bind(info, [1, 2, 3], {"d": 4, "z": 5})
    assert [(p.name, value) for p, value in bound.positional] == [("a", 1), ("b", 2), ("c", 3)]
    assert [(key, p.name, value) for key, p, value in bound.keywords] == [
        ("d", "d", 4),
        ("z", "f", 5),
    ]


def test_explain() -> None:
    info = info_of(add)
    told = [
        explain(info, "a", Mismatch("expected int, got str", "item 3, field 'x'")),
        explain(info, "a", Mismatch("expected int, got str")),
        explain(info, "a", KeyError("k")),
        explain(info, "a", RuntimeError()),
    ]
    assert [str(error) for error in told] == [
        "S.m: argument 'a', item 3, field 'x': expected int, got str",
        "S.m: argument 'a': expected int, got str",
        "S.m: argument 'a': 'k'",
        "S.m: argument 'a': RuntimeError",
    ]


def test_what_a_record_itself_raises_is_told() -> None:
    @dataclass
    class Odd:
        x: int

        def __post_init__(self) -> None:
            raise LookupError("no such x")

    def fn(odd: Odd) -> None: ...

    fn.__annotations__["odd"] = Odd
    with pytest.raises(InvalidArgument, match=r"^S\.m: argument 'odd': no such x$"):
        read_arguments(info_of(fn), [{"x": 1}], convert)


FUNCTIONS = [add, none, only_position, only_name, rest, words, everything, shadow]
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "x", "more", "others"])


@given(
    st.sampled_from(FUNCTIONS),
    st.lists(st.integers(0, 9), max_size=5),
    st.dictionaries(NAMES, st.integers(0, 9), max_size=4),
)
def test_binding_agrees_with_python(fn: Any, args: list[int], kwargs: dict[str, int]) -> None:
    seen = SimpleNamespace(value=False)

    def takes() -> bool:
        try:
            fn(*args, **kwargs)
        except TypeError:
            return False
        return True

    try:
        bound = bind(info_of(fn), args, kwargs)
        seen.value = True
        assert [value for _, value in bound.positional] == args
        assert {key: value for key, _, value in bound.keywords} == kwargs
    except InvalidArgument:
        seen.value = False
    assert seen.value == takes()
