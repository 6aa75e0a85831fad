/* What a level's class codes say of a prior: the score of class k. */
static inline float hdx_score(const hdx_level *level, const hdx_code *classes, int32_t k) {
#if HDX_SOFTMAX
    double total = level->exponentials[classes[0] + 128];
    for (int32_t i = 1; i <= HDX_CLASSES; i++) total += level->exponentials[classes[i] + 128];
    return (float)(level->exponentials[classes[k] + 128] / total);
#else
    return level->scores[classes[k] + 128];
#endif
}

static inline int hdx_passes(float score) {
#if HDX_REACHES
    return score >= HDX_SCORE_THRESHOLD;
#else
    return score > HDX_SCORE_THRESHOLD;
#endif
}

/* [if not num_buckets] */
/* Factor of the scores of a prior. */
static inline float hdx_factor(const hdx_level *level, const hdx_code *const outputs[HDX_OUTPUTS], uint32_t prior) {
#if HDX_FACTOR
    const uint32_t anchors = (uint32_t)level->anchors;
    const hdx_code *codes = outputs[level->factor.output] + (prior / anchors) * (uint32_t)level->factor.channels;
    return level->factors[codes[(uint32_t)level->factor.first + prior % anchors * (uint32_t)level->factor.step] + 128];
#else
    (void)level, (void)outputs, (void)prior;
    return 1.0f;
#endif
}

/* [end] */
/* The codes of a prior at an address. */
static inline const hdx_code *hdx_at(const hdx_level *level, hdx_address where,
                                     const hdx_code *const outputs[HDX_OUTPUTS], uint32_t prior) {
    const uint32_t anchors = (uint32_t)level->anchors;
    return outputs[where.output] + (prior / anchors) * (uint32_t)where.channels + (uint32_t)where.first +
           prior % anchors * (uint32_t)where.step;
}

/* [if num_buckets] */
/* The likeliest strip of a side (0: left, right, top, bottom), of equal ones the first, and how sure it is. */
static inline int32_t hdx_strip(const hdx_level *level, const hdx_code *codes, int32_t side, float *sure) {
    const hdx_code *strips = codes + side * HDX_STRIPS;
    double total = level->bins[strips[0] + 128];
    float share, shares[2] = {-1.0f, -1.0f};
    int32_t index[2] = {0, 0};
    for (int32_t i = 1; i < HDX_STRIPS; i++) total += level->bins[strips[i] + 128];
    for (int32_t i = 0; i < HDX_STRIPS; i++) {
        share = (float)(level->bins[strips[i] + 128] / total);
        if (share > shares[0]) shares[0] = share, index[0] = i;
    }
    for (int32_t i = 0; i < HDX_STRIPS; i++) {
        share = i == index[0] ? -1.0f : (float)(level->bins[strips[i] + 128] / total);
        if (share > shares[1]) shares[1] = share, index[1] = i;
    }
    *sure = index[0] - index[1] == 1 || index[1] - index[0] == 1 ? shares[0] + shares[1] : shares[0];
    return index[0];
}

/* Factor of the scores of a prior: how sure its strips are. */
static inline float hdx_factor(const hdx_level *level, const hdx_code *const outputs[HDX_OUTPUTS], uint32_t prior) {
    float total = 0.0f, sure;
    for (int32_t side = 0; side < 4; side++) {
        hdx_strip(level, hdx_at(level, level->box, outputs, prior), side, &sure);
        total = side ? total + sure : sure;
    }
    return total * 0.25f;
}

/* [end] */
#if HDX_PEAKS
/* Whether no neighbour has a higher score of the class. */
static inline int hdx_is_peak(const hdx_level *level, const hdx_code *codes, uint32_t position, int32_t k) {
    const int32_t width = level->width, reach = HDX_PEAKS / 2;
    const int32_t row = (int32_t)position / width, column = (int32_t)position % width;
    const float own = level->scores[codes[(int32_t)position * HDX_CLASSES + k] + 128];
    for (int32_t y = row - reach; y <= row + reach; y++)
        for (int32_t x = column - reach; x <= column + reach; x++)
            if (y >= 0 && y < level->height && x >= 0 && x < width &&
                level->scores[codes[(y * width + x) * HDX_CLASSES + k] + 128] > own)
                return 0;
    return 1;
}
#endif

