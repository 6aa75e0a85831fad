"""From scored boxes to detections, and merging of the results of augmented pictures."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "suppression": "batched_nms nms soft_nms",
        "multiclass": "fast_nms multiclass_nms",
        "matrix": "mask_matrix_nms",
        "views": "Suppression",
        "merging": (
            "bbox_mapping_back merge_aug_bboxes merge_aug_masks merge_aug_proposals merge_aug_results merge_aug_scores"
        ),
    },
)
