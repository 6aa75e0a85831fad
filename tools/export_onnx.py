"""Write a stage's model as ONNX and compare it with the model under onnxruntime."""

from _start import start

start(__name__, "export_onnx")
