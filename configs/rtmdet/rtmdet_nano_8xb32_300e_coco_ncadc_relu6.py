"""RTMDet-nano, ReLU6, no channel attention: the variant for microcontrollers and NPUs (SSCMA's ``ncadc_relu6``).

2.437 M parameters with 2 classes (2.452 M with 80); 0.333 GMACs at 192x192, 0.925 at 320x320, 3.70 at 640x640.

The whole road: train.py --stage float | calibration | qat, then predict.py --stage int_infer and export.py.
Every name below is an option: --cfg-options num_classes=2 imgsz='(192,192)' epochs=150 data_root=... reaches every
expression made of it.
"""

import copy
import os

import torch

# ---- data: a COCO-format data set -------------------------------------------------------------------------------
data_root = "./tmp_data/mscoco/"
train_ann_file = "annotations/instances_train2017.json"
train_img_prefix = "train2017/"
val_ann_file = "annotations/instances_val2017.json"
val_img_prefix = "val2017/"
num_classes = 80
imgsz = (640, 640)  # (height, width) of the network's input; multiples of 32

# ---- schedule ---------------------------------------------------------------------------------------------------
epochs = 300
late_epochs = max(1, min(20, epochs // 4))  # the last ones, without Mosaic and MixUp
batch_size = 8
val_batch_size = 8
workers = 2
lr = 1e-3  # for base_batch_size images a step; scaled linearly with the batch size of all processes
base_batch_size = 8
weight_decay = 0.05
warmup_steps = 200
val_interval = max(1, epochs // 10)
seed = 0
device = None  # None: a GPU if there is one, else the CPU

# ---- quantization -----------------------------------------------------------------------------------------------
calibration_steps = 16
qat_epochs = max(1, epochs // 10)
qat_lr = 5e-5
qat_forward = "integer"  # the arithmetic that ships; "fake_quant" for comparison

# ---- where results go -------------------------------------------------------------------------------------------
work_dir = os.path.join("work_dirs", config_name)
ckpt_dir = work_dir

strides = (8, 16, 32)
activation = "ReLU6"
widen_factor = 0.25
deepen_factor = 0.33
neck_in_channels = [int(c * widen_factor) for c in (256, 512, 1024)]
head_channels = int(256 * widen_factor)
scale_ratio = (0.5, 2.0)
late_scale_ratio = (0.5, 2.0)

model = dict(
    type="RTMDet",
    preprocessor=dict(type="DataPreprocessor", mean=0.0, std=255.0),
    backbone=dict(
        type="CSPNeXt",
        deepen_factor=deepen_factor,
        widen_factor=widen_factor,
        channel_attention=False,
        activation=activation,
    ),
    neck=dict(
        type="CSPNeXtPAFPN",
        in_channels=neck_in_channels,
        out_channels=head_channels,
        num_csp_blocks=1,
        activation=activation,
    ),
    bbox_head=dict(
        type="RTMDetSepBNHead",
        num_classes=num_classes,
        in_channels=head_channels,
        feat_channels=head_channels,
        stacked_convs=2,
        strides=strides,
        share_conv=False,
        activation=activation,
    ),
    assigner=dict(type="DynamicSoftLabelAssigner", topk=13, iou_weight=3.0, soft_center_radius=3.0),
    loss_cls=dict(type="QualityFocalLoss", beta=2.0, loss_weight=1.0),
    loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    post_process=dict(
        type="RTMDetPostProcess", score_thr=0.001, nms_pre=30000, iou_threshold=0.65, max_per_img=300, multi_label=True
    ),
)

double_imgsz = (2 * imgsz[0], 2 * imgsz[1])
colour_and_flip = [
    dict(type="HSVRandomAug", hue_delta=5, saturation_delta=30, value_delta=30),
    dict(type="RandomFlip", px=0.5, py=0.0),
    dict(type="Pad", size=imgsz, fill=114),
]
train_transforms = [
    dict(type="Mosaic", img_scale=imgsz, max_cached=20),
    dict(type="RandomResize", scale=double_imgsz, ratio_range=scale_ratio, keep_ratio=True),
    dict(type="RandomCrop", crop_size=imgsz),
    *colour_and_flip,
    dict(type="MixUp", prob=0.5, max_cached=10),
    dict(type="ToTensor"),
]
late_transforms = [
    dict(type="RandomResize", scale=imgsz, ratio_range=late_scale_ratio, keep_ratio=True),
    dict(type="RandomCrop", crop_size=imgsz),
    *colour_and_flip,
    dict(type="ToTensor"),
]
val_transforms = [
    dict(type="Resize", img_scale=imgsz, keep_ratio=True),
    dict(type="Pad", size=imgsz, fill=114),
    dict(type="ToTensor"),
]

data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file=train_ann_file,
        img_prefix=train_img_prefix,
        transforms=train_transforms,
        late_transforms=late_transforms,
    ),
    sampler=dict(type="SeededSampler", shuffle=True, seed=seed, window=20),
    batch_size=batch_size,
    num_workers=workers,
    drop_last=True,
    collate_fn=dict(type="Collate2D"),
)
val_data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file=val_ann_file,
        img_prefix=val_img_prefix,
        transforms=val_transforms,
        test_mode=True,
    ),
    sampler=dict(type="SeededSampler", shuffle=False),
    batch_size=val_batch_size,
    num_workers=workers,
    collate_fn=dict(type="Collate2D"),
)
# calibration sees what validation's preprocessing makes of training images: no Mosaic, nothing the device would not see
calibration_data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file=train_ann_file,
        img_prefix=train_img_prefix,
        transforms=val_transforms,
    ),
    sampler=dict(type="SeededSampler", shuffle=True, seed=seed),
    batch_size=batch_size,
    num_workers=workers,
    collate_fn=dict(type="Collate2D"),
)
# QAT trains mildly: the pipeline of the last float epochs
qat_data_loader = copy.deepcopy(data_loader)
qat_data_loader["dataset"]["transforms"] = late_transforms
qat_data_loader["dataset"].pop("late_transforms")

metric = dict(type="COCODetectionMetric")
batch_processor = dict(type="BasicBatchProcessor", need_grad_update=True, enable_channels_last=True)
val_batch_processor = dict(type="BasicBatchProcessor", need_grad_update=False, enable_channels_last=True)