/* [if not by_prior] */
/* Candidates of a level; `base` is the number of its first pair of a prior and a class. */
static inline uint32_t hdx_collect(const hdx_level *level, const hdx_code *const outputs[HDX_OUTPUTS], uint32_t base,
                                   hdx_candidate *heap, uint32_t count, uint32_t limit) {
    const uint32_t priors = (uint32_t)(level->height * level->width * level->anchors);
    for (uint32_t prior = 0; prior < priors; prior++) {
        const hdx_code *classes = hdx_at(level, level->cls, outputs, prior);
        hdx_candidate best = {-1.0f, 0};
#if HDX_FACTOR
        if (*hdx_at(level, level->factor, outputs, prior) < level->factor_gate) continue;
#endif
        for (int32_t k = 0; k < HDX_CLASSES; k++) {
#if !HDX_SOFTMAX
            if (classes[k] < level->threshold) continue;
#endif
            hdx_candidate one = {hdx_score(level, classes, k), base + prior * HDX_CLASSES + (uint32_t)k};
#if HDX_PEAKS
            if (!hdx_is_peak(level, outputs[level->cls.output], prior, k)) one.score = 0.0f;
#endif
#if HDX_MULTI_LABEL
#if HDX_EARLY
            one.score *= hdx_factor(level, outputs, prior);
#if HDX_ROOT
            one.score = sqrtf(one.score);
#endif
#endif
            if (hdx_passes(one.score)) count = hdx_keep(heap, count, limit, one);
#else
            if (one.score > best.score) best = one;
#endif
        }
#if !HDX_MULTI_LABEL
        if (best.score < 0.0f) continue;
#if HDX_EARLY
        best.score *= hdx_factor(level, outputs, prior);
#endif
        if (hdx_passes(best.score)) count = hdx_keep(heap, count, limit, best);
#else
        (void)best;
#endif
    }
    return count;
}

/* [end] */
/* [if by_prior] */
/* Score of class k of a prior, factor and root included. */
static inline float hdx_joint(const hdx_level *level, const hdx_code *classes, float factor, int32_t k) {
    const float score = hdx_score(level, classes, k) * factor;
#if HDX_ROOT
    return sqrtf(score);
#else
    return score;
#endif
}

/* All classes of the best priors of a level; `base` is the number of its first pair of a prior and a class. */
static inline uint32_t hdx_collect(const hdx_level *level, const hdx_code *const outputs[HDX_OUTPUTS], uint32_t base,
                                   hdx_candidate *heap, uint32_t count, uint32_t limit) {
    const uint32_t priors = (uint32_t)(level->height * level->width * level->anchors);
    hdx_candidate worst = {-1.0f, priors}; /* of the priors that stay */
    for (int pass = limit < priors ? 0 : 1; pass < 2; pass++) {
        for (uint32_t prior = 0; prior < priors; prior++) {
            const hdx_code *classes = hdx_at(level, level->cls, outputs, prior);
            hdx_candidate best = {-1.0f, prior};
            const float factor = hdx_factor(level, outputs, prior);
            for (int32_t k = 0; k < HDX_CLASSES; k++) {
                const float score = classes[k] < level->threshold ? -1.0f : hdx_joint(level, classes, factor, k);
                best.score = score > best.score ? score : best.score;
            }
            if (best.score < 0.0f) continue;
            if (pass == 0) {
                count = hdx_keep(heap, count, limit, best);
                continue;
            }
            if (hdx_before(worst, best)) continue;
            for (int32_t k = 0; k < HDX_CLASSES; k++) {
                if (classes[k] < level->threshold) continue;
                hdx_candidate one = {hdx_joint(level, classes, factor, k), base + prior * HDX_CLASSES + (uint32_t)k};
                if (hdx_passes(one.score)) heap[count++] = one;
            }
        }
        if (pass == 0) {
            if (count == limit) worst = heap[0];
            count = 0; /* the pairs take the place of the priors */
        }
    }
    return count;
}

/* [end] */
/* The level of a pair; the pair becomes one of the level. */
static inline const hdx_level *hdx_level_of(uint32_t *pair) {
    const hdx_level *level = hdx_levels;
    for (;;) {
        const uint32_t pairs = (uint32_t)(level->height * level->width * level->anchors) * HDX_CLASSES;
        if (*pair < pairs) return level;
        *pair -= pairs;
        level++;
    }
}

