"""Runs on the emulated machine: .tflite files with LiteRT's interpreter, every output to a file of numbers.

    python guest.py JOBS.json OUT_FOLDER

Jobs: a list of {"name", "model", "codes", "kernels", "threads"}. Of a job the outputs are OUT_FOLDER/<n>.npz, in the
order of the file's outputs, the pictures along axis 0; OUT_FOLDER/said.jsonl has a line for each job: its name, the
seconds of one picture, and how many parts of it a delegate ran, or the error. numpy and ai_edge_litert are all it has:
nothing of hatdet is imported.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np

warnings.simplefilter("ignore")


def run(job: dict[str, Any], out: str) -> dict[str, Any]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kinds = {"default": OpResolverType.BUILTIN, "reference": OpResolverType.BUILTIN_REF}
    interpreter = Interpreter(
        model_path=job["model"], num_threads=job["threads"], experimental_op_resolver_type=kinds[job["kernels"]]
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    targets = [detail["index"] for detail in interpreter.get_output_details()]
    images, found, began = np.load(job["codes"]), [], time.perf_counter()
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        found.append([interpreter.get_tensor(target) for target in targets])
    seconds = (time.perf_counter() - began) / len(images)
    np.savez(out, *(np.concatenate(parts) for parts in zip(*found)))
    operators = [detail["op_name"] for detail in interpreter._get_ops_details()]
    return {"seconds": seconds, "delegates": sum("DELEGATE" in name.upper() for name in operators)}


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    with open(f"{sys.argv[2]}/said.jsonl", "w", encoding="utf-8") as out:
        for number, job in enumerate(jobs):
            try:
                said = run(job, f"{sys.argv[2]}/{number}.npz")
            except (RuntimeError, ValueError) as error:
                said = {"error": " ".join(str(error).split())[:300]}
            out.write(json.dumps({"name": job["name"], **said}) + "\n")
            out.flush()  # an emulator that stops leaves word of how far it came


if __name__ == "__main__":
    main()
