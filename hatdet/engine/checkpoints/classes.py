"""Classes of a model, of a checkpoint and of the data: labels are matched by name, never by position.

A checkpoint's table wins: the data sets' labels are numbered by it. Without a checkpoint the training data's table
does, or the config's ``classes``.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from hatdet.utils.class_names import KnownClasses, find, listed, quoted
from hatdet.utils.errors import UserError, did_you_mean

logger = logging.getLogger("hatdet")


@dataclasses.dataclass(frozen=True)
class ClassTable:
    """Class names in the order of labels, their ids in the annotation file, and that file ('' where it has none)."""

    names: list[str]
    ids: list[int]
    source: str = ""

    @property
    def where(self) -> str:
        """``" (train.json)"``, for messages."""
        return f" ({self.source})" if self.source else ""


def class_table(loader: Any) -> ClassTable | None:
    """The classes of a loader's data set; None where it does not say."""
    dataset = getattr(loader, "dataset", None)
    names = getattr(dataset, "classes", None)
    if names is None:
        return None
    ids = [int(i) for i in getattr(dataset, "category_ids", ())]
    return ClassTable([str(name) for name in names], ids, str(getattr(dataset, "class_source", "")))


def num_classes_of(model: nn.Module) -> int | None:
    """How many classes a detector predicts; None where it does not say."""
    for owner in _owners(model):
        count = getattr(owner, "num_classes", None)
        if isinstance(count, int):
            return count
    return None


def _owners(model: nn.Module) -> Iterator[Any]:
    yield model
    for name in ("bbox_head", "head"):
        if hasattr(model, name):
            yield getattr(model, name)


def check_classes(model: nn.Module, train_loader: Any, val_loaders: Any, known: KnownClasses | None = None) -> None:
    """Bring the data sets' labels into one order, and compare the number of classes with the model's.

    Args:
        train_loader: training or calibration data, or None.
        val_loaders: a loader, several, or None.
        known: of the checkpoint that the weights come from; None: the training data's table holds.

    Raises:
        UserError: names that do not match, or another number of them; the message has both files.
    """
    validation = list(val_loaders) if isinstance(val_loaders, (list, tuple)) else [val_loaders]
    titled = [("training", train_loader), *(("validation", loader) for loader in validation)]
    titled = [(title, loader) for title, loader in titled if class_table(loader) is not None]
    if known is not None:
        for title, loader in titled:
            follow(loader, known, title)
    elif train_loader is not None:
        for title, loader in titled[1:] if titled and titled[0][1] is train_loader else []:
            _unite(train_loader, loader, title)
    _check_names(titled, known)
    _check_count(model, titled)
    table = class_table(titled[0][1]) if titled else None
    names = list(known.names) if known is not None else table.names if table is not None else []
    owners: list[Any] = [model, getattr(model, "task", None)]
    for owner in owners:  # goes into the metadata of what is made of it
        if names and hasattr(owner, "classes") and num_classes_of(owner) == len(names):
            owner.classes = tuple(names)


def follow(loader: Any, known: KnownClasses, title: str) -> None:
    """Number a data set's labels by the classes of a checkpoint or model file.

    Raises:
        UserError: the data has a class that is not among them.
    """
    table = class_table(loader)
    if table is None or table.names == list(known.names):
        return
    places = find(table.names, known.names)
    strange = [name for name, place in zip(table.names, places, strict=True) if place is None]
    theirs, ours = listed(known.names), f"{listed(table.names)}{table.where}"
    both = f"{known.source} knows the classes {theirs}; the {title} data has {ours}"
    if strange:
        hints = [hint for name in strange[:1] if (hint := did_you_mean(name, known.names))]
        raise UserError(
            f"{both}: {quoted(strange)} is not known there{''.join(hints)}; give the classes the same names, or leave "
            "these out with classes=(...) of the data set"
        )
    if not hasattr(loader.dataset, "use_classes"):
        raise UserError(
            f"{both}: they must be the same in the same order, since a {type(loader.dataset).__name__} cannot be asked "
            "for another order (use_classes)"
        )
    loader.dataset.use_classes(known.names)
    missing = [name for label, name in enumerate(known.names) if label not in places]
    renamed = [name for name, place in zip(table.names, places, strict=True) if name != known.names[place or 0]]
    ordered = [place for place in places if place is not None]
    notes = ["in another order" if ordered != sorted(ordered) else ""]
    notes += [f"without {quoted(missing)}" if missing else "", f"{quoted(renamed)} written so" if renamed else ""]
    logger.info(
        "the %s data%s has the classes of %s %s: labels are matched by name",
        title,
        table.where,
        known.source,
        ", ".join(note for note in notes if note),
    )