/* [if not num_buckets] */
/* Box value `i` of a prior: looked up, or the mean of the bins of a side. */
static inline float hdx_box_value(const hdx_level *level, const hdx_code *codes, int32_t i, float stride) {
#if HDX_BINS
    const hdx_code *bins = codes + i * HDX_BINS;
    double weighted = 0.0 * level->bins[bins[0] + 128], total = level->bins[bins[0] + 128];
    for (int32_t j = 1; j < HDX_BINS; j++) {
        const double part = level->bins[bins[j] + 128];
        weighted += part * (double)j;
        total += part;
    }
    return (float)(weighted / total) * stride;
#else
    (void)stride;
    return level->values[i][codes[level->order[i]] + 128];
#endif
}

/* [end] */
/* Lower and upper side along an axis (0: x) of the box of a prior: in network pixels, or in strides if sides are read
   elsewhere. */
#if HDX_ALIGNED
#define HDX_IN_STRIDES(value) ((value) / level->unit)
#else
#define HDX_IN_STRIDES(value) (value)
#endif
static inline void hdx_extent(const hdx_level *level, const hdx_code *codes, const hdx_code *shifts, uint32_t anchor,
                              uint32_t cell, int axis, float *low, float *high) {
    const float *sides = level->priors[anchor];
    const float stride = level->stride[axis];
    const float first = level->point ? ((float)cell + sides[axis]) * stride : sides[axis] + (float)cell * stride;
    const float last = level->point ? first : sides[2 + axis] + (float)cell * stride;
    const float centre = (first + last - HDX_CENTRE_LESS) * 0.5f, size = last - first + HDX_MORE;
/* [if num_buckets] */
    const float half = 0.5f * (size * HDX_GROWTH), start = centre - half, end = centre + half;
    const float step = (end - start) / HDX_BUCKETS, width = step < 0.0f ? -step : step;
    for (int32_t side = 2 * axis; side < 2 * axis + 2; side++) {
        float sure;
        const int32_t strip = hdx_strip(level, codes, side, &sure);
        const float place = (0.5f + (float)strip) * (side % 2 ? -step : step);
        const float edge = (side % 2 ? end : start) + place;
        *(side % 2 ? high : low) = edge - level->shifts[shifts[side * HDX_STRIPS + strip] + 128] * width;
    }
/* [end] */
/* [if not num_buckets] */
#if HDX_PEAKS
    const float a = level->values[axis][shifts[axis] + 128], b = level->values[2 + axis][codes[axis] + 128];
#else
    const float a = hdx_box_value(level, codes, axis, stride), b = hdx_box_value(level, codes, 2 + axis, stride);
    (void)shifts;
#endif
#if HDX_PEAKS
    const float middle_cell = (float)cell + a, half_cell = b / 2.0f;
    (void)centre, (void)size;
    *low = (middle_cell - half_cell) * stride;
    *high = (middle_cell + half_cell) * stride;
#elif HDX_FORM == HDX_SIDES
    (void)size;
    *low = HDX_IN_STRIDES(centre) - a;
    *high = HDX_IN_STRIDES(centre) + b;
#else
    float middle, half;
#if HDX_FORM == HDX_DELTAS
    float shift = size * a;
#ifdef HDX_SHIFT_LIMIT
    shift = shift < -HDX_SHIFT_LIMIT ? -HDX_SHIFT_LIMIT : shift > HDX_SHIFT_LIMIT ? HDX_SHIFT_LIMIT : shift;
#endif
    middle = centre + shift;
    half = 0.5f * (size * b - HDX_CENTRE_LESS);
#elif HDX_FORM == HDX_CELLS
    middle = centre + a;
    half = size * 0.5f * b;
#else
    (void)size;
    middle = a + centre;
    half = b / 2.0f;
#endif
    *low = HDX_IN_STRIDES(middle - half);
    *high = HDX_IN_STRIDES(middle + half);
#endif
/* [end] */
}

