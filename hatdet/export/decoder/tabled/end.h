/* Candidates of all levels with their scores; returns how many there are. */
static inline uint32_t hdx_gather(const hdx_code *const outputs[HDX_OUTPUTS], hdx_candidate *heap) {
    uint32_t count = 0, base = 0;
    for (int32_t i = 0; i < HDX_LEVELS; i++) {
        const hdx_level *level = &hdx_levels[i];
#if HDX_WHOLE
        count = hdx_collect(level, outputs, base, heap, count, HDX_MAX_CANDIDATES);
#else
        count += hdx_collect(level, outputs, base, heap + count, 0, level->limit);
#endif
        base += (uint32_t)(level->height * level->width * level->anchors) * HDX_CLASSES;
    }
#if (HDX_FACTOR || HDX_BUCKETS_COUNT) && !HDX_EARLY
    for (uint32_t i = 0; i < count; i++) {
        uint32_t pair = heap[i].pair;
        const hdx_level *level = hdx_level_of(&pair);
        heap[i].score *= hdx_factor(level, outputs, pair / HDX_CLASSES);
    }
#endif
    return count;
}

/* [if ordered] */
/* The best candidate first. */
static inline void hdx_order(hdx_candidate *heap, uint32_t count) {
    hdx_heapify(heap, count, 0);
    while (count > 1) {
        const hdx_candidate worst = heap[0];
        heap[0] = heap[--count];
        heap[count] = worst;
        hdx_sift(heap, count, 0, 0);
    }
}

/* Leave out, in order, what is too small; returns how many stay. */
static inline uint32_t hdx_large(hdx_candidate *heap, uint32_t count, const hdx_code *const outputs[HDX_OUTPUTS],
                                 const int32_t picture[2], const float scale[2]) {
#ifdef HDX_MIN_SIZE
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        const hdx_detection box = hdx_box(heap[i], outputs, picture, scale);
        if (box.x2 - box.x1 > HDX_MIN_SIZE && box.y2 - box.y1 > HDX_MIN_SIZE) heap[kept++] = heap[i];
    }
    return kept;
#else
    (void)heap, (void)outputs, (void)picture, (void)scale;
    return count;
#endif
}

/* Intersection over union, which is at least `least`. */
static inline float hdx_iou(const hdx_detection *a, const hdx_detection *b, float least) {
    float width = (a->x2 < b->x2 ? a->x2 : b->x2) - (a->x1 > b->x1 ? a->x1 : b->x1);
    float height = (a->y2 < b->y2 ? a->y2 : b->y2) - (a->y1 > b->y1 ? a->y1 : b->y1);
    float shared, both;
    width = width > 0.0f ? width : 0.0f;
    height = height > 0.0f ? height : 0.0f;
    shared = width * height;
    both = (a->x2 - a->x1) * (a->y2 - a->y1) + (b->x2 - b->x1) * (b->y2 - b->y1) - shared;
    return shared / (both > least ? both : least);
}

/* [end] */
/* [if soft] */
/* What boxes that touch each other have in common: their class or level. */
static inline uint32_t hdx_group(hdx_candidate candidate) {
#if HDX_CLASS_AGNOSTIC
    (void)candidate;
    return 0;
#elif HDX_BY_LEVEL
    uint32_t pair = candidate.pair;
    return (uint32_t)(hdx_level_of(&pair) - hdx_levels);
#else
    return candidate.pair % HDX_CLASSES;
#endif
}

/* What the score of a box with this overlap is multiplied by. */
static inline float hdx_lowered(float iou) {
#if HDX_SOFT == HDX_GAUSSIAN
    return (float)exp((double)(-(iou * iou) / HDX_SIGMA));
#elif HDX_SOFT == HDX_LINEAR
    return iou >= HDX_IOU_THRESHOLD ? 1.0f - iou : 1.0f;
#else
    return iou >= HDX_IOU_THRESHOLD ? 0.0f : 1.0f;
#endif
}

/* The best box lowers the scores of those that overlap it, and so on; what falls out is replaced by the last. */
static inline int32_t hdx_soften(hdx_candidate *left, uint32_t count, const hdx_code *const outputs[HDX_OUTPUTS],
                                 const int32_t picture[2], const float scale[2],
                                 hdx_detection detections[HDX_MAX_DETECTIONS]) {
    uint32_t found = 0;
    for (; found < count && found < HDX_MAX_DETECTIONS; found++) {
        uint32_t best = found, i;
        for (i = found + 1; i < count; i++)
            if (left[i].score > left[best].score) best = i;
        const hdx_candidate taken = left[best];
        left[best] = left[found];
        left[found] = taken;
        detections[found] = hdx_box(taken, outputs, picture, scale);
        for (i = found + 1; i < count;) {
            const hdx_detection other = hdx_box(left[i], outputs, picture, scale);
            const int apart = hdx_group(left[i]) != hdx_group(taken);
            left[i].score *= hdx_lowered(apart ? 0.0f : hdx_iou(&detections[found], &other, 1e-12f));
            if (left[i].score < HDX_MIN_SCORE)
                left[i] = left[--count];
            else
                i++;
        }
    }
    return (int32_t)found;
}

