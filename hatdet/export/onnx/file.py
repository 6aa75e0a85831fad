"""ONNX files: building a graph node by node, metadata inside and beside it, onnxruntime sessions that run it."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hatdet.export.files import sidecar, write_atomic
from hatdet.export.metadata import to_json
from hatdet.export.seal import BLANK, NAME, SEALED, is_whole, seal
from hatdet.utils.errors import UserError

DEFAULT_OPSET = 13
"""The first with quantization per channel; older tool chains still read it."""

MIN_OPSET, MAX_OPSET = 11, 20
MIN_INTEGER_OPSET = 13
EXACT_SUMS = ("session.x64quantprecision", "1")
"""On processors with AVX2 or AVX-512 but no VNNI, onnxruntime's 8-bit convolutions add pairs of products in 16 bits,
which saturate: 37 % of a layer's codes came out otherwise, by up to 43. This option makes it take wider sums there."""


def check_opset(opset: int, least: int = MIN_OPSET) -> int:
    """``opset``, where the writers know it.

    Raises:
        UserError: it is out of range.
    """
    if not least <= opset <= MAX_OPSET:
        why = "; quantization per channel begins with 13" if least == MIN_INTEGER_OPSET else ""
        raise UserError(
            f"--opset {opset} is not available for this file: use {least} to {MAX_OPSET} (default: "
            f"{DEFAULT_OPSET}){why}"
        )
    return opset


def load_onnx() -> Any:
    """The package ``onnx``.

    Raises:
        UserError: it is not installed.
    """
    return _load("onnx", "writing ONNX files")


def load_runtime() -> Any:
    """The package ``onnxruntime``.

    Raises:
        UserError: it is not installed.
    """
    return _load("onnxruntime", "running ONNX files")


def _load(package: str, purpose: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{purpose} needs {package} ({error}); install it with: pip install {package}") from error


class OnnxGraph:
    """An ONNX graph under construction. Equal constants are stored once.

    Args:
        opset: version of the operator set.
    """

    def __init__(self, opset: int) -> None:
        self.onnx = load_onnx()
        self.opset = opset
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes, str], str] = {}
        self._initializers: list[Any] = []
        self._names: set[str] = set()

    def fresh(self, name: str) -> str:
        """``name``, with a number where it is taken; it is taken from now on."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def reserve(self, names: Iterable[str]) -> None:
        """Keep these names for nodes that ask for exactly them (``node(..., exact=True)``)."""
        self._names.update(names)

    def constant(self, name: str, value: np.ndarray, own: bool = False) -> str:
        """Name of the initializer that holds ``value``; 0-d arrays stay 0-d. ``own``: shared with no other reader."""
        value = np.asarray(value)
        key = (str(value.dtype), value.shape, value.tobytes(), name if own else "")
        if key not in self._constants:
            self._constants[key] = self.fresh(name)
            self._initializers.append(self.onnx.numpy_helper.from_array(value, self._constants[key]))
        return self._constants[key]

    def node(self, kind: str, inputs: list[str], output: str, exact: bool = False, **attributes: Any) -> str:
        """Add an operator with one output; returns its name: ``output``, or a variant where that is taken.

        ``exact``: the name was reserved for this node.
        """
        name = output if exact else self.fresh(output)
        self._nodes.append(self.onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def cast(self, value: str, dtype: str, output: str, exact: bool = False) -> str:
        """Add a Cast to numpy's ``dtype``."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.node("Cast", [value], output, exact, to=kind)

    def model(self, name: str, inputs: list[Any], outputs: list[Any]) -> Any:
        """The finished ``ModelProto``; ``inputs`` and ``outputs`` are made by :meth:`value`."""
        helper = self.onnx.helper
        graph = helper.make_graph(self._nodes, name, inputs, outputs, self._initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))

    def value(self, name: str, dtype: str, shape: tuple[int, ...]) -> Any:
        """Description of an input or output; ``dtype`` is numpy's name."""
        kind = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.onnx.helper.make_tensor_value_info(name, kind, list(shape))


def finish(model: Any, metadata: dict[str, Any], path: str | os.PathLike[str] | None = None) -> bytes:
    """Put the metadata into a model, check it and write it.

    Args:
        model: a ``ModelProto``.
        metadata: plain values; each key becomes one of the file's properties, its value as JSON.
        path: where the model goes (atomically), with ``<name>.json`` beside it; None: bytes only.

    Returns:
        The bytes of the model: the same model gives the same bytes.

    Raises:
        UserError: onnx's checker refuses the model.
    """
    import hatdet

    onnx = load_onnx()
    model.producer_name, model.producer_version = "hatdet", hatdet.__version__
    del model.metadata_props[:]
    properties = sorted({**metadata, NAME: BLANK, SEALED: True}.items())
    onnx.helper.set_model_props(model, {k: json.dumps(v, ensure_ascii=False) for k, v in properties})
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UserError(f"onnx's checker refuses the model: {error}; try another --opset") from error
    data = seal(bytes(model.SerializeToString(deterministic=True)))
    if path is not None:
        write_atomic(Path(path), data)
        write_atomic(sidecar(Path(path)), to_json(metadata).encode("utf-8"))
    return data


def open_session(model: bytes | str | os.PathLike[str], optimize: bool = True, name: str = "the model") -> Any:
    """An onnxruntime session on the CPU with one thread: the options that every check and evaluation here uses.

    Args:
        model: bytes of the file, or its path.
        optimize: onnxruntime's graph optimizations, as they are by default.
        name: how messages call bytes.

    Raises:
        UserError: onnxruntime is not installed, or cannot read the file; it was changed after its export.
    """
    runtime = load_runtime()
    source = model if isinstance(model, bytes) else Path(model).read_bytes()
    if not isinstance(model, bytes):
        name = str(model)
    try:
        is_whole(source)
    except UserError as error:
        raise UserError(f"onnxruntime cannot read {name}: {error}") from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints that it tries once more
            session = _opened(runtime, source, optimize)
        _ = session.get_modelmeta().custom_metadata_map  # its texts can be read, and those of the next line
        _ = [value.name for value in (*session.get_inputs(), *session.get_outputs())]
        return session
    except Exception as error:  # its exceptions share no base class of their own
        raise UserError(
            f"onnxruntime cannot read {name}: {first_line(error)}; "
            "export it again, or name another file"
        ) from error


def _opened(runtime: Any, source: bytes, optimize: bool) -> Any:
    """With :data:`EXACT_SUMS`, or without where onnxruntime fails at it: at weights that several nodes read."""
    for exact in (True, False):
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # errors are raised as exceptions besides
        if exact:
            options.add_session_config_entry(*EXACT_SUMS)
        if not optimize:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception:  # its exceptions share no base class of their own
            if not exact:
                raise
    raise AssertionError("the second form returns or raises")


def first_line(error: Exception) -> str:
    """The first line of an exception's text, for a message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def session_metadata(session: Any) -> dict[str, Any]:
    """The metadata that :func:`finish` put inside a model; empty for files of other makers."""
    entries = session.get_modelmeta().custom_metadata_map
    if "hatdet_version" not in entries:
        return {}
    try:
        return {key: json.loads(value) for key, value in entries.items() if key not in (NAME, SEALED)}
    except json.JSONDecodeError:
        return {}


def read_metadata(model: bytes | str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata inside an ONNX file that hatdet wrote.

    Raises:
        UserError: onnxruntime is not installed or cannot read the file, or it carries no hatdet metadata.
    """
    found = session_metadata(open_session(model, optimize=False))
    if not found:
        raise UserError("the model carries no hatdet metadata; export it with tools/export.py or tools/export_onnx.py")
    return found
