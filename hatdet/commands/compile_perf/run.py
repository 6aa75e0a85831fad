"""The body of ``tools/compile_perf.py``: the int8 model compiled for an Ethos-U, and what it costs there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hatdet.building import Builder
from hatdet.commands.export.run import Request, export_adopted
from hatdet.commands.shared.target_check import config_target
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.checkpoints.lineage import adopted_stage
from hatdet.engine.checks.arithmetic import config_arithmetic
from hatdet.engine.stages import INT_INFER_NAMES, converters_of, paths_of, type_name
from hatdet.export.arithmetic import refuse_other
from hatdet.export.delivery import RESULTS_NAME
from hatdet.export.formats.table import ExportOptions
from hatdet.export.formats.vela import write_compiled
from hatdet.export.targets.table import DEFAULT_NPU, Target, npu_target
from hatdet.export.tflite.file_operators import module_names
from hatdet.export.tflite.int8 import read_metadata
from hatdet.export.vela.compile import compile_file, vela_command
from hatdet.export.vela.report import PerformanceReport, performance_report
from hatdet.inference.checkpoints import find_checkpoint
from hatdet.integer.agreement.together import arithmetic_named
from hatdet.utils.errors import UserError, did_you_mean

INT8_NAME = "int_infer-model_int8.tflite"


@dataclass(frozen=True)
class PerfRequest:
    """What the command line asks for.

    Attributes:
        out_dir: None: ``work_dir/compile_perf``, or beside ``model`` where there is no config.
        opt: 0, 1 or 2, see :data:`hatdet.export.vela.compile.OPT_LEVELS`.
        target: None: the config's where it has an NPU, else that of its ``compile_cfg``, else ``ethos-u55-128``.
        model: an int8 file; None: that of the integer stage, exported where it is missing or out of date.
        checkpoint, image_size: export this instead.
        verify: images on which an export is compared.
        system_config, memory_mode, vela_config: Vela's; None: the target's.
    """

    out_dir: str | None = None
    opt: int = 2
    target: str | None = None
    model: str | None = None
    checkpoint: str | None = None
    image_size: Sequence[int] | None = None
    verify: int = 16
    system_config: str | None = None
    memory_mode: str | None = None
    vela_config: str | None = None


def compile_perf(path: str | None, options: Mapping[str, object], request: PerfRequest) -> PerformanceReport:
    """Compile, write the compiled file and the report, print the totals and the worst operators.

    Args:
        path: the config; None: ``request.model`` alone is compiled.

    Raises:
        UserError: Vela is not installed, or refuses the model; there is nothing to compile.
    """
    vela_command()  # before anything costly, and before anything is written
    config = load_config(path, options) if path is not None else None
    checkpoint = None
    if config is not None and request.model is None:
        checkpoint = find_checkpoint(request.checkpoint, config.name) if request.checkpoint is not None else None
        config = adopted_stage(config, "int_infer", checkpoint)
    target = choose_target(config, request.target)
    if config is not None and request.model is None:  # before the export; what is compiled says it itself
        refuse_other(arithmetic_named(config_arithmetic(config)).promised.name, target.name)
    model, evidence = find_model(config, checkpoint, request)
    data = model.read_bytes()
    result = compile_file(
        data, target, opt=request.opt, system_config=request.system_config, memory_mode=request.memory_mode,
        config=request.vela_config, modules=config_modules(config),
    )  # fmt: skip
    report = performance_report(result, data, model.name, evidence or known_evidence(model, data))
    folder = out_dir(config, request, model)
    written = write_compiled(folder / f"{model.stem.removesuffix('_int8')}_vela.tflite", result, report)
    print(report.short_text(), flush=True)
    print("\n".join(f"written: {file}" for file in written), flush=True)
    return report


def choose_target(config: Config | None, name: str | None) -> Target:
    """The NPU that is meant.

    Raises:
        UserError: unknown, or a target without an NPU.
    """
    if name is None and config is not None:
        if config_target(config).npu:
            return config_target(config)
        settings = dict(config.get("compile_cfg") or {})
        name = settings.pop("target", None)
        for key in settings:
            hint = did_you_mean(key, ["target"])
            raise UserError(f"compile_cfg of {config.path} has an unknown key {key!r}{hint}; it takes target")
    return npu_target(name or DEFAULT_NPU)


def find_model(config: Config | None, checkpoint: Path | None, request: PerfRequest) -> tuple[Path, str]:
    """The int8 file, and how it was verified where it is exported now ("" otherwise).

    Raises:
        UserError: there is none and none can be made.
    """
    if request.model is not None:
        if request.checkpoint is not None or request.image_size is not None:
            raise UserError("--model is a finished file: --ckpt and --imgsz mean nothing to it; leave them out")
        model = Path(request.model)
        if not model.is_file():
            raise UserError(f"no such model: {model}; name an int8 .tflite that is there")
        return model, ""
    if config is None:
        raise UserError("no config file was given; give one, or an int8 file with --model FILE.tflite")
    work_dir = Path(config.get("work_dir") or os.path.join("work_dirs", config.name))
    usual = work_dir / INT8_NAME
    if request.checkpoint is None and request.image_size is None and is_current(config, usual):
        return usual, ""
    return export_int8(config, checkpoint, request, out_dir(config, request, usual))


def is_current(config: Config, model: Path) -> bool:
    """Whether the int8 file is there, of the config's image size, and not older than the weights it is made of."""
    if not model.is_file():
        return False
    name = next((n for n in INT_INFER_NAMES if config.get(n) is not None), None)
    loads = [c for c in converters_of(config[name]) if type_name(c) == "LoadCheckpoint"] if name else []
    source = next((p for c in loads for p in paths_of(c) if os.path.isfile(p)), None)
    if source is not None and os.path.getmtime(source) > os.path.getmtime(model):
        print(f"{model} is older than {source}: exported again")
        return False
    size = read_metadata(model).get("image_size")
    if config.get("imgsz") is not None and size is not None and list(config["imgsz"]) != list(size):
        print(f"{model} takes images of {tuple(size)}, the config has imgsz={tuple(config['imgsz'])}: exported again")
        return False
    return True


