/* Convolutions of bytes with 8-bit weights, requantized and clamped where their sums are still in registers.
 *
 * Bytes are codes + 128, channels last. A sum is taken of the bytes as they are; what the zero point makes of it is in
 * the bias (-zero * sum of weights), and padding is the byte of zero. Sums are int32 and wrap: the caller asks only for
 * layers whose result fits. Compiled for the machine that runs it (-march=native); see build.py.
 *
 * GROUP neighbouring products go into one int32 lane: four bytes where the machine has VNNI, else two int16.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <immintrin.h>

#if defined(HATDET_PLAIN) /* tests: the layout of VNNI in plain C */
#define LANES 16
#define GROUP 4
#define TILE 12
#elif defined(__AVX512VNNI__) && defined(__AVX512VL__)
#define LANES 16
#define GROUP 4
#define TILE 12
#elif defined(__AVXVNNI__)
#define LANES 8
#define GROUP 4
#define TILE 6
#elif defined(__AVX2__)
#define LANES 8
#define GROUP 2
#define TILE 6
#else
#error "no integer products here that are faster than what torch has"
#endif

#if GROUP == 4
typedef uint8_t elem;
typedef int8_t weight_t;
#else
typedef int16_t elem;
typedef int16_t weight_t;
#endif
typedef int32_t vec __attribute__((vector_size(4 * LANES)));
typedef vec vec_u __attribute__((aligned(1)));

/* sums + the products of GROUP elements of a (the same in all lanes) with GROUP weights of each lane */
static inline vec dot(vec sums, vec a, vec w)
{
#if defined(HATDET_PLAIN)
    for (int i = 0; i < 4; i++) {
        vec byte = (a >> (8 * i)) & 255, code = (w << (24 - 8 * i)) >> 24;
        sums += byte * code;
    }
    return sums;
#elif LANES == 16
    return (vec)_mm512_dpbusd_epi32((__m512i)sums, (__m512i)a, (__m512i)w);
#elif GROUP == 4
    return (vec)_mm256_dpbusd_avx_epi32((__m256i)sums, (__m256i)a, (__m256i)w);
#else
    return sums + (vec)_mm256_madd_epi16((__m256i)a, (__m256i)w);
#endif
}

/* the same of two int16 in every lane */
static inline vec dot_pairs(vec sums, vec a, vec w)
{
#if defined(HATDET_PLAIN)
    return sums + ((a << 16) >> 16) * ((w << 16) >> 16) + (a >> 16) * (w >> 16);
#elif LANES == 16
    return (vec)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)w);
#else
    return sums + (vec)_mm256_madd_epi16((__m256i)a, (__m256i)w);
#endif
}

static inline vec load(const void *from) { return *(const vec_u *)from; }

static inline vec everywhere(const elem *from)
{
    int32_t value;
    memcpy(&value, from, 4);
    return value - (vec){0};
}

/* ---- a layer, as the caller describes it; numbers of channels are padded to whole vectors */

typedef struct {
    int32_t channels, outputs, groups, depthwise;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
    int32_t zero;        /* the byte that stands for 0 in the input */
    int32_t lo, hi, out; /* limits, relative to the byte of 0 in the output; that byte */
    int32_t fixed;       /* 0: rne(f32(sum) * scale); 1: see rounded() */
    int32_t shifts;      /* whether some `left` is not 0 */
    int64_t half;        /* added to sum * multiplier before the 31 bits are dropped */
    const void *weight;
    const int32_t *bias;
    const float *scale;
    /* ((((sum << left) * multiplier + half) >> 31) + add + (negative ? away : 0)) >> right */
    const int32_t *left, *multiplier, *add, *away, *right;
} Layer;

typedef struct {
    const Layer *layer;
    const uint8_t *in;
    uint8_t *out;
    int64_t batch, height, width, out_height, out_width;
    int64_t band, bands; /* rows of output together; so many in a picture */
    int64_t pitch;       /* elements of a padded row of input */
    int32_t failed;
} Job;

