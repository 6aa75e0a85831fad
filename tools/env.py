"""What a bug report needs: versions, system, processor, GPUs, and the optional packages with what each is for."""

from _start import start

start(__name__, "env")
