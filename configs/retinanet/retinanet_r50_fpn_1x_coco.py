"""RetinaNet, ResNet-50, FPN, 12 epochs on COCO, in MMDetection's vocabulary and file layout.

hatdet makes its four stages of it: train.py, then --stage calibration, --stage qat, and predict.py --stage int_infer.
37.969 M parameters with 80 classes. COCO AP published by MMDetection: 36.5 (theirs, not measured here).
"""

_base_ = [
    "../_base_/models/retinanet_r50_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/default_runtime.py",
]
# optimizer
optimizer = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0001)
