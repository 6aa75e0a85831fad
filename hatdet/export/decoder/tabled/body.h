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
