"""Running the transforms of a data set, with an error that names image and transform where one of them fails."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from hatdet.data.transforms.sample import Context, Sample, Transform
from hatdet.utils.errors import UserError
from hatdet.utils.faults import explain


def apply(pipeline: Sequence[Transform], sample: Sample, ctx: Context) -> Sample | None:
    """``sample`` after all transforms; None where one of them dropped it.

    Raises:
        UserError: a transform raised, or returned something else. What the machine lacks (memory) passes as it is.
    """
    for transform in pipeline:
        try:
            result = transform(sample, ctx)
        except UserError:
            raise
        except Exception as error:
            if explain(error) is not None:
                raise
            raise UserError(
                f"{_name(transform)} failed on image {sample.file_name} (id {sample.img_id}): "
                f"{type(error).__name__}: {error} ({_place(error)}); mend the transform, or leave the image out"
            ) from error
        if result is None:
            return None
        if not isinstance(result, Sample):
            raise UserError(
                f"{_name(transform)} returned a {type(result).__name__} for image {sample.file_name}; a transform "
                "returns the sample, or None to leave it out"
            )
        sample = result
    return sample


def _name(transform: object) -> str:
    kind = getattr(transform, "__name__", type(transform).__name__)  # a function, or an object of a class
    return f"the transform {kind}"


def _place(error: Exception) -> str:
    """File and line where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{last.filename}:{last.lineno}"
