"""The quantized network: calibration and training in the integers that ship."""
