"""RetinaNet with VarGNetV2 on MS-COCO at 1024x1024, through all stages.

10.42 M parameters, 150.6 GMACs. The whole road: tools/train.py --stage float | calibration | qat, then
tools/predict.py --stage int_infer. Accuracy on MS-COCO was not measured by us.

Another data set needs no edit: --cfg-options num_classes=3 data_root=./tmp_data/mine/ and, where names differ,
train_lmdb=..., val_lmdb=..., val_ann_file=...; imgsz, epochs, batch_size_per_gpu and all other names are options too.
"""

import os

import torch

from hatdet.models.pretrained.published import is_named
from hatdet.models.task_modules.anchors import AnchorGenerator

# ---- data -----------------------------------------------------------------------------------------------------------
classes = None  # all names, ('helmet', 'head'), where no single annotation file lists them all, or to use only these
num_classes = 80 if classes is None else len(classes)  # without background; every other count comes from it
chosen_classes = {} if classes is None else dict(classes=classes)
data_root = "./tmp_data/mscoco/"  # folder of the data set
train_lmdb = "train_lmdb/"  # what the packer wrote, in data_root
val_lmdb = "val_lmdb/"
val_ann_file = "instances_val2017.json"  # in data_root, or in annotations/ inside it
num_train_samples = 118287  # at most
imgsz = (1024, 1024)  # (height, width) of the network's input; multiples of 32
input_color = "yuv444"  # bgr, rgb; gray: pictures of one channel, for grayscale cameras
colors = {} if input_color == "yuv444" else dict(input_color=input_color)  # yuv444 is RetinaNet's own
to_tensor = dict(type="ToTensor", color=input_color) if colors else dict(type="ToTensor", to_yuv=True)
resize_scale = (imgsz[0] * 25 // 32, imgsz[1])  # the picture inside: (800, 1024)
batch_size_per_gpu = 4  # lr follows
workers = 4

# ---- schedule -------------------------------------------------------------------------------------------------------
epochs = 12  # of the float training; whatever follows from it moves along
lr = 0.01  # for base_batch_size images a step (arXiv 1708.02002, section 4.1); scaled with the batch of all processes
base_batch_size = 16
lr_decay_id = [epochs * 2 // 3, epochs * 11 // 12]  # 8 and 11
pretrained = "./tmp_pretrained_models/vargnetv2_imagenet/float-checkpoint-best.pth.tar"
seed = 0

# ---- target: checked before a training starts: tflite, ethos-u55-..., ethos-u65-..., onnx; None: not at all ---------
target = "tflite"

# ---- quantization ---------------------------------------------------------------------------------------------------
calibration_step = 100  # batches that find the ranges
convert_mode = "fx"
qat_epochs = max(1, epochs // 6)  # of the training in integers
qat_lr = lr / 10
qat_forward = "integer"  # the arithmetic that ships; "fake_quant" for comparison
arithmetic = "tflite_ref"  # the kernels that integers follow; "xnnpack": LiteRT's default ones (phones, Linux boards);
# "tflite_single": of firmware with TFLITE_SINGLE_ROUNDING; "both": one file for the first two

# ---- anchors --------------------------------------------------------------------------------------------------------
levels = [3, 4, 5, 6, 7]
anchor_size = 4  # in strides
base_sizes = [anchor_size * 2**x for x in levels]
scales = [2 ** (x / 3) for x in range(3)]
sizes = [[base * scale for scale in scales] for base in base_sizes]
ratios = [[0.5, 1, 2]] * len(levels)

# ---- where results go -----------------------------------------------------------------------------------------------
work_dir = os.path.join("work_dirs", config_name)
ckpt_dir = work_dir

# ---- the maps of the backbone; None: as the backbone says, whichever it is -------------------------------------------
neck_in_strides = [2, 4, 8, 16, 32]
neck_in_channels = [32, 32, 64, 128, 256]

model = dict(
    type="RetinaNet",
    **colors,
    backbone=dict(
        type="VargNetV2",
        num_classes=1000,
        bn_kwargs={},
        include_top=False,
    ),
    neck=dict(
        type="RetinaNetFPN",
        in_strides=neck_in_strides,
        in_channels=neck_in_channels,
        out_strides=[8, 16, 32],
        out_channels=[256, 256, 256],
        fix_out_channel=256,
    ),
    head=dict(
        type="RetinaNetHead",
        num_classes=num_classes,
        num_anchors=len(ratios[0]) * len(sizes[0]),
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        int16_output=True,
    ),
    filter_module=dict(
        type="RetinanetMultiStrideFilter",
        strides=[8, 16, 32, 64, 128],
        threshold=-2.944,
    ),
    anchors=dict(
        type=AnchorGenerator,
        feat_strides=[2**x for x in levels],
        scales=scales,
        ratios=ratios[0],
        base_sizes=base_sizes,
        round_anchor=True,
    ),
    targets=dict(
        type="BBoxTargetGenerator",
        matcher=dict(
            type="MaxIoUMatcher",
            pos_iou=0.5,
            neg_iou=0.4,
        ),
        label_encoder=dict(
            type="MatchLabelSepEncoder",
            bbox_encoder=dict(
                type="XYWHBBoxEncoder",
                reg_mean=(0.0, 0.0, 0.0, 0.0),
                reg_std=(1.0, 1.0, 1.0, 1.0),
            ),
            class_encoder=dict(
                type="OneHotClassEncoder",
                num_classes=num_classes + 1,
                class_agnostic_neg=True,
                exclude_background=True,
            ),
        ),
    ),
    post_process=dict(
        type="RetinaNetPostProcess",
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=300,
        topk_candidates=1000,
    ),
    loss_cls=dict(
        type="FocalLossV2",
        alpha=0.25,
        gamma=2.0,
    ),
    loss_reg=dict(
        type="SmoothL1Loss",
        beta=1.0 / 9.0,
        reduction="mean",
    ),
)

# ---- data: every transform but the flip is the device's preprocessing -----------------------------------------------
val_transforms = [
    dict(type="Resize", img_scale=resize_scale, keep_ratio=True),
    dict(type="Pad", size=imgsz),
    to_tensor,
    dict(type="Normalize", mean=128.0, std=128.0),
]
train_transforms = [dict(type="RandomFlip", px=0.5, py=0), *val_transforms]

data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoFromLMDB",
        **chosen_classes,
        data_path=os.path.join(data_root, train_lmdb),
        transforms=train_transforms,
        num_samples=num_train_samples,
    ),
    sampler=dict(type=torch.utils.data.DistributedSampler),
    batch_size=batch_size_per_gpu,
    shuffle=False,
    num_workers=workers,
    pin_memory=True,
    collate_fn=dict(type="Collate2D"),
)
val_data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoFromLMDB",
        **chosen_classes,
        data_path=os.path.join(data_root, val_lmdb),
        transforms=val_transforms,
        test_mode=True,
    ),
    sampler=dict(type=torch.utils.data.DistributedSampler, shuffle=False),
    batch_size=batch_size_per_gpu,
    shuffle=False,
    num_workers=workers,
    pin_memory=True,
    collate_fn=dict(type="Collate2D"),
)
# calibration sees training images through validation's preprocessing: nothing that the device would not see
calibration_data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoFromLMDB",
        **chosen_classes,
        data_path=os.path.join(data_root, train_lmdb),
        transforms=val_transforms,
        num_samples=num_train_samples,
    ),
    sampler=dict(type=torch.utils.data.DistributedSampler),
    batch_size=batch_size_per_gpu,
    shuffle=False,
    num_workers=workers,
    pin_memory=True,
    collate_fn=dict(type="Collate2D"),
)

