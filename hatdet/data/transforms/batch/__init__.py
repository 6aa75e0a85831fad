"""The part of the augmentation that a training device does, to whole batches."""
