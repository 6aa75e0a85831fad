"""FOMO goes the whole road: float training to the integer file, whose decoder's points are the toolbox's cells."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet import Detector
from hatdet.building import Builder
from hatdet.commands.export.run import Request, export_model
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.engine.run import predict, train
from hatdet.engine.stages import predictor_config
from hatdet.export.formats.table import ExportOptions
from hatdet.export.runtimes.integer import LiteRTRuntime
from tests.helpers.decoders import load_module
from tests.integration.mini_coco import mini_coco


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fomo_mobilenetv2_035", "fomo_mobilenetv2_035_gray_96"])
def test_fomo_goes_the_whole_road(name: str, tmp_path: Path, repo_root: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    data, path = mini_coco(tmp_path / "data", count=8), str(repo_root / f"configs/fomo/{name}.py")
    options = parse_options([
        f"data_root={data}/", "num_classes=2", "imgsz=(64,96)", "workers=0", "epochs=30", "batch_size=4",
        "warmup_steps=2", "lr=1e-2", "base_batch_size=4", "ema_gamma=2", "val_interval=30", "score_thr=0.2",
        "calibration_steps=2", "qat_epochs=1", f"work_dir={tmp_path}/work",
    ])  # fmt: skip
    config = load_config(path, options)
    for stage in ("float", "calibration", "qat"):
        train(config, stage)
        assert not (tmp_path / "work" / stage / "PR_curve.svg").exists()  # of overlaps: they say nothing of points
    assert (tmp_path / "work" / "float" / "val_batch0_pred.jpg").is_file()
    values = predict(config, "int_infer")
    assert next(iter(values)) == "F1" and values["F1"] > 0

    asked = Request(stage="int_infer", emit_decoder=True, evaluate=True, options=ExportOptions(verify=4))
    assert export_model(path, options, asked)
    work_dir = Path(config.work_dir)
    results = json.loads((work_dir / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["parity"]["differing"] == 0 and results["parity"]["compared"] > 500
    assert results["evaluation"]["equal"] and results["evaluation"]["tflite"] == pytest.approx(values, abs=0)

    predictor = Builder().build(predictor_config(config, "int_infer")[1])
    model = predictor.prepare()
    decoder = load_module(work_dir / "int_infer-model_int8_decoder.py")
    runtime = LiteRTRuntime((work_dir / "int_infer-model_int8.tflite").read_bytes())
    detector, total = Detector(str(work_dir / "int_infer-model_int8.tflite"), threshold=0.0), 0
    for batch in predictor.data_loader:
        for ours, file in zip(model(batch), batch["file_name"], strict=True):
            picture = cv2.imread(str(data / "val2017" / file))
            found = decoder.decode(runtime.run(decoder.preprocess(picture)), picture.shape[:2])
            for key, value in ours.items():
                assert np.array_equal(found[key], value.numpy()), key
            result = detector(picture)
            assert np.array_equal(result.points, found["points"]) and result.of_points
            total += len(found["scores"])
    assert total > 10
