"""What a decoder of cells has to know of a model, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hatdet.export.arithmetic import named
from hatdet.export.decoder.input import checked_input
from hatdet.ops.rounded import MOST
from hatdet.utils.errors import UserError


def cells_model(metadata: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the numpy decoder and the C header need.

    Args:
        metadata: of an exported model, with ``decoding``: what the detector says of itself (``FOMO.decoder_tables``).
        overrides: ``score_thr`` and ``max_per_img`` that a device wants otherwise.

    Raises:
        UserError: an input of another type, or an output of another size.
    """
    own = ("score_thr", "max_per_img")
    decoding = {**metadata["decoding"], **{n: v for n, v in overrides.items() if n in own and v is not None}}
    image, count = checked_input(metadata), int(metadata["num_classes"])
    (output,) = metadata["outputs"]
    stride = int(decoding["stride"])
    _, height, width, channels = (int(side) for side in output["shape"])
    expected = (-(-image["height"] // stride), -(-image["width"] // stride), count + 1)
    if (height, width, channels) != expected:
        raise UserError(
            f"output {output['name']} should be {expected} (h, w, channels) at stride {stride}, it is "
            f"{(height, width, channels)}; export the model again with tools/export.py"
        )
    known = {"name": output["name"], "height": height, "width": width, "channels": channels, "dtype": output["dtype"]}
    known |= {"scale": float(output["scale"]), "zero_point": int(output["zero_point"])}
    return {
        "tabled": True,  # decoding by points and anchors is left out
        "detector": metadata["detector"],
        **named(metadata),
        "classes": [str(name) for name in metadata.get("classes") or range(count)],
        "num_classes": count,
        "input": image,
        "outputs": [known],
        **decoding,
        "max_per_img": min(int(decoding["max_per_img"]), height * width),
        "gate": _gate(known, float(decoding["score_thr"])),
    }


def _gate(output: Mapping[str, Any], score_thr: float) -> int:
    """A class whose code is less than so much above background's has no score above the threshold: with background and
    this class alone the score would be ``sigmoid(scale * difference)``, and other classes lower it."""
    scale, zero = output["scale"], output["zero_point"]
    limited = scale * max(127 - zero, zero + 128) > MOST  # then differences of codes are not those of logits
    if score_thr <= 0 or limited:
        return -256
    return math.floor((math.log(score_thr / (1 - score_thr)) - 1e-3) / scale)
