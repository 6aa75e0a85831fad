"""Size, work and time of models."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "calops": "OpsReport OpsRow count_ops parse_shape",
    },
)
