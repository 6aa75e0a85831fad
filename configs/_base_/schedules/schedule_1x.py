"""12 epochs of SGD with two steps down, in MMDetection's words."""

_aliases_ = {"max_epochs": "epochs"}
epochs = 12

optimizer = dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0001)  # for 8 GPUs with 2 images each
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="step", warmup="linear", warmup_iters=500, warmup_ratio=0.001, step=[8, 11])
runner = dict(type="EpochBasedRunner", max_epochs=epochs)
