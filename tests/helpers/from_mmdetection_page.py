"""The tables of docs/from_mmdetection.md: ``python -m tests.helpers.from_mmdetection_page --write``.

What stands above them on the page is written by hand. Where a name is says the registry (scope ``mmdet``), the tables
of the config translation, and else `ELSEWHERE` and `MISSING` here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from hatdet.config.mmdetection.data import datasets, steps
from hatdet.config.mmdetection.training import hooks
from hatdet.registry import shipped_names
from tests.helpers.mmdetection_names import FAMILIES, MISSING, TOOLS, Family

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/from_mmdetection.md"
MARK = "<!-- From here on: python -m tests.helpers.from_mmdetection_page --write -->\n"

_M, _C = "hatdet.models.mmdet", "hatdet.config.mmdetection"
_HOOKS = "hatdet.engine.callbacks.hooks"

ELSEWHERE: dict[str, tuple[str, str]] = {
    "AnchorFreeHead": (f"{_M}.heads.point.anchor_free:AnchorFreeHead", "a base class, in no config"),
    "Dropout": ("torch.nn:Dropout", '`type="torch.nn.Dropout"`'),
    "SENet": (f"{_M}.layers.attention:SELayer", "`SELayer`"),
    "Non_Local": (f"{_M}.layers.plugins.non_local:NonLocal2d", "`NonLocal2d`; float only"),
    "CBA": (f"{_M}.layers.plugins.cbam:CBAM", "`CBAM`; float only"),
    "ConvModule": (f"{_M}.layers.conv:ConvModule", ""),
    "DepthwiseSeparableConvModule": (f"{_M}.layers.conv:DepthwiseSeparableConvModule", ""),
    "Scale": (f"{_M}.layers.scale:Scale", ""),
    "ResLayer": (f"{_M}.layers.res_layer:ResLayer", ""),
    "SimplifiedBasicBlock": (f"{_M}.layers.res_layer:SimplifiedBasicBlock", ""),
    "CSPLayer": (f"{_M}.layers.csp.csp_layer:CSPLayer", ""),
    "PatchEmbed": (f"{_M}.layers.transformer.patches:PatchEmbed", ""),
    "ConvUpsample": (f"{_M}.layers.upsample:ConvUpsample", ""),
    "InvertedResidual": (f"{_M}.layers.csp.inverted_residual:InvertedResidual", ""),
    "ExpMomentumEMA": (f"{_HOOKS}.ema:EMAHook", "an `ema_type` of `EMAHook`"),
    "AdaptiveAvgPool2d": ("torch.nn:AdaptiveAvgPool2d", ""),
    "anchor_inside_flags": (f"{_M}.heads.common:anchor_inside_flags", ""),
    "images_to_levels": (f"{_M}.heads.common:images_to_levels", ""),
    "AssignResult": (f"{_M}.assigners.result:AssignResult", ""),
    "bbox_overlaps": (f"{_M}.overlaps:bbox_overlaps", ""),
    "BaseSampler": (f"{_M}.samplers.base:BaseSampler", "a base class"),
    "SamplingResult": (f"{_M}.samplers.result:SamplingResult", ""),
    "MaskSamplingResult": (f"{_M}.samplers.result:MaskSamplingResult", ""),
    "MultiInstanceSamplingResult": (f"{_M}.samplers.multi_instance:MultiInstanceSamplingResult", ""),
    "BaseBBoxCoder": (f"{_M}.coders.base:BaseBBoxCoder", "a base class"),
    "accuracy": (f"{_M}.losses.accuracy:accuracy", ""),
    "sigmoid_focal_loss": (f"{_M}.losses.classes.focal:sigmoid_focal_loss", "of targets, without weights"),
    "reduce_loss": (f"{_M}.losses.utils:reduce_loss", ""),
    "weight_reduce_loss": (f"{_M}.losses.utils:weight_reduce_loss", ""),
    "weighted_loss": (f"{_M}.losses.utils:weighted_loss", ""),
    "isr_p": (f"{_M}.losses.pisa:isr_p", ""),
    "carl_loss": (f"{_M}.losses.pisa:carl_loss", ""),
    "CheckpointHook": ("hatdet.engine.callbacks.checkpoint:Checkpoint", "`Checkpoint`"),
    "LoggerHook": ("hatdet.engine.callbacks.stats_monitor:StatsMonitor", "`StatsMonitor`"),
    "OptimizerHook": (f"{_C}.training.optimizer:wrapper_of_version2", "read as an `optim_wrapper`"),
    "Fp16OptimizerHook": (f"{_C}.training.optimizer:wrapper_of_version2", "read as an `optim_wrapper`"),
    "EMAHook": (f"{_HOOKS}.ema:EMAHook", "version 2's becomes `LinearMomentumEMAHook`"),
    "ExpMomentumEMAHook": (f"{_HOOKS}.ema:ExpMomentumEMAHook", ""),
    "LinearMomentumEMAHook": (f"{_HOOKS}.ema:LinearMomentumEMAHook", ""),
    "EarlyStoppingHook": (f"{_HOOKS}.early_stopping:EarlyStoppingHook", ""),
    "SyncBuffersHook": (f"{_HOOKS}.sync_norm:SyncNorm", "`SyncNorm`"),
    "SyncNormHook": (f"{_HOOKS}.sync_norm:SyncNorm", "`SyncNorm`"),
    "SetEpochInfoHook": (f"{_HOOKS}.epochs:SetEpochInfo", "`SetEpochInfo`"),
    "YOLOXModeSwitchHook": (f"{_HOOKS}.epochs:YOLOXModeSwitch", "`YOLOXModeSwitch`"),
    "PipelineSwitchHook": ("hatdet.engine.callbacks.pipeline_switch:PipelineSwitch", "`PipelineSwitch`"),
    "CheckInvalidLossHook": ("hatdet.engine.callbacks.nan_guard:NanGuard", "`NanGuard`, at every step"),
    "EvalHook": ("hatdet.engine.callbacks.validation:Validation", "`Validation`"),
    "ValLoop": ("hatdet.engine.callbacks.validation:Validation", "`Validation`"),
    "TestLoop": ("hatdet.engine.predictor:Predictor", "`Predictor`"),
    **dict.fromkeys(
        ("EpochBasedRunner", "IterBasedRunner", "EpochBasedTrainLoop", "IterBasedTrainLoop"),
        ("hatdet.engine.trainer:Trainer", "`Trainer`, by `num_epochs` or `num_steps`"),
    ),
    **dict.fromkeys(
        ("OptimWrapper", "AmpOptimWrapper", "accumulative_counts"),
        ("hatdet.engine.batch_processors:BasicBatchProcessor", "arguments of `BasicBatchProcessor`"),
    ),
    "paramwise_cfg": ("hatdet.engine.paramwise:check_paramwise_cfg", "a key of the optimizer"),
    "LearningRateDecayOptimizerConstructor": (
        "hatdet.engine.paramwise:layer_decay_settings", "`constructor` of the optimizer, for a ConvNeXt of your own"
    ),
    "clip_grad": ("hatdet.engine.callbacks.grad:GradClip", "`GradClip`, `GradClipValue`"),
    "auto_scale_lr": (f"{_C}.training.rest:translate_auto_scale", "`base_batch_size` of the trainer"),
    **{
        name: (f"{_M}.post:{name}", "")
        for name in ("multiclass_nms", "merge_aug_proposals", "merge_aug_bboxes", "merge_aug_scores", "merge_aug_masks",
                     "fast_nms", "mask_matrix_nms", "nms", "soft_nms", "batched_nms", "merge_aug_results",
                     "bbox_mapping_back")
    },
    "filter_scores_and_topk": (f"{_M}.heads.common:filter_scores_and_topk", ""),
    "select_single_mlvl": (f"{_M}.heads.common:select_single_mlvl", ""),
    "MultiScaleFlipAug": (f"{_C}.data.steps2:modernize", "its scales and mirroring are the TTA of `predict.py --tta`"),
    "TestTimeAug": (f"{_C}.data.tta:translate_tta", "`predict.py --tta`"),
    "DetTTAModel": ("hatdet.models.detectors.tta:TestTimeAugmentation", "`predict.py --tta`"),
    "LoadImageFromFile": (f"{_C}.data.steps:translate_steps", "the data set decodes"),
    "LoadAnnotations": (f"{_C}.data.steps:translate_steps", "the data set has the boxes; masks are left"),
    "Normalize": (f"{_M}.preprocessor:DetDataPreprocessor", "version 2's: the network's preprocessing"),
    **{
        f"{kind}Transform": (f"hatdet.data.transforms.mmdet.color.enhance:{kind}", f"version 2's name of `{kind}`")
        for kind in ("Equalize", "Brightness", "Contrast")
    },
    "CocoDataset": ("hatdet.data.datasets.coco:CocoDataset", ""),
    "XMLDataset": ("hatdet.data.datasets.voc:VOCDataset", "`VOCDataset`"),
    "MultiImageMixDataset": (
        "hatdet.data.transforms.mmdet.mix.partners:Partners", "the argument `before` of Mosaic, MixUp, CopyPaste"
    ),
    **dict.fromkeys(
        ("DefaultSampler", "InfiniteSampler"), ("hatdet.data.samplers:SeededSampler", "`SeededSampler`")
    ),
    **dict.fromkeys(
        ("AspectRatioBatchSampler", "GroupSampler", "DistributedGroupSampler"),
        ("hatdet.data.grouping:AspectRatioSampler", "`mmdet.AspectRatioSampler`; version 2 has it without being asked"),
    ),
    "DistributedSampler": ("hatdet.data.samplers:SeededSampler", "`SeededSampler`"),
    "BatchSyncRandomResize": ("hatdet.engine.multi_scale:MultiScale", "`MultiScale` of the batch processor"),
    "BatchFixedSizePad": ("hatdet.data.collate:Collate2D", "the collation pads"),
    "CocoMetric": ("hatdet.metrics.coco:COCODetectionMetric", "`bbox`; `proposal`: `COCOProposalMetric`"),
    "DumpDetResults": ("hatdet.commands.test:run", "`tools/test.py --results`"),
}  # fmt: skip
"""Name -> where it is, as ``module:attribute``, and a remark."""

FLOAT = "float only"
REMARKS = {
    **dict.fromkeys(
        ("ASPP", "CBAM", "DCN", "DCNv2", "NonLocal2d", "ContextBlock", "GeneralizedAttention", "ConvWS", "ConvAWS",
         "SAC", "CARAFEPack", "FPN_CARAFE", "DyHead", "NASFCOSHead", "RepPointsHead", "VFNetHead",
         "CornerHead", "CentripetalHead", "GuidedAnchorHead", "GARetinaHead", "GARPNHead", "FeatureAdaption",
         "SwinTransformer", "PyramidVisionTransformer", "PyramidVisionTransformerV2"),
        FLOAT,
    ),
    "ResNeSt": f"{FLOAT}, but with `radix=1`",
    "DDODHead": "integers with `use_dcn=False`",
    "CascadeRPNHead": f"{FLOAT} where it adapts by offsets",
    "SSDNeck": "integers with `l2_norm_scale=None`",
    "Rotate": "version 2's is refused: write `RandomAffine`",
    "HungarianAssigner": "DETR's; no detector here asks for it",
    **dict.fromkeys(("OHEMSampler", "ScoreHLRSampler"), "asks a RoI head, of which there is none"),
}  # fmt: skip
"""Name -> a remark on a part of the registry."""

TOOL_NOTES = {
    "train.py": "stages by `--stage`; default float",
    "test.py": "a checkpoint of any stage, or an exported file",
    "dist_test.sh": "one process does it",
    "analysis_tools/browse_dataset.py": "writes files, opens no window",
}
INSTEAD = {
    "slurm_train.sh": "not here: `srun` around `tools/train.py --launcher pytorch`",
    "slurm_test.sh": "not here: `tools/test.py`",
    "misc/download_dataset.py": "not here: nothing downloads",
    "misc/get_image_metas.py": "not here: the packed copy knows the sizes",
    "misc/split_coco.py": "**missing**",
    "analysis_tools/analyze_results.py": "not here: `tools/infer.py` draws",
    "analysis_tools/eval_metric.py": "not here: `tools/test.py` scores",
    "analysis_tools/fuse_results.py": "**missing**",
    "analysis_tools/robustness_eval.py": "**missing**",
    "model_converters/detectron2_to_mmdet.py": "**missing**",
    "model_converters/upgrade_model_version.py": "not here: files of both versions load as they are",
}


class Row(NamedTuple):
    """Where a name is: a module and perhaps an attribute; none: it is not here, or means nothing, see ``remark``."""

    name: str
    module: str = ""
    attribute: str = ""
    remark: str = ""


def row(name: str) -> Row:
    """Of one name.

    Raises:
        KeyError: nothing says where it is.
    """
    module = shipped_names().get(f"mmdet.{name}")
    if module is not None:
        return Row(name, module, remark=REMARKS.get(name, ""))
    if name in ELSEWHERE:
        place, remark = ELSEWHERE[name]
        module, _, attribute = place.partition(":")
        return Row(name, module, attribute, remark)
    if name in MISSING:
        return Row(name, remark=f"**missing**: {MISSING[name]}")
    return Row(name, remark=_translated(name))


def _translated(name: str) -> str:
    """What the config translation does with a name that is no part."""
    if name in hooks._DONE:
        return "every training does it"
    if name in hooks._IDLE:
        return "accepted, means nothing"
    if name in steps._LAST:
        return "accepted: the data set makes the tensors"
    if name in datasets._COCO:
        return "read as `CocoDataset`"
    for table in (hooks._REFUSED, steps._REFUSED, datasets._CONVERT):
        if name in table:
            return f"**missing**: {table[name]}"
    raise KeyError(name)


def names(family: Family) -> list[str]:
    """All names of a family, in their order."""
    return [*family.first.split(), *family.later.split()]


def tables() -> str:
    """What is generated."""
    return "\n".join([_summary(), *(_family(family) for family in FAMILIES), _tools()])


def _summary() -> str:
    found = [row(name) for family in FAMILIES for name in names(family)]
    missing = sum(r.remark.startswith("**missing**") for r in found)
    return (
        f"Of {len(found)} names {len(found) - missing} are here or have their meaning here, {missing} are missing. "
        f"Paths begin in `hatdet/`; names in a row are in one file. *{FLOAT}*: refused at calibration, with what to "
        "write instead.\n"
    )


def _family(family: Family) -> str:
    rows: dict[tuple[str, str], list[str]] = {}
    for found in map(row, names(family)):
        rows.setdefault((_shown(found), found.remark), []).append(f"`{found.name}`")
    lines = [f"| {', '.join(group)} | {where} | {remark} |" for (where, remark), group in rows.items()]
    return "\n".join([f"### {family.title}", "", "| names | where | |", "|---|---|---|", *lines, ""])


def _shown(found: Row) -> str:
    if not found.module:
        return "-"
    if not found.module.startswith("hatdet."):
        return f"`{found.module}.{found.attribute}`"
    path = found.module.removeprefix("hatdet.").replace(".", "/")
    folder = (ROOT / "hatdet" / path).is_dir()
    return f"`{path}/`" if folder else f"`{path}.py`"


def _tools() -> str:
    lines = ["### Tools", "", "| in `tools/` | |", "|---|---|"]
    for name in TOOLS.split():
        here = (ROOT / "tools" / name).is_file()
        lines.append(f"| `{name}` | {TOOL_NOTES.get(name, 'here') if here else INSTEAD[name]} |")
    return "\n".join([*lines, ""])


def by_hand() -> str:
    """What stands above the tables."""
    return PAGE.read_text(encoding="utf-8").partition(MARK)[0]


def page() -> str:
    """The page's text."""
    return f"{by_hand()}{MARK}\n{tables()}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(page())
