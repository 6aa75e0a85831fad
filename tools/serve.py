"""Look at what models find, side by side, on a page in the browser of this machine."""

from _start import start

start(__name__, "serve")
