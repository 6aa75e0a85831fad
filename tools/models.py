"""Models by what they cost on a device and how good they were: hatdet's own table, or one of your runs."""

from _start import start

start(__name__, "models")