#if HDX_ALIGNED
/* Side `k` (x1, y1, x2, y2) of the box of a position, in strides; 0 outside the map. */
static inline float hdx_side_at(const hdx_level *level, const hdx_code *const outputs[HDX_OUTPUTS], float row,
                                float column, int32_t k) {
    float low, high;
    if (!(row >= 0.0f && row < (float)level->height && column >= 0.0f && column < (float)level->width)) return 0.0f;
    const uint32_t prior = (uint32_t)row * (uint32_t)level->width + (uint32_t)column;
    const hdx_code *codes = hdx_at(level, level->box, outputs, prior);
    hdx_extent(level, codes, codes, 0, k % 2 ? (uint32_t)row : (uint32_t)column, k % 2, &low, &high);
    return k < 2 ? low : high;
}

/* The sides of a position's box, each read where its shift says, in pixels. */
static inline void hdx_aligned(const hdx_level *level, const hdx_code *const outputs[HDX_OUTPUTS], uint32_t prior,
                               float sides[4]) {
    const hdx_code *codes = hdx_at(level, level->shift, outputs, prior);
    const float row = (float)(prior / (uint32_t)level->width), column = (float)(prior % (uint32_t)level->width);
    for (int32_t k = 0; k < 4; k++) {
        const float y = level->shifts[codes[2 * k] + 128] + row, x = level->shifts[codes[2 * k + 1] + 128] + column;
        const float top = floorf(y), left = floorf(x), wy = y - top, wx = x - left;
        const float upper = hdx_side_at(level, outputs, top, left, k) * (1.0f - wx) +
                            hdx_side_at(level, outputs, top, left + 1.0f, k) * wx;
        const float lower = hdx_side_at(level, outputs, top + 1.0f, left, k) * (1.0f - wx) +
                            hdx_side_at(level, outputs, top + 1.0f, left + 1.0f, k) * wx;
        sides[k] = upper * (1.0f - wy) + lower * wy;
    }
    const int wrong = sides[0] > sides[2] || sides[1] > sides[3];
    for (int32_t k = 0; k < 4; k++) {
        if (wrong) sides[k] = hdx_side_at(level, outputs, row, column, k);
        sides[k] *= level->unit;
    }
}
#endif

static inline float hdx_place(float value, int32_t limit, float scale) {
#if HDX_CLIPS
    value = value > 0.0f ? value : 0.0f;
    value = value < (float)(limit - HDX_CLIP_LESS) ? value : (float)(limit - HDX_CLIP_LESS);
#else
    (void)limit;
#endif
    return value * scale;
}

/* Box of a candidate in pixels of the file. */
static inline hdx_detection hdx_box(hdx_candidate candidate, const hdx_code *const outputs[HDX_OUTPUTS],
                                    const int32_t picture[2], const float scale[2]) {
    uint32_t pair = candidate.pair;
    const hdx_level *level = hdx_level_of(&pair);
    const uint32_t prior = pair / HDX_CLASSES, anchors = (uint32_t)level->anchors;
    const uint32_t position = prior / anchors, width = (uint32_t)level->width;
    const hdx_code *codes = hdx_at(level, level->box, outputs, prior);
    hdx_detection box;
#if HDX_ALIGNED
    float sides[4];
    (void)codes, (void)position, (void)width;
    hdx_aligned(level, outputs, prior, sides);
    box.x1 = sides[0];
    box.y1 = sides[1];
    box.x2 = sides[2];
    box.y2 = sides[3];
#else
#if HDX_PEAKS || HDX_BUCKETS_COUNT
    const hdx_code *shifts = hdx_at(level, level->shift, outputs, prior);
#else
    const hdx_code *shifts = codes;
#endif
    hdx_extent(level, codes, shifts, prior % anchors, position % width, 0, &box.x1, &box.x2);
    hdx_extent(level, codes, shifts, prior % anchors, position / width, 1, &box.y1, &box.y2);
#endif
    box.x1 = hdx_place(box.x1, picture[1], scale[1]);
    box.y1 = hdx_place(box.y1, picture[0], scale[0]);
    box.x2 = hdx_place(box.x2, picture[1], scale[1]);
    box.y2 = hdx_place(box.y2, picture[0], scale[0]);
    box.score = candidate.score;
    box.label = (int32_t)(pair % HDX_CLASSES);
    return box;
}