/* eight sums of channels from `first` on, rounded; nothing is clamped yet, but all are in the range of int32 */
static inline __m256i rounded(const Layer *l, int64_t first, const int32_t *sums)
{
    __m256i x = _mm256_loadu_si256((const __m256i *)sums);
    if (!l->fixed) {
        const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(x), _mm256_loadu_ps(l->scale + first));
        return _mm256_cvtps_epi32(_mm256_min_ps(product, _mm256_set1_ps(65536.0f))); /* below int32 it is the least */
    }
#define OF(array) _mm256_loadu_si256((const __m256i *)(l->array + first))
    if (l->shifts)
        x = _mm256_sllv_epi32(x, OF(left));
    const __m256i m = OF(multiplier), half = _mm256_set1_epi64x(l->half);
    __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, m), half);
    __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(m, 32)), half);
    /* the low 32 bits of both, shifted right by 31 */
    x = _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);
    const __m256i away = _mm256_and_si256(_mm256_srai_epi32(x, 31), OF(away));
    return _mm256_srav_epi32(_mm256_add_epi32(x, _mm256_add_epi32(away, OF(add))), OF(right));
#undef OF
}

/* `count` (8, or a multiple of 16) sums of channels from `first` on -> bytes */
static inline void to_bytes(const Layer *l, int64_t first, const int32_t *sums, uint8_t *to, int count)
{
    const __m256i out = _mm256_set1_epi16((int16_t)l->out);
    const __m256i lo = _mm256_set1_epi16((int16_t)(l->lo + l->out)), hi = _mm256_set1_epi16((int16_t)(l->hi + l->out));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int i = 0; i < count; i += 16) {
        const __m256i low = rounded(l, first + i, sums + i);
        const __m256i high = count > 8 ? rounded(l, first + i + 8, sums + i + 8) : low;
        __m256i codes = _mm256_adds_epi16(_mm256_packs_epi32(low, high), out);
        codes = _mm256_min_epi16(_mm256_max_epi16(codes, lo), hi);
        codes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(codes, codes), order);
        if (count > 8)
            _mm_storeu_si128((__m128i *)(to + i), _mm256_castsi256_si128(codes));
        else
            _mm_storel_epi64((__m128i *)to, _mm256_castsi256_si128(codes));
    }
}

/* ---- dense and grouped convolutions: TILE pixels times one or two vectors of output channels */

#if TILE == 12
#define ROWS(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11)
#else
#define ROWS(F) F(0) F(1) F(2) F(3) F(4) F(5)
#endif
#define START_ONE(i) vec s##i = bias0;
#define START_TWO(i) vec s##i = bias0, t##i = bias1;
#define POINT(i) const elem *a##i = at[i] + offset;
#define STEP_ONE(i) s##i = dot(s##i, everywhere(a##i + k), w0);
#define STEP_TWO(i) { vec a = everywhere(a##i + k); s##i = dot(s##i, a, w0); t##i = dot(t##i, a, w1); }
#define STORE_ONE(i) *(vec_u *)(sums + i * LANES) = s##i;
#define STORE_TWO(i) *(vec_u *)(sums + i * 2 * LANES) = s##i; *(vec_u *)(sums + i * 2 * LANES + LANES) = t##i;

/* where the products of one output lie: `segments` runs of `length` elements */
typedef struct {
    int64_t segments, length;
    const int64_t *offsets;
} Reach;

static void tile_of_one(const elem *const *at, const Reach *r, const weight_t *w, const int32_t *bias, int32_t *sums)
{
    const vec bias0 = load(bias);
    ROWS(START_ONE)
    for (int64_t j = 0; j < r->segments; j++) {
        const int64_t offset = r->offsets[j];
        ROWS(POINT)
        for (int64_t k = 0; k < r->length; k += GROUP, w += LANES * GROUP) {
            const vec w0 = load(w);
            ROWS(STEP_ONE)
        }
    }
    ROWS(STORE_ONE)
}

