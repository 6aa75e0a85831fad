"""The rest, in MMDetection's words; from here hatdet knows that it has to translate."""

_vocabulary_ = "mmdetection"

checkpoint_config = dict(interval=1)
log_config = dict(interval=50, hooks=[dict(type="TextLoggerHook")])
custom_hooks = [dict(type="NumClassCheckHook")]
dist_params = dict(backend="nccl")
log_level = "INFO"
load_from = None
resume_from = None
workflow = [("train", 1)]
auto_scale_lr = dict(enable=False, base_batch_size=16)
arithmetic = "tflite_ref"  # the kernels that integers follow; "xnnpack": LiteRT's default ones (phones, Linux boards)
teacher = None  # float checkpoint of a detector that knows the same classes: learn of it too
qat_teacher = None  # the same in QAT; "float": of the float model that it begins with
