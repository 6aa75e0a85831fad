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
        ("demo", "demo", "the whole road on a rendered data set, with a report"),
        ("mscoco_packer", "mscoco_packer", "pack a COCO detection set"),
        ("image_folder_packer", "image_folder_packer", "pack folders of images, one a class"),
        ("clean_cache", "clean_cache", "list or remove packed copies that nothing uses any more"),
        ("print_config", "print_config", "print a resolved config as a runnable file"),
        ("calops", "calops", "count a model's parameters and multiply-accumulates"),
        ("check_model", "check_model", "before training: does the target run every operator of the model?"),
        ("convert_checkpoint", "convert_checkpoint", "between MMDetection, MMYOLO and hatdet"),
        ("train", "train.command", "train one stage: float, calibration, qat"),
        ("predict", "predict", "score the model of one stage"),
        ("quantization", "quantization.command", "float weights to the int8 file in one run"),
        ("quant_analysis", "quant_analysis.command", "where quantization loses accuracy, layer by layer"),
        ("export", "export.command", "write a model as .tflite, ONNX, ... and check each file"),
        ("export_onnx", "export_onnx.command", "write a stage's model as ONNX and compare it"),
        ("test", "test", "score a model file"),
        ("infer", "infer.command", "draw and list what a model finds in pictures"),
        ("align_bpu_validation", "align_bpu_validation.command", "deployed model against toolbox, image by image"),
        ("compile_perf", "compile_perf.command", "what the int8 model costs on an Ethos-U"),
    )
}
"""By the name of the script in ``tools/``."""
