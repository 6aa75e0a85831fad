"""A stage's model as ONNX files."""
