"""Parts of detectors with the names, arguments and parameters that MMDetection gives them: ``mmdet.FCOSHead``."""
