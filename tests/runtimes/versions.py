"""What versions of LiteRT compute: the table of docs/runtimes.md, measured again.

``python -m tests.runtimes.versions 2.1.3 2.3.0 nightly --work FOLDER`` gets each with pip into FOLDER/VERSION, without
what it depends on, unless that is there (``nightly``: ai-edge-litert-nightly; ``tflite-runtime`` needs numpy 1 beside
it, ``tensorflow-cpu`` all that it depends on, 1.3 GB: install these there by hand). It runs files of both arithmetics
under every kind of kernels, 16-bit outputs among them, and prints how many values are not hatdet's. Networks have
random weights; every activation is an output.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import to_nhwc, with_all_outputs
from hatdet.export.runtimes.probe import probe_graph
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from tests.arm.cases import outputs_of
from tests.helpers.int_graphs import (
    GraphBuilder,
    in_profile,
    qparams,
    random_codes,
    random_network,
    small_network,
    wide,
)
from tests.integration.test_nano_activations import observing, shipped
from tests.runtimes.run_files import KERNELS

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("run_files.py")
ARITHMETICS = ("tflite_ref", "xnnpack")
LITERT = "ai_edge_litert.interpreter"
MODULES = {
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow-cpu": "tensorflow.lite.python.interpreter",
}
SEEDS = range(12)
ACTIVATIONS = ("ReLU", "SiLU")


def wide_network() -> IntGraph:
    """Outputs of 16 bits."""
    g = GraphBuilder((5, 14, 18), qparams(1 / 255, -128))
    g.conv("x", "stem", 8, stride=(2, 2))
    g.conv("stem", "y", 6, activation="relu6", q=wide(6 / 32767))
    g.conv("stem", "z", 8, activation="none", groups=8, q=wide(3e-4))
    return g.graph("y", "z")


def nano(activation: str, profile: str) -> tuple[IntGraph, np.ndarray]:
    """RTMDet-nano with channel attention at 64 pixels, calibrated on noise, and its input codes."""
    q, images = observing(activation, profile, ROOT, pictures=2)
    with torch.no_grad():
        q.run_network(q.preprocess(images))
    graph, codes = shipped(q.eval(), q.preprocess(images))
    return graph, codes.numpy()


def made_files(folder: Path, profile: str) -> dict[str, list[np.ndarray]]:
    """Write the files of one arithmetic with their input codes; the outputs that follow, by name of the file."""
    graphs = {"probe": probe_graph(profile), "small": small_network(), "16 bits": wide_network()}
    graphs |= {f"random {seed}": random_network(seed) for seed in SEEDS}
    models = {name: (in_profile(g, profile), random_codes((2, *g.tensors[g.inputs[0]].shape)))
              for name, g in graphs.items()}  # fmt: skip
    models |= {f"nano {activation}": nano(activation, profile) for activation in ACTIVATIONS}
    expected = {}
    for name, (graph, codes) in models.items():
        try:
            data = with_all_outputs(tflite.write(graph))
        except UserError as error:  # scales that this arithmetic does not take
            print(f"left out: {name} for {profile}: {error}", file=sys.stderr)
            continue
        stem = f"{name}, {profile}"
        (folder / f"{stem}.tflite").write_bytes(data)
        np.save(folder / f"{stem}.npy", to_nhwc(codes))
        own = {file: own for own, file in file_names(graph).items()}
        tensors = IntExecutor(graph)(torch.from_numpy(codes), keep=True)
        expected[stem] = [to_nhwc(tensors[own[one]]) if one in own else np.zeros(0) for one in outputs_of(data)]
    return expected


def installed(version: str, work: Path) -> Path:
    """The folder of a version, installed there once."""
    site = work / version
    if not site.exists():
        package = {"nightly": "ai-edge-litert-nightly", "tflite-runtime": "tflite-runtime"}.get(version)
        name = package or f"ai-edge-litert=={version}"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--pre", "--target", str(site)]
        subprocess.run([*pip, name], check=True)
    return site


def outcome(expected: dict[str, list[np.ndarray]], record: dict[str, dict[str, int]], arrays: object, kind: str,
            kernels: str) -> str:  # fmt: skip
    """Values that differ of those compared, in files of one arithmetic (``kind``: 16-bit ones or the others)."""
    compared = differing = largest = refused = 0
    for stem, outputs in expected.items():
        if stem.startswith("16 bits") != (kind == "16 bits"):
            continue
        if "refused" in record[f"{stem}/{kernels}"]:
            refused += 1
            continue
        for number, wanted in enumerate(outputs):
            if wanted.size:
                lsb = np.abs(arrays[f"{stem}/{kernels}/{number}"].astype(int) - wanted)  # type: ignore[index]
                compared += wanted.size
                differing += int(np.count_nonzero(lsb))
                largest = max(largest, int(lsb.max()))
    text = f"{differing} of {compared}" + (f" by at most {largest}" if differing else "") if compared else ""
    return "; ".join(part for part in (text, f"{refused} refused" if refused else "") if part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+")
    parser.add_argument("--work", type=Path, help="folder for installed versions (default: one that is removed)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        expected = {profile: made_files(files, profile) for profile in ARITHMETICS}
        print("| version | kernels | arithmetic of the files | int8: values differing | 16-bit outputs | delegates |")
        print("|---|---|---|---|---|---|")
        for version in args.versions:
            site, out = installed(version, args.work or Path(scratch)), Path(scratch) / "out"
            run = [sys.executable, str(CHILD), MODULES.get(version, LITERT), str(files), str(out)]
            subprocess.run(run, check=True, env={"PYTHONPATH": str(site.resolve()), "PATH": "/usr/bin:/bin"})
            record = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
            with np.load(out.with_suffix(".npz")) as arrays:
                for kernels in KERNELS:
                    for profile in ARITHMETICS:
                        numbers = [outcome(expected[profile], record, arrays, k, kernels) for k in ("8", "16 bits")]
                        small = record[f"small, {profile}/{kernels}"].get("delegates", "-")
                        name = f"{record['module']} {record['version']}"
                        print(f"| {name} | {kernels} | {profile} | {' | '.join(numbers)} | {small} |", flush=True)


if __name__ == "__main__":
    main()
