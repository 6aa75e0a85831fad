/* ---- the code: the same for every model ------------------------------------------------------------------------- */

#define HDX_SELFTEST_LINE 160

/* CRC-32 (as zlib's) of the bytes of an output, each code least significant byte first. */
static uint32_t hdx_selftest_crc(const void *codes, int32_t count, int32_t bytes) {
    uint32_t crc = 0xFFFFFFFFu;
    for (int32_t i = 0; i < count; i++) {
        uint32_t code = bytes == 1 ? (uint32_t)((const int8_t *)codes)[i] : (uint32_t)((const int16_t *)codes)[i];
        for (int32_t k = 0; k < bytes; k++) {
            crc ^= code & 0xFFu;
            code >>= 8;
            for (int bit = 0; bit < 8; bit++) crc = crc & 1u ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
        }
    }
    return crc ^ 0xFFFFFFFFu;
}

size_t hdx_selftest_bytes(int output) {
    const hdx_selftest_output *shape = &hdx_selftest_shapes[output];
    return (size_t)(shape->height * shape->width * shape->channels * shape->bytes);
}

const int8_t *hdx_selftest_input(int picture) { return hdx_selftest_codes[picture]; }

/* What is known of the outputs so far, of all pictures. */
typedef struct {
    int32_t equal[HDX_SELFTEST_PROFILES]; /* outputs as each profile gives them */
    char output[HDX_SELFTEST_LINE];       /* the first that is not as the file's own profile gives it, or nothing */
/* [if boxes] */
    char box[HDX_SELFTEST_LINE]; /* the first box that is not as expected, or nothing */
/* [end] */
} hdx_selftest_found;

static void hdx_selftest_compare(int32_t picture, const void *const *outputs, hdx_selftest_found *found) {
    for (int32_t i = 0; i < HDX_SELFTEST_OUTPUTS; i++) {
        const hdx_selftest_output *output = &hdx_selftest_shapes[i];
        const int32_t count = output->height * output->width * output->channels;
        const uint32_t crc = hdx_selftest_crc(outputs[i], count, output->bytes);
        const uint32_t own = hdx_selftest_crcs[0][picture][i];
        for (int32_t p = 0; p < HDX_SELFTEST_PROFILES; p++) found->equal[p] += crc == hdx_selftest_crcs[p][picture][i];
        if (crc == own || found->output[0]) continue;
        snprintf(found->output, HDX_SELFTEST_LINE,
                 "picture %d of %d: output %d (%s) differs: its CRC is %08lx, expected %08lx", (int)picture + 1,
                 HDX_SELFTEST_PICTURES, (int)i, output->name, (unsigned long)crc, (unsigned long)own);
    }
}

/* [if boxes] */
static uint32_t hdx_selftest_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Leaves the line as it is where every box is as expected, to the last bit; otherwise it says which one is not. */
static void hdx_selftest_boxes(int32_t picture, const void *const *outputs, char *line) {
    static hdx_workspace work;
    static hdx_detection found[HDX_MAX_DETECTIONS];
    static const char *const names[5] = {"x1", "y1", "x2", "y2", "score"};
    const hdx_code *codes[HDX_OUTPUTS];
    const hdx_detection *expected = &hdx_selftest_expected[hdx_selftest_starts[picture]];
    const int32_t wanted = hdx_selftest_starts[picture + 1] - hdx_selftest_starts[picture];
    int32_t count;
    for (int32_t i = 0; i < HDX_OUTPUTS; i++) codes[i] = (const hdx_code *)outputs[i];
    count = hdx_decode(codes, HDX_INPUT_HEIGHT, HDX_INPUT_WIDTH, &work, found);
    if (count != wanted) {
        snprintf(line, HDX_SELFTEST_LINE, "picture %d of %d: %ld boxes, expected %ld", (int)picture + 1,
                 HDX_SELFTEST_PICTURES, (long)count, (long)wanted);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        const float ours[5] = {found[i].x1, found[i].y1, found[i].x2, found[i].y2, found[i].score};
        const float theirs[5] = {expected[i].x1, expected[i].y1, expected[i].x2, expected[i].y2, expected[i].score};
        if (found[i].label != expected[i].label) {
            snprintf(line, HDX_SELFTEST_LINE, "picture %d of %d: box %ld differs: its label is %ld, expected %ld",
                     (int)picture + 1, HDX_SELFTEST_PICTURES, (long)i, (long)found[i].label, (long)expected[i].label);
            return;
        }
        for (int k = 0; k < 5; k++) {
            const uint32_t bits = hdx_selftest_bits(ours[k]), right = hdx_selftest_bits(theirs[k]);
            if (bits == right) continue;
            snprintf(line, HDX_SELFTEST_LINE,
                     "picture %d of %d: box %ld differs: the bits of its %s are %08lx, expected %08lx "
                     "(compile with -ffp-contract=off)",
                     (int)picture + 1, HDX_SELFTEST_PICTURES, (long)i, names[k], (unsigned long)bits,
                     (unsigned long)right);
            return;
        }
    }
}

