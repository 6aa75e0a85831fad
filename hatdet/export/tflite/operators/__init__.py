"""The forms of the operators in ``.tflite`` files."""
