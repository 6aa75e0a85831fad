"""How the weights of a dense detector's head start."""

from __future__ import annotations

import math
from collections.abc import Iterable

from torch import nn


def init_head(head: nn.Module, class_predictors: Iterable[nn.Module], prior_probability: float = 0.01) -> None:
    """N(0, 0.01), no bias; class scores start at ``prior_probability`` (focal loss, arXiv 1708.02002, section 4.1).

    Args:
        class_predictors: the convolutions that give the class logits.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for predictor in class_predictors:
        assert isinstance(predictor, nn.Conv2d) and predictor.bias is not None
        nn.init.constant_(predictor.bias, -math.log((1 - prior_probability) / prior_probability))