static void tile_of_two(const elem *const *at, const Reach *r, const weight_t *w, const int32_t *bias, int32_t *sums)
{
    const vec bias0 = load(bias), bias1 = load(bias + LANES);
    const weight_t *next = w + r->segments * ((r->length + GROUP - 1) / GROUP) * GROUP * LANES;
    ROWS(START_TWO)
    for (int64_t j = 0; j < r->segments; j++) {
        const int64_t offset = r->offsets[j];
        ROWS(POINT)
        for (int64_t k = 0; k < r->length; k += GROUP, w += LANES * GROUP, next += LANES * GROUP) {
            const vec w0 = load(w), w1 = load(next);
            ROWS(STEP_TWO)
        }
    }
    ROWS(STORE_TWO)
}

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

static void spread(elem *to, const uint8_t *from, int64_t count)
{
#if GROUP == 4
    memcpy(to, from, count);
#else
    for (int64_t i = 0; i < count; i++)
        to[i] = from[i];
#endif
}

static void fill(elem *to, int32_t value, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        to[i] = (elem)value;
}

/* padded rows of input below so many rows of output */
static int64_t rows_below(const Layer *l, int64_t rows)
{
    return (rows - 1) * l->stride[0] + (l->kernel[0] - 1) * l->dilation[0] + 1;
}

static void take_rows(const Job *job, const uint8_t *picture, int64_t top, int64_t rows, elem *to)
{
    const Layer *l = job->layer;
    const int64_t line = job->width * l->channels, side = (int64_t)l->padding[1] * l->channels;
    for (int64_t r = 0; r < rows; r++, to += job->pitch) {
        const int64_t y = top + r;
        if (y < 0 || y >= job->height) {
            fill(to, l->zero, job->pitch);
            continue;
        }
        fill(to, l->zero, side);
        spread(to + side, picture + y * line, line);
        fill(to + side + line, l->zero, side);
    }
    fill(to, 0, GROUP); /* what a last group of elements may reach into */
}

/* the output channels of one group, of `count` pixels at `places` in `rows` */
static void multiply(const Job *job, const Reach *r, int64_t group, const elem *rows, const int64_t *places,
                     int64_t count, uint8_t *out)
{
    const Layer *l = job->layer;
    const int64_t inside = l->channels / l->groups, made = l->outputs / l->groups;
    const int64_t vectors = (made + LANES - 1) / LANES;
    const int64_t taps = r->segments * ((r->length + GROUP - 1) / GROUP) * GROUP;
    const elem *at[TILE];
    int32_t sums[TILE * 2 * LANES];
    uint8_t bytes[2 * LANES];
    for (int64_t v = 0; v < vectors; v += 2) {
        const int64_t both = vectors - v > 1 ? 2 : 1, first = (group * vectors + v) * LANES;
        const weight_t *w = (const weight_t *)l->weight + first * taps;
        const int64_t wanted = smaller(both * LANES, made - v * LANES);
        for (int64_t p = 0; p < count; p += TILE) {
            const int64_t pixels = smaller(TILE, count - p);
            for (int64_t i = 0; i < TILE; i++)
                at[i] = rows + places[p + smaller(i, pixels - 1)] + group * inside;
            (both == 2 ? tile_of_two : tile_of_one)(at, r, w, l->bias + first, sums);
            uint8_t *to = out + p * l->outputs + group * made + v * LANES;
            for (int64_t i = 0; i < pixels; i++, to += l->outputs) {
                if (both == 2)
                    to_bytes(l, first, sums + i * 2 * LANES, bytes, 2 * LANES);
                else
                    to_bytes(l, first, sums + i * LANES, bytes, LANES);
                if (wanted == 2 * LANES)
                    memcpy(to, bytes, 2 * LANES);
                else
                    memcpy(to, bytes, wanted);
            }
        }
    }
}

