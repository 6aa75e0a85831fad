"""Options are literals or plain text, and never evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.config.merge import merge
from hatdet.config.options import adapt, parse_options, parse_value
from hatdet.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("-1e-3", -0.001),
        ("(192,192)", (192, 192)),
        ("192,192", (192, 192)),
        ("[1, 'a', None]", [1, "a", None]),
        ("{'a': 1}", {"a": 1}),
        ("true", True),
        ("False", False),
        ("NONE", None),
        ("null", None),
        ("two", "two"),
        ("/data/my images", "/data/my images"),
        ("'2017'", "2017"),
        ("", ""),
        ("__import__('os').getcwd()", "__import__('os').getcwd()"),
        ("a=b", "a=b"),
        ("(1,", "(1,"),
    ],
)
def test_parse_value(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_parse_options() -> None:
    words = ["num_classes=2", "imgsz=(192,192)", "float_trainer.callbacks.2.lr=1e-3", "data_root=/a=b"]
    assert parse_options(words) == {
        "num_classes": 2,
        "imgsz": (192, 192),
        "float_trainer.callbacks.2.lr": 0.001,
        "data_root": "/a=b",
    }
    assert parse_options([]) == {}
    assert parse_options(["a=1", "a=1"]) == {"a": 1}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs", "option 'epochs' has no '='; write name=value"),
        ("=3", "'' is not a name"),
        ("a..b=3", r"'a..b' is not a name"),
        ("2.a=3", r"'2.a' is not a name"),
        ("my-key=3", "'my-key' is not a name"),
    ],
)
def test_malformed_options_are_refused(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options([word])


def test_an_option_given_twice_with_two_values_is_refused() -> None:
    with pytest.raises(ConfigError, match="option a is given twice, as 1 and as 2"):
        parse_options(["a=1", "a=2"])


def test_adapt_takes_the_type_of_the_old_value() -> None:
    assert adapt("x", [1, 2, 3], (4, 5)) == (1, 2, 3)
    assert adapt("x", (1, 2), [0.5]) == [1.0, 2.0]
    assert adapt("x", (1, 2), [1, 0.5]) == [1.0, 2.0]
    assert adapt("x", "a/b", Path("c")) == Path("a/b")
    assert adapt("x", "anything", object()) == "anything"
    assert adapt("x", (), (1, 2)) == ()


def test_merge_is_recursive_in_place_and_replaces_lists() -> None:
    inner = {"a": 1, "b": [1, 2]}
    base = {"inner": inner, "shared": inner}
    assert merge(base, {"inner": {"b": [3]}, "new": {"c": 1}}) is base
    assert base == {"inner": {"a": 1, "b": [3]}, "shared": {"a": 1, "b": [3]}, "new": {"c": 1}}
    assert merge(base, base) is base
    assert merge({"a": 1}, {"_delete_": False, "b": 2}) == {"a": 1, "b": 2}
    assert merge({"a": 1}, {"_delete_": True, "b": 2}) == {"b": 2}


def test_a_number_of_pictures_may_be_auto() -> None:
    assert adapt("batch_size", "auto", 8) == "auto" and adapt("batch_size", 4, "auto") == 4
    assert adapt("float_trainer.data_loader.batch_size", "auto", 8) == "auto"
    for key, value, old in (("batch_size", "many", 8), ("base_batch_size", "auto", 8), ("batch_size", True, "auto")):
        with pytest.raises(ConfigError, match=f"{key}: expected"):
            adapt(key, value, old)
