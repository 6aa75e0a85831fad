"""List the packed copies of data sets in caches, and remove those that nothing uses any more."""

from _start import start

start(__name__, "clean_cache")
