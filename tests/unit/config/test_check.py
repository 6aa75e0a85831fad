"""Validation finds every problem before anything is built, and says where it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypedDict

import pytest

from hatdet.building import Factory
from hatdet.config.check import check
from hatdet.config.config import Config
from hatdet.registry import register
from hatdet.utils.errors import ConfigError


class Module:
    def __call__(self) -> None: ...


class Sized(Protocol):
    def size(self) -> int: ...


class Range(TypedDict, total=False):
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Warmup:
    steps: int
    start: float = 0.0


@register
class CheckHead(Module):
    def __init__(self, *, num_classes: int, act: Literal["relu", "relu6"] = "relu", scale: float = 1.0) -> None:
        raise AssertionError("checking must not build")


@register
class CheckModel(Module):
    def __init__(self, *, bbox_head: Module, mean: tuple[float, float, float] | None = None) -> None:
        raise AssertionError("checking must not build")


@register
class CheckOptimizer:
    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.99)) -> None: ...


@register
class CheckTrainer:
    def __init__(
        self,
        *,
        model: Module | None,
        optimizer: Annotated[Factory, "params"] | None = None,
        callbacks: Sequence[CheckOptimizer | Module] = (),
        hooks: Mapping[str, Callable[..., Any]] | None = None,
        warmup: Warmup | None = None,
        hue: Range | None = None,
        own: Annotated[Factory, "params?", "paramwise?"] | None = None,
        ids: list[int] | None = None,
        name: str = "",
        root: Path | None = None,
        sized: Sized | None = None,
        flag: bool = False,
        cls: type[Module] | None = None,
    ) -> None: ...


def make_check_head(num_classes: int) -> CheckHead:
    raise AssertionError("checking must not build")


def make_anything(**kwargs: Any) -> Any: ...


def messages(cfg: Any, path: str = "t") -> list[str]:
    return [str(problem) for problem in check(cfg, path)]


def trainer(**arguments: Any) -> dict[str, Any]:
    return {"type": "CheckTrainer", "model": None, **arguments}


def test_a_correct_config_has_no_problems() -> None:
    head = {"type": CheckHead, "num_classes": 2, "act": "relu6", "scale": 1}
    model = {"type": "CheckModel", "bbox_head": head, "mean": [1, 2.5, 3]}
    cfg = trainer(
        model=model,
        optimizer={"type": CheckOptimizer, "lr": 0.1, "betas": [0.9, 0.999]},
        callbacks=[model, {"type": CheckOptimizer, "params": []}],
        hooks={"a": print, "b": head},
        warmup={"steps": 3},
        hue={"low": 1},
        ids=(1, 2),
        root="a/b",
        sized=3,
        cls=CheckHead,
    )
    assert messages(cfg) == []


def test_all_problems_are_found_at_once_with_their_paths() -> None:
    cfg = {
        "type": "CheckTrainer",
        "model": {"type": "CheckModel", "bbox_head": {"type": "CheckHead", "num_clases": 2, "act": "relu7"}},
        "callbacks": [{"type": "ChekOptimizer"}, {"type": CheckOptimizer, "params": [], "lr": "fast"}],
        "flagg": True,
        "ids": [1, "two"],
    }
    assert messages(cfg, "float_trainer") == [
        "float_trainer.flagg: unknown argument of CheckTrainer; did you mean 'flag'?",
        "float_trainer.ids.1: expected int, got 'two' (str)",
        "float_trainer.model.bbox_head.num_clases: unknown argument of CheckHead; did you mean 'num_classes'?",
        "float_trainer.model.bbox_head.act: expected one of 'relu', 'relu6', got 'relu7' (str); did you mean 'relu'?",
        "float_trainer.model.bbox_head.num_classes: missing; CheckHead needs it",
        "float_trainer.callbacks.0.type: unknown type 'ChekOptimizer'; did you mean 'CheckOptimizer'?",
        "float_trainer.callbacks.1.lr: expected float, got 'fast' (str)",
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"model": {"type": "CheckOptimizer", "params": []}},
            "t.model: expected Module | None, got dict(type=CheckOptimizer)",
        ),
        ({"model": {"head": 1}}, "t.model: expected Module | None, got a dict without a type (head)"),
        ({"model": 3}, "t.model: expected Module | None, got 3 (int)"),
        ({"flag": 1}, "t.flag: expected bool, got 1 (int)"),
        ({"ids": [True]}, "t.ids.0: expected int, got True (bool)"),
        ({"ids": "12"}, "t.ids: expected list[int] | None, got '12' (str)"),
        ({"name": None}, "t.name: expected str, got None (NoneType)"),
        ({"root": 3}, "t.root: expected Path | None, got 3 (int)"),
        ({"cls": Warmup}, f"t.cls: expected type[Module] | None, got {Warmup!r} (type)"),
        (
            {"hooks": {"a": 3}},
            "t.hooks: expected Mapping[str, a callable] | None, got a dict without a type (a)",
        ),
        ({"hooks": [print]}, None),
        (
            {"warmup": {"step": 3}},
            "t.warmup.step: unknown key; did you mean 'steps'?|t.warmup.steps: missing",
        ),
        ({"warmup": {"steps": "3"}}, "t.warmup.steps: expected int, got '3' (str)"),
        ({"hue": {"hi": 3}}, "t.hue.hi: unknown key; did you mean 'high'?"),
        (
            {"optimizer": {"type": CheckOptimizer, "params": []}},
            "t.optimizer.params: is filled in later; remove it",
        ),
        ({"optimizer": {"lr": 3}}, "t.optimizer: expected Factory | None, got a dict without a type (lr)"),
        (
            {"callbacks": [{"tpye": "x"}]},
            "t.callbacks.0: expected CheckOptimizer | Module, got a dict without a type (tpye)",
        ),
        ({"callbacks": {"type": CheckOptimizer, "params": []}}, None),
    ],
)
def test_wrong_types(arguments: dict[str, Any], problem: str | None) -> None:
    found = messages(trainer(**arguments))
    if problem is None:
        assert len(found) == 1
    else:
        assert "|".join(found) == problem


def test_keys_that_the_receiver_of_a_factory_reads_itself() -> None:
    own = {"type": CheckOptimizer, "params": {"weight": {}}, "paramwise": {}, "lr": 1.0}
    assert messages(trainer(own=own)) == []
    assert messages(trainer(own={"type": CheckOptimizer})) == []
    assert messages(trainer(own={**own, "paramwize": {}})) == [
        "t.own.paramwize: unknown argument of CheckOptimizer; did you mean 'paramwise'?"
    ]


def test_a_tuple_of_fixed_length_is_counted() -> None:
    head = {"type": "CheckHead", "num_classes": 1}
    assert messages({"type": "CheckModel", "bbox_head": head, "mean": [1, 2]}) == [
        "t.mean: expected tuple[float, float, float] | None, got [1, 2] (list)"
    ]


def test_a_shared_dict_is_reported_once_under_its_shortest_path() -> None:
    head = {"type": "CheckHead", "num_classes": "two"}
    model = {"type": "CheckModel", "bbox_head": head}
    assert messages(trainer(model=model, callbacks=[model, model])) == [
        "t.model.bbox_head.num_classes: expected int, got 'two' (str)"
    ]
    config = Config({"float_trainer": trainer(model=model), "model": model}, "nano.py")
    with pytest.raises(ConfigError, match=r"^nano.py: model.bbox_head.num_classes: expected int, got 'two' \(str\)$"):
        config.validate()
    with pytest.raises(ConfigError, match=r"^nano.py: float_trainer.model.bbox_head.num_classes: expected int"):
        config.validate("float_trainer")


def test_what_a_function_returns_counts_as_what_is_built() -> None:
    made = {"type": make_check_head, "num_classes": 2}
    assert messages({"type": "CheckModel", "bbox_head": made}) == []
    assert messages(trainer(callbacks=[made])) == []
    assert messages({"type": "CheckHead", "num_classes": made}) == [
        "t.num_classes: expected int, got dict(type=make_check_head)"
    ]


def test_a_function_that_takes_any_keyword_is_not_checked() -> None:
    assert messages({"type": make_anything, "whatever": 1, "inner": {"type": "CheckHead"}}) == [
        "t.inner.num_classes: missing; CheckHead needs it"
    ]


def test_dicts_without_a_type_are_searched() -> None:
    assert messages({"a": [({"type": "CheckHead"},)]}) == ["t.a.0.0.num_classes: missing; CheckHead needs it"]


def test_a_module_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import hatdet.registry as registry

    monkeypatch.setattr(registry, "_index", lambda: ({"CheckAbsent": ["hatdet_no_such_module"]}, {}))
    assert messages({"type": "CheckAbsent"}) == [
        "t.type: 'CheckAbsent' cannot be imported: No module named 'hatdet_no_such_module'"
    ]


def test_classes_of_torch_are_checked_by_their_signature() -> None:
    torch = pytest.importorskip("torch")
    optimizer = {"type": torch.optim.AdamW, "lr": 1e-3, "weight_decy": 0.05, "betas": (0.9, 0.999)}
    assert messages(trainer(optimizer=optimizer)) == [
        "t.optimizer.weight_decy: unknown argument of AdamW; did you mean 'weight_decay'?"
    ]
    assert messages({"type": torch.nn.Conv2d, "in_channels": 3, "out_channels": 8, "kernel": 3}) == [
        "t.kernel: unknown argument of Conv2d; did you mean 'kernel_size'?",
        "t.kernel_size: missing; Conv2d needs it",
    ]


def test_validate_lists_all_problems_of_all_names() -> None:
    config = Config({"a": {"type": "CheckHead"}, "b": [{"type": "Nothing_like_it"}], "n": 3}, "c.py")
    with pytest.raises(ConfigError) as caught:
        config.validate()
    assert str(caught.value).splitlines() == [
        "c.py: 2 problems:",
        "  a.num_classes: missing; CheckHead needs it",
        "  b.0.type: unknown type 'Nothing_like_it'",
    ]
    config.validate("n")
    with pytest.raises(ConfigError, match=r"c.py: nn: the config has no such name"):
        config.validate("nn")
