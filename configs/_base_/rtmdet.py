"""What all RTMDets share: data, schedule, model and the four stages. A config of its own only through its variants.

The whole road: train.py --stage float | calibration | qat, then predict.py --stage int_infer and export.py.
Every name below is an option: --cfg-options num_classes=2 imgsz='(192,192)' epochs=150 data_root=... reaches every
expression made of it. A variant in configs/rtmdet/ assigns the few of them that differ.
"""

import copy
import os

import torch

from hatdet.models.pretrained.published import normalization

_aliases_ = {"max_epochs": "epochs"}

# ---- recipe: some of the names below in one word; what a config or an option says of one of them stays ------------
recipe = "auto"  # small, large, or "auto": small where training pictures times epochs are fewer than 2 000 000
_recipes_ = {
    "small": {  # measured with up to 677 pictures (docs/recipes.md)
        "lr": 2e-3,
        "clip_grad_norm": 35.0,
        "amp": "auto",
        "initial_distance": 2.0,
        "mixup_prob": 0.0,
        "class_balance": 0.5,
        "scale_ratio": (0.6, 1.4),
        "late_scale_ratio": (0.7, 1.3),
    },
    "large": {},  # as they stand: the reference's, for COCO's 118 287 pictures and 300 epochs
}

# ---- data: a COCO-format data set -------------------------------------------------------------------------------
data_root = "./tmp_data/mscoco/"  # folder of the data set, or its data.yaml; YOLO, Pascal VOC and LabelMe are read too
train_ann_file = "annotations/instances_train2017.json"  # in data_root; other usual names are found too
train_img_prefix = "train2017/"  # folder of the pictures
val_ann_file = "annotations/instances_val2017.json"
val_img_prefix = "val2017/"
classes = None  # all names, ('helmet', 'head'), where no single annotation file lists them all, or to use only these
num_classes = 80 if classes is None else len(classes)  # without background
filter_empty = True  # False: learn from training pictures without an object too
imgsz = (640, 640)  # (height, width) of the network's input; multiples of 32
input_color = "bgr"  # "gray": pictures of one channel, for grayscale cameras
decode_scale = "auto"  # large JPEGs at 1/2, 1/4 or 1/8 where training never needs more pixels; None: whole

# ---- the network: nano, unless a variant says otherwise --------------------------------------------------------------
deepen_factor = 0.33  # times 3, 6, 6, 3 blocks in the stages of the backbone
widen_factor = 0.25  # times 128, 256, 512, 1024 channels
max_channels = None  # of a stage of the backbone: narrower where widen_factor gives more
activation = "ReLU6"  # ReLU6, ReLU, Hardswish, SiLU
channel_attention = False  # in the stages of the backbone
use_depthwise = False  # depthwise separable convolutions in backbone, neck and head
spp_pooling = "chained"  # chained_3x3: from pools of 3x3 only
share_conv = False  # one stack of convolutions for all levels of the head, with batch norms of their own
exp_on_reg = False  # distances of boxes are exponentials of the head's outputs
initial_distance = None  # of an untrained head's boxes, in strides; None: the reference's
neck_in_channels = None  # of the backbone's maps; None: as the backbone says, whichever it is
neck_csp_blocks = max(1, round(3 * deepen_factor))  # in each stage of the neck
head_channels = int(256 * widen_factor)  # of neck and head

