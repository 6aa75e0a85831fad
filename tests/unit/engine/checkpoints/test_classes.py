"""Labels are matched by name: train with val, data with a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn
from torch.utils.data import DataLoader

from hatdet.data.datasets.classes import choose_classes
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.checkpoints.classes import check_classes, compare_start
from hatdet.utils.class_names import KnownClasses, find, placeholders
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


class Data:
    """A data set that numbers its labels as it is told."""

    def __init__(self, source: str, *names: str, dropped: tuple[str, ...] = ()) -> None:
        self.header = {
            "classes": [[number, name, ""] for number, name in enumerate(names, 1)],
            "placeholders": [[0, name, ""] for name in dropped],
        }
        self.class_source, self.listed_classes = source, (*dropped, *names)
        self.use_classes(names)

    def use_classes(self, names: Any) -> None:
        choice = choose_classes(self.header, names)
        self.classes, self.category_ids, self.absent_classes = choice.names, choice.ids, choice.absent


def loader(source: str, *names: str, **more: Any) -> Any:
    return SimpleNamespace(dataset=Data(source, *names, **more))


class Model(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.classes = num_classes, ()


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")


def test_names_are_found_in_any_order_and_writing() -> None:
    assert find(["b", "a"], ["a", "b", "c"]) == [1, 0]
    assert find([" Hard  Hat", "HEAD"], ["head", "hard hat"]) == [1, 0]
    assert find(["Car", "car"], ["car", "bus"]) == [None, 0]
    assert find(["Car", "CAR"], ["car", "bus"]) == [None, None]  # either could be it
    assert find(["caf\u00e9"], ["cafe\u0301"]) == [0]


def test_val_is_numbered_by_train(caplog: pytest.LogCaptureFixture) -> None:
    train, val, model = loader("t.json", "a", "b", "c"), loader("v.json", "c", "a"), Model(3)
    check_classes(model, train, val)
    assert val.dataset.classes == model.classes == ("a", "b", "c") and val.dataset.category_ids == (2, 3, 1)
    assert (
        "the validation data (v.json) has the classes of t.json in another order, without 'b': labels are matched by "
        "name"
    ) in caplog.text


def test_val_has_a_name_that_train_lacks() -> None:
    with pytest.raises(UserError) as error:
        check_classes(Model(2), loader("t.json", "a", "bus"), loader("v.json", "a", "buss"))
    assert str(error.value) == (
        "the training data (t.json) has the classes a, bus; the validation data (v.json) has a, buss: 'buss' is not in "
        "the training data; did you mean 'bus'?; correct the names, or name all classes in the config or by "
        "--cfg-options 'classes=('a', 'bus', 'buss')'"
    )


def test_a_parent_category_with_boxes_in_val_only_is_a_class() -> None:
    """id 0, without a box in train and named as supercategory by the others; val has boxes of it."""
    train = loader("t.json", "car", "bus", dropped=("vehicle",))
    val, model = loader("v.json", "vehicle", "car", "bus"), Model(3)
    check_classes(model, train, val)
    assert train.dataset.classes == val.dataset.classes == ("vehicle", "car", "bus")
    assert train.dataset.category_ids == (0, 1, 2)


def test_a_checkpoint_unites_what_the_splits_list(caplog: pytest.LogCaptureFixture) -> None:
    train, val = loader("t.json", "b", "a"), loader("v.json", "C ", "a")
    check_classes(Model(3), train, [val], KnownClasses(("a", "b", "c"), "x.pth"))
    assert train.dataset.classes == val.dataset.classes == ("a", "b", "c")
    assert "the validation data (v.json) has the classes of x.pth in another order, without 'b', 'C ' written so" in (
        caplog.text
    )


def test_a_checkpoint_of_other_classes() -> None:
    with pytest.raises(UserError) as error:
        check_classes(Model(2), None, loader("v.json", "cat", "dog"), KnownClasses(("a", "dog"), "x.pth"))
    assert str(error.value) == (
        "x.pth knows the classes a, dog; the validation data has cat, dog (v.json): 'cat' is not known there; give the "
        "classes the same names, or leave these out with classes=(...) of the data set"
    )


def test_a_name_of_the_config_that_no_file_has() -> None:
    train, val = loader("t.json", "a", "b"), loader("v.json", "a")
    for one in (train, val):
        one.dataset.use_classes(("a", "b", "sea lion"))
    with pytest.raises(UserError, match=r"classes has 'sea lion', which neither t.json nor v.json lists; they"):
        check_classes(Model(3), train, val)


def test_all_names_that_the_files_have_are_offered() -> None:
    """Also those that classes leaves out: the right name is one of them."""
    data = SimpleNamespace(
        classes=("a", "zebra"), listed_classes=("a", "zebra"), absent_classes=("zebra",), unused_classes=("b",),
        category_ids=(1, 3), class_source="t.json",
    )  # fmt: skip
    one, two = SimpleNamespace(dataset=data), SimpleNamespace(dataset=data)
    with pytest.raises(UserError, match=r"neither t\.json nor t\.json lists; they have 'a', 'b': correct the name"):
        check_classes(Model(2), one, two)


def test_weights_to_start_from(caplog: pytest.LogCaptureFixture) -> None:
    train, val = loader("t.json", "a", "b"), loader("v.json", "a", "b")
    compare_start(KnownClasses(("b", "a"), "x.pth"), [train, val], Model(2))
    assert train.dataset.classes == val.dataset.classes == ("b", "a")  # its head knows them in this order
    compare_start(KnownClasses(("cat", "dog"), "y.pth"), [train, val], Model(2))
    assert "y.pth knows 2 classes: cat, dog; this training learns 2 classes: b, a (the same number, so its head" in (
        caplog.text
    )
    compare_start(KnownClasses(("cat", "dog", "cow"), "z.pth"), [train, val], Model(2))
    assert "z.pth knows 3 classes: cat, dog, cow; this training learns 2 classes: b, a (its head is not taken)" in (
        caplog.text
    )


def test_resuming_keeps_the_order_of_the_checkpoint(tmp_path: Path) -> None:
    class Named(toy.ToyData):
        def use_classes(self, names: Any) -> None:
            self.classes = tuple(names)  # type: ignore[misc]

    def run(epochs: int, *names: str) -> Any:
        data = Named()
        data.classes = names  # type: ignore[misc]
        loader = DataLoader(data, 4, sampler=toy.ToySampler(data))
        toy.trainer(data_loader=loader, num_epochs=epochs, callbacks=[Checkpoint(save_dir=tmp_path)]).fit(resume=True)
        return data

    run(1, "dark", "light")
    assert run(2, "light", "dark").classes == ("dark", "light")


# -------------------------------------------------------------------------------------------- the data set's side
HEADER = {"classes": [[3, "bar", ""], [7, "dot", ""]], "placeholders": [[0, "shape", ""]]}


def test_classes_of_a_data_set() -> None:
    assert choose_classes(HEADER, None).names == ("bar", "dot")
    choice = choose_classes(HEADER, ("cross", "dot", "shape", "bar"))
    assert choice.ids == (8, 7, 0, 3) and choice.absent == ("cross", "shape")
    assert choice.relabel is not None and choice.relabel.tolist() == [3, 1]
    choice = choose_classes(HEADER, ("dot", "star"))
    assert choice.unused == ("bar",) and choice.relabel is not None and choice.relabel.tolist() == [-1, 0]
    assert choose_classes(HEADER, ("bar", "dot", "star")).relabel is None
    with pytest.raises(UserError, match=r"also of a single one: classes=\('dot',\)"):
        choose_classes(HEADER, "dot")
    with pytest.raises(UserError, match="has none of 'cat'; it has"):
        choose_classes(HEADER, ("cat",))


def test_placeholders() -> None:
    robo = [(0, "mask", "none"), (1, "mask", "mask"), (2, "no-mask", "mask")]
    assert placeholders(robo, [1, 2]) == {0}
    assert placeholders(robo, [0, 1]) == set()  # it has a box
    assert placeholders([(0, "cat", "none"), (1, "dog", "animal")], [1]) == set()  # nobody's parent: a class
    assert placeholders([(1, "mask", "none"), (2, "no-mask", "mask")], [2]) == set()  # not the id 0
