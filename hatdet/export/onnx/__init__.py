"""The ONNX files: float, QDQ and exact integers."""
