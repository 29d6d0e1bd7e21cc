// The 8-bit integer engine for q8_0 and q4_0 caches on ARM CPUs with sdot, or with smmla (i8mm): scores from the
// quants as they are, sums over rows in f32.
//
// A query is rounded to 14 bits under a scale for each block of 32, as two digits: q' = 128 hi + lo. Two
// sdots make 16 products exactly, two smmlas 32, where f32 multiply-adds would make 8, and no accuracy is lost to
// the query. The sums stay in f32: scales change from row to row, so that integers would have to be made anew from
// p times the scale, for each query, row and block of columns.

#include "engine.h"

#include <algorithm>

#if defined(PLM_NEON) && defined(__ARM_FEATURE_DOTPROD)

namespace mla {

static constexpr int64_t QK = 32; // values of a block
static constexpr int ROWS = 4;    // cached rows and
static constexpr int WIDE = 8;    // query rows whose scores are in registers together
static constexpr int VECTORS = WIDE / LANES;
static constexpr int SUMS = ROWS * VECTORS;
static constexpr int KEYS = ROWS * QK / 16; // vectors of quants

// A block of ROWS cached rows times one digit of WIDE query rows, in one of two ways that make the same integers.
// TIED: cached rows that take turns in a tile, 8 values each; STEP: values of a query row that lie together.
// `add` has sums in an order of its own, `row` returns those of one cached row.

#if defined(__ARM_FEATURE_MATMUL_INT8)

// 8 values of two cached rows by two query rows
struct products {
    static constexpr int TIED = 2, STEP = 8;

    static void put(int8_t * to, int8x16_t x) {
        vst1_s8(to, vget_low_s8(x));
        vst1_s8(to + 16, vget_high_s8(x));
    }

    static void add(int32x4_t * sum, const int8x16_t * key, const int8_t * q) {
        for (int i = 0; i < QK / STEP; i++, q += BLOCK * STEP) {
            for (int v = 0; v < WIDE / 2; v++) {
                const int8x16_t x = vld1q_s8(q + v * 16);
                for (int r = 0; r < ROWS / 2; r++) {
                    sum[r * WIDE / 2 + v] = vmmlaq_s32(sum[r * WIDE / 2 + v], key[r * QK / STEP + i], x);
                }
            }
        }
    }

    static int32x4_t row(const int32x4_t * sum, int r, int v) {
        sum += r / 2 * WIDE / 2 + v * 2;
        const int64x2_t a = vreinterpretq_s64_s32(sum[0]), b = vreinterpretq_s64_s32(sum[1]);
        return vreinterpretq_s32_s64(r % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
    }
};

#else

// 4 values of a cached row by four query rows
struct products {
    static constexpr int TIED = 1, STEP = 4;

    static void put(int8_t * to, int8x16_t x) { vst1q_s8(to, x); }

    static void add(int32x4_t * sum, const int8x16_t * key, const int8_t * q) {
        for (int i = 0; i < QK / 16; i++, q += BLOCK * 16) {
            four<0>(sum, key + i, q);
            four<1>(sum, key + i, q);
            four<2>(sum, key + i, q);
            four<3>(sum, key + i, q);
        }
    }

    template <int I> static void four(int32x4_t * sum, const int8x16_t * key, const int8_t * q) {
        for (int v = 0; v < VECTORS; v++) {
            const int8x16_t x = vld1q_s8(q + I * BLOCK * STEP + v * 16);
            for (int r = 0; r < ROWS; r++) {
                sum[r * VECTORS + v] = vdotq_laneq_s32(sum[r * VECTORS + v], x, key[r * QK / 16], I);
            }
        }
    }

    static int32x4_t row(const int32x4_t * sum, int r, int v) { return sum[r * VECTORS + v]; }
};

#endif

struct i8_tile {
    int8_t * keys;  // [TILE / TIED][ld_k / 8][TIED][8]
    float * scale;  // [TILE][ld_k / QK]
    float * values; // [TILE][cols]

    i8_tile(const shape & a, char * p)
        : keys((int8_t *) p), scale((float *) (keys + TILE * a.ld_k)), values(scale + TILE * (a.ld_k / QK)) {}

