"""Which modules are mutated, and which unit tests have to notice."""

from __future__ import annotations

from pathlib import Path

# Folder of tests/unit -> the modules it has to guard: files, or patterns of files, each of which must exist.
CORE: dict[str, tuple[str, ...]] = {
    "data": (
        "hatdet/data/samplers.py",
        "hatdet/data/loader.py",
        "hatdet/data/collate.py",
        "hatdet/data/transforms/*.py",
        "hatdet/data/packers/mscoco.py",
        "hatdet/data/packers/assemble.py",
        "hatdet/data/packers/records.py",
        "hatdet/data/packers/workers.py",
        "hatdet/data/packers/store/*.py",
    ),
    "models": (
        "hatdet/models/task_modules/*.py",
        "hatdet/models/losses/*.py",
    ),
    "engine": (
        "hatdet/engine/callbacks/ema.py",
        "hatdet/engine/callbacks/checkpoint.py",
        "hatdet/engine/callbacks/schedules/*.py",
        "hatdet/engine/checkpoints/resume.py",
    ),
    "metrics": ("hatdet/metrics/coco*.py",),
    "ops": ("hatdet/ops/*.py",),
    "utils": ("hatdet/utils/checkpoints/*.py",),
    "integer": (
        "hatdet/integer/arithmetic.py",
        "hatdet/integer/executor.py",
        "hatdet/integer/kernels.py",
        "hatdet/integer/operators/**/*.py",
    ),
    "quantization": (
        "hatdet/quantization/operators/**/*.py",
        "hatdet/quantization/qat/fake_quant.py",
        "hatdet/quantization/qat/kernel_scales.py",
        "hatdet/quantization/qat/observers.py",
    ),
    "export": (
        "hatdet/export/tflite/int8*.py",
        "hatdet/export/tflite/writer.py",
        "hatdet/export/tflite/operators/*.py",
    ),
}


def core_files(root: Path) -> dict[str, str]:
    """Path of each core module under ``root`` -> its folder of tests/unit. A pattern without a file is refused."""
    files: dict[str, str] = {}
    for folder, patterns in CORE.items():
        for pattern in patterns:
            found = [path for path in sorted(root.glob(pattern)) if path.name != "__init__.py"]
            if not found:
                raise SystemExit(
                    f"{pattern} (tests/mutants/core.py) is no file here; name the module's new place there"
                )
            files.update({path.relative_to(root).as_posix(): folder for path in found})
    return files