/* [end] */
int hdx_selftest(hdx_selftest_run run, hdx_selftest_print print, void *context) {
    const int total = HDX_SELFTEST_PICTURES * HDX_SELFTEST_OUTPUTS;
    static hdx_selftest_found found;
    char line[HDX_SELFTEST_LINE];
    int other = 0;
    memset(&found, 0, sizeof found);
    for (int32_t picture = 0; picture < HDX_SELFTEST_PICTURES; picture++) {
        const void *outputs[HDX_SELFTEST_OUTPUTS] = {0};
        const int wrong = run(context, hdx_selftest_codes[picture], outputs);
        if (wrong) {
            snprintf(line, sizeof line, "picture %d of %d: the network did not run (%d)", (int)picture + 1,
                     HDX_SELFTEST_PICTURES, wrong);
            print(context, line);
            return HDX_SELFTEST_NOT_RUN;
        }
        hdx_selftest_compare(picture, outputs, &found);
/* [if boxes] */
        if (!found.output[0] && !found.box[0]) hdx_selftest_boxes(picture, outputs, found.box);
/* [end] */
    }
    for (int p = HDX_SELFTEST_PROFILES - 1; p >= 0; p--)
        if (found.equal[p] == total) other = p;
    for (int p = 0; p < HDX_SELFTEST_PROFILES; p++) {
        snprintf(line, sizeof line, "%s %s: %d of %d outputs equal", found.equal[p] == total ? "implements" : "not",
                 hdx_selftest_profiles[p].name, (int)found.equal[p], total);
        print(context, line);
    }
    if (found.output[0]) {
/* [if left_out] */
        if (!other) print(context, "not all profiles are known of this file: see the comments in hdx_selftest.c");
/* [end] */
        print(context, found.output);
        if (!other) return HDX_SELFTEST_OUTPUT_DIFFERS;
        snprintf(line, sizeof line, "this device runs %s, the file is made for %s: %s",
                 hdx_selftest_profiles[other].name, hdx_selftest_profiles[0].name, hdx_selftest_profiles[0].kernels);
        print(context, line);
        return HDX_SELFTEST_OTHER_PROFILE;
    }
/* [if boxes] */
    if (found.box[0]) {
        print(context, found.box);
        return HDX_SELFTEST_BOX_DIFFERS;
    }
    snprintf(line, sizeof line, "ok: %d pictures, %d outputs each, %ld boxes", HDX_SELFTEST_PICTURES,
             HDX_SELFTEST_OUTPUTS, (long)hdx_selftest_starts[HDX_SELFTEST_PICTURES]);
/* [end] */
/* [if not boxes] */
    snprintf(line, sizeof line, "ok: %d pictures, %d outputs each", HDX_SELFTEST_PICTURES, HDX_SELFTEST_OUTPUTS);
/* [end] */
    print(context, line);
    return 0;
}