# ---- what the trainers share ----------------------------------------------------------------------------------------
batch_processor = dict(type="BasicBatchProcessor", need_grad_update=True)
val_batch_processor = dict(type="BasicBatchProcessor", need_grad_update=False)
calibration_batch_processor = dict(type="BasicBatchProcessor", need_grad_update=False)

stat_callback = dict(type="StatsMonitor", log_freq=50)
loss_show_update = dict(type="MetricUpdater", step_log_freq=500)
val_callback = dict(
    type="Validation",
    data_loader=val_data_loader,
    batch_processor=val_batch_processor,
    val_interval=1,
)
ckpt_callback = dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="float")
calibration_ckpt_callback = dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="calibration", keep=1)
qat_ckpt_callback = dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="qat")
val_metrics = dict(type="COCODetectionMetric", ann_file=os.path.join(data_root, val_ann_file))


def checkpoint(stage):
    """Path of a stage's best checkpoint."""
    return os.path.join(ckpt_dir, f"{stage}-checkpoint-best.pth.tar")


# ---- stage 1: float -------------------------------------------------------------------------------------------------
float_trainer = dict(
    type="distributed_data_parallel_trainer",
    model=model,
    model_convert_pipeline=dict(
        type="ModelConvertPipeline",
        converters=[
            dict(type="LoadPretrained", source=pretrained)
            if is_named(pretrained)
            else dict(
                type="LoadCheckpoint",
                checkpoint_path=pretrained,
                allow_miss=True,
                ignore_extra=True,
                optional=True,  # without the file training starts from random weights, and says so
            )
            if pretrained
            else None,
        ],
    ),
    data_loader=data_loader,
    optimizer=dict(
        type=torch.optim.SGD,
        params={"weight": dict(weight_decay=5e-5)},
        lr=lr,
        momentum=0.9,
    ),
    batch_processor=batch_processor,
    base_batch_size=base_batch_size,
    num_epochs=epochs,
    device=None,
    seed=seed,
    callbacks=[
        stat_callback,
        loss_show_update,
        dict(
            type="StepDecayLrUpdater",
            warmup_len=0.3,
            lr_decay_id=lr_decay_id,
            step_log_interval=10,
        ),
        val_callback,
        ckpt_callback,
    ],
    sync_bn=True,
    train_metrics=dict(
        type="LossShow",
    ),
    val_metrics=val_metrics,
)

