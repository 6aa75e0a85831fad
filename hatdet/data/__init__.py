"""Images and boxes: packing COCO sets into LMDB, reading them, augmenting, batching."""
