"""Config files: executable Python, options that rebind names, validation before a build, and a dump."""
