"""The self-test of an exported model as a Python script, with its pictures, CRCs and boxes in an ``.npz`` beside it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.export.bundle import selftest_script
from hatdet.export.bundle.expected import Expected, kernels_of, litert_of
from hatdet.export.bundle.selftest import crc, named


def selftest_files(prefix: str, names: Sequence[str], expected: Expected, model: bytes) -> dict[str, bytes]:
    """``<prefix>_selftest.py`` and ``<prefix>_selftest.npz``; the same model and pictures always give the same bytes.

    Args:
        names: of the outputs, in the order of the file. model: the file, ``<prefix>.tflite``.
    """
    text = Path(str(selftest_script.__file__)).read_text(encoding="utf-8")
    return {
        f"{prefix}_selftest.py": named(text, prefix).encode("utf-8"),
        f"{prefix}_selftest.npz": _data(names, expected, model),
    }


def _data(names: Sequence[str], expected: Expected, model: bytes) -> bytes:
    facts = {
        "sha256": hashlib.sha256(model).hexdigest(),
        "profiles": [_profile(name) for name in expected.outputs],
        "left_out": dict(expected.left_out),
        "outputs": [
            {"name": name, "dtype": codes.dtype.name, "shape": [1, *codes.shape[1:]]}
            for name, codes in zip(names, expected.own, strict=True)
        ],
    }
    crcs = [[[crc(codes[i]) for codes in outputs] for i in range(expected.pictures)]
            for outputs in expected.outputs.values()]  # fmt: skip
    arrays: dict[str, Any] = {"codes": expected.codes, "crcs": np.array(crcs, np.uint32)}
    arrays["facts"] = np.array(json.dumps(facts))
    if (found := expected.boxes) is not None:
        arrays["starts"] = np.cumsum([0, *(len(one["scores"]) for one in found)])
        arrays |= {name: np.concatenate([one[name] for one in found]) for name in ("boxes", "scores", "labels")}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _profile(name: str) -> dict[str, str]:
    """Its words, and the kernels of LiteRT that the script opens a file with."""
    return {"name": name, "kernels": kernels_of(name), "litert": litert_of(name)}
