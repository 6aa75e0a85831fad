"""Config files: executable Python, options that rebind names, validation before a build, and a dump."""

from hatdet.config.check import Problem, check
from hatdet.config.config import Config, MissingNameError
from hatdet.config.dump import dump
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.utils.errors import ConfigError

__all__ = [
    "Config",
    "ConfigError",
    "MissingNameError",
    "Problem",
    "check",
    "dump",
    "load_config",
    "parse_options",
]
