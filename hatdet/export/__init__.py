"""Ways out of the toolbox: the ``.tflite`` file, the runtimes that execute it, and the proof that all agree."""