# ---- schedule ---------------------------------------------------------------------------------------------------
epochs = 300  # of the float training; whatever follows from it moves along
late_epochs = max(1, min(20, epochs // 3))  # the last ones, without Mosaic and MixUp
batch_size = 8  # lr follows; "auto": as many as one trial step shows that there is memory for
val_batch_size = 8  # of validation
workers = 2  # processes that load pictures; 0: the training's own
lr = 1e-3  # for base_batch_size images a step; scaled linearly with the batch size of all processes
base_batch_size = 8
weight_decay = 0.05  # of weights, not of biases and norms
warmup_steps = 200  # from nearly nothing to the full rate
ema_momentum = 0.001  # of the averaged weights, which are validated and saved: share of the present ones
ema_gamma = 400  # updates during which the average follows faster
clip_grad_norm = None  # longest gradient of a step (35 is usual); None: as it comes
amp = None  # None: float32; True: mixed precision (float16 on a GPU, bfloat16 on a CPU); "auto": where that is faster
val_interval = max(1, epochs // 10)  # epochs between validations
monitor = "AP"  # which value of the validations says what weights are the best
seed = 0  # of weights, order and augmentation
frozen_stages = -1  # of the backbone: 0: the stem, n: the stem and stages 1 to n keep the weights of load_from
norm_eval = False  # True: batch norms of the backbone keep the statistics of load_from or pretrained
load_from = None  # float weights to start from: a checkpoint of hatdet, MMDetection or MMYOLO; what fits is taken
pretrained = None  # weights of the backbone: "efficientnet_lite0" (an installed package) or a file; load_from wins
backbone_lr = 1.0  # learning rate of the backbone, as a part of lr
stage_decay = 1.0  # and of each of its stages, as a part of the next one's
teacher = None  # float checkpoint of a detector that knows the same classes: a small model learns of it too
teacher_class_weight = 1.0  # of loss_kd_cls: what the scores are off the teacher's; 0: without
teacher_box_weight = 1.0  # of loss_kd_box, the boxes
teacher_feature_weight = 0.0  # of loss_kd_feat, the maps of the neck; 1.0 brought less beside the other two
teacher_temperature = 1.0  # above 1: scores of which the teacher is not sure count more
device = None  # None: a GPU if there is one, else the CPU

# ---- augmentation: a short schedule never gets used to the strong form ---------------------------------------------
train_imgsz = None  # (320, 320): training sees crops of this size, if imgsz is larger, of pictures at imgsz
crop_imgsz = imgsz if train_imgsz is None else tuple(map(min, train_imgsz, imgsz))  # of training: follows
long_schedule = epochs >= 150  # chooses the stronger form of the next ones
scale_ratio = (0.5, 2.0) if long_schedule else (0.6, 1.4)  # of the mosaic, which is twice imgsz before the crop
late_scale_ratio = (0.5, 2.0) if long_schedule else (0.7, 1.3)  # of single pictures: late epochs and QAT
long_mixup_prob = 0.5  # of a long schedule
mixup_prob = long_mixup_prob if long_schedule else 0.15  # probability of a second picture shining through
mixup_beta = 32.0  # of the share of each picture; None: half and half
mixup_ratio = (0.5, 2.0)  # the partner's size
mosaic_cached = 20  # earlier images that are drawn from
mixup_cached = 10  # the same for MixUp
multi_scale = None  # (0.7, 1.0): sizes of batches, as ratios to imgsz, a new one every 10 steps but for the late epochs
random_pop = False  # partners of Mosaic and MixUp: True: from farther back too, the older the less often
class_balance = 0.0  # 0.5: images with rare classes come more often, an epoch stays as long
flip_horizontal = 0.5  # probability of the mirror image
flip_vertical = 0.0  # 0.5 where up and down mean nothing (microscopes, aerial pictures)
augment_on = "loader"  # "device": colours, mirroring, padding and MixUp's sum on the training device (GPU)

# ---- target -----------------------------------------------------------------------------------------------------
# Checked before a training starts: tflite, litert-xnnpack, ethos-u55-32|64|128|256, ethos-u65-256|512, onnx; None: not
# at all.
target = "tflite"

# ---- quantization -----------------------------------------------------------------------------------------------
calibration_steps = 16  # batches that find the ranges
calibration_observer = "mse"  # min_max, moving_average, percentile, mse, kl, mix
equalize = False  # cross-layer equalization before it: for networks of ReLU or none between convolutions
bias_correction = False  # after it: what rounding adds to each channel's mean goes out of the biases
weight_rounding = "nearest"  # "adaround": calibration learns, without labels, which weights are rounded up
qat_epochs = max(1, epochs // 10)  # of the training in integers
qat_lr = 5e-5  # its rate
qat_amp = amp  # for its gradients alone: in bfloat16 on a CPU; its integers are the same either way
qat_ema = True  # False: QAT's last weights are validated and saved, not their average
qat_ema_gamma = 50  # as ema_gamma, in QAT
qat_teacher = None  # "float": learn in QAT of the float model's scores and boxes too; a path: of another detector's
qat_teacher_weight = 1.0  # of both losses
qat_oscillation_damping = 0.0  # pull of weights to their codes at QAT's end; 1: as strong as the gradient
qat_mode = "fuse_bn"  # of all stages; "with_bn" keeps batch norms alive in QAT (in fake quantization)
qat_forward = "integer"  # the arithmetic that ships; "fake_quant" for comparison
arithmetic = "tflite_ref"  # the kernels that integers follow; "xnnpack": LiteRT's default ones (phones, Linux boards);
# "tflite_single": of firmware with TFLITE_SINGLE_ROUNDING; "both": one file for the first two
weight_bits = 8  # 4: of all layers; ['backbone.stage4*', ...]: of these; "auto": calibration chooses by flash_budget
flash_budget = 0.55  # of weight_bits="auto": bytes of weights and biases, or their share of those with 8 bits
qat_scales = "auto"  # of weights in QAT: "observed", "learned" (LSQ); "auto": learned where they have 4 bits
int16_output = False  # True: the outputs keep 16 bits, where the target can carry them
keep_float = []  # layers that stay float to find out what they cost (tools/quant_analysis.py); not exportable

# ---- where results go -------------------------------------------------------------------------------------------
work_dir = os.path.join("work_dirs", config_name)  # logs, curves, files
ckpt_dir = work_dir  # checkpoints
run_pictures = True  # labels.jpg, train and validation batches, curves, confusion matrix beside the log

strides = (8, 16, 32)  # of the maps that the head sees; (4, 8, 16): small inputs with small objects
stages = tuple(stride.bit_length() - 2 for stride in strides)  # of the backbone, the first one at stride 4
published = normalization(pretrained)  # what pretrained weights were trained with; else 0, 255, False
pixel_mean = published.mean  # one number, or one a channel in the order of the network's input
pixel_std = published.std  # the network sees (pixel - pixel_mean) / pixel_std; folded into the first convolution
bgr_to_rgb = published.bgr_to_rgb  # True: the network takes red first; pictures are read blue first


def of_input(numbers):
    """A mean or std as it is; for gray pictures the luma of the three, in whole levels."""
    if input_color != "gray" or isinstance(numbers, (int, float)):
        return numbers
    blue, green, red = reversed(numbers) if bgr_to_rgb else numbers
    return float(round(0.114 * blue + 0.587 * green + 0.299 * red))


model = dict(
    type="RTMDet",
    input_color=input_color,
    preprocessor=dict(
        type="DataPreprocessor", mean=of_input(pixel_mean), std=of_input(pixel_std), bgr_to_rgb=bgr_to_rgb
    ),
    backbone=dict(
        type="CSPNeXt",
        arch="P4" if max(stages) == 3 else "P5",
        out_indices=stages,
        deepen_factor=deepen_factor,
        widen_factor=widen_factor,
        max_channels=max_channels,
        channel_attention=channel_attention,
        use_depthwise=use_depthwise,
        spp_pooling=spp_pooling,
        frozen_stages=frozen_stages,
        norm_eval=norm_eval,
        activation=activation,
    ),
    neck=dict(
        type="CSPNeXtPAFPN",
        in_channels=neck_in_channels,
        out_channels=head_channels,
        num_csp_blocks=neck_csp_blocks,
        use_depthwise=use_depthwise,
        activation=activation,
    ),
    bbox_head=dict(
        type="RTMDetSepBNHead",
        num_classes=num_classes,
        feat_channels=head_channels,
        stacked_convs=2,
        strides=strides,
        share_conv=share_conv,
        exp_on_reg=exp_on_reg,
        initial_distance=initial_distance,
        use_depthwise=use_depthwise,
        activation=activation,
    ),
    assigner=dict(type="DynamicSoftLabelAssigner", topk=13, iou_weight=3.0, soft_center_radius=3.0),
    loss_cls=dict(type="QualityFocalLoss", beta=2.0, loss_weight=1.0),
    loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    post_process=dict(
        type="RTMDetPostProcess", score_thr=0.001, nms_pre=30000, iou_threshold=0.65, max_per_img=300, multi_label=True
    ),
)


def ending(transforms):
    """The last transforms of a training's list, where ``augment_on`` says."""
    if augment_on not in ("loader", "device"):
        raise ValueError(f"augment_on is {augment_on!r}; use 'loader' or 'device'")
    return transforms if augment_on == "loader" else [dict(type="LeaveToDevice", transforms=transforms)]


double_imgsz = (2 * imgsz[0], 2 * imgsz[1])
colour_and_flip = [
    dict(type="HSVRandomAug", hue_delta=5, saturation_delta=30, value_delta=30),
    dict(type="RandomFlip", px=flip_horizontal, py=flip_vertical),
    dict(type="Pad", size=crop_imgsz, fill=114),
]
train_transforms = [
    dict(type="Mosaic", img_scale=imgsz, max_cached=mosaic_cached, random_pop=random_pop),
    dict(type="RandomResize", scale=double_imgsz, ratio_range=scale_ratio, keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_imgsz),
    *ending(
        [
            *colour_and_flip,
            dict(
                type="MixUp",
                prob=mixup_prob,
                max_cached=mixup_cached,
                random_pop=random_pop,
                beta=mixup_beta,
                ratio_range=mixup_ratio,
            ),
            dict(type="ToTensor", color=input_color),
        ]
    ),
]
late_transforms = [
    dict(type="RandomResize", scale=imgsz, ratio_range=late_scale_ratio, keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_imgsz),
    *ending([*colour_and_flip, dict(type="ToTensor", color=input_color)]),
]
val_transforms = [
    dict(type="Resize", img_scale=imgsz, keep_ratio=True),
    dict(type="Pad", size=imgsz, fill=114),
    dict(type="ToTensor", color=input_color),
]

data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        classes=classes,
        ann_file=train_ann_file,
        img_prefix=train_img_prefix,
        transforms=train_transforms,
        late_transforms=late_transforms,
        filter_empty=filter_empty,
        decode_scale=decode_scale,
    ),
    sampler=dict(type="SeededSampler", shuffle=True, seed=seed, class_balance=class_balance),
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
        classes=classes,
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
        classes=classes,
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

tta = dict(type="TTA", scales=(1.0, 0.5, 1.5), flip=True)  # predict.py --tta
metric = dict(type="COCODetectionMetric")
finish = [dict(type="FinishOnDevice")] if augment_on == "device" else []
batch_processor = dict(type="BasicBatchProcessor", need_grad_update=True, enable_channels_last=True)
change_size = dict(
    type="MultiScale", ratio_range=multi_scale, num_last_epochs=late_epochs, size_divisor=strides[-1], seed=seed
)
float_batch_processor = dict(
    batch_processor, enable_amp=amp or False, batch_transforms=[*finish, *([change_size] if multi_scale else [])]
)
in_integers = qat_mode == "fuse_bn" and qat_forward == "integer"
qat_batch_processor = dict(batch_processor, enable_amp=(qat_amp or False) if in_integers else False)
qat_batch_processor |= dict(batch_transforms=finish) if finish else {}
val_batch_processor = dict(type="BasicBatchProcessor", need_grad_update=False, enable_channels_last=True)


def checkpoint(stage, which="best"):
    """Path of a stage's checkpoint."""
    return os.path.join(ckpt_dir, f"{stage}-checkpoint-{which}.pth.tar")


pictures = [dict(type="RunPictures")] if run_pictures else []


def taught(teacher, **settings):
    """The callback that adds a teacher's losses."""
    return [dict(type="Distillation", teacher=dict(type="Teacher", checkpoint=teacher, **settings))] if teacher else []


clip_gradients = [dict(type="GradClip", max_norm=clip_grad_norm)] if clip_grad_norm else []


# ---- stage 1: float -----------------------------------------------------------------------------------------------
start = dict(
    type="LoadCheckpoint", checkpoint_path=load_from, allow_miss=True, ignore_extra=True, ignore_tensor_shape=True
)
published_start = [dict(type="LoadPretrained", source=pretrained)] if pretrained else []
rates = dict(backbone_lr=backbone_lr, stage_decay=stage_decay) if backbone_lr != 1.0 or stage_decay != 1.0 else {}
float_trainer = dict(
    type="distributed_data_parallel_trainer",
    model=model,
    model_convert_pipeline=dict(type="ModelConvertPipeline", converters=[start] if load_from else published_start),
    data_loader=data_loader,
    optimizer=dict(
        type=torch.optim.AdamW,
        lr=lr,
        weight_decay=weight_decay,
        paramwise=dict(norm_decay=0.0, bias_decay=0.0, **rates),
    ),
    base_batch_size=base_batch_size,
    batch_processor=float_batch_processor,
    num_epochs=epochs,
    device=device,
    seed=seed,
    sync_bn=True,
    val_data_loader=val_data_loader,
    val_metrics=metric,
    callbacks=[
        dict(type="StatsMonitor", log_freq=20),
        dict(
            type="CosLrUpdater",
            warmup_len=warmup_steps,
            warmup_by="step",
            flat_ratio=0.5,
            min_lr_ratio=0.05,
        ),
        dict(type="PipelineSwitch", num_last_epochs=late_epochs),
        *taught(
            teacher,
            class_weight=teacher_class_weight,
            box_weight=teacher_box_weight,
            feature_weight=teacher_feature_weight,
            temperature=teacher_temperature,
        ),
        *clip_gradients,
        dict(type="NanGuard"),
        dict(type="ExponentialMovingAverage", momentum=ema_momentum, gamma=ema_gamma),
        dict(type="Validation", val_interval=val_interval, num_last_epochs=min(3, epochs)),
        dict(
            type="Checkpoint",
            save_dir=ckpt_dir,
            name_prefix="float",
            monitor_metric_key=monitor,
            save_interval=val_interval,
            keep=3,
        ),
        dict(type="ResultsCsv"),
        dict(type="TensorBoard"),
        *pictures,
    ],
)

# ---- stage 2: calibration: ranges of the activations ----------------------------------------------------------------
calibration_trainer = dict(
    type="Calibrator",
    model=model,
    model_convert_pipeline=dict(
        type="ModelConvertPipeline",
        qat_mode=qat_mode,
        qconfig_params=dict(
            activation_calibration_observer=calibration_observer,
            equalize=equalize,
            bias_correction=bias_correction,
            weight_rounding=weight_rounding,
            arithmetic=arithmetic,
            keep_float=keep_float,
            int16_output=int16_output,
            weight_bits=weight_bits,
            flash_budget=flash_budget,
        ),
        converters=[
            dict(type="LoadCheckpoint", checkpoint_path=checkpoint("float")),
            dict(type="FuseBN"),
            dict(type="Float2Calibration"),
        ],
    ),
    data_loader=calibration_data_loader,
    batch_processor=val_batch_processor,
    num_steps=calibration_steps,
    device=device,
    seed=seed,
    val_data_loader=val_data_loader,
    val_metrics=metric,
    callbacks=[
        dict(type="StatsMonitor", log_freq=4),
        dict(type="Validation"),
        dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="calibration", monitor_metric_key=monitor, keep=1),
        dict(type="ResultsCsv"),
        *pictures,
    ],
)

# ---- stage 3: training in the arithmetic that ships -----------------------------------------------------------------
qat_pipeline = dict(
    type="ModelConvertPipeline",
    qat_mode=qat_mode,
    qconfig_params=dict(
        qat_forward=qat_forward,
        arithmetic=arithmetic,
        keep_float=keep_float,
        int16_output=int16_output,
        weight_bits=weight_bits,
        qat_scales=qat_scales,
    ),
    converters=[
        dict(type="LoadCheckpoint", checkpoint_path=checkpoint("float")),
        dict(type="FuseBN"),
        dict(type="Float2QAT", calibration_checkpoint=checkpoint("calibration")),
    ],
)
damping = [dict(type="OscillationDamping", strength=qat_oscillation_damping)] if qat_oscillation_damping else []
average = dict(type="ExponentialMovingAverage", momentum=ema_momentum, gamma=qat_ema_gamma)
qat_average = [average] if qat_ema else []
qat_trainer = dict(
    type="distributed_data_parallel_trainer",
    model=model,
    model_convert_pipeline=qat_pipeline,
    data_loader=qat_data_loader,
    optimizer=dict(
        type=torch.optim.AdamW,
        lr=qat_lr,
        weight_decay=weight_decay,
        paramwise=dict(norm_decay=0.0, bias_decay=0.0),
    ),
    base_batch_size=base_batch_size,
    batch_processor=qat_batch_processor,
    num_epochs=qat_epochs,
    device=device,
    seed=seed,
    val_data_loader=val_data_loader,
    val_metrics=metric,
    callbacks=[
        dict(type="StatsMonitor", log_freq=20),
        dict(
            type="CosLrUpdater",
            warmup_len=0.05,
            warmup_by="fraction",
            warmup_start_factor=0.1,
            min_lr_ratio=0.05,
        ),
        dict(type="FreezeObservers", fraction=1 / 3),
        *taught(
            checkpoint("float") if qat_teacher == "float" else qat_teacher,
            class_weight=qat_teacher_weight,
            box_weight=qat_teacher_weight,
            feature_weight=0.0,
        ),
        *damping,
        dict(type="NanGuard"),
        *qat_average,
        dict(type="Validation", val_interval=1, val_on_train_begin=True),  # QAT may not end below calibration
        dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="qat", monitor_metric_key=monitor, keep=1),
        dict(type="ResultsCsv"),
        dict(type="TensorBoard"),
        *pictures,
    ],
)

# ---- stage 4: the integer model ------------------------------------------------------------------------------------
int_infer = dict(
    type="Predictor",
    model=model,
    model_convert_pipeline=dict(
        type="ModelConvertPipeline",
        qat_mode=qat_mode,
        qconfig_params=dict(
            qat_forward=qat_forward,
            arithmetic=arithmetic,
            keep_float=keep_float,
            int16_output=int16_output,
            weight_bits=weight_bits,
            qat_scales=qat_scales,
        ),
        converters=[
            dict(type="FuseBN"),
            dict(type="Float2QAT"),
            dict(type="LoadCheckpoint", checkpoint_path=[checkpoint("qat"), checkpoint("calibration")]),
            dict(type="QAT2Int", image_size=imgsz),
        ],
    ),
    data_loader=val_data_loader,
    val_metrics=metric,
    batch_processor=val_batch_processor,
    device=device,
)