    static size_t bytes(const shape & a) { return TILE * (a.ld_k + a.ld_k / QK * sizeof(float) + a.cols * sizeof(float)); }
};

// [ld_k / QK][digit][QK / STEP][BLOCK][STEP] integers, then scales [ld_k / QK][BLOCK]
static size_t i8_query_bytes(const shape & a) { return a.ld_k * BLOCK * 2 + a.ld_k / QK * BLOCK * sizeof(float); }
static size_t i8_tile_bytes(const shape & a) { return i8_tile::bytes(a); }

static void i8_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    constexpr int STEP = products::STEP;
    int8_t * out = (int8_t *) block + lane * STEP;
    float * units = (float *) (block + a.ld_k * BLOCK * 2) + lane;
    for (int64_t b = 0; b < a.ld_k / QK; b++) {
        float top = 0.0f, bad = 0.0f;
        for (int64_t i = 0; q && i < QK; i++) {
            top = std::max(top, std::fabs(q[b * QK + i]));
            bad += 0.0f * q[b * QK + i];
        }
        const bool finite = bad == 0.0f;
        const float f = finite && top > 1e-30f ? 127.0f * 128.0f / top : 0.0f;
        units[b * BLOCK] = !finite ? NAN : (f > 0.0f ? scale / f : 0.0f);
        for (int64_t i = 0; i < QK; i++) {
            const int x = f > 0.0f ? int(std::lrint(q[b * QK + i] * f)) : 0;
            const int hi = (x + 64) >> 7; // lo is from -64 to 63
            int8_t * o = out + (2 * b * QK + i / STEP * STEP) * BLOCK + i % STEP;
            o[0] = int8_t(hi);
            o[QK * BLOCK] = int8_t(x - 128 * hi);
        }
    }
}

static bool i8_load(const shape & a, const char * rows, size_t stride, int64_t n, char * p) {
    const i8_tile tile(a, p);
    constexpr int TIED = products::TIED;
    const size_t bytes = a.type == GGML_TYPE_Q8_0 ? 34 : 18;
    float bad = 0.0f;
    for (int64_t j = 0; j < n; j++) {
        const char * row = rows + j * stride;
        for (int64_t b = 0; b < a.n_k / QK; b++) {
            const char * from = row + b * bytes;
            int8_t * key = tile.keys + j / TIED * TIED * a.ld_k + j % TIED * 8 + b * QK * TIED;
            uint16_t bits;
            memcpy(&bits, from, sizeof(bits));
            const float d = vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
            tile.scale[j * (a.ld_k / QK) + b] = d;
            bad += 0.0f * d;

            int8x16_t lo, hi;
            if (a.type == GGML_TYPE_Q8_0) {
                lo = vld1q_s8((const int8_t *) from + 2);
                hi = vld1q_s8((const int8_t *) from + 18);
            } else {
                const uint8x16_t x = vld1q_u8((const uint8_t *) from + 2);
                lo = vsubq_s8(vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))), vdupq_n_s8(8));
                hi = vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(x, 4)), vdupq_n_s8(8));
            }
            products::put(key, lo);
            products::put(key + 16 * TIED, hi);
            if (b * QK < a.cols) {
                float * value = tile.values + j * a.cols + b * QK;
                for (const int8x16_t x : { lo, hi }) {
                    const int16x8_t x0 = vmovl_s8(vget_low_s8(x)), x1 = vmovl_s8(vget_high_s8(x));
                    store(value + 0, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(x0))), d));
                    store(value + 4, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(x0))), d));
                    store(value + 8, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(x1))), d));
                    store(value + 12, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(x1))), d));
                    value += 16;
                }
            }
        }
    }
    return bad == 0.0f;
}

static void i8_scores(const shape & a, const char * block, const char * p, int64_t n, float * s, lookahead & next) {
    constexpr int TIED = products::TIED;
    const i8_tile tile(a, const_cast<char *>(p));
    const int64_t ld_k = a.ld_k, blocks = ld_k / QK;
    const float * units = (const float *) (block + ld_k * BLOCK * 2);

    for (int64_t j = 0; j < n; j += ROWS) {
        const int8_t * keys[ROWS / TIED];
        const float * scale[ROWS];
        for (int r = 0; r < ROWS; r++) {
            keys[r / TIED] = tile.keys + std::min(j + r, n - 1) / TIED * TIED * ld_k;
            scale[r] = tile.scale + std::min(j + r, n - 1) * blocks;
        }
        for (int64_t lane = 0; lane < BLOCK; lane += WIDE) {
            const int8_t * q = (const int8_t *) block + lane * products::STEP;
            vf sum[ROWS][VECTORS];
            for (auto & x : sum) {
                std::fill_n(x, VECTORS, all(0.0f));
            }
            for (int64_t b = 0; b < blocks; b++, q += 2 * QK * BLOCK) {
                int8x16_t key[KEYS];
                for (int i = 0; i < KEYS; i++) {
                    constexpr int SPAN = QK * TIED / 16;
                    key[i] = vld1q_s8(keys[i / SPAN] + (b * SPAN + i % SPAN) * 16);
                }
                int32x4_t both[SUMS] = {};
                next.step();
                products::add(both, key, q); // 32 * 127 * 128 at most, so that 128 times that fits
                for (int32x4_t & x : both) {
                    x = vshlq_n_s32(x, 7);
                }
                next.step();
                products::add(both, key, q + QK * BLOCK);

                for (int r = 0; r < ROWS; r++) {
                    for (int v = 0; v < VECTORS; v++) {
                        const vf unit = vmulq_n_f32(load(units + b * BLOCK + lane + v * LANES), scale[r][b]);
                        sum[r][v] = fma(vcvtq_f32_s32(products::row(both, r, v)), unit, sum[r][v]);
                    }
                }
            }
            for (int r = 0; r < ROWS; r++) {
                for (int v = 0; v < VECTORS; v++) {
                    store(s + (j + r) * BLOCK + lane + v * LANES, sum[r][v]);
                }
            }
        }
    }
}

static void i8_accumulate(const shape & a, const float * p, const float * decay, char * t, int64_t n, float * out, lookahead & next) {
    shape values = a;
    values.ld_k = a.cols;
    engine_f32.accumulate(values, p, decay, (char *) i8_tile(a, t).values, n, out, next);
}

const engine engine_i8 = { i8_query_bytes, i8_tile_bytes, i8_pack, i8_load, i8_scores, i8_accumulate };

} // namespace mla

#endif
