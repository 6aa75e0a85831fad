/* ---- the code: the same for every model ------------------------------------------------------------------------- */

typedef struct {
    float x1, y1, x2, y2; /* pixels of the picture that was given to hdx_letterbox */
    float score;
    int32_t label; /* index into hdx_classes */
} hdx_detection;

typedef struct {
    float score;
    uint32_t pair; /* level, position, anchor, class: the order of equal scores */
} hdx_candidate;

typedef struct {
    int32_t first;
    int32_t weight[2];
} hdx_tap;

/* Working memory of both functions (never at the same time); the caller places it. */
typedef union {
    hdx_candidate candidates[HDX_MAX_CANDIDATES];
    hdx_tap taps[HDX_INPUT_WIDTH];
} hdx_workspace;

/* Size of the picture inside the network's input; the rest is padding. */
static inline void hdx_picture_size(int32_t height, int32_t width, int32_t *picture_height, int32_t *picture_width) {
    const int64_t h = height, w = width;
    *picture_height = HDX_RESIZE_HEIGHT;
    *picture_width = HDX_RESIZE_WIDTH;
    if (!HDX_KEEP_RATIO) return;
    if (HDX_RESIZE_HEIGHT * w <= HDX_RESIZE_WIDTH * h) {
        int64_t size = (2 * w * HDX_RESIZE_HEIGHT + h) / (2 * h);
        *picture_width = (int32_t)(size > 1 ? size : 1);
    } else {
        int64_t size = (2 * h * HDX_RESIZE_WIDTH + w) / (2 * w);
        *picture_height = (int32_t)(size > 1 ? size : 1);
    }
}

/* Bilinear weights in 1 / 2048, rounded half to even. */
static inline int32_t hdx_weight(float part) {
    float value = part * 2048.0f;
    int32_t whole = (int32_t)value;
    float rest = value - (float)whole;
    return whole + (rest > 0.5f || (rest == 0.5f && (whole & 1)));
}

static inline hdx_tap hdx_make_tap(int32_t at, int32_t source, int32_t target, int clamp) {
    hdx_tap tap;
    float centre = (float)(((double)at + 0.5) * (1.0 / ((double)target / (double)source)) - 0.5);
    float part;
    tap.first = (int32_t)centre;
    if ((float)tap.first > centre) tap.first--; /* the largest whole number below */
    part = centre - (float)tap.first;
    if (clamp && (tap.first < 0 || tap.first >= source - 1)) {
        tap.first = tap.first < 0 ? 0 : source - 1;
        part = 0.0f;
    }
    tap.weight[0] = hdx_weight(1.0f - part);
    tap.weight[1] = hdx_weight(part);
    return tap;
}

