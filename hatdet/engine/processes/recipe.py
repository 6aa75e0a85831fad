"""Which recipe a float training takes where the config leaves it open: ``recipe="auto"``, :mod:`hatdet.config.recipes`.

A recipe is made for a number of samples: training pictures times epochs. The number is known once the data are, so a
float training decides when it begins; the choice stands in its run record, and later commands take it from there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from hatdet.building import Builder
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.recipes import UNDECIDED
from hatdet.config.source import RECIPE
from hatdet.utils.logging import quiet

SMALL, LARGE = "small", "large"
LIMIT = 2_000_000
"""Samples from which on the recipe is "large": about the geometric middle between the most that "small" was measured
with (677 pictures x 150 epochs) and what "large" is made for (COCO's 118 287 x 300)."""
logger = logging.getLogger("hatdet")


def is_open(config: Config) -> bool:
    """Whether the config has the two recipes and chooses neither."""
    return config.get(RECIPE) == UNDECIDED and {SMALL, LARGE} <= set(config.recipes) and config.path.is_file()


def decided(config: Config, count: Callable[[Config], int | None] | None = None) -> Config:
    """The config with the recipe that suits its training data and epochs; as it is where nothing is open.

    Args:
        count: gives the number of training pictures, or None where it is not known; default: that of the data set of
            ``float_trainer``, which is made for it (and packed where it has not been).
    """
    if not is_open(config):
        return config
    images, epochs = (count or pictures)(config), (config.get("float_trainer") or {}).get("num_epochs")
    if images is None or not isinstance(epochs, int):
        return config
    logger.info("%s", reason(images, epochs))
    return with_recipe(config, suiting(images, epochs))


def suiting(images: int, epochs: int) -> str:
    """The recipe for so many training pictures and epochs."""
    return SMALL if images * epochs < LIMIT else LARGE


def reason(images: int, epochs: int) -> str:
    """The choice in one line, and the option for the other one."""
    name = suiting(images, epochs)
    other = {SMALL: "recipe=large for the reference's settings", LARGE: "recipe=small for those of small data sets"}
    return f"recipe {name}: {counted(images, epochs)}; {other[name]}"


def counted(images: int, epochs: int) -> str:
    """The samples and the limit, in words."""
    samples, length = images * epochs, f"{epochs} epoch" if epochs == 1 else f"{epochs} epochs"
    against = f"fewer than {grouped(LIMIT)}" if samples < LIMIT else f"{grouped(LIMIT)} or more"
    return f"{images} pictures x {length} = {grouped(samples)} samples, {against}"


def with_recipe(config: Config, name: str) -> Config:
    """The config with a recipe as one more option; what files and other options say of its names stays."""
    result = load_config(config.path, {**config.options, RECIPE: name})
    for changed in config.changed:
        result[changed] = config[changed]
    return result


def pictures(config: Config) -> int | None:
    """Length of the data set that the float stage trains with; None: it has none that can be counted."""
    dataset = dataset_of(config)
    if dataset is None:
        return None
    with quiet():  # the training makes it again, and says what it finds
        built = Builder(config).build(dataset, "float_trainer.data_loader.dataset")
    return len(built) if hasattr(built, "__len__") else None


def dataset_of(config: Config) -> Mapping[str, Any] | None:
    """The data set of the float stage, as the config has it."""
    loader = (config.get("float_trainer") or {}).get("data_loader")
    found = loader.get("dataset") if isinstance(loader, Mapping) else None
    return found if isinstance(found, Mapping) and "type" in found else None


def grouped(number: int) -> str:
    """A number with spaces between its thousands."""
    return f"{number:,}".replace(",", " ")
