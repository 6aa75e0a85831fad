"""List the configs that come with hatdet, each with the first line of what it says of itself."""

from _start import start

start(__name__, "configs")