def _unite(train_loader: Any, val_loader: Any, title: str) -> None:
    """Number the validation data's labels by the training data's classes."""
    train, val = class_table(train_loader), class_table(val_loader)
    assert train is not None and val is not None
    if train.names == val.names:
        return
    strange = _strange(val, train)
    everything = list(getattr(train_loader.dataset, "listed_classes", train.names))
    if strange and not _strange(val, dataclasses.replace(train, names=everything)):
        train_loader.dataset.use_classes(everything)  # no placeholder after all: the other split has boxes of it
        train, strange = dataclasses.replace(train, names=everything), []
    if strange or not hasattr(val_loader.dataset, "use_classes"):
        text = (
            f"the training data{train.where} has the classes {listed(train.names)}; the {title} data{val.where} has "
            f"{listed(val.names)}"
        )
        if not strange:
            raise UserError(f"{text}: both need the same classes in the same order")
        union = (*train.names, *strange)
        raise UserError(
            f"{text}: {quoted(strange)} is not in the training data{did_you_mean(strange[0], train.names)}; correct "
            f"the names, or name all classes in the config or by --cfg-options 'classes={union!r}'"
        )
    follow(val_loader, KnownClasses(tuple(train.names), train.source or "the training data"), title)


def _strange(table: ClassTable, reference: ClassTable) -> list[str]:
    places = find(table.names, reference.names)
    return [name for name, place in zip(table.names, places, strict=True) if place is None]


def _check_names(titled: Sequence[tuple[str, Any]], known: KnownClasses | None) -> None:
    """Refuse a name of the config's ``classes`` that no file lists: it is a misspelt one, or the wrong data."""
    absent = [set(getattr(loader.dataset, "absent_classes", ())) for _, loader in titled]
    if known is not None or not absent or len(titled) < 2:
        return
    nowhere = set.intersection(*absent)
    if nowhere:
        files = " nor ".join(str(getattr(loader.dataset, "class_source", title)) for title, loader in titled)
        kinds = ("listed_classes", "unused_classes")
        have = [name for _, loader in titled for kind in kinds for name in getattr(loader.dataset, kind, ())]
        raise UserError(
            f"classes has {quoted(sorted(nowhere))}, which neither {files} lists; they have "
            f"{quoted(sorted(set(have) - nowhere))}: correct the name, or leave it out"
        )


def _check_count(model: nn.Module, titled: Sequence[tuple[str, Any]]) -> None:
    count = num_classes_of(model)
    tables = [(title, table) for title, loader in titled if (table := class_table(loader)) is not None]
    files = " and ".join(dict.fromkeys(table.source for _, table in tables if table.source))
    for title, table in tables:
        if count is not None and len(table.names) != count:
            raise UserError(
                f"the model predicts {_classes(count)}, but the {title} data has {_classes(len(table.names))}: "
                f"{listed(table.names)}; use --cfg-options num_classes={len(table.names)} (of MMDetection's configs "
                f"model.bbox_head.num_classes={len(table.names)}), or set it in the config"
                + (f" (classes of {files})" if files else "")
            )


def _classes(count: int) -> str:
    return f"{count} class" if count == 1 else f"{count} classes"


# ------------------------------------------------------------------------------------------- weights to start from
def pipeline_classes(pipeline: Any) -> KnownClasses | None:
    """The classes of the checkpoint that a conversion pipeline loads last and wholly; None: it loads none."""
    return _loaded(pipeline, partly=False)


def starting_classes(pipeline: Any) -> KnownClasses | None:
    """The classes of a checkpoint that weights are taken from as far as they fit (``load_from``)."""
    return _loaded(pipeline, partly=True)


def _loaded(pipeline: Any, partly: bool) -> KnownClasses | None:
    for converter in reversed(getattr(pipeline, "converters", None) or []):
        method = getattr(converter, "known_classes", None)
        if callable(method) and bool(getattr(converter, "takes_what_fits", False)) == partly:
            found: KnownClasses | None = method()
            if found is not None:
                return found
    return None


def compare_start(known: KnownClasses | None, loaders: Sequence[Any], model: nn.Module) -> None:
    """Weights to start from: of the same classes, in their order; of others: said.

    The head of a checkpoint with the same classes in another order would begin with exchanged names.
    """
    tables = [table for loader in loaders if (table := class_table(loader)) is not None]
    if known is None or not tables or tables[0].names == list(known.names):
        return
    names = tables[0].names
    if len(names) == len(known.names) and None not in find(names, known.names):
        check_classes(model, loaders[0], list(loaders[1:]), known)
        return
    same = len(names) == len(known.names)
    kept = "the same number, so its head is taken as a start" if same else "its head is not taken"
    logger.info(
        "%s knows %s: %s; this training learns %s: %s (%s)",
        known.source, _classes(len(known.names)), listed(known.names, 8), _classes(len(names)), listed(names, 8), kept,
    )  # fmt: skip
