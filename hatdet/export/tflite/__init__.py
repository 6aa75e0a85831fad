"""The TensorFlow Lite files: int8 and float."""
