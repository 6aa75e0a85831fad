"""What a config says of the device: its network (``deploy_model``) and that network's input (``deploy_inputs``)."""

from __future__ import annotations

from collections.abc import Mapping

from hatdet.config.config import Config
from hatdet.utils.errors import UserError


def deployed_name(config: Config) -> str:
    """The config's name for the network on the device: ``deploy_model``, or ``model`` where it has none."""
    return "deploy_model" if config.get("deploy_model") is not None else "model"


def deployed_shape(config: Config) -> tuple[int, int, int, int] | None:
    """(N, C, H, W) of the one entry of ``deploy_inputs``; None: the config has none.

    Raises:
        UserError: anything but a dict of one name and four positive integers.
    """
    inputs = config.get("deploy_inputs")
    if inputs is None:
        return None
    shape = next(iter(inputs.values())) if isinstance(inputs, Mapping) and len(inputs) == 1 else None
    good = isinstance(shape, (list, tuple)) and len(shape) == 4 and all(type(n) is int and n > 0 for n in shape)
    if not good:
        raise UserError(
            f"deploy_inputs of {config.path} is {inputs!r}; write deploy_inputs = dict(img=(1, 3, height, width))"
        )
    n, c, h, w = shape  # type: ignore[misc]
    return n, c, h, w
