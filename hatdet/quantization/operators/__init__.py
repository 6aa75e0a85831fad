"""What quantization knows of each operator: its spellings in torch, its form in training, its way to integers."""
