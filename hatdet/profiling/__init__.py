"""Size, work and time of models."""

from hatdet.profiling.calops import OpsReport, OpsRow, count_ops, parse_shape

__all__ = ["OpsReport", "OpsRow", "count_ops", "parse_shape"]
