"""Where quantization loses accuracy, layer by layer."""
