"""The registry finds components without importing them; the builder builds dicts recursively and shares instances."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

from hatdet.building import Builder, Factory
from hatdet.config.check import check
from hatdet.registry import constructor, register, registered_names, resolve, scan
from hatdet.utils.annotations import AsWritten, Spec
from hatdet.utils.errors import RegistryError, UserError

ROOT = Path(__file__).parents[2]


@register("RegistryTestNetAlias")
class RegistryTestNet:
    def __init__(self, *, width: int, parts: Any = ()) -> None:
        if width <= 0:
            raise ValueError(f"width must be positive, got {width}")
        self.width, self.parts = width, parts


@register
class RegistryTestOptimizer:
    def __init__(self, params: Any, lr: float = 0.1, hook: Any = None) -> None:
        self.params, self.lr, self.hook = params, lr, hook


@dataclasses.dataclass(frozen=True)
class Warmup:
    steps: int
    start: float = 0.0


@register
class RegistryTestTrainer:
    def __init__(
        self,
        *,
        model: Any,
        optimizer: Annotated[Factory, "params"] | None = None,
        data: Factory | list[int] | None = None,
        own: Annotated[Factory, "params?", "paramwise?"] | None = None,
        warmup: Warmup | None = None,
        hooks: Any = (),
    ) -> None:
        self.model, self.optimizer, self.data, self.own = model, optimizer, data, own
        self.warmup, self.hooks = warmup, hooks


class Foreign:
    def __init__(self, size: int) -> None:
        self.size = size


@register(builds=f"{__name__}.Foreign")
def build_registry_test_foreign(*, size: int, doubled: bool = False) -> Foreign:
    return Foreign(size * 2 if doubled else size)


def test_register_gives_the_name_and_the_aliases() -> None:
    assert resolve("RegistryTestNet") is RegistryTestNet
    assert resolve("RegistryTestNetAlias") is RegistryTestNet
    assert {"RegistryTestNet", "RegistryTestNetAlias"} <= set(registered_names())


def test_a_class_or_function_stands_for_itself() -> None:
    assert resolve(Foreign) is Foreign
    assert resolve(print) is print


def test_classes_of_torch_have_their_path() -> None:
    import torch

    assert resolve("torch.optim.SGD") is torch.optim.SGD
    with pytest.raises(RegistryError, match=r"torch.optim has no class 'SGDD'; did you mean 'SGD'"):
        resolve("torch.optim.SGDD")
    with pytest.raises(RegistryError, match=r"unknown type 'torch.optims.SGD'"):
        resolve("torch.optims.SGD")


def test_unknown_names_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        RegistryError, match=r"unknown type 'RegistryTestNett'; did you mean 'RegistryTestNet'\?"
    ):
        resolve("RegistryTestNett")
    with pytest.raises(
        RegistryError, match=r"import it in the config and write the class: type=lightning.optim.SGD"
    ):
        resolve("lightning.optim.SGD")
    with pytest.raises(RegistryError, match=r"a class or a function, got 3 \(int\)"):
        resolve(3)


def test_a_name_cannot_be_taken_twice() -> None:
    with pytest.raises(
        RegistryError, match=r"'RegistryTestNet' is registered by .*RegistryTestNet and .*Other"
    ):

        @register("RegistryTestNet")
        class Other:
            pass


def test_scan_reads_sources_without_importing(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text(
        "raise SystemExit('imported')\n"
        "@register\nclass Plain:\n    @register\n    def method(self): ...\n"
        '@register("Other", "Third")\n@dataclass(\n    frozen=True,\n)\n# a comment\nclass Named: ...\n'
        '@register("Loader", builds="x.y.Z")\ndef build(): ...\n'
        '@register(\n    "Wrapped",\n    builds="x.W",\n)\ndef build_w(): ...\n'
    )
    (tmp_path / "sub" / "__init__.py").write_text("@register\ndef function(): ...\n")
    names, builders = scan(tmp_path, "pkg")
    here = ("Plain", "Named", "Other", "Third", "build", "Loader", "build_w", "Wrapped")
    expected = {name: ["pkg.a"] for name in here}
    assert names == {**expected, "function": ["pkg.sub"]}
    assert builders == {"x.y.Z": "pkg.a", "x.W": "pkg.a"}


def test_no_name_of_the_package_is_registered_twice() -> None:
    names, _ = scan(ROOT / "hatdet", "hatdet")
    assert {name: modules for name, modules in names.items() if len(modules) > 1} == {}


def test_the_registry_and_the_config_import_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "c.py"
    path.write_text('model = dict(type="RTMDet")\n')
    code = (
        "import sys, hatdet.registry, hatdet.config.load, hatdet.commands.shared.process;"
        "hatdet.registry.registered_names();"
        "hatdet.config.load.load_config(sys.argv[1]).dump();"
        "print([m for m in ('torch', 'numpy', 'cv2', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_build_is_recursive_through_lists_tuples_and_dicts() -> None:
    inner = {"type": "RegistryTestNet", "width": 1}
    net = Builder().build(
        {"type": RegistryTestNet, "width": 2, "parts": [inner, (3, inner), {"x": inner, "y": "z"}]}
    )
    assert net.width == 2
    assert net.parts[0].width == 1
    assert net.parts[1] == (3, net.parts[0])
    assert net.parts[2] == {"x": net.parts[0], "y": "z"}


def test_the_same_dict_is_one_instance_and_a_copy_a_second_one() -> None:
    model = {"type": "RegistryTestNet", "width": 1}
    builder = Builder()
    first, second, third = builder.build([model, model, copy.deepcopy(model)])
    assert first is second
    assert first is not third
    assert builder.build(model) is first
    assert Builder().build(model) is not first


def test_components_get_copies_of_containers_and_cannot_change_the_config() -> None:
    cfg = {"type": RegistryTestNet, "width": 1, "parts": [1, {"a": [2]}]}
    net = Builder().build(cfg)
    net.parts[1]["a"].append(3)
    assert cfg["parts"] == [1, {"a": [2]}]


def test_other_values_pass_unchanged() -> None:
    value = object()
    assert Builder().build(value) is value
    assert Builder().build("text") == "text"
    assert Builder().build(None) is None


def test_a_factory_is_built_by_the_constructor_that_receives_it() -> None:
    model = {"type": "RegistryTestNet", "width": 4}
    optimizer = {"type": RegistryTestOptimizer, "lr": 0.5, "hook": model}
    trainer = Builder().build({"type": "RegistryTestTrainer", "model": model, "optimizer": optimizer})
    factory = trainer.optimizer
    assert isinstance(factory, Factory)
    assert factory.type is RegistryTestOptimizer
    assert dict(factory.kwargs) == {"lr": 0.5, "hook": model}
    built = factory(params=[7])
    assert (built.params, built.lr) == ([7], 0.5)
    assert built.hook is trainer.model, "what the config shares is shared with the parts inside a factory"
    assert factory(params=[8]) is not built


def test_a_receiver_reads_its_own_keys_and_they_are_not_passed_on() -> None:
    optimizer = {"type": RegistryTestOptimizer, "params": {"weight": {}}, "paramwise": {"norm_decay": 0.0}, "lr": 2.0}
    factory = Builder().build({"type": "RegistryTestTrainer", "model": None, "own": optimizer}).own
    assert factory.kwargs["paramwise"] == {"norm_decay": 0.0}
    built = factory(params=[1])
    assert (built.params, built.lr) == ([1], 2.0)


def test_a_plain_factory_annotation_and_values_that_are_no_factory() -> None:
    cfg = {"type": "RegistryTestTrainer", "model": None, "data": {"type": Foreign, "size": 2}}
    assert Builder().build(cfg).data().size == 2
    assert Builder().build({**cfg, "data": [1, 2]}).data == [1, 2]
    assert Builder().build({**cfg, "data": None}).data is None


def test_an_argument_that_is_given_later_must_not_be_in_the_config() -> None:
    cfg = {
        "type": "RegistryTestTrainer",
        "model": None,
        "optimizer": {"type": RegistryTestOptimizer, "params": []},
    }
    trainer = Builder().build(cfg, "float_trainer")
    with pytest.raises(
        RegistryError, match=r"float_trainer.optimizer: 'params' is filled in later; remove it"
    ):
        trainer.optimizer(params=[1])


def test_a_function_registered_with_builds_replaces_the_class() -> None:
    assert constructor(Foreign) is build_registry_test_foreign
    assert Builder().build({"type": Foreign, "size": 3, "doubled": True}).size == 6


def test_a_frozen_dataclass_parameter_takes_a_dict_of_its_fields() -> None:
    trainer = Builder().build({"type": "RegistryTestTrainer", "model": None, "warmup": {"steps": 5}})
    assert trainer.warmup == Warmup(steps=5, start=0.0)


def test_what_a_constructor_refuses_is_told_with_its_path() -> None:
    cfg = {"type": "RegistryTestTrainer", "model": None, "hooks": [{"type": "RegistryTestNet", "width": 0}]}
    with pytest.raises(
        RegistryError, match=r"^qat.hooks.0 \(RegistryTestNet\): width must be positive, got 0$"
    ):
        Builder().build(cfg, "qat")
    with pytest.raises(RegistryError, match=r"^model: unknown type 'Nothing'"):
        Builder().build({"type": "Nothing"}, "model")


def test_a_module_that_cannot_be_imported_is_told_with_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    import hatdet.registry as registry

    monkeypatch.setattr(registry, "_index", lambda: ({"RegistryTestAbsent": ["hatdet_no_such_module"]}, {}))
    with pytest.raises(RegistryError, match=r"^a.b: 'RegistryTestAbsent' cannot be imported: No module named"):
        Builder().build({"type": "RegistryTestAbsent"}, "a.b")


def test_a_users_error_keeps_its_class_and_a_defect_its_traceback() -> None:
    class Special(UserError):
        pass

    def refuse() -> None:
        raise Special("no such checkpoint")

    def break_down() -> None:
        raise ZeroDivisionError

    with pytest.raises(Special) as caught:
        Builder().build({"type": refuse}, "a.b")
    assert caught.value.__notes__ == ["while building a.b"]
    with pytest.raises(ZeroDivisionError):
        Builder().build({"type": break_down})


@register(scope="toys")
class Ball:
    """A part with a dict that is not built, and one in a list."""

    def __init__(
        self, *, paint: Spec | None = None, layers: Annotated[list[dict[str, Any]], AsWritten] | None = None
    ) -> None:
        self.paint, self.layers = paint, layers


def test_a_scope_stands_before_the_name(tmp_path: Path) -> None:
    assert resolve("toys.Ball") is Ball and "Ball" not in registered_names()
    with pytest.raises(RegistryError, match=r"unknown type 'toys.Bal'.*did you mean 'toys.Ball'"):
        resolve("toys.Bal")
    (tmp_path / "m.py").write_text('@register("Orb", scope="toys")\nclass Sphere: ...\n')
    assert scan(tmp_path, "p")[0] == {"toys.Sphere": ["p.m"], "toys.Orb": ["p.m"]}


def test_an_argument_as_written_is_not_built() -> None:
    paint = {"type": "Red", "shade": {"type": "Dark"}}
    ball = Builder().build({"type": "toys.Ball", "paint": paint, "layers": [{"type": "Nothing"}]})
    assert ball.paint == paint and ball.paint is not paint and ball.layers == [{"type": "Nothing"}]
    assert check({"type": "toys.Ball", "paint": paint}) == []
    problems = check({"type": "toys.Ball", "paint": 3, "layers": {"type": "Red"}})
    assert [problem.path for problem in problems] == ["paint", "layers"]


def test_what_builds_is_found_where_it_was_before() -> None:
    import hatdet.building
    import hatdet.registry

    assert hatdet.registry.Builder is hatdet.building.Builder and hatdet.registry.Factory is Factory
    with pytest.raises(AttributeError, match="has no attribute 'Bilder'"):
        hatdet.registry.Bilder  # noqa: B018
