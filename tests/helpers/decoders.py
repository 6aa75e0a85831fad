"""Exported decoders in tests: made for any raw maps, loaded as a module or compiled, and run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from hatdet.export.decoder.model import CODES, Overrides
from hatdet.export.decoder.write import emit

FLAGS = "-std=c99 -O0 -Wall -Wextra -Werror -pedantic -fsanitize=address,undefined -fno-sanitize-recover=all".split()
HARNESS = r"""
#include <stdio.h>
#include <stdlib.h>
#include "hdx_decoder.h"
static hdx_workspace work;
static hdx_detection found[HDX_MAX_DETECTIONS];
static int8_t input[HDX_INPUT_HEIGHT * HDX_INPUT_WIDTH * HDX_INPUT_CHANNELS];
static void *take(size_t bytes) {
    void *data = malloc(bytes ? bytes : 1);
    if (fread(data, 1, bytes, stdin) != bytes) abort();
    return data;
}
static void letterbox(const int32_t size[2], int32_t bytes) {
    uint8_t *picture = take((size_t)size[0] * (size_t)size[1] * (size_t)bytes);
    if (bytes == HDX_INPUT_CHANNELS) hdx_letterbox(picture, size[0], size[1], bytes * size[1], &work, input);
#if HDX_INPUT_CHANNELS == 1
    else hdx_letterbox_bgr(picture, size[0], size[1], bytes * size[1], &work, input);
#endif
    fwrite(input, 1, sizeof input, stdout);
    free(picture);
}
static void decode(const int32_t size[2]) {
    const hdx_code *outputs[HDX_OUTPUTS] = {0};
    void *all[HDX_OUTPUTS] = {0};
    for (int i = 0; i < HDX_LEVELS; i++) {
        const hdx_level *level = &hdx_levels[i];
        all[level->cls] = take(sizeof(hdx_code) * (size_t)(level->height * level->width * HDX_PAIRS));
        all[level->box] = take(sizeof(hdx_code) * (size_t)(level->height * level->width * 4 * HDX_ANCHORS));
        outputs[level->cls] = all[level->cls];
        outputs[level->box] = all[level->box];
#ifdef HDX_SCORE_THRESHOLD
        all[level->factor] = take(sizeof(hdx_code) * (size_t)(level->height * level->width * HDX_ANCHORS));
        outputs[level->factor] = all[level->factor];
#endif
    }
    int32_t count = hdx_decode(outputs, size[0], size[1], &work, found);
    fwrite(&count, sizeof count, 1, stdout);
    fwrite(found, sizeof *found, (size_t)count, stdout);
    for (int i = 0; i < HDX_OUTPUTS; i++) free(all[i]);
}
int main(int argc, char **argv) {
    int32_t size[2];
    while (fread(size, sizeof *size, 2, stdin) == 2)
        if (argc > 1) letterbox(size, argv[1][0] - '0'); else decode(size);
    return sizeof(hdx_workspace) == HDX_WORKSPACE_BYTES ? 0 : 3;
}
"""
DETECTION = np.dtype([("box", "<f4", 4), ("score", "<f4"), ("label", "<i4")])
Found = tuple[np.ndarray, np.ndarray, np.ndarray]


def file_metadata(
    detector: Any, size: tuple[int, int], scales: list[tuple[float, int]], dtype: str = "int8", **more: Any
) -> dict[str, Any]:
    """Metadata as an exported file has it: the detector's, and (scale, zero point) of each output."""
    metadata = {**detector.metadata(), "profile": "tflite_ref", **more}
    strides, outputs = metadata["strides"], []
    for number, (name, (scale, zero)) in enumerate(zip(metadata["output_names"], scales, strict=True)):
        stride = strides[number % len(strides)]
        channels = (metadata["num_classes"], 4, 1)[number // len(strides)] * metadata.get("num_anchors", 1)
        shape = [1, -(-size[0] // stride), -(-size[1] // stride), channels]
        outputs.append(
            {"name": name, "shape": shape, "dtype": dtype, "scale": float(np.float32(scale)), "zero_point": zero}
        )
    channels = 1 if metadata.get("input_color") == "gray" else 3
    metadata["input"] = {"shape": [1, *size, channels], "dtype": "int8", "scale": 1 / 255, "zero_point": -128}
    metadata["outputs"] = outputs
    return metadata


def toolbox(detector: Any, metadata: dict[str, Any], codes: list[np.ndarray], file: tuple[int, int]) -> Found:
    """What the toolbox's own post-processing makes of raw codes, for a picture of the size ``file`` (h, w)."""
    height, width = metadata["input"]["shape"][1:3]
    maps = []
    for info, values in zip(metadata["outputs"], codes, strict=True):
        real = (torch.from_numpy(values).to(torch.float32) - info["zero_point"]) * info["scale"]
        maps.append(real.permute(0, 3, 1, 2))
    from hatdet.data.transforms.sample import fit_size

    inside = fit_size(file, (height, width))
    scale = torch.tensor([[inside[1] / file[1], inside[0] / file[0]]], dtype=torch.float32)
    batch = {"img": torch.zeros(1, 3, height, width), "img_size": torch.tensor([inside]), "scale_factor": scale}
    (found,) = detector.predict(tuple(maps), batch)
    return found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy()


def random_codes(metadata: dict[str, Any], rng: np.random.Generator, kind: str = "any") -> list[np.ndarray]:
    """Raw outputs: ``any`` code, ``few`` values (ties), ``lowest`` or ``highest``."""
    maps = []
    for info in metadata["outputs"]:
        low, high = CODES[info["dtype"]]
        if kind == "few" and info["name"].startswith("cls"):
            values = rng.choice([low, high // 2, high // 2 + 1, high], info["shape"])
        elif kind in ("lowest", "highest"):
            values = np.full(info["shape"], low if kind == "lowest" else high)
        else:
            values = rng.integers(low, high + 1, info["shape"])
        maps.append(values.astype(info["dtype"]))
    return maps


class Decoders:
    """Both decoders of a model, in a folder of their own; the C program is compiled on first use."""

    def __init__(self, folder: Path, metadata: dict[str, Any], overrides: Overrides | None = None) -> None:
        self.folder, self.metadata = folder, metadata
        self.python_file, self.header = emit(None, metadata, folder / "hdx", overrides=overrides)
        self.module = load_module(self.python_file)
        self._program: Path | None = None

    def numpy(self, codes: list[np.ndarray], file: tuple[int, int]) -> Found:
        found = self.module.decode(codes, file)
        return found["boxes"], found["scores"], found["labels"]

    @property
    def program(self) -> Path:
        if self._program is None:
            if shutil.which("gcc") is None:
                pytest.skip("gcc is not installed: the C decoder cannot be compiled")
            (self.folder / "harness.c").write_text(HARNESS)
            program = self.folder / "harness"
            command = ["gcc", *FLAGS, str(self.folder / "harness.c"), "-o", str(program), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            self._program = program
        return self._program

    def c(self, codes: list[np.ndarray], file: tuple[int, int]) -> Found:
        return self.c_many([(codes, file)])[0]

    def c_many(self, cases: Sequence[tuple[list[np.ndarray], tuple[int, int]]]) -> list[Found]:
        """Several images by one process: a sanitized one takes a while to start."""
        data = b""
        for codes, file in cases:
            levels = len(self.metadata["strides"])
            ordered = [codes[i] for level in range(levels) for i in range(level, len(codes), levels)]
            data += np.array(file, np.int32).tobytes() + b"".join(values.tobytes() for values in ordered)
        output, results = self._run([], data), []
        for _ in cases:
            count = int(np.frombuffer(output, np.int32, 1)[0])
            rows = np.frombuffer(output, DETECTION, count, offset=4)
            results.append((rows["box"].reshape(-1, 4), rows["score"], rows["label"].astype(np.int64)))
            output = output[4 + count * DETECTION.itemsize :]
        assert not output
        return results

    def c_letterbox(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        data = b"".join(np.array(i.shape[:2], np.int32).tobytes() + i.tobytes() for i in images)
        bytes_of_a_pixel = str(images[0].shape[2] if images[0].ndim == 3 else 1)
        codes = np.frombuffer(self._run([bytes_of_a_pixel], data), np.int8)
        return list(codes.reshape(-1, 1, *self.metadata["input"]["shape"][1:]))

    def _run(self, arguments: list[str], data: bytes) -> bytes:
        done = subprocess.run([str(self.program), *arguments], input=data, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout


def load_module(path: Path) -> ModuleType:
    """A Python file as a module, without hatdet on its mind."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same(ours: Found, theirs: Found) -> None:
    """Equal to the last bit, in the same order."""
    for name, a, b in zip(("boxes", "scores", "labels"), ours, theirs, strict=True):
        assert a.shape == b.shape, (name, a.shape, b.shape)
        assert np.array_equal(a, b), (name, np.abs(a - b).max())
