"""``--emit-decoder``: the decoders of an exported model, with the config's preprocessing and post-processing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatdet.export.decoder.input import preprocessing
from hatdet.export.decoder.model import Overrides, check_coding
from hatdet.export.decoder.write import emit
from hatdet.export.metadata import build_metadata
from hatdet.integer.graph import IntGraph
from hatdet.utils.errors import UserError


def device_metadata(loader: Any, task: Any, graph: IntGraph, classes: list[str] | None = None) -> dict[str, Any]:
    """What a device must know: the graph's metadata with the config's preprocessing, post-processing and classes.

    Args:
        loader: validation's; its data set has ``pipelines``.
        task: the detector around the graph.
        classes: names by label; None: the metadata's.

    Raises:
        UserError: there are no boxes to decode to, or the validation transforms do what decoders cannot.
    """
    facts: Mapping[str, Any] = task.metadata()
    if callable(decoding := getattr(task, "decoder_tables", None)):
        facts = {**facts, "decoding": decoding(build_metadata(graph)["outputs"])}
    check_coding(facts)
    metadata = {**facts, **graph.metadata, "post_process": facts.get("post_process")}
    pipelines = getattr(getattr(loader, "dataset", None), "pipelines", None)
    if not pipelines:
        raise UserError(
            "the validation data has no list of transforms, so a decoder cannot know what is done to images"
            "; give its data set transforms"
        )
    metadata["preprocessing"] = preprocessing(pipelines[0], metadata)
    if classes is not None:
        metadata["classes"] = classes
    return metadata


def emit_decoder(graph: IntGraph, metadata: Mapping[str, Any], stem: Path, overrides: Overrides) -> list[Path]:
    """Write ``<stem>_decoder.py`` and ``<stem>_decoder.h``, and say so; ``metadata`` is :func:`device_metadata`'s."""
    paths = emit(graph, metadata, stem, overrides=overrides)
    for path in paths:
        print(f"written: {path}", flush=True)
    return paths
