"""What is run: a file, input codes, and what the torch executor computes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hatdet.export.metadata import file_names
from hatdet.export.runtimes.integer import to_nhwc, with_all_outputs
from hatdet.export.tflite import int8 as tflite
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError
from tests.helpers.operator_files import files

Codes = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """One file in a folder, with its codes and the expected outputs.

    Attributes:
        row: the line of the table that it belongs to. name: of its files. kernels: ``default`` or ``reference``,
            those of its arithmetic. threads: numbers to run it with. is_network: a whole model's file.
    """

    row: str
    name: str
    folder: str
    kernels: str
    threads: tuple[int, ...]
    is_network: bool = False

    @property
    def model(self) -> Path:
        return Path(self.folder) / f"{self.name}.tflite"

    @property
    def codes(self) -> Path:
        """(pictures, H, W, C) int8."""
        return Path(self.folder) / f"{self.name}.npy"

    @property
    def expected(self) -> dict[int, Codes]:
        """By the position of the output in the file; an output that the graph does not know (the sigmoid inside a
        SiLU) is left out."""
        with np.load(Path(self.folder) / f"{self.name}.npz") as arrays:
            return {int(key): arrays[key] for key in arrays.files}

    def jobs(self) -> Iterator[dict[str, Any]]:
        """What the emulated machine is told."""
        for threads in self.threads:
            yield {
                "name": self.name, "model": str(self.model), "codes": str(self.codes), "kernels": self.kernels,
                "threads": threads,
            }  # fmt: skip


def threads_of(graph: IntGraph) -> tuple[int, ...]:
    """Default kernels work with one thread and with four; the reference ones know one."""
    return (1, 4) if graph.profile.litert == "default" else (1,)


def write_case(
    folder: Path,
    row: str,
    name: str,
    graph: IntGraph,
    codes: Codes,
    model: bytes | None = None,
    everything: bool = True,
) -> Case:
    """Write the files of a case: ``codes`` (B, C, H, W) int8; ``model``: the exported file, None: written from the
    graph; ``everything``: a copy of it whose activations are all outputs."""
    is_network = model is not None
    model = tflite.write(graph) if model is None else model
    model = with_all_outputs(model) if everything else model
    (folder / f"{name}.tflite").write_bytes(model)
    np.save(folder / f"{name}.npy", to_nhwc(codes))
    values = computed(graph, codes)
    expected = {str(i): values[tensor] for i, tensor in enumerate(outputs_of(model)) if tensor in values}
    if not expected:
        raise AssertionError(f"{name}: no output of the file is a tensor of the graph")
    np.savez(folder / f"{name}.npz", **expected)  # type: ignore[arg-type]
    return Case(row, name, str(folder), graph.profile.litert, threads_of(graph), is_network)


def computed(graph: IntGraph, codes: Codes) -> dict[str, Codes]:
    """Every tensor of the torch executor by its name in the file, (B, H, W, C)."""
    executor, names = IntExecutor(graph), file_names(graph)
    parts = [executor(torch.from_numpy(codes[i : i + 1].copy()), keep=True) for i in range(len(codes))]
    return {names[key]: np.concatenate([to_nhwc(part[key]) for part in parts]) for key in parts[0]}


def outputs_of(model: bytes) -> list[str]:
    """Names of the outputs of a file, in order."""
    graph = load_schema().Model.GetRootAsModel(model, 0).Subgraphs(0)
    return [graph.Tensors(graph.Outputs(i)).Name().decode() for i in range(graph.OutputsLength())]


def operator_cases(folder: Path, profiles: Sequence[str] = ("tflite_ref", "xnnpack")) -> tuple[list[Case], int]:
    """One-operator files of both arithmetics, and how many of the list the arithmetic itself refuses."""
    folder.mkdir(parents=True, exist_ok=True)
    cases, refused = [], 0
    for profile in profiles:
        for number, (family, make) in enumerate(files(profile)):
            try:
                graph, codes = make()
                cases.append(write_case(folder, f"{profile}: {family}", f"{profile}_{number:03d}", graph, codes))
            except UserError:
                refused += 1
    return cases, refused
