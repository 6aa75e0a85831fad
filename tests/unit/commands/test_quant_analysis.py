"""tools/quant_analysis.py: which stages, what it refuses, what it leaves, that AP and pictures fit the images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hatdet.commands.quant_analysis.ap import Subset, VariantMetrics
from hatdet.commands.quant_analysis.images import WorstImages, score_change
from hatdet.commands.quant_analysis.output import format_table
from hatdet.commands.quant_analysis.run import Settings, quant_analysis
from hatdet.commands.quant_analysis.stages import parse_checkpoints, parse_spec
from hatdet.metrics.coco import COCODetectionMetric
from hatdet.quantization.analysis.result import ImageRow
from hatdet.utils.errors import UserError
from tests.unit.commands.conftest import Files

pytestmark = pytest.mark.slow  # whole commands, one after another

Tool = Callable[[str], Callable[[list[str]], int | None]]


def checkpoints(files: Files) -> dict[str, str]:
    return {"float": str(files.root / "epoch_150.pth"), "int_infer": str(files.root / "calibrated.pth")}


# ------------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("float", ("float", "float")),
        ("int_infer", ("int_infer", "integer")),
        ("qat", ("qat", "integer")),
        ("qat:integer", ("qat", "integer")),
        ("calibration:fake_quant", ("calibration", "fake_quant")),
        ("qat:float", ("qat", "float")),
    ],
)
def test_stages_and_modes(spec: str, expected: tuple[str, str]) -> None:
    assert parse_spec(spec) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(stages=("float", "int_infr")), "unknown stage 'int_infr'; did you mean 'int_infer'"),
        (Settings(stages=("float", "qat:fakequant")), "did you mean 'qat:fake_quant'"),
        (Settings(stages=("float:fake_quant", "qat")), "unknown stage 'float:fake_quant'"),
        (Settings(stages=("qat", "qat")), "name two different stages"),
        (Settings(num_images=0), "at least 1"),
        (Settings(ap_layers=0), "at least 1"),
        (Settings(checkpoints={"qat": "x"}), "--ckpt names qat, but --stages are float and int_infer"),
    ],
)
def test_settings_that_are_refused(settings: Settings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings.check()


def test_checkpoints_by_stage() -> None:
    assert parse_checkpoints(["qat=a=b.pth", "float=c"]) == {"qat": "a=b.pth", "float": "c"}
    with pytest.raises(UserError, match="give STAGE=FILE"):
        parse_checkpoints(["a.pth"])
    with pytest.raises(UserError, match="unknown stage 'qut'; did you mean 'qat'"):
        parse_checkpoints(["qut=a.pth"])


def test_a_stage_without_checkpoint(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no float-checkpoint-best.*train.py --stage float"):
        quant_analysis(files.config(), Settings(), tmp_path)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ the whole command
def test_the_whole_command(files: Files, tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{stage}={path}" for stage, path in checkpoints(files).items()]
    tool("quant_analysis")(
        [files.config_path, *files.words(), "--ckpt", *words, "--num-images", "3", "--out", str(tmp_path)]
    )
    shown = capsys.readouterr().out
    assert "SQNR of the outputs" in shown and "written: " in shown
    record = json.loads((tmp_path / "quant_analysis.json").read_text())
    assert record["images"] == 3 and record["reference"] == "float" and record["tested"] == "int_infer"
    assert set(record["output_sqnr"]) == {"cls_8", "cls_16", "cls_32", "reg_8", "reg_16", "reg_32"}
    layers = record["layers"]
    assert len(layers) == 111 and [row["rank"] for row in layers] == list(range(1, 112))
    assert sum(row["noise_share"] for row in layers) == pytest.approx(1.0)
    assert all(sum(row["codes"]) > 0 for row in layers)
    with (tmp_path / "layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row["name"] for row in layers]
    assert float(rows[0]["own_sqnr"]) == pytest.approx(layers[0]["own_sqnr"])
    assert record["kept_float_curve"][-1]["outputs_sqnr"] > 80, "every layer kept float is the float network"
    page = (tmp_path / "quant_analysis.html").read_text()
    assert all(row["name"] in page for row in layers)
    assert page.count("data:image/jpeg") == len(record["worst_images"]) >= 3
    assert not list(tmp_path.glob("*.part"))
    assert not record["notes"], "both stages have the weights of one checkpoint"


@pytest.mark.slow
def test_ap_of_layers_on_all_images(files: Files, tmp_path: Path) -> None:
    settings = Settings(num_images=None, sensitivity="ap", ap_layers=2, checkpoints=checkpoints(files))
    result = quant_analysis(files.config(), settings, tmp_path)
    assert result.images == 5, "one of them without objects"
    measured = [row for row in result.layers if row.ap_drop == row.ap_drop]
    assert len(measured) == 2
    assert len(result.metrics) == 2 and all("AP" in values for values in result.metrics.values())
    assert "AP lost" in format_table(result)


def test_without_sensitivity_and_with_islands(files: Files, tmp_path: Path) -> None:
    given = {**checkpoints(files), "calibration": checkpoints(files)["int_infer"]}
    del given["int_infer"]
    settings = Settings(("float", "calibration:fake_quant"), 1, "off", checkpoints=given)
    config = files.config(keep_float=["bbox_head.rtm_reg", "backbone.stem*"])
    result = quant_analysis(config, settings, tmp_path)
    kept = [row for row in result.layers if row.name.startswith(("bbox_head.rtm_reg", "backbone.stem"))]
    assert len(kept) == 6 and all(row.own_sqnr > 100 for row in kept)
    assert all(row.noise_share != row.noise_share for row in result.layers) and not result.curve
    with pytest.raises(UserError, match=r"keep_float: no layer is named 'bbox_head\.rtm_rag'.*rtm_reg"):
        quant_analysis(files.config(keep_float=["bbox_head.rtm_rag"]), settings, tmp_path)


# ------------------------------------------------------------------------------------------------ images
def found(*rows: tuple[float, float, float, float, float, int]) -> dict[str, torch.Tensor]:
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


@pytest.mark.parametrize(
    ("reference", "tested", "change"),
    [
        (found(), found(), 0.0),
        (found((0, 0, 10, 10, 0.9, 0)), found((0, 0, 10, 10, 0.7, 0)), 0.2),
        (found((0, 0, 10, 10, 0.9, 0)), found(), 0.9),
        (found(), found((0, 0, 10, 10, 0.6, 0)), 0.6),
        (found((0, 0, 10, 10, 0.9, 0)), found((0, 0, 10, 10, 0.9, 1)), 1.8),  # another class
        (found((0, 0, 10, 10, 0.9, 0)), found((8, 8, 20, 20, 0.9, 0)), 1.8),  # elsewhere
        (found((0, 0, 10, 10, 0.1, 0)), found((0, 0, 10, 10, 0.2, 0)), 0.0),  # neither is shown
        (found((0, 0, 10, 10, 0.28, 0)), found((0, 0, 10, 10, 0.32, 0)), 0.04),  # one is
        (
            found((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.5, 0)),
            found((0, 0, 10, 9, 0.8, 0), (0, 0, 10, 10, 0.6, 0)),
            0.6,
        ),
    ],
)
def test_change_of_detections_by_hand(
    reference: dict[str, torch.Tensor], tested: dict[str, torch.Tensor], change: float
) -> None:
    """The last one: the best overlap is taken, 0.9 -> 0.6 and 0.5 -> 0.8."""
    assert score_change(reference, tested) == pytest.approx(change, abs=1e-6)


def test_the_worst_images_of_both_kinds_are_kept() -> None:
    worst = WorstImages(2)
    for i, (sqnr, change) in enumerate([(30.0, 0.1), (10.0, 0.0), (float("nan"), 0.9), (20.0, 0.5), (40.0, 0.2)]):
        worst.add(ImageRow(i, f"{i}.png", sqnr, change, 0, 0), found(), found())
    assert [row.img_id for row in worst.rows] == [2, 3, 1]


class Truth:
    classes, category_ids = ("a",), (1,)

    def coco_annotations(self) -> dict[str, object]:
        boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 81, "iscrowd": 0}
                 for i in (1, 2)]  # fmt: skip
        images = [{"id": i, "height": 20, "width": 20, "file_name": f"{i}.png"} for i in (1, 2, 3)]
        return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}


def test_ap_counts_only_the_images_that_were_looked_at() -> None:
    metrics = VariantMetrics(COCODetectionMetric(), Truth())
    perfect = {"boxes": np.array([[0.0, 0.0, 9.0, 9.0]]), "scores": np.array([0.9]), "labels": np.array([0])}
    nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0)}
    batch = {"img_id": [1, 3]}
    metrics.update("good", [perfect, nothing], batch)
    metrics.update("bad", [nothing, nothing], batch)
    assert metrics.compute("good")["AP"] == pytest.approx(1.0) and metrics.compute("bad")["AP"] == 0.0
    assert [image["id"] for image in Subset(Truth(), [3]).coco_annotations()["images"]] == [3]


def test_a_metric_with_ground_truth_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ground truth of its own"):
        VariantMetrics(COCODetectionMetric(ann_file=tmp_path / "a.json"), Truth())
    with pytest.raises(UserError, match="needs COCODetectionMetric"):
        VariantMetrics(object(), Truth())
