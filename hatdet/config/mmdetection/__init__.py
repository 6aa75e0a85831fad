"""MMDetection's config files."""
