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
calibration_observer = "mse"  # min_max, moving_average, percentile, mse, kl, mix
equalize = False  # cross-layer equalization before it: for networks of ReLU or none between convolutions
bias_correction = False  # after it: what rounding adds to each channel's mean goes out of the biases
weight_rounding = "nearest"  # "adaround": calibration learns, without labels, which weights are rounded up
arithmetic = "tflite_ref"  # the kernels that integers follow; "xnnpack": LiteRT's default ones (phones, Linux boards)
weight_bits = 8  # 4: of all layers; ['backbone.layer4*', ...]: of these; "auto": calibration chooses by flash_budget
flash_budget = 0.55  # of weight_bits="auto": bytes of weights and biases, or their share of those with 8 bits
qat_scales = "auto"  # of weights in QAT: "observed", "learned" (LSQ); "auto": learned where they have 4 bits
teacher = None  # float checkpoint of a detector that knows the same classes: learn of it too
qat_teacher = None  # the same in QAT; "float": of the float model that it begins with
