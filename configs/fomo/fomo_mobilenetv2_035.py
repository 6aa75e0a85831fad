"""FOMO with MobileNetV2 0.35: which cells of 8 x 8 pixels hold the middle of an object; for counting, not for boxes.

The network is MobileNetV2 with a width of 0.35, cut at stride 8 behind the 1x1 expansion of its seventh block (Keras
calls that map block_6_expand_relu), a 1x1 convolution of 32 channels with ReLU6, and one 1x1 convolution with a logit
for background and for each class: 19 010 parameters with one class (33 more for each further one), of which 1744 are
those of batch norms, which folding turns into 872 biases. MACs at 96 x 96 with one class: 5 868 288; they grow with
the area: 23 473 152 at 192 x 192. On gray pictures 18 722 parameters and 5 204 736 MACs at 96 x 96.

The recipe is RTMDet's "small" (docs/recipes.md); the best weights are those with the best F1 of points
(CentroidMetric), which is what this model is for. AP of its boxes, which are single cells, is near 0. Options are those
of configs/_base_/rtmdet.py but for the network's, which stand below. What was measured: docs/results.md.
"""

_base_ = "../_base_/rtmdet.py"

recipe = "small"
imgsz = (192, 192)  # multiples of 8; 96 to 192 is usual
epochs = 60
qat_epochs = 3
monitor = "F1"

widen_factor = 0.35  # times 32, 16, 24, 32 channels, rounded to multiples of 8; 0.1 is half as large
head_channels = 32  # of the 1x1 convolution before the logits
object_weight = 100.0  # of a cell with an object in the loss; background weighs 1
score_thr = 0.05  # of evaluation; programs take the threshold with the best F1, which the metric says
fuse = 1  # cells this near to a better one of their class are no detections of their own
distance = 1.0  # cells between the middles of a detection and of an object that still count as found

strides = (8,)

model = dict(
    _delete_=True,
    type="FOMO",
    input_color=input_color,
    preprocessor=dict(
        type="DataPreprocessor", mean=of_input(pixel_mean), std=of_input(pixel_std), bgr_to_rgb=bgr_to_rgb
    ),
    backbone=dict(
        type="MobileNetV2",
        widen_factor=widen_factor,
        out_indices=(2,),
        expand_last=True,
        frozen_stages=frozen_stages,
    ),
    bbox_head=dict(type="FOMOHead", num_classes=num_classes, feat_channels=head_channels, strides=strides),
    loss_cls=dict(type="WeightedCrossEntropy", object_weight=object_weight),
    post_process=dict(type="CellPostProcess", score_thr=score_thr, fuse=fuse, max_per_img=100),
)
metric = dict(_delete_=True, type="CentroidMetric", distance=distance, cell=strides[0])
