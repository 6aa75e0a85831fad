/* Score of class k of a cell: its share of a softmax over background, which comes first, and the classes. */
static inline float hdx_score(const hdx_code codes[HDX_CHANNELS_OUT], int32_t k) {
    double total = hdx_exponentials[codes[0] + 128];
    for (int32_t i = 1; i <= HDX_CLASSES; i++) total += hdx_exponentials[codes[i] + 128];
    return (float)(hdx_exponentials[codes[k + 1] + 128] / total);
}

static inline float hdx_clip(float value, int32_t limit) {
    value = value > 0.0f ? value : 0.0f;
    return value < (float)limit ? value : (float)limit;
}

/* The square of a cell in pixels of the file: cut at the picture's edge, divided by the scale. */
static inline hdx_detection hdx_box(hdx_candidate candidate, const int32_t picture[2], const float scale[2]) {
    const uint32_t cell = candidate.pair / HDX_CLASSES;
    const float x = (float)(cell % HDX_COLUMNS) * HDX_STRIDE, y = (float)(cell / HDX_COLUMNS) * HDX_STRIDE;
    hdx_detection box;
    box.x1 = hdx_clip(x, picture[1]) / scale[1];
    box.y1 = hdx_clip(y, picture[0]) / scale[0];
    box.x2 = hdx_clip(x + HDX_STRIDE, picture[1]) / scale[1];
    box.y2 = hdx_clip(y + HDX_STRIDE, picture[0]) / scale[0];
    box.score = candidate.score;
    box.label = (int32_t)(candidate.pair % HDX_CLASSES);
    return box;
}

/* The point that a detection says, in pixels of the picture. */
static inline float hdx_point_x(const hdx_detection *found) { return (found->x1 + found->x2) * 0.5f; }
static inline float hdx_point_y(const hdx_detection *found) { return (found->y1 + found->y2) * 0.5f; }

/* Every cell's best class, of equal ones the first, where its score is above the threshold. By integers alone until a
   class is as far above background as that takes. */
static inline uint32_t hdx_collect(const hdx_code *codes, hdx_candidate *heap) {
    uint32_t count = 0;
    for (uint32_t cell = 0; cell < HDX_CELLS; cell++, codes += HDX_CHANNELS_OUT) {
        hdx_candidate best = {-1.0f, 0};
        for (int32_t k = 0; k < HDX_CLASSES; k++) {
            if (codes[k + 1] - codes[0] < HDX_GATE) continue;
            const float score = hdx_score(codes, k);
            if (score > best.score) best.score = score, best.pair = cell * HDX_CLASSES + (uint32_t)k;
        }
        if (best.score > HDX_SCORE_THRESHOLD) heap[count++] = best;
    }
    return count;
}

/* Whether two cells are neighbours: at most HDX_FUSE apart, to the sides and diagonally. */
static inline int hdx_near(uint32_t a, uint32_t b) {
    const int32_t down = (int32_t)(a / HDX_COLUMNS) - (int32_t)(b / HDX_COLUMNS);
    const int32_t right = (int32_t)(a % HDX_COLUMNS) - (int32_t)(b % HDX_COLUMNS);
    return down >= -HDX_FUSE && down <= HDX_FUSE && right >= -HDX_FUSE && right <= HDX_FUSE;
}

/*
 * Raw output of the network, [height][width][channels] -> detections, best first; neighbours of a better cell of their
 * class are left out. `height` and `width` are those of the picture that was given to hdx_letterbox. Returns how many
 * were found.
 */
static inline int32_t hdx_decode(const hdx_code *const outputs[HDX_OUTPUTS], int32_t height, int32_t width,
                                 hdx_workspace *work, hdx_detection detections[HDX_MAX_DETECTIONS]) {
    hdx_candidate *heap = work->candidates;
    uint32_t count = hdx_collect(outputs[0], heap), end = HDX_CELLS;
    int32_t found = 0, picture[2];
    float scale[2];
    hdx_picture_size(height, width, &picture[0], &picture[1]);
    scale[0] = (float)((double)picture[0] / (double)height);
    scale[1] = (float)((double)picture[1] / (double)width);
    hdx_heapify(heap, count, 1);
    while (count > 0 && found < HDX_MAX_DETECTIONS) {
        const hdx_candidate best = heap[0];
        const hdx_detection box = hdx_box(best, picture, scale);
        int keep = box.x2 > box.x1 && box.y2 > box.y1;
        heap[0] = heap[--count];
        hdx_sift(heap, count, 0, 1);
        for (uint32_t i = end; keep && i < HDX_CELLS; i++)
            keep = heap[i].pair % HDX_CLASSES != best.pair % HDX_CLASSES ||
                   !hdx_near(heap[i].pair / HDX_CLASSES, best.pair / HDX_CLASSES);
        if (!keep) continue;
        heap[--end] = best; /* behind the candidates that are left: one was taken for each that is kept */
        detections[found++] = box;
    }
    return found;
}