/* bands `from`, `from + step`, ... of all pictures */
static int dense(const Job *job, int64_t from, int64_t step)
{
    const Layer *l = job->layer;
    const int64_t most = rows_below(l, job->band), inside = l->channels / l->groups;
    const int whole = l->groups == 1 && l->dilation[1] == 1; /* a row of the kernel lies in one piece */
    const int64_t columns = whole ? 1 : l->kernel[1];
    Reach reach = {l->kernel[0] * columns, whole ? l->kernel[1] * inside : inside, NULL};
    int64_t *offsets = malloc(reach.segments * sizeof *offsets);
    int64_t *places = malloc(job->band * job->out_width * sizeof *places);
    elem *rows = malloc((most * job->pitch + GROUP) * sizeof *rows);
    if (offsets && places && rows) {
        for (int64_t j = 0; j < reach.segments; j++)
            offsets[j] = (j / columns) * l->dilation[0] * job->pitch + (j % columns) * l->dilation[1] * l->channels;
        reach.offsets = offsets;
        for (int64_t p = 0; p < job->band * job->out_width; p++)
            places[p] = (p / job->out_width) * l->stride[0] * job->pitch
                      + (p % job->out_width) * l->stride[1] * l->channels;
        for (int64_t unit = from; unit < job->batch * job->bands; unit += step) {
            const int64_t picture = unit / job->bands, first = unit % job->bands * job->band;
            const int64_t height = smaller(job->band, job->out_height - first);
            take_rows(job, job->in + picture * job->height * job->width * l->channels,
                      first * l->stride[0] - l->padding[0], rows_below(l, height), rows);
            uint8_t *out = job->out + (picture * job->out_height + first) * job->out_width * l->outputs;
            for (int64_t group = 0; group < l->groups; group++)
                multiply(job, &reach, group, rows, places, height * job->out_width, out);
        }
    }
    const int failed = !(offsets && places && rows);
    free(offsets), free(places), free(rows);
    return failed;
}

/* ---- depthwise convolutions: rows of input in pairs, so that one product of pairs takes two rows of the kernel */

#define PIXELS 4
#define COLUMNS(F) F(0) F(1) F(2) F(3)
#define BEGIN(i) vec s##i = bias; const int32_t *a##i = at[i];
#define TAP(i) s##i = dot_pairs(s##i, load(a##i + offset), w);
#define END(i) *(vec_u *)(sums + i * LANES) = s##i;

static int64_t vectors_of(const Layer *l) { return (l->channels + LANES - 1) / LANES; }

static void take_pairs(const Job *job, const uint8_t *picture, int64_t top, int64_t rows, const uint8_t *blank,
                       int32_t *to)
{
    const Layer *l = job->layer;
    const int64_t channels = l->channels, padded = vectors_of(l) * LANES, line = job->width * channels;
    const int32_t zeros = l->zero | l->zero << 16;
    for (int64_t r = 0; r < rows; r++, to += job->pitch) {
        const int64_t y = top + r, z = y + l->dilation[0];
        const uint8_t *first = y < 0 || y >= job->height ? blank : picture + y * line;
        const uint8_t *second = z < 0 || z >= job->height ? blank : picture + z * line;
        int32_t *at = to + l->padding[1] * padded;
        if (padded == channels) {
            for (int64_t c = 0; c < line; c++)
                at[c] = first[c] | (int32_t)second[c] << 16;
        } else {
            for (int64_t x = 0; x < job->width; x++, first += channels, second += channels)
                for (int64_t c = 0; c < padded; c++)
                    at[x * padded + c] = c < channels ? first[c] | (int32_t)second[c] << 16 : 0;
        }
        for (int64_t c = 0; c < l->padding[1] * padded; c++)
            to[c] = at[job->width * padded + c] = zeros;
    }
}

