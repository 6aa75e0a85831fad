"""Decoders that look numbers up by code: equal to the toolbox's own predictions, on all kinds of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.data.transforms.sample import fit_size
from hatdet.export.decoder.model import Overrides
from hatdet.utils.errors import UserError
from tests.helpers.decoders import Found, assert_same
from tests.helpers.dense_models import MODELS, build, of
from tests.helpers.dense_roads import ROADS
from tests.helpers.tabled import Decoders

SIZE = (64, 96)


def metadata_of(detector: Any, seed: int = 0) -> dict[str, Any]:
    """As of an exported file: maps of the network's shapes, with scales that give logits of a few units."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        maps = detector.eval().network()(torch.zeros(1, 3, *SIZE))
    outputs = [
        {
            "name": name, "shape": [1, *m.shape[2:], m.shape[1]], "dtype": "int8",
            "scale": float(np.float32(rng.uniform(0.02, 0.05))), "zero_point": int(rng.integers(-20, 60)),
        }
        for name, m in zip(detector.output_names, maps, strict=True)
    ]  # fmt: skip
    metadata = {**detector.metadata(), "profile": "tflite_ref", "outputs": outputs}
    metadata["input"] = {"shape": [1, *SIZE, 3], "dtype": "int8", "scale": 1 / 255, "zero_point": -128}
    return {**metadata, "decoding": detector.decoder_tables(outputs)}


def toolbox(detector: Any, metadata: dict[str, Any], codes: list[np.ndarray], file: tuple[int, int]) -> Found:
    maps = []
    for info, values in zip(metadata["outputs"], codes, strict=True):
        real = (torch.from_numpy(values).to(torch.float32) - info["zero_point"]) * info["scale"]
        maps.append(real.permute(0, 3, 1, 2))
    inside = fit_size(file, SIZE)
    scale = torch.tensor([[inside[1] / file[1], inside[0] / file[0]]], dtype=torch.float32)
    batch = {"img": torch.zeros(1, 3, *SIZE), "img_size": torch.tensor([inside]), "scale_factor": scale}
    (found,) = detector.predict(tuple(maps), batch)
    return found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy()


def random_codes(metadata: dict[str, Any], kind: str, rng: np.random.Generator) -> list[np.ndarray]:
    """``any`` code, ``few`` values (ties), ``rare`` high ones, ``lowest`` or ``highest``."""
    maps = []
    for info in metadata["outputs"]:
        if kind == "few":
            values = rng.choice([-128, 20, 21, 127], info["shape"])
        elif kind == "rare":
            values = np.minimum(rng.integers(-128, 128, info["shape"]), rng.integers(-128, 128, info["shape"]))
        elif kind in ("lowest", "highest"):
            values = np.full(info["shape"], -128 if kind == "lowest" else 127)
        else:
            values = rng.integers(-128, 128, info["shape"])
        maps.append(values.astype(np.int8))
    return maps


CASES = [("any", (64, 96)), ("any", (33, 20)), ("few", (200, 300)), ("rare", (97, 131)), ("lowest", (64, 96)),
         ("highest", (50, 96))]  # fmt: skip


OTHERS = ("PAA", "LAD", "SABL", "TOOD of anchors", "RTMDet with objectness", "CenterNet with an update")


@pytest.mark.parametrize("name", (*MODELS, *OTHERS))
def test_both_decoders_find_what_the_toolbox_finds(name: str, tmp_path: Path) -> None:
    detector = of(ROADS[name]).eval()
    metadata = metadata_of(detector)
    decoders, rng, total = Decoders(tmp_path, metadata), np.random.default_rng(1), 0
    cases = [(random_codes(metadata, kind, rng), file) for kind, file in CASES]
    for (codes, file), of_c in zip(cases, decoders.c(cases), strict=True):
        expected = toolbox(detector, metadata, codes, file)
        assert_same(decoders.numpy(codes, file), expected)
        assert_same(of_c, expected)
        total += len(expected[1])
    assert total > 20, "nothing was found"


def test_a_device_may_want_other_thresholds(tmp_path: Path) -> None:
    detector = build("FCOS").eval()
    metadata = metadata_of(detector)
    decoders = Decoders(tmp_path, metadata, Overrides(score_thr=0.6, nms_pre=10, max_per_img=4))
    detector.head.test_cfg.update(score_thr=0.6, nms_pre=10, max_per_img=4)
    codes = random_codes(metadata, "any", np.random.default_rng(3))
    expected = toolbox(detector, metadata, codes, SIZE)
    assert len(expected[1]) == 4
    assert_same(decoders.numpy(codes, SIZE), expected)
    assert_same(decoders.c([(codes, SIZE)])[0], expected)


def test_what_has_no_decoder() -> None:
    detector = build("FCOS").eval()
    metadata = metadata_of(detector)
    metadata["outputs"][0]["dtype"] = "int16"
    with pytest.raises(UserError, match="output cls_8 has more; set int16_output=False"):
        detector.decoder_tables(metadata["outputs"])
