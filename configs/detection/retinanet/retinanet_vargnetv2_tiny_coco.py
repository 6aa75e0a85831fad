"""RetinaNet with a narrow VarGNetV2 and head at 256x256, for small data sets and laptops: a folder in COCO format.

1.087 M parameters, 0.424 GMACs with 3 classes. Half as wide as the full one, two 64-channel convolutions in each branch
of the head, anchors half as large; AdamW, warm-up, cosine, EMA and Mosaic train it from random weights. Every name
below and in its base is an option: --cfg-options num_classes=3 data_root=... epochs=60.
On BCCD (292 images): AP 0.503, as integers 0.503 (docs/results.md).
"""

import torch

_base_ = "retinanet_vargnetv2_fpn_mscoco.py"

# ---- data: annotation files and image folders are relative to data_root ---------------------------------------------
train_ann_file = "annotations/instances_train2017.json"
train_img_prefix = "train2017/"
val_ann_file = "annotations/instances_val2017.json"
val_img_prefix = "val2017/"
imgsz = (256, 256)
batch_size = 8
val_batch_size = 8
workers = 2

# ---- schedule -------------------------------------------------------------------------------------------------------
epochs = 60
late_epochs = max(1, min(20, epochs // 3))  # the last ones, without Mosaic
lr = 1e-3  # for base_batch_size images a step
base_batch_size = 8
weight_decay = 0.05
warmup_steps = 200
clip_grad_norm = 10.0
ema_momentum = 0.001
ema_gamma = 400
val_interval = max(1, epochs // 10)
scale_ratio = (0.6, 1.4)
late_scale_ratio = (0.7, 1.3)
flip_vertical = 0.0  # 0.5 where up and down mean nothing (microscopes, aerial pictures)
pretrained = None
backbone_lr = 1.0  # learning rate of the backbone, as a part of lr
stage_decay = 1.0  # and of each of its stages, as a part of the next one's

# ---- quantization ---------------------------------------------------------------------------------------------------
calibration_step = 16
qat_epochs = max(1, epochs // 10)
qat_lr = 1e-4
calibration_observer = "mix"  # min_max, moving_average, percentile, mse, kl, mix
int16_output = True  # False: the head's outputs have 8 bits
keep_float = []  # layers that stay float to find out what they cost (tools/quant_analysis.py); not exportable

# ---- where results go -----------------------------------------------------------------------------------------------
run_pictures = True  # labels.jpg, train and validation batches, curves, confusion matrix beside the log

anchor_size = 2  # in strides: objects are small where the picture is
width = 64  # channels of neck and head
neck_in_strides = None
neck_in_channels = None

model = dict(
    backbone=dict(alpha=0.5),
    neck=dict(out_channels=[width] * 3, fix_out_channel=width),
    head=dict(in_channels=None, feat_channels=width, stacked_convs=2, int16_output=int16_output),
    post_process=dict(score_thresh=0.01),
    filter_module=dict(threshold=-4.595),  # the logit of 0.01
)

double_imgsz = (2 * imgsz[0], 2 * imgsz[1])
normalize = [dict(type="Normalize", mean=128.0, std=128.0)]  # []: the model's preprocessor does it
to_network = [to_tensor, *normalize]
colour_and_flip = [
    dict(type="HSVRandomAug", hue_delta=5, saturation_delta=30, value_delta=30),
    dict(type="RandomFlip", px=0.5, py=flip_vertical),
    dict(type="Pad", size=imgsz),
    *to_network,
]
train_transforms = [
    dict(type="Mosaic", img_scale=imgsz, max_cached=20),
    dict(type="RandomResize", scale=double_imgsz, ratio_range=scale_ratio, keep_ratio=True),
    dict(type="RandomCrop", crop_size=imgsz),
    *colour_and_flip,
]
late_transforms = [
    dict(type="RandomResize", scale=imgsz, ratio_range=late_scale_ratio, keep_ratio=True),
    dict(type="RandomCrop", crop_size=imgsz),
    *colour_and_flip,
]
val_transforms = [
    dict(type="Resize", img_scale=imgsz, keep_ratio=True),
    dict(type="Pad", size=imgsz),
    *to_network,
]


def folder(ann_file, img_prefix, **arguments):
    """A folder in COCO format, in place of the packed sets."""
    source = dict(data_root=data_root, ann_file=ann_file, img_prefix=img_prefix, classes=classes)
    return dict(_delete_=True, type="CocoDataset", **source, **arguments)


def order(shuffle):
    """Seeded, and with the images before each one, which Mosaic takes its partners from."""
    return dict(_delete_=True, type="SeededSampler", shuffle=shuffle, seed=seed)


data_loader = dict(
    dataset=folder(train_ann_file, train_img_prefix, transforms=train_transforms, late_transforms=late_transforms),
    sampler=order(True),
    batch_size=batch_size,
    drop_last=True,
)
val_data_loader = dict(
    dataset=folder(val_ann_file, val_img_prefix, transforms=val_transforms, test_mode=True),
    sampler=order(False),
    batch_size=val_batch_size,
)
calibration_data_loader = dict(
    dataset=folder(train_ann_file, train_img_prefix, transforms=val_transforms),
    sampler=order(True),
    batch_size=batch_size,
)
# QAT trains mildly: the transforms of the last float epochs
qat_data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=folder(train_ann_file, train_img_prefix, transforms=late_transforms),
    sampler=order(True),
    batch_size=batch_size,
    num_workers=workers,
    drop_last=True,
    collate_fn=dict(type="Collate2D"),
)

val_metrics = dict(_delete_=True, type="COCODetectionMetric")  # the ground truth of the validation data itself
val_callback = dict(val_interval=val_interval, num_last_epochs=min(3, epochs))
pictures = [dict(type="RunPictures")] if run_pictures else []


def adamw(rate, **rates):
    """AdamW without weight decay for norms and biases."""
    return dict(
        _delete_=True,
        type=torch.optim.AdamW,
        lr=rate,
        weight_decay=weight_decay,
        paramwise=dict(norm_decay=0.0, bias_decay=0.0, **rates),
    )


slower = dict(backbone_lr=backbone_lr, stage_decay=stage_decay) if backbone_lr != 1.0 or stage_decay != 1.0 else {}
float_trainer = dict(
    optimizer=adamw(lr, **slower),
    callbacks=[
        stat_callback,
        dict(type="CosLrUpdater", warmup_len=warmup_steps, warmup_by="step", flat_ratio=0.5, min_lr_ratio=0.05),
        dict(type="GradScale", clip_grad_norm=clip_grad_norm),
        dict(type="PipelineSwitch", num_last_epochs=late_epochs),
        dict(type="NanGuard"),
        dict(type="ExponentialMovingAverage", momentum=ema_momentum, gamma=ema_gamma),
        val_callback,
        ckpt_callback,
        *pictures,
    ],
)
calibration_trainer = dict(
    model_convert_pipeline=dict(
        qconfig_params=dict(activation_calibration_observer=calibration_observer, keep_float=keep_float)
    ),
    callbacks=[stat_callback, val_callback, calibration_ckpt_callback, *pictures],
)
qat_trainer = dict(
    model_convert_pipeline=dict(qconfig_params=dict(keep_float=keep_float)),
    data_loader=qat_data_loader,
    optimizer=adamw(qat_lr),
    num_epochs=qat_epochs,
    callbacks=[
        stat_callback,
        dict(type="CosLrUpdater", warmup_len=0.05, warmup_by="fraction", warmup_start_factor=0.1, min_lr_ratio=0.05),
        dict(type="FreezeObservers", fraction=1 / 3),
        dict(type="NanGuard"),
        dict(type="ExponentialMovingAverage", momentum=ema_momentum, gamma=50),
        dict(
            type="Validation",
            data_loader=val_data_loader,
            batch_processor=val_batch_processor,
            val_on_train_begin=True,  # QAT may not end below calibration
        ),
        qat_ckpt_callback,
        *pictures,
    ],
)
int_infer = dict(model_convert_pipeline=dict(qconfig_params=dict(keep_float=keep_float)))
infer_cfg = dict(transforms=val_transforms)
