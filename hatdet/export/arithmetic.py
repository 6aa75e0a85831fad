"""Ways out that have one arithmetic, whatever the graph's is."""

from __future__ import annotations

from typing import Any

from hatdet.integer.arithmetic import PROFILE
from hatdet.utils.errors import UserError


def refuse_other(profile: Any, what: str) -> None:
    """Refuse a model that is not made for the reference arithmetic.

    Args:
        profile: the name of the model's.
        what: what computes as the reference does, e.g. "TensorFlow Lite Micro".

    Raises:
        UserError: naming both.
    """
    if profile != PROFILE:
        raise UserError(
            f"{what} computes in the arithmetic {PROFILE!r}, and this model is made for {profile!r}: set "
            f"arithmetic={PROFILE!r} in the config, and train in integers (or calibrate) again for it"
        )
