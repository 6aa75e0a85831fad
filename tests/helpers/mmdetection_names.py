"""Names that MMDetection has in its families of parts, and why those that are not here are not.

Families and names are those of the tour of version 2.7 and of the packages of 2.28 and 3.3.
"""

from __future__ import annotations

from typing import NamedTuple


class Family(NamedTuple):
    """A title, names of version 2.7, and names that came later."""

    title: str
    first: str
    later: str = ""


FAMILIES = (
    Family(
        "Detectors",
        """
        SingleStageDetector RPN RetinaNet FCOS RepPointsDetector FOVEA FSAF NASFCOS ATSS GFL CornerNet PAA YOLOV3 VFNet
        BaseDetector TwoStageDetector FastRCNN FasterRCNN MaskRCNN CascadeRCNN HybridTaskCascade GridRCNN
        MaskScoringRCNN PointRend TridentFasterRCNN YOLACT DETR
        """,
        """
        AutoAssign YOLOF CenterNet YOLOX TOOD DDOD RTMDet LAD KnowledgeDistillationSingleStageDetector CrowdDet
        SparseRCNN SCNet QueryInst PanopticFPN TwoStagePanopticSegmentor SOLO SOLOv2 CondInst BoxInst
        DetectionTransformer DeformableDETR ConditionalDETR DABDETR DINO DDQDETR GroundingDINO GLIP MaskFormer
        Mask2Former SemiBaseDetector SoftTeacher Detectron2Wrapper
        """,
    ),
    Family(
        "1 Backbones",
        """
        RegNet ResNet ResNetV1d ResNeXt SSDVGG HRNet Res2Net HourglassNet DetectoRS_ResNet DetectoRS_ResNeXt Darknet
        ResNeSt TridentResNet
        """,
        """
        CSPDarknet CSPNeXt MobileNetV2 EfficientNet SwinTransformer PyramidVisionTransformer PyramidVisionTransformerV2
        """,
    ),
    Family(
        "2 Necks",
        """
        FPN BFP ChannelMapper HRFPN NASFPN FPN_CARAFE PAFPN NASFCOS_FPN RFP YOLOV3Neck
        """,
        """
        YOLOXPAFPN CSPNeXtPAFPN FPG DilatedEncoder CTResNetNeck SSDNeck DyHead SSH FPN_DropBlock
        """,
    ),
    Family(
        "3 Heads",
        """
        AnchorFreeHead AnchorHead GuidedAnchorHead FeatureAdaption RPNHead GARPNHead RetinaHead RetinaSepBNHead
        GARetinaHead SSDHead FCOSHead RepPointsHead FoveaHead FreeAnchorRetinaHead ATSSHead FSAFHead NASFCOSHead
        PISARetinaHead PISASSDHead GFLHead CornerHead YOLACTHead YOLACTSegmHead YOLACTProtonet YOLOV3Head PAAHead
        SABLRetinaHead CentripetalHead VFNetHead TransformerHead BaseRoIHead StandardRoIHead CascadeRoIHead
        BaseRoIExtractor SingleRoIExtractor GenericRoIExtractor BBoxHead
        """,
        """
        YOLOXHead YOLOFHead TOODHead DDODHead CenterNetHead CenterNetUpdateHead AutoAssignHead LADHead LDHead
        CascadeRPNHead StageCascadeRPNHead EmbeddingRPNHead RTMDetHead RTMDetSepBNHead RTMDetInsHead RTMDetInsSepBNHead
        ATSSVLFusionHead DETRHead DeformableDETRHead ConditionalDETRHead DABDETRHead DINOHead DDQDETRHead
        GroundingDINOHead SOLOHead DecoupledSOLOHead DecoupledSOLOLightHead SOLOV2Head CondInstBboxHead
        CondInstMaskHead BoxInstBboxHead BoxInstMaskHead MaskFormerHead Mask2FormerHead
        """,
    ),
    Family(
        "4 Enhance: plugins and layers",
        """
        SPP ASPP RFB Dropout DropBlock DCN DCNv2 SENet Non_Local CBA CBAM NonLocal2d ContextBlock GeneralizedAttention
        ConvWS ConvAWS SAC CARAFEPack PixelShufflePack ConvModule DepthwiseSeparableConvModule Scale ResLayer
        """,
        """
        SELayer ChannelAttention DyReLU CSPLayer ConvUpsample NormedConv2d NormedLinear InvertedResidual
        SimplifiedBasicBlock ExpMomentumEMA AdaptiveAvgPool2d FrozenBatchNorm2d SinePositionalEncoding
        MSDeformAttnPixelDecoder DynamicConv PatchEmbed
        """,
    ),
    Family(
        "Prior generators",
        """
        AnchorGenerator LegacyAnchorGenerator SSDAnchorGenerator LegacySSDAnchorGenerator YOLOAnchorGenerator
        PointGenerator anchor_inside_flags images_to_levels calc_region
        """,
        """
        MlvlPointGenerator
        """,
    ),
    Family(
        "5 Assigners and costs",
        """
        BaseAssigner AssignResult MaxIoUAssigner ApproxMaxIoUAssigner PointAssigner ATSSAssigner CenterRegionAssigner
        GridAssigner HungarianAssigner BboxOverlaps2D bbox_overlaps
        """,
        """
        RegionAssigner UniformAssigner SimOTAAssigner TaskAlignedAssigner DynamicSoftLabelAssigner
        TopkHungarianAssigner MultiInstanceAssigner MaskHungarianAssigner BboxOverlaps2D_GLIP BBoxL1Cost
        ClassificationCost FocalLossCost BinaryFocalLossCost CrossEntropyLossCost DiceCost IoUCost
        """,
    ),
    Family(
        "6 Samplers",
        """
        BaseSampler PseudoSampler RandomSampler InstanceBalancedPosSampler IoUBalancedNegSampler CombinedSampler
        OHEMSampler SamplingResult ScoreHLRSampler
        """,
        """
        MaskPseudoSampler MaskSamplingResult MultiInsRandomSampler MultiInstanceSamplingResult
        """,
    ),
    Family(
        "7 Encoders and decoders of boxes",
        """
        BaseBBoxCoder PseudoBBoxCoder DeltaXYWHBBoxCoder LegacyDeltaXYWHBBoxCoder TBLRBBoxCoder YOLOBBoxCoder
        BucketingBBoxCoder
        """,
        """
        DistancePointBBoxCoder DeltaXYWHBBoxCoderForGLIP
        """,
    ),
    Family(
        "8 Losses",
        """
        accuracy cross_entropy binary_cross_entropy mask_cross_entropy CrossEntropyLoss sigmoid_focal_loss FocalLoss
        smooth_l1_loss SmoothL1Loss balanced_l1_loss BalancedL1Loss mse_loss MSELoss iou_loss bounded_iou_loss IoULoss
        BoundedIoULoss GIoULoss DIoULoss CIoULoss GHMC GHMR reduce_loss weight_reduce_loss weighted_loss L1Loss l1_loss
        isr_p carl_loss AssociativeEmbeddingLoss GaussianFocalLoss QualityFocalLoss DistributionFocalLoss VarifocalLoss
        """,
        """
        EIoULoss SIoULoss SeesawLoss DiceLoss EQLV2Loss KnowledgeDistillationKLDivLoss MarginL2Loss TripletLoss L2Loss
        MultiPosCrossEntropyLoss CrossEntropyCustomLoss FocalCustomLoss DDQAuxLoss
        """,
    ),
    Family(
        "9 Training tricks: optimizers, schedules, hooks",
        """
        CheckpointHook TextLoggerHook TensorboardLoggerHook OptimizerHook Fp16OptimizerHook NumClassCheckHook EMAHook
        EpochBasedRunner IterBasedRunner EvalHook
        """,
        """
        OptimWrapper AmpOptimWrapper EpochBasedTrainLoop IterBasedTrainLoop ValLoop TestLoop paramwise_cfg clip_grad
        accumulative_counts auto_scale_lr LearningRateDecayOptimizerConstructor RuntimeInfoHook IterTimerHook
        DistSamplerSeedHook LoggerHook ParamSchedulerHook EarlyStoppingHook SyncBuffersHook EmptyCacheHook ProfilerHook
        PrepareTTAHook PipelineSwitchHook YOLOXModeSwitchHook SyncNormHook CheckInvalidLossHook SetEpochInfoHook
        MemoryProfilerHook MeanTeacherHook DetVisualizationHook ExpMomentumEMAHook LinearMomentumEMAHook MMDetWandbHook
        RFSearchHook SyncRandomSizeHook
        """,
    ),
    Family(
        "Test 1: post-processing",
        """
        multiclass_nms merge_aug_proposals merge_aug_bboxes merge_aug_scores merge_aug_masks fast_nms
        """,
        """
        mask_matrix_nms nms soft_nms batched_nms merge_aug_results bbox_mapping_back filter_scores_and_topk
        select_single_mlvl weighted_boxes_fusion
        """,
    ),
    Family(
        "Test 2 and 3: decoding, test-time augmentation",
        """
        MultiScaleFlipAug
        """,
        """
        TestTimeAug DetTTAModel
        """,
    ),
    Family(
        "Transforms",
        """
        LoadImageFromFile LoadAnnotations LoadProposals Resize RandomFlip Pad RandomCrop Normalize SegRescale
        MinIoURandomCrop Expand PhotoMetricDistortion Albu InstaBoost RandomCenterCropPad AutoAugment CutOut Shear
        Rotate Translate ColorTransform EqualizeTransform BrightnessTransform ContrastTransform Corrupt
        DefaultFormatBundle Collect ImageToTensor ToTensor ToDataContainer Transpose LoadImageFromWebcam
        LoadMultiChannelImageFromFiles
        """,
        """
        PackDetInputs FilterAnnotations RandomShift Mosaic MixUp RandomAffine YOLOXHSVRandomAug CopyPaste RandomResize
        RandomChoiceResize RandomChoice RandomApply RandomOrder RandomErasing CachedMosaic CachedMixUp FixShapeResize
        FixScaleResize ResizeShortestEdge RandAugment ShearX ShearY TranslateX TranslateY Color Equalize Brightness
        Contrast Sharpness Solarize SolarizeAdd Posterize AutoContrast Invert GeomTransform MultiBranch
        LoadEmptyAnnotations LoadPanopticAnnotations ProposalBroadcaster LoadImageFromNDArray InferencerLoader
        RandomSamplingNegPos LoadTextAnnotations LoadTrackAnnotations
        """,
    ),
    Family(
        "Data sets, their samplers, preprocessing of batches",
        """
        CocoDataset VOCDataset XMLDataset DeepFashionDataset CityscapesDataset LVISDataset LVISV05Dataset LVISV1Dataset
        WIDERFaceDataset CustomDataset ConcatDataset RepeatDataset ClassBalancedDataset GroupSampler
        DistributedGroupSampler DistributedSampler
        """,
        """
        BaseDetDataset MultiImageMixDataset OpenImagesDataset OpenImagesChallengeDataset CrowdHumanDataset
        Objects365V1Dataset Objects365V2Dataset V3DetDataset CocoPanopticDataset RefCocoDataset ODVGDataset
        DefaultSampler InfiniteSampler AspectRatioBatchSampler ClassAwareSampler MultiSourceSampler DetDataPreprocessor
        BatchSyncRandomResize BatchFixedSizePad BatchResize MultiBranchDataPreprocessor
        """,
    ),
    Family(
        "Metrics",
        "",
        """
        CocoMetric VOCMetric DumpDetResults LVISMetric OpenImagesMetric CrowdHumanMetric CityScapesMetric
        CocoPanopticMetric CocoOccludedSeparatedMetric DumpProposals
        """,
    ),
)