/* [end] */
/* [if vote] */
/* A detection becomes the mean of the candidates around it, by score and nearness; the best are added first. */
static inline void hdx_vote(const hdx_candidate *sorted, uint32_t count, const hdx_code *const outputs[HDX_OUTPUTS],
                            const int32_t picture[2], const float scale[2], hdx_detection *box) {
    double total = 0.0, sums[4] = {0.0, 0.0, 0.0, 0.0};
    for (uint32_t i = 0; i < count; i++) {
        if ((int32_t)(sorted[i].pair % HDX_CLASSES) != box->label) continue;
        const hdx_detection other = hdx_box(sorted[i], outputs, picture, scale);
        const float iou = hdx_iou(box, &other, 1e-6f), far = 1.0f - iou;
        if (!(iou > 0.01f)) continue;
        const float weight = (float)exp((double)(-(far * far) / 0.025f)) * other.score;
        const double wide = weight;
        total += wide;
        sums[0] += wide * (double)other.x1;
        sums[1] += wide * (double)other.y1;
        sums[2] += wide * (double)other.x2;
        sums[3] += wide * (double)other.y2;
    }
    if (!(total > 0.0)) return;
    box->x1 = (float)(sums[0] / total);
    box->y1 = (float)(sums[1] / total);
    box->x2 = (float)(sums[2] / total);
    box->y2 = (float)(sums[3] / total);
}

/* [end] */
/*
 * Raw outputs of the network, in the order of the file, each [height][width][channels] -> detections, best first.
 * `height` and `width` are those of the picture that was given to hdx_letterbox. Returns how many were found.
 */
static inline int32_t hdx_decode(const hdx_code *const outputs[HDX_OUTPUTS], int32_t height, int32_t width,
                                 hdx_workspace *work, hdx_detection detections[HDX_MAX_DETECTIONS]) {
    hdx_candidate *heap = work->candidates;
    uint32_t count;
    int32_t found = 0, picture[2];
    float scale[2];
    count = hdx_gather(outputs, heap);
    hdx_picture_size(height, width, &picture[0], &picture[1]);
    scale[0] = (float)(1.0 / (double)(float)((double)picture[0] / (double)height));
    scale[1] = (float)(1.0 / (double)(float)((double)picture[1] / (double)width));
/* [if ordered] */
    hdx_order(heap, count);
    count = hdx_large(heap, count, outputs, picture, scale);
/* [if soft] */
    found = hdx_soften(heap, count, outputs, picture, scale, detections);
/* [end] */
/* [if not soft] */
    for (uint32_t at = 0; at < count && found < HDX_MAX_DETECTIONS; at++) {
        const hdx_detection box = hdx_box(heap[at], outputs, picture, scale);
        int keep = 1;
        for (int32_t i = 0; HDX_SUPPRESSES && keep && i < found; i++) {
#if !HDX_CLASS_AGNOSTIC
            if (detections[i].label != box.label) continue;
#endif
            keep = !hdx_overlap(&detections[i], &box);
        }
        if (keep) detections[found++] = box;
    }
/* [end] */
/* [if vote] */
/* [if soft] */
    count = hdx_gather(outputs, heap); /* again: soft suppression has lowered their scores */
    hdx_order(heap, count);
/* [end] */
    for (int32_t i = 0; i < found; i++) hdx_vote(heap, count, outputs, picture, scale, &detections[i]);
/* [end] */
    return found;
/* [end] */
/* [if not ordered] */
    hdx_heapify(heap, count, 1);
    while (count > 0 && found < HDX_MAX_DETECTIONS) {
        hdx_detection box = hdx_box(heap[0], outputs, picture, scale);
        int keep = 1;
#if HDX_BY_LEVEL
        uint32_t pair = heap[0].pair;
        box.label = (int32_t)(hdx_level_of(&pair) - hdx_levels); /* meanwhile: the one class is 0 */
#endif
#ifdef HDX_MIN_SIZE
        keep = box.x2 - box.x1 > HDX_MIN_SIZE && box.y2 - box.y1 > HDX_MIN_SIZE;
#endif
        heap[0] = heap[--count];
        hdx_sift(heap, count, 0, 1);
        for (int32_t i = 0; HDX_SUPPRESSES && keep && i < found; i++) {
#if !HDX_CLASS_AGNOSTIC
            if (detections[i].label != box.label) continue;
#endif
            keep = !hdx_overlap(&detections[i], &box);
        }
        if (keep) detections[found++] = box;
    }
#if HDX_BY_LEVEL
    for (int32_t i = 0; i < found; i++) detections[i].label = 0;
#endif
    return found;
/* [end] */
}