static inline int32_t hdx_byte(int32_t value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

static inline void hdx_store(const int32_t bgr[HDX_INPUT_CHANNELS], int8_t *code) {
#if HDX_CHANNELS == HDX_GRAY
    code[0] = (int8_t)(bgr[0] - 128);
#elif HDX_CHANNELS == HDX_YUV
    int32_t y = (4899 * bgr[2] + 9617 * bgr[1] + 1868 * bgr[0] + 8192) >> 14;
    code[0] = (int8_t)(hdx_byte(y) - 128);
    code[1] = (int8_t)(hdx_byte((9241 * (bgr[0] - y) + (128 << 14) + 8192) >> 14) - 128);
    code[2] = (int8_t)(hdx_byte((11682 * (bgr[2] - y) + (128 << 14) + 8192) >> 14) - 128);
#elif HDX_CHANNELS == HDX_RGB
    code[0] = (int8_t)(bgr[2] - 128);
    code[1] = (int8_t)(bgr[1] - 128);
    code[2] = (int8_t)(bgr[0] - 128);
#else
    code[0] = (int8_t)(bgr[0] - 128);
    code[1] = (int8_t)(bgr[1] - 128);
    code[2] = (int8_t)(bgr[2] - 128);
#endif
}

/* One pixel of the resized picture: bilinear in fixed point, or the mean of 2 x 2 where both sides are halved. */
static inline int32_t hdx_sample(const int32_t at[4], const hdx_tap *x, const hdx_tap *y) {
    int32_t a = (at[0] * x->weight[0] + at[1] * x->weight[1]) >> 4;
    int32_t b = (at[2] * x->weight[0] + at[3] * x->weight[1]) >> 4;
    return (((y->weight[0] * a) >> 16) + ((y->weight[1] * b) >> 16) + 2) >> 2;
}

/* Channel c of a pixel of `bytes` bytes; for a gray network the luma of B, G, R (BT.601 in 15 bits, as OpenCV). */
static inline int32_t hdx_value(const uint8_t *pixel, int32_t bytes, int32_t c) {
    if (HDX_INPUT_CHANNELS == 1 && bytes == 3)
        return (3735 * pixel[0] + 19235 * pixel[1] + 9798 * pixel[2] + 16384) >> 15;
    return pixel[c];
}

/* See hdx_letterbox; `bytes` of a pixel of the picture: 1 (gray) or 3 (B, G, R). */
static inline void hdx_letterbox_from(const uint8_t *picture, int32_t bytes, int32_t height, int32_t width,
                                      int32_t stride, hdx_workspace *work, int8_t *codes) {
    int32_t fill[HDX_INPUT_CHANNELS];
    int32_t picture_height, picture_width, x, y, c, i;
    for (c = 0; c < HDX_INPUT_CHANNELS; c++) fill[c] = HDX_FILL;
    hdx_picture_size(height, width, &picture_height, &picture_width);
    int halved = height == 2 * picture_height && width == 2 * picture_width;
    for (x = 0; x < picture_width; x++) work->taps[x] = hdx_make_tap(x, width, picture_width, 1);
    for (y = 0; y < HDX_INPUT_HEIGHT; y++) {
        const hdx_tap row = hdx_make_tap(y, height, picture_height, 0);
        int32_t first = halved ? 2 * y : row.first, second = first + 1;
        first = first < 0 ? 0 : first >= height ? height - 1 : first;
        second = second < 0 ? 0 : second >= height ? height - 1 : second;
        for (x = 0; x < HDX_INPUT_WIDTH; x++, codes += HDX_INPUT_CHANNELS) {
            int32_t pixel[HDX_INPUT_CHANNELS];
            if (y >= picture_height || x >= picture_width) {
                hdx_store(fill, codes);
                continue;
            }
            const hdx_tap *tap = &work->taps[x];
            const int32_t left = halved ? 2 * x : tap->first;
            const int32_t right = left + 1 < width ? bytes : 0;
            const uint8_t *upper = picture + (size_t)first * (size_t)stride + (size_t)bytes * (size_t)left;
            const uint8_t *lower = picture + (size_t)second * (size_t)stride + (size_t)bytes * (size_t)left;
            const uint8_t *corners[4] = {upper, upper + right, lower, lower + right};
            for (c = 0; c < HDX_INPUT_CHANNELS; c++) {
                int32_t at[4];
                for (i = 0; i < 4; i++) at[i] = hdx_value(corners[i], bytes, c);
                pixel[c] = halved ? (at[0] + at[1] + at[2] + at[3] + 2) >> 2 : hdx_sample(at, tap, &row);
            }
            hdx_store(pixel, codes);
        }
    }
}

/*
 * Picture (rows of pixels, `stride` bytes apart) -> input codes [HDX_INPUT_HEIGHT][HDX_INPUT_WIDTH][HDX_INPUT_CHANNELS].
 * A pixel is B, G, R, or one byte for a network of one channel.
 */
static inline void hdx_letterbox(const uint8_t *picture, int32_t height, int32_t width, int32_t stride,
                                 hdx_workspace *work, int8_t *codes) {
    hdx_letterbox_from(picture, HDX_INPUT_CHANNELS, height, width, stride, work, codes);
}

#if HDX_INPUT_CHANNELS == 1
/* The same of a picture of B, G, R pixels: its luma. */
static inline void hdx_letterbox_bgr(const uint8_t *bgr, int32_t height, int32_t width, int32_t stride,
                                     hdx_workspace *work, int8_t *codes) {
    hdx_letterbox_from(bgr, 3, height, width, stride, work, codes);
}
#endif

/* Whether a comes before b: the higher score, of equal ones the first. */
static inline int hdx_before(hdx_candidate a, hdx_candidate b) {
    return a.score > b.score || (a.score == b.score && a.pair < b.pair);
}

/* Restore a binary heap below `at`; its root is the best candidate (sign 1) or the worst (sign 0). */
static inline void hdx_sift(hdx_candidate *heap, uint32_t count, uint32_t at, int best) {
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) return;
        if (child + 1 < count && hdx_before(heap[child + 1], heap[child]) == best) child++;
        if (hdx_before(heap[child], heap[at]) != best) return;
        hdx_candidate moved = heap[at];
        heap[at] = heap[child];
        heap[child] = moved;
        at = child;
    }
}

