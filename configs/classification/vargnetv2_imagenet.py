"""VarGNetV2 as a classifier: weights for detectors to start from (HAT's ``vargnetv2_imagenet``).

    for split in train val; do python3 tools/image_folder_packer.py \\
        --src-data-dir data/imagenet --target-data-dir tmp_data/imagenet --split-name $split; done
    for stage in float calibration qat; do
        python3 tools/train.py --stage $stage --config configs/classification/vargnetv2_imagenet.py; done
    python3 tools/predict.py --stage int_infer --config configs/classification/vargnetv2_imagenet.py
    python3 tools/export.py configs/classification/vargnetv2_imagenet.py

A detector needs the first stage alone; the others give a classifier as an integer model. Any image-folder set does:
data_root=..., num_classes=.... A detector takes the checkpoint with ``LoadCheckpoint(allow_miss=True,
ignore_extra=True)``: the backbone's names are the same. The pictures are YUV in [-1, 1), as the RetinaNet config has
them. No accuracy on ImageNet has been measured here.
"""

import os

import torch

_aliases_ = {"max_epochs": "epochs"}

data_root = "./tmp_data/imagenet/"
num_classes = 1000
imgsz = (224, 224)  # (height, width)
input_color = "yuv444"  # bgr, rgb, gray: as the detector that starts from it
epochs = 90
batch_size = 64
workers = 4
lr = 0.1  # for base_batch_size images a step
base_batch_size = 256
weight_decay = 5e-5
label_smoothing = 0.1
warmup_epochs = 3.0
calibration_step = 50
qat_epochs = 3
qat_lr = 1e-3
arithmetic = "tflite_ref"  # kernels of the integers; "xnnpack": LiteRT's default ones (phones, Linux); "both": of two
seed = 0
device = None

work_dir = os.path.join("work_dirs", config_name)
ckpt_dir = work_dir

model = dict(
    type="ImageClassifier",
    input_color=input_color,
    backbone=dict(type="VargNetV2", num_classes=num_classes, bn_kwargs={}, include_top=True),
    preprocessor=dict(type="DataPreprocessor", mean=128.0, std=128.0),
    label_smoothing=label_smoothing,
)

to_tensor = dict(type="ToTensor", color=input_color)
data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoFromLMDB",
        data_path=os.path.join(data_root, "train_lmdb"),
        transforms=[
            dict(type="RandomResizedCrop", size=imgsz),
            dict(type="HSVRandomAug", hue_delta=5, saturation_delta=30, value_delta=30),
            dict(type="RandomFlip", px=0.5),
            to_tensor,
        ],
    ),
    sampler=dict(type="SeededSampler", shuffle=True, seed=seed),
    batch_size=batch_size,
    num_workers=workers,
    drop_last=True,
    collate_fn=dict(type="Collate2D"),
)
val_data_loader = dict(
    type=torch.utils.data.DataLoader,
    dataset=dict(
        type="CocoFromLMDB",
        data_path=os.path.join(data_root, "val_lmdb"),
        transforms=[dict(type="CenterCrop", size=imgsz, resize=max(imgsz) * 8 // 7), to_tensor],
        test_mode=True,
    ),
    sampler=dict(type="SeededSampler", shuffle=False),
    batch_size=batch_size,
    num_workers=workers,
    collate_fn=dict(type="Collate2D"),
)
metric = dict(type="Accuracy", topk=(1, 5))

float_trainer = dict(
    type="distributed_data_parallel_trainer",
    model=model,
    data_loader=data_loader,
    optimizer=dict(
        type=torch.optim.SGD,
        lr=lr,
        momentum=0.9,
        weight_decay=weight_decay,
        paramwise=dict(norm_decay=0.0, bias_decay=0.0),
    ),
    base_batch_size=base_batch_size,
    batch_processor=dict(type="BasicBatchProcessor", need_grad_update=True, enable_channels_last=True),
    num_epochs=epochs,
    device=device,
    seed=seed,
    sync_bn=True,
    val_data_loader=val_data_loader,
    val_metrics=metric,
    callbacks=[
        dict(type="StatsMonitor", log_freq=50),
        dict(type="CosLrUpdater", warmup_len=warmup_epochs, warmup_by="epoch"),
        dict(type="NanGuard"),
        dict(type="Validation"),
        dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="float", monitor_metric_key="top1", keep=3),
        dict(type="ResultsCsv"),
        dict(type="TensorBoard"),
    ],
)


# ---- the classifier as integers --------------------------------------------------------------------------------------
def checkpoint(stage):
    """Path of a stage's best checkpoint."""
    return os.path.join(ckpt_dir, f"{stage}-checkpoint-best.pth.tar")


def pipeline(*converters):
    return dict(
        type="ModelConvertPipeline",
        qat_mode="fuse_bn",
        qconfig_params=dict(arithmetic=arithmetic),
        converters=list(converters),
    )


def saved(stage):
    return dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix=stage, monitor_metric_key="top1", keep=3)


quantizing = dict(type="Float2QAT", calibration_checkpoint=checkpoint("calibration"))

calibration_trainer = dict(
    type="Calibrator",
    model=model,
    model_convert_pipeline=pipeline(
        dict(type="LoadCheckpoint", checkpoint_path=checkpoint("float")), dict(type="Float2Calibration")
    ),
    data_loader=data_loader,
    batch_processor=dict(type="BasicBatchProcessor", need_grad_update=False),
    num_steps=calibration_step,
    device=device,
    seed=seed,
    val_data_loader=val_data_loader,
    val_metrics=metric,
    callbacks=[dict(type="Validation"), saved("calibration")],
)

qat_trainer = dict(
    type="distributed_data_parallel_trainer",
    model=model,
    model_convert_pipeline=pipeline(
        dict(type="LoadCheckpoint", checkpoint_path=checkpoint("float")), quantizing
    ),
    data_loader=data_loader,
    optimizer=dict(
        type=torch.optim.SGD,
        lr=qat_lr,
        momentum=0.9,
        weight_decay=weight_decay,
        paramwise=dict(norm_decay=0.0, bias_decay=0.0),
    ),
    base_batch_size=base_batch_size,
    batch_processor=dict(type="BasicBatchProcessor", need_grad_update=True),
    num_epochs=qat_epochs,
    device=device,
    seed=seed,
    val_data_loader=val_data_loader,
    val_metrics=metric,
    callbacks=[
        dict(type="StatsMonitor", log_freq=50),
        dict(type="CosLrUpdater"),
        dict(type="FreezeObservers", fraction=1 / 3),
        dict(type="NanGuard"),
        dict(type="Validation"),
        saved("qat"),
        dict(type="ResultsCsv"),
        dict(type="TensorBoard"),
    ],
)

int_infer = dict(
    type="Predictor",
    model=model,
    model_convert_pipeline=pipeline(
        dict(type="Float2QAT"),
        dict(type="LoadCheckpoint", checkpoint_path=[checkpoint("qat"), checkpoint("calibration")]),
        dict(type="QAT2Int", image_size=imgsz),
    ),
    data_loader=val_data_loader,
    val_metrics=metric,
    batch_processor=dict(type="BasicBatchProcessor", need_grad_update=False),
    device=device,
)
