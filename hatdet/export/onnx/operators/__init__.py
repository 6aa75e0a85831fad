"""The forms of the operators in integer ONNX files."""