static inline void hdx_heapify(hdx_candidate *heap, uint32_t count, int best) {
    for (uint32_t at = count / 2; at-- > 0;) hdx_sift(heap, count, at, best);
}

/* [if not tabled] */
static inline float hdx_score(const hdx_level *level, int32_t code) {
#if HDX_TABLES
    return level->scores[code - level->threshold];
#else
    float real = ((float)code - level->cls_zero) * level->cls_scale;
    return (float)(1.0 / (1.0 + exp(-(double)real)));
#endif
}

/* [if score_factor] */
/* What the scores of a prior are multiplied by. */
static inline float hdx_factor(const hdx_level *level, int32_t code) {
#if HDX_TABLES
    return level->factors[code + 128];
#else
    float real = ((float)code - level->factor_zero) * level->factor_scale;
    return (float)(1.0 / (1.0 + exp(-(double)real)));
#endif
}

/* [end] */
/* [end] */
/* Keep a candidate among the best HDX_NMS_PRE of its level; returns how many the level has. */
static inline uint32_t hdx_keep(hdx_candidate *heap, uint32_t count, uint32_t limit, hdx_candidate candidate) {
    if (count < limit) {
        heap[count++] = candidate;
        if (count == limit) hdx_heapify(heap, count, 0); /* from now on the worst stands first */
    } else if (hdx_before(candidate, heap[0])) {
        heap[0] = candidate;
        hdx_sift(heap, count, 0, 0);
    }
    return count;
}

