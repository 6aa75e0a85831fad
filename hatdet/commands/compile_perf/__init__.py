"""The int8 model compiled for an Ethos-U, and what it costs there."""
