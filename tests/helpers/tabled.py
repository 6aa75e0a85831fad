"""Decoders by tables in tests: written for any metadata, loaded as a module or compiled, and run."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hatdet.export.decoder.model import Overrides
from hatdet.export.decoder.write import emit
from tests.helpers.decoders import DETECTION, FLAGS, Found, load_module

HARNESS = r"""
#include <stdio.h>
#include <stdlib.h>
#include "hdx_decoder.h"
static hdx_workspace work;
static hdx_detection found[HDX_MAX_DETECTIONS];
int main(void) {
    static const size_t sizes[HDX_OUTPUTS] = {%s};
    int32_t size[2];
    while (fread(size, sizeof *size, 2, stdin) == 2) {
        const hdx_code *outputs[HDX_OUTPUTS] = {0};
        void *all[HDX_OUTPUTS];
        for (int i = 0; i < HDX_OUTPUTS; i++) {
            outputs[i] = all[i] = malloc(sizes[i]);
            if (fread(all[i], 1, sizes[i], stdin) != sizes[i]) abort();
        }
        int32_t count = hdx_decode(outputs, size[0], size[1], &work, found);
        fwrite(&count, sizeof count, 1, stdout);
        fwrite(found, sizeof *found, (size_t)count, stdout);
        for (int i = 0; i < HDX_OUTPUTS; i++) free(all[i]);
    }
    return sizeof(hdx_workspace) <= HDX_WORKSPACE_BYTES ? 0 : 3;
}
"""


class Decoders:
    """Both decoders of a model."""

    def __init__(self, folder: Path, metadata: dict[str, Any], overrides: Overrides | None = None) -> None:
        self.folder, self.metadata = folder, metadata
        python_file, self.header = emit(None, metadata, folder / "hdx", overrides=overrides)
        self.module = load_module(python_file)

    def numpy(self, codes: list[np.ndarray], file: tuple[int, int]) -> Found:
        found = self.module.decode(codes, file)
        return found["boxes"], found["scores"], found["labels"]

    def c(self, cases: list[tuple[list[np.ndarray], tuple[int, int]]]) -> list[Found]:
        if shutil.which("gcc") is None:
            pytest.skip("gcc is not installed: the C decoder cannot be compiled")
        sizes = ", ".join(str(int(np.prod(info["shape"]))) for info in self.metadata["outputs"])
        (self.folder / "harness.c").write_text(HARNESS % sizes)
        program = self.folder / "harness"
        command = ["gcc", *FLAGS, str(self.folder / "harness.c"), "-o", str(program), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        data = b"".join(
            np.array(file, np.int32).tobytes() + b"".join(values.tobytes() for values in codes) for codes, file in cases
        )
        run = subprocess.run([str(program)], input=data, capture_output=True)
        assert run.returncode == 0, run.stderr.decode()
        output, results = run.stdout, []
        for _ in cases:
            count = int(np.frombuffer(output, np.int32, 1)[0])
            rows = np.frombuffer(output, DETECTION, count, offset=4)
            results.append((rows["box"].reshape(-1, 4), rows["score"], rows["label"].astype(np.int64)))
            output = output[4 + count * DETECTION.itemsize :]
        assert not output
        return results