/* [if not tabled] */
/* Candidates of a level, by integers alone until one reaches the threshold. */
/* [if not score_factor] */
static inline uint32_t hdx_collect(const hdx_level *level, const hdx_code *codes, uint32_t base, hdx_candidate *heap) {
/* [end] */
/* [if score_factor] */
static inline uint32_t hdx_collect(const hdx_level *level, const hdx_code *codes, const hdx_code *factors,
                                   uint32_t base, hdx_candidate *heap) {
/* [end] */
    const uint32_t positions = (uint32_t)(level->height * level->width);
    uint32_t count = 0, position;
    for (position = 0; position < positions; position++, codes += HDX_PAIRS) {
        hdx_candidate best = {-1.0f, 0};
        int32_t highest = codes[0];
        for (int32_t i = 1; i < HDX_PAIRS; i++) highest = codes[i] > highest ? codes[i] : highest;
        if (highest < level->gate) continue;
        for (int32_t i = 0; i < HDX_PAIRS; i++) {
            if (codes[i] < level->threshold) continue;
            hdx_candidate one = {hdx_score(level, codes[i]), base + position * HDX_PAIRS + (uint32_t)i};
            /* [if score_factor] */
            one.score *= hdx_factor(level, factors[position * HDX_ANCHORS + (uint32_t)i / HDX_CLASSES]);
            if (!(one.score > HDX_SCORE_THRESHOLD)) continue;
            /* [end] */
            if (HDX_MULTI_LABEL)
                count = hdx_keep(heap, count, level->limit, one);
            else if (one.score > best.score)
                best = one;
        }
        /* [if score_factor] */
        if (!HDX_MULTI_LABEL && best.score < 0.0f) continue;
        /* [end] */
        if (!HDX_MULTI_LABEL) count = hdx_keep(heap, count, level->limit, best);
    }
    return count;
}

static inline float hdx_clip(float value, int32_t limit) {
    value = value > 0.0f ? value : 0.0f;
    return value < (float)limit ? value : (float)limit;
}

static inline float hdx_real(const hdx_level *level, int32_t code) {
    return ((float)code - level->box_zero) * level->box_scale;
}

#if HDX_DELTAS
/* exp of a logarithmic side, cut at its largest value. */
static inline float hdx_side(const hdx_level *level, int32_t code, int axis) {
#if HDX_TABLES
    return level->exp[axis][code + 128];
#else
    float delta = hdx_real(level, code) * hdx_reg_std[2 + axis] + hdx_reg_mean[2 + axis];
    return (float)exp((double)(delta < HDX_MAX_LOG_RATIO ? delta : HDX_MAX_LOG_RATIO));
#endif
}

/* Lower and upper side along an axis (0: x) of a box that is said by its difference from an anchor. */
static inline void hdx_extent(const hdx_level *level, float point, uint32_t anchor, const hdx_code codes[4], int axis,
                              float *low, float *high) {
    const float *sides = hdx_anchors[level - hdx_levels][anchor];
    const float first = point + sides[axis], last = point + sides[2 + axis];
    const float size = last - first;
    const float delta = hdx_real(level, codes[axis]) * hdx_reg_std[axis] + hdx_reg_mean[axis];
    const float centre = (first + last) * 0.5f + delta * size;
    const float half = hdx_side(level, codes[2 + axis], axis) * size * 0.5f;
    *low = centre - half;
    *high = centre + half;
}
#else
static inline float hdx_distance(const hdx_level *level, int32_t code) {
/* [if not in_pixels] */
#if HDX_EXP && HDX_TABLES
    return level->exp[0][code + 128] * level->stride;
#elif HDX_EXP
    return (float)exp((double)hdx_real(level, code)) * level->stride;
#else
    return hdx_real(level, code) * level->stride;
#endif
/* [end] */
/* [if in_pixels] */
#if HDX_EXP && HDX_TABLES
    return level->exp[0][code + 128];
#elif HDX_EXP
    return (float)exp((double)hdx_real(level, code));
#else
    return hdx_real(level, code);
#endif
/* [end] */
}

/* Lower and upper side along an axis (0: x) of a box that is said by its distances from a point. */
static inline void hdx_extent(const hdx_level *level, float point, uint32_t anchor, const hdx_code codes[4], int axis,
                              float *low, float *high) {
    (void)anchor;
    *low = point - hdx_distance(level, codes[axis]);
    *high = point + hdx_distance(level, codes[2 + axis]);
}
#endif

/* Box of a candidate in pixels of the file: clipped to the picture, divided by the scale. */
static inline hdx_detection hdx_box(hdx_candidate candidate, const hdx_code *const outputs[HDX_OUTPUTS],
                                    const int32_t picture[2], const float scale[2]) {
    const hdx_level *level = hdx_levels;
    uint32_t pair = candidate.pair;
    while (pair >= (uint32_t)(level->height * level->width * HDX_PAIRS)) {
        pair -= (uint32_t)(level->height * level->width * HDX_PAIRS);
        level++;
    }
    const uint32_t prior = pair / HDX_CLASSES, position = prior / HDX_ANCHORS, anchor = prior % HDX_ANCHORS;
    const hdx_code *codes = outputs[level->box] + 4 * prior;
    const float x = ((float)(position % (uint32_t)level->width) + HDX_PRIOR_OFFSET) * level->stride;
    const float y = ((float)(position / (uint32_t)level->width) + HDX_PRIOR_OFFSET) * level->stride;
    hdx_detection box;
    hdx_extent(level, x, anchor, codes, 0, &box.x1, &box.x2);
    hdx_extent(level, y, anchor, codes, 1, &box.y1, &box.y2);
    box.x1 = hdx_clip(box.x1, picture[1]) / scale[1];
    box.y1 = hdx_clip(box.y1, picture[0]) / scale[0];
    box.x2 = hdx_clip(box.x2, picture[1]) / scale[1];
    box.y2 = hdx_clip(box.y2, picture[0]) / scale[0];
    box.score = candidate.score;
    box.label = (int32_t)(pair % HDX_CLASSES);
    return box;
}

/* [end] */
/* [if not cells] */
/* Whether the IoU of two boxes is above the threshold: double, rounded to float as OpenCV's suppression does. */
static inline int hdx_overlap(const hdx_detection *a, const hdx_detection *b) {
    if (a->x1 >= b->x2 || b->x1 >= a->x2 || a->y1 >= b->y2 || b->y1 >= a->y2) return 0;
    const double area_a = ((double)a->x2 - a->x1) * ((double)a->y2 - a->y1);
    const double area_b = ((double)b->x2 - b->x1) * ((double)b->y2 - b->y1);
    const double width = (double)(a->x2 < b->x2 ? a->x2 : b->x2) - (a->x1 > b->x1 ? a->x1 : b->x1);
    const double height = (double)(a->y2 < b->y2 ? a->y2 : b->y2) - (a->y1 > b->y1 ? a->y1 : b->y1);
    const double inside = width * height;
    if (!(area_a > 1e-12) || !(area_b > 1e-12)) return 0;
    return 1.0f - (float)(1.0 - inside / (area_a + area_b - inside)) > HDX_IOU_THRESHOLD;
}
/* [end] */

/* [if not tabled] */
/*
 * Raw outputs of the network, in the order of the file, each [height][width][channels] -> detections, best first.
 * `height` and `width` are those of the picture that was given to hdx_letterbox. Returns how many were found.
 */
static inline int32_t hdx_decode(const hdx_code *const outputs[HDX_OUTPUTS], int32_t height, int32_t width,
                                 hdx_workspace *work, hdx_detection detections[HDX_MAX_DETECTIONS]) {
    hdx_candidate *heap = work->candidates;
    uint32_t count = 0, base = 0;
    int32_t found = 0, picture[2];
    float scale[2];
    for (int32_t i = 0; i < HDX_LEVELS; i++) {
        const hdx_level *level = &hdx_levels[i];
        /* [if not score_factor] */
        count += hdx_collect(level, outputs[level->cls], base, heap + count);
        /* [end] */
        /* [if score_factor] */
        count += hdx_collect(level, outputs[level->cls], outputs[level->factor], base, heap + count);
        /* [end] */
        base += (uint32_t)(level->height * level->width * HDX_PAIRS);
    }
    hdx_picture_size(height, width, &picture[0], &picture[1]);
    scale[0] = (float)((double)picture[0] / (double)height);
    scale[1] = (float)((double)picture[1] / (double)width);
    hdx_heapify(heap, count, 1);
    while (count > 0 && found < HDX_MAX_DETECTIONS) {
        const hdx_detection box = hdx_box(heap[0], outputs, picture, scale);
        int keep = box.x2 > box.x1 && box.y2 > box.y1;
        heap[0] = heap[--count];
        hdx_sift(heap, count, 0, 1);
        for (int32_t i = 0; keep && i < found; i++)
            keep = detections[i].label != box.label || !hdx_overlap(&detections[i], &box);
        if (keep) detections[found++] = box;
    }
    return found;
}
/* [end] */
