"""What the analyses read of a config: a stage's data set, and the truth that detections are compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.config.config import Config
    from hatdet.metrics.records import Boxes


def loader_config(config: Config, which: str) -> Any:
    """The config of the loader of ``train`` or ``val`` images.

    Raises:
        UserError: the config has none.
    """
    trainer = config.get("float_trainer") or {}
    if which == "train":
        found = trainer.get("data_loader") or config.get("data_loader")
    else:
        found = config.get("val_data_loader") or trainer.get("val_data_loader")
        found = found or (config.get("int_infer") or {}).get("data_loader")
    if found is None:
        raise UserError(f"{config.path} has no {which} data loader; name a config that trains")
    return found


def load_loader(config: Config, which: str) -> Any:
    """The built loader of ``train`` or ``val`` images, without worker processes; training's as its recipe has it."""
    from hatdet.building import Builder
    from hatdet.engine.processes.recipe import decided

    config = decided(config) if which == "train" else config
    return Builder(config).build({**loader_config(config, which), "num_workers": 0, "persistent_workers": False})


def truth_and_found(config: Config, results: str) -> tuple[Boxes, Boxes, tuple[str, ...]]:
    """Ground truth of the validation images, detections of a COCO results file, class names.

    Raises:
        UserError: no such file, or not one of COCO's results.
    """
    from hatdet.metrics.records import from_coco

    dataset = load_loader(config, "val").dataset
    content = dataset.coco_annotations()
    found = from_coco({"annotations": read_results(results), "images": content["images"]}, dataset.category_ids)
    return from_coco(content, dataset.category_ids), found, tuple(dataset.classes)


def read_results(path: str) -> list[dict[str, Any]]:
    """A list of ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}``.

    Raises:
        UserError: no such file, or not such a list.
    """
    if path.endswith((".pkl", ".pickle")):
        raise UserError(f"{path}: a pickle can run code when it is read; give COCO results as json")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no results at {path}; write them with tools/test.py --results") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); give COCO results: a list of detections") from None
    wanted = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(found, list) or not all(isinstance(one, dict) and wanted <= one.keys() for one in found):
        raise UserError(f"{path} is no list of detections with {', '.join(sorted(wanted))}; give COCO results")
    return found
