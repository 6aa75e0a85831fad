"""Compare model files on this machine: latency, throughput, size, memory and AP, as a table and CSV."""

from _start import start

start(__name__, "benchmark")
