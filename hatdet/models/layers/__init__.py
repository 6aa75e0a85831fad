"""Building blocks shared by backbones, necks and heads."""
