"""MMDetection's config files as text: what their syntax means, as MMEngine reads it."""
