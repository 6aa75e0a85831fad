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
