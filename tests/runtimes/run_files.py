"""Run .tflite files in a LiteRT (or TensorFlow Lite); numpy is all that it needs besides.

python run_files.py MODULE FOLDER OUT: for every FOLDER/*.tflite with its input codes beside it (.npy), by the kernels
that a program may ask for, the outputs into OUT.npz, and into OUT.json the version, what delegates run and what is
refused.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

KERNELS = {
    "reference": ("BUILTIN_REF", 1),
    "default": ("AUTO", 1),
    "default, 4 threads": ("AUTO", 4),
    "no delegate": ("BUILTIN_WITHOUT_DEFAULT_DELEGATES", 1),
}


def main(name: str, folder: Path, out: Path) -> None:
    module = importlib.import_module(name)
    root = importlib.import_module(name.split(".")[0])
    record: dict[str, Any] = {"module": root.__name__, "version": getattr(root, "__version__", "?")}
    arrays: dict[str, Any] = {}
    for path in sorted(folder.glob("*.tflite")):
        codes = np.load(path.with_suffix(".npy"))
        for kernels, (resolver, threads) in KERNELS.items():
            key = f"{path.stem}/{kernels}"
            try:
                model = module.Interpreter(
                    model_content=path.read_bytes(),
                    num_threads=threads,
                    experimental_op_resolver_type=getattr(module.OpResolverType, resolver),
                )
                model.allocate_tensors()
                outputs = []
                for image in codes:
                    model.set_tensor(model.get_input_details()[0]["index"], image[None])
                    model.invoke()
                    outputs.append([model.get_tensor(one["index"]) for one in model.get_output_details()])
            except (AttributeError, RuntimeError, ValueError) as error:
                record[key] = {"refused": " ".join(str(error).split())}
                continue
            operators = [op["op_name"] for op in model._get_ops_details()]
            record[key] = {"delegates": operators.count("DELEGATE"), "operators": len(operators)}
            for number, values in enumerate(zip(*outputs, strict=True)):
                arrays[f"{key}/{number}"] = np.concatenate(values)
    np.savez_compressed(out.with_suffix(".npz"), **arrays)
    out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
