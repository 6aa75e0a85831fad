"""The recipe that a config leaves open, for commands that train nothing: decided where the data can be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.config.config import Config

ARGUMENTS = ("data_root", "ann_file", "img_prefix", "classes", "filter_empty")


def decided_at_hand(config: Config) -> tuple[Config, str]:
    """The config as a float training would take it, and a line on the choice; nothing is packed.

    Where its data are not found, the config as it is, with what a training will do; without a line where nothing is
    open.
    """
    from hatdet.engine.processes.recipe import LIMIT, grouped, is_open, reason, suiting, with_recipe

    if not is_open(config):
        return config, ""
    images, epochs = _pictures(config), config["float_trainer"].get("num_epochs")
    if images is None or not isinstance(epochs, int):
        text = f"recipe auto: no training data are found here; below {grouped(LIMIT)} samples a training takes small"
        return config, f"{text}, these are the settings of large"
    return with_recipe(config, suiting(images, epochs)), reason(images, epochs)


def _pictures(config: Config) -> int | None:
    from hatdet.data.datasets.at_hand import pictures_at_hand
    from hatdet.engine.processes.recipe import dataset_of
    from hatdet.engine.stages import type_name

    dataset = dataset_of(config)
    if dataset is None or type_name(dataset) != "CocoDataset":
        return None
    try:
        return pictures_at_hand(**{name: dataset[name] for name in ARGUMENTS if name in dataset})
    except UserError:  # what is wrong with them is the training's to say
        return None
