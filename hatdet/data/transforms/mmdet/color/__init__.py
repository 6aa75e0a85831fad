"""Changes of colour under MMDetection's names."""
