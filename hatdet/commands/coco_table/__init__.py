"""RTMDet's int8 figures on COCO, in one command."""