def export_int8(
    config: Config, checkpoint: Path | None, request: PerfRequest, folder: Path
) -> tuple[Path, str]:
    """Export into ``folder``; the file, and how it was verified.

    Raises:
        UserError: no weights, or the exported file differs from the integer model.
    """
    results = folder / RESULTS_NAME
    ok = export_adopted(
        config,
        checkpoint,
        Request(
            checkpoint=request.checkpoint,
            image_size=request.image_size,
            out_dir=str(folder),
            out=str(results),
            options=ExportOptions(verify=request.verify),
        ),
    )
    record = next(r for r in json.loads(results.read_text(encoding="utf-8"))["files"] if r["format"] == "tflite int8")
    model = folder / record["file"]
    if not ok:
        raise UserError(
            f"{model} differs from the integer model (see above), so it is not compiled; "
            "tools/export.py --intermediates names the operator where it begins"
        )
    return model, known_evidence(model, model.read_bytes())


def known_evidence(model: Path, data: bytes) -> str:
    """What ``export-results.json`` beside the file says about these very bytes."""
    try:
        results = json.loads((model.parent / RESULTS_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        results = {}
    digest = hashlib.sha256(data).hexdigest()
    records = [r for r in (results, *results.get("files", ())) if r.get("sha256") == digest and r.get("parity")]
    if not records:
        return "Nothing beside the file says how it was verified: export it with tools/export.py --verify N."
    parity: dict[str, Any] = records[0]["parity"]
    runtimes = ", ".join(name for name in parity.get("runtimes", ()) if name != "torch")
    return (
        f"When it was exported, {parity.get('compared')} values of {parity.get('images')} images were compared with "
        f"the integer model ({runtimes}): {parity.get('differing')} differing."
    )


def config_modules(config: Config | None) -> dict[str, str]:
    """Names that the file may use for the config's modules; {} without a config."""
    if config is None:
        return {}
    config.validate("model")
    detector = Builder(config).build(config["model"], "model")
    return module_names([name for name, _ in detector.network().named_modules(remove_duplicate=False)])


def out_dir(config: Config | None, request: PerfRequest, model: Path) -> Path:
    """Where the results go."""
    if request.out_dir is not None:
        return Path(request.out_dir)
    if config is None:
        return model.parent
    return Path(config.get("work_dir") or os.path.join("work_dirs", config.name)) / "compile_perf"