static void depthwise_row(const Job *job, const int32_t *rows, uint8_t *out)
{
    const Layer *l = job->layer;
    const int64_t padded = vectors_of(l) * LANES;
    const int32_t *at[PIXELS];
    int32_t sums[PIXELS * LANES];
    uint8_t bytes[LANES];
    for (int64_t c = 0; c < padded; c += LANES) {
        const vec bias = load(l->bias + c);
        const int64_t wanted = smaller(LANES, l->channels - c);
        for (int64_t x = 0; x < job->out_width; x += PIXELS) {
            const int64_t pixels = smaller(PIXELS, job->out_width - x);
            for (int64_t i = 0; i < PIXELS; i++)
                at[i] = rows + (x + smaller(i, pixels - 1)) * l->stride[1] * padded + c;
            const int32_t *weight = (const int32_t *)l->weight + c;
            COLUMNS(BEGIN)
            for (int64_t ky = 0; ky < l->kernel[0]; ky += 2)
                for (int64_t kx = 0; kx < l->kernel[1]; kx++, weight += padded) {
                    const int64_t offset = ky * l->dilation[0] * job->pitch + kx * l->dilation[1] * padded;
                    const vec w = load(weight);
                    COLUMNS(TAP)
                }
            COLUMNS(END)
            for (int64_t i = 0; i < pixels; i++) {
                to_bytes(l, c, sums + i * LANES, bytes, LANES);
                memcpy(out + (x + i) * l->channels + c, bytes, wanted);
            }
        }
    }
}

static int depthwise(const Job *job, int64_t from, int64_t step)
{
    const Layer *l = job->layer;
    const int64_t line = job->width * l->channels;
    int32_t *rows = malloc(rows_below(l, job->band) * job->pitch * sizeof *rows);
    uint8_t *blank = malloc(line);
    if (rows && blank) {
        memset(blank, l->zero, line);
        for (int64_t unit = from; unit < job->batch * job->bands; unit += step) {
            const int64_t picture = unit / job->bands, first = unit % job->bands * job->band;
            const int64_t height = smaller(job->band, job->out_height - first);
            take_pairs(job, job->in + picture * job->height * line, first * l->stride[0] - l->padding[0],
                       rows_below(l, height), blank, rows);
            uint8_t *out = job->out + (picture * job->out_height + first) * job->out_width * l->channels;
            for (int64_t y = 0; y < height; y++, out += job->out_width * l->channels)
                depthwise_row(job, rows + y * l->stride[0] * job->pitch, out);
        }
    }
    const int failed = !(rows && blank);
    free(rows), free(blank);
    return failed;
}

/* ---- what Python calls */

typedef struct {
    Job *job;
    int64_t from, step;
    int32_t failed;
} Share;

static void *run_share(void *given)
{
    Share *share = given;
    share->failed = (share->job->layer->depthwise ? depthwise : dense)(share->job, share->from, share->step);
    return NULL;
}

#define MOST_THREADS 64

/* 0, or 1: no memory. `in` (batch, height, width, channels), `out` (batch, out_height, out_width, outputs) */
int32_t hatdet_convolve(const Layer *layer, const uint8_t *in, uint8_t *out, int64_t batch, int64_t height,
                        int64_t width, int64_t out_height, int64_t out_width, int64_t band, int32_t threads)
{
    Job job = {layer, in, out, batch, height, width, out_height, out_width, band, (out_height + band - 1) / band, 0, 0};
    job.pitch = (width + 2 * layer->padding[1]) * (layer->depthwise ? vectors_of(layer) * LANES : layer->channels);
    pthread_t started[MOST_THREADS];
    Share shares[MOST_THREADS];
    int32_t wanted = (int32_t)smaller(smaller(threads, MOST_THREADS), batch * job.bands), failed = 0;
    int running[MOST_THREADS] = {0};
    for (int32_t i = wanted - 1; i >= 0; i--) {
        shares[i] = (Share){&job, i, wanted, 0};
        running[i] = i > 0 && pthread_create(&started[i], NULL, run_share, &shares[i]) == 0;
        if (!running[i])
            run_share(&shares[i]);
    }
    for (int32_t i = 0; i < wanted; i++) {
        if (running[i])
            pthread_join(started[i], NULL);
        failed |= shares[i].failed;
    }
    return failed;
}

void hatdet_look_up(const uint8_t *x, const uint8_t *table, uint8_t *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = table[x[i]];
}

void hatdet_look_up_pairs(const uint8_t *x, const uint8_t *y, const uint8_t *table, uint8_t *out, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = table[x[i] << 8 | y[i]];
}

int32_t hatdet_lanes(void) { return LANES; }
int32_t hatdet_group(void) { return GROUP; }
