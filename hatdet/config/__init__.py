"""Config files: executable Python, options that rebind names, validation before a build, and a dump."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "check": "Problem",
        "config": "Config MissingNameError",
        "load": "load_config",
        "options": "parse_options",
    },
)