# ---- stage 2: calibration: ranges of the activations ----------------------------------------------------------------
calibration_trainer = dict(
    type="Calibrator",
    model=model,
    model_convert_pipeline=dict(
        type="ModelConvertPipeline",
        qat_mode="fuse_bn",
        qconfig_params=dict(
            activation_calibration_observer="mix",
            arithmetic=arithmetic,
        ),
        converters=[
            dict(
                type="LoadCheckpoint",
                checkpoint_path=checkpoint("float"),
            ),
            dict(type="Float2Calibration", convert_mode=convert_mode),
        ],
    ),
    data_loader=calibration_data_loader,
    batch_processor=calibration_batch_processor,
    num_steps=calibration_step,
    device=None,
    seed=seed,
    callbacks=[
        stat_callback,
        val_callback,
        calibration_ckpt_callback,
    ],
    val_metrics=val_metrics,
    log_interval=calibration_step / 10,
)

# ---- stage 3: training in the arithmetic that ships -----------------------------------------------------------------
qat_callbacks = [
    stat_callback,
    loss_show_update,
    dict(type="StepDecayLrUpdater", warmup_len=0.1, lr_decay_id=[qat_epochs // 2] if qat_epochs > 1 else []),
    dict(type="FreezeObservers", fraction=1 / 3),
    val_callback,
    qat_ckpt_callback,
]
qat_trainer = dict(
    type="distributed_data_parallel_trainer",
    model=model,
    model_convert_pipeline=dict(
        type="ModelConvertPipeline",
        qat_mode="fuse_bn",
        qconfig_params=dict(qat_forward=qat_forward, arithmetic=arithmetic),
        converters=[
            dict(type="LoadCheckpoint", checkpoint_path=checkpoint("float")),
            dict(type="Float2QAT", convert_mode=convert_mode, calibration_checkpoint=checkpoint("calibration")),
        ],
    ),
    data_loader=data_loader,
    optimizer=dict(
        type=torch.optim.SGD,
        params={"weight": dict(weight_decay=5e-5)},
        lr=qat_lr,
        momentum=0.9,
    ),
    batch_processor=batch_processor,
    base_batch_size=base_batch_size,
    num_epochs=qat_epochs,
    device=None,
    seed=seed,
    callbacks=qat_callbacks,
    train_metrics=dict(
        type="LossShow",
    ),
    val_metrics=val_metrics,
)

# ---- stage 4: the integer model -------------------------------------------------------------------------------------
int_infer = dict(
    type="Predictor",
    model=model,
    model_convert_pipeline=dict(
        type="ModelConvertPipeline",
        qat_mode="fuse_bn",
        qconfig_params=dict(qat_forward=qat_forward, arithmetic=arithmetic),
        converters=[
            dict(type="Float2QAT", convert_mode=convert_mode),
            dict(type="LoadCheckpoint", checkpoint_path=[checkpoint("qat"), checkpoint("calibration")]),
            dict(type="QAT2Int", image_size=imgsz),
        ],
    ),
    data_loader=val_data_loader,
    val_metrics=val_metrics,
    batch_processor=val_batch_processor,
    device=None,
)

# ---- deployment: what runs on the device, and what the tools make of it ---------------------------------------------
# calops.py and check_model.py take deploy_model and, without a size of your own, deploy_inputs. compile_perf.py and
# export_onnx.py take the trained integer model of stage 4, which has the same parts.
deploy_model = dict(
    type="RetinaNet",
    **colors,
    backbone=model["backbone"],
    neck=model["neck"],
    head=model["head"],
    anchors=model["anchors"],
    filter_module=model["filter_module"],
    post_process=model["post_process"],
)
deploy_inputs = dict(img=(1, 1 if input_color == "gray" else 3, *imgsz))  # shapes
infer_cfg = dict(transforms=val_transforms, score_thr=0.3)
onnx_cfg = dict(stage="int_infer")
compile_cfg = dict(target="ethos-u65-512")  # where target above has no NPU
