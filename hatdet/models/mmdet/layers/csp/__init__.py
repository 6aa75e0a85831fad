"""Cross-stage-partial layers, inverted residuals, and what else the smaller backbones are made of."""
