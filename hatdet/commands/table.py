"""All commands, in the order in which a project needs them."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """Where a command's ``main``, ``add_arguments`` and ``run`` are, and a line for the list of commands."""

    module: str
    help: str


COMMANDS = {
    name: Command(f"hatdet.commands.{module}", help)
    for name, module, help in (
        ("init", "init.command", "look at a data set and write a config for it, with the reasons"),
        ("env", "env.command", "what a bug report needs: versions, devices, optional packages"),
        ("configs", "configs", "list the configs that come with hatdet"),
        ("demo", "demo.command", "the whole road on a rendered data set, with a report"),
        ("data", "data.command", "check, report on, split, convert and browse data sets"),
        ("mscoco_packer", "mscoco_packer", "pack a COCO detection set"),
        ("image_folder_packer", "image_folder_packer", "pack folders of images, one a class"),
        ("clean_cache", "clean_cache", "list or remove packed copies that nothing uses any more"),
        ("print_config", "print_config", "print a resolved config as a runnable file"),
        ("models", "models.command", "measured models by what they cost on a device, and which fit a board"),
        ("calops", "calops", "count a model's parameters and multiply-accumulates"),
        ("check_model", "check_model", "before training: does the target run every operator of the model?"),
        ("convert_checkpoint", "convert_checkpoint", "between MMDetection, MMYOLO and hatdet"),
        ("train", "train.command", "train one stage: float, calibration, qat"),
        ("tune", "tune.command", "find values for options by short trainings"),
        ("runs", "runs.command", "list and compare trainings, with their curves over each other"),
        ("predict", "predict", "score the model of one stage"),
        ("quantization", "quantization.command", "float weights to the int8 file in one run"),
        ("coco_table", "coco_table.command", "RTMDet's int8 figures on COCO, float to file, in one command"),
        ("report", "report.command", "one page on a run: scores, curves, worst pictures, deployment"),
        ("quant_analysis", "quant_analysis.command", "where quantization loses accuracy, layer by layer"),
        ("export", "export.command", "write a model as .tflite, ONNX, ... and check each file"),
        ("export_onnx", "export_onnx.command", "write a stage's model as ONNX and compare it"),
        ("test", "test", "score a model file"),
        ("infer", "infer.command", "draw and list what a model finds in pictures and videos"),
        ("serve", "serve.command", "a page on this machine: what models find in a picture, side by side"),
        ("benchmark", "benchmark.command", "time, size, memory and AP of model files on this machine"),
        ("align_bpu_validation", "align_bpu_validation.command", "deployed model against toolbox, image by image"),
        ("compile_perf", "compile_perf.command", "what the int8 model costs on an Ethos-U"),
    )
}
"""By the name of the script in ``tools/``."""


class Group(NamedTuple):
    """Commands below a common word, ``hatdet analysis confusion-matrix``, and a line for the list of commands."""

    help: str
    commands: dict[str, Command]


GROUPS = {
    "convert": Group(
        "Bring other data sets into COCO's form",
        {
            name: Command(f"hatdet.commands.converters.{name}", help)
            for name, help in (
                ("pascal_voc", "Pascal VOC's xml to COCO json"),
                ("cityscapes", "Cityscapes' instance pictures to COCO json"),
                ("crowdhuman2coco", "CrowdHuman's annotations to COCO json"),
                ("images2coco", "a folder of images without annotations to COCO json"),
            )
        },
    ),
    "analysis": Group(
        "Look into trainings, data sets and detections",
        {
            name: Command(f"hatdet.commands.analysis.{name}", help)
            for name, help in (
                ("analyze_logs", "curves and times of training runs"),
                ("browse_dataset", "the training images as the network gets them"),
                ("confusion_matrix", "what is taken for what"),
                ("coco_error_analysis", "where AP is lost, class by class"),
                ("optimize_anchors", "anchor sizes that fit a data set"),
                ("get_flops", "parameters and multiply-accumulates, as MMDetection prints them"),
                ("benchmark", "images a second: of a model, of a data loader, of a data set"),
            )
        },
    ),
}
"""By name: the scripts in ``tools/analysis_tools`` and ``tools/dataset_converters``."""

ELSEWHERE = {
    "publish_model": Command(
        "hatdet.commands.converters.publish_model", "a checkpoint without what only training needs"
    )
}
"""The script in ``tools/model_converters``."""