TOOLS = """
    train.py test.py dist_train.sh dist_test.sh slurm_train.sh slurm_test.sh misc/print_config.py misc/split_coco.py
    misc/download_dataset.py misc/get_image_metas.py analysis_tools/analyze_logs.py analysis_tools/analyze_results.py
    analysis_tools/benchmark.py analysis_tools/browse_dataset.py analysis_tools/coco_error_analysis.py
    analysis_tools/confusion_matrix.py analysis_tools/eval_metric.py analysis_tools/fuse_results.py
    analysis_tools/get_flops.py analysis_tools/optimize_anchors.py analysis_tools/robustness_eval.py
    dataset_converters/cityscapes.py dataset_converters/crowdhuman2coco.py dataset_converters/images2coco.py
    dataset_converters/pascal_voc.py model_converters/publish_model.py model_converters/detectron2_to_mmdet.py
    model_converters/upgrade_model_version.py
    """
"""Scripts under ``tools/``."""

MISSING: dict[str, str] = {
    name: reason
    for reason, names in (
        (
            "two-stage",
            """
            TwoStageDetector FastRCNN FasterRCNN CascadeRCNN GridRCNN TridentFasterRCNN SparseRCNN CrowdDet BaseRoIHead
            StandardRoIHead CascadeRoIHead BaseRoIExtractor SingleRoIExtractor GenericRoIExtractor BBoxHead
            EmbeddingRPNHead DumpProposals
            """,
        ),
        (
            "masks",
            """
            MaskRCNN HybridTaskCascade MaskScoringRCNN PointRend YOLACT SCNet QueryInst PanopticFPN
            TwoStagePanopticSegmentor SOLO SOLOv2 CondInst BoxInst YOLACTHead YOLACTSegmHead YOLACTProtonet
            RTMDetInsHead RTMDetInsSepBNHead SOLOHead DecoupledSOLOHead DecoupledSOLOLightHead SOLOV2Head
            CondInstBboxHead CondInstMaskHead BoxInstBboxHead BoxInstMaskHead MaskHungarianAssigner CocoPanopticMetric
            CityScapesMetric CocoOccludedSeparatedMetric
            """,
        ),
        (
            "detectors by queries",
            """
            DETR DetectionTransformer DeformableDETR ConditionalDETR DABDETR DINO DDQDETR MaskFormer Mask2Former
            TransformerHead DETRHead DeformableDETRHead ConditionalDETRHead DABDETRHead DINOHead DDQDETRHead
            MaskFormerHead Mask2FormerHead DDQAuxLoss SinePositionalEncoding MSDeformAttnPixelDecoder DynamicConv
            """,
        ),
        (
            "text as an input",
            """
            GroundingDINO GLIP GroundingDINOHead ATSSVLFusionHead ODVGDataset RandomSamplingNegPos LoadTextAnnotations
            """,
        ),
        (
            "semi-supervised training",
            """
            SemiBaseDetector SoftTeacher MultiSourceSampler MultiBranchDataPreprocessor
            """,
        ),
        (
            "as a function; the class of the loss computes it",
            """
            cross_entropy binary_cross_entropy mask_cross_entropy smooth_l1_loss balanced_l1_loss mse_loss iou_loss
            bounded_iou_loss l1_loss
            """,
        ),
        ("another toolbox's models", "Detectron2Wrapper"),
        ("a base class; `SingleStageDetector` is what there is", "BaseDetector"),
        ("a base class; whatever has `assign` is an assigner", "BaseAssigner"),
        ("a base class; what is made of it is here", "GeomTransform"),
        ('write `norm_cfg=dict(type="BN", requires_grad=False)` and `norm_eval=True`', "FrozenBatchNorm2d"),
        ("inside the targets of guided anchors", "calc_region"),
        ("the size of batches changes with `BatchSyncRandomResize`", "SyncRandomSizeHook BatchResize"),
        ("the merging of several models' results", "weighted_boxes_fusion"),
        ("version 2's: write `ShearX`, `TranslateX`, or `RandomAffine`", "Shear Translate"),
        (
            "pictures come from files that the data set packs",
            """
            LoadImageFromWebcam LoadMultiChannelImageFromFiles LoadImageFromNDArray InferencerLoader
            LoadTrackAnnotations
            """,
        ),
        ("scores of another kind than COCO's", "LVISMetric OpenImagesMetric CrowdHumanMetric"),
    )
    for name in names.split()
}
"""Name -> why it is not here."""
