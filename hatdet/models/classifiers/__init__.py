"""Image classifiers, for pretraining backbones."""
