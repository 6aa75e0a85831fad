"""Necks of the YOLO family and of RTMDet."""
