// The 8-bit integer engine for q8_0 and q4_0 caches on ARM CPUs with sdot: scores from the quants as they are,
// sums over rows in f32.
//
// A query is rounded to 14 bits under a scale for each block of 32, as two digits: q' = 128 hi + lo. Two
// sdots make 16 products exactly, where f32 multiply-adds would make 8, and no accuracy is lost to the query.

#include "mla-lanes.h"

#include "mla-engine.h"

#include <algorithm>

#if defined(PLM_LANES_NEON) && defined(__ARM_FEATURE_DOTPROD)

namespace mla {

static constexpr int64_t QK = 32;             // values of a block
static constexpr int     QV = BLOCK / LANES;  // vectors across a block of query rows

struct i8_tile {
    int8_t * keys;   // [TILE][ld_k]
    float  * scale;  // [TILE][ld_k / QK]
    float  * values; // [TILE][cols]

    i8_tile(const shape & a, char * p)
        : keys((int8_t *) p), scale((float *) (keys + TILE * a.ld_k)), values(scale + TILE * (a.ld_k / QK)) {}

    static size_t bytes(const shape & a) { return TILE * (a.ld_k + a.ld_k / QK * sizeof(float) + a.cols * sizeof(float)); }
};

// [ld_k / 4][digit][BLOCK][4] integers, then scales [ld_k / QK][BLOCK]
static size_t i8_query_bytes(const shape & a) { return a.ld_k * BLOCK * 2 + a.ld_k / QK * BLOCK * sizeof(float); }
static size_t i8_tile_bytes(const shape & a) { return i8_tile::bytes(a); }

static void i8_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    int8_t * out   = (int8_t *) block + lane * 4;
    float  * units = (float *) (block + a.ld_k * BLOCK * 2) + lane;
    for (int64_t b = 0; b < a.ld_k / QK; b++) {
        float top = 0.0f, bad = 0.0f;
        for (int64_t i = 0; q && i < QK; i++) {
            top = std::max(top, std::fabs(q[b * QK + i]));
            bad += 0.0f * q[b * QK + i];
        }
        const bool finite = bad == 0.0f;
        const float f = finite && top > 1e-30f ? 127.0f * 128.0f / top : 0.0f;
        units[b * BLOCK] = !finite ? NAN : f > 0.0f ? scale / f : 0.0f;
        for (int64_t i = 0; i < QK; i++) {
            const int x  = f > 0.0f ? int(std::lrint(q[b * QK + i] * f)) : 0;
            const int hi = (x + 64) >> 7; // lo is from -64 to 63
            int8_t * o = out + (b * QK + i) / 4 * (2 * BLOCK * 4) + i % 4;
            o[0]         = int8_t(hi);
            o[BLOCK * 4] = int8_t(x - 128 * hi);
        }
    }
}

static bool i8_load(const shape & a, const char * rows, size_t stride, int64_t n, char * p) {
    const i8_tile tile(a, p);
    const size_t bytes = a.type == GGML_TYPE_Q8_0 ? 34 : 18;
    float bad = 0.0f;
    for (int64_t j = 0; j < n; j++) {
        const char * row = rows + j * stride;
        for (int64_t b = 0; b < a.n_k / QK; b++) {
            const char * from = row + b * bytes;
            int8_t * key = tile.keys + j * a.ld_k + b * QK;
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
            vst1q_s8(key, lo);
            vst1q_s8(key + 16, hi);
            if (b * QK < a.cols) {
                float * value = tile.values + j * a.cols + b * QK;
                for (const int8x16_t x : { lo, hi }) {
                    const int16x8_t x0 = vmovl_s8(vget_low_s8(x)), x1 = vmovl_s8(vget_high_s8(x));
                    store(value + 0,  vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(x0))),  d));
                    store(value + 4,  vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(x0))), d));
                    store(value + 8,  vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(x1))),  d));
                    store(value + 12, vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_high_s16(x1))), d));
                    value += 16;
                }
            }
        }
    }
    return bad == 0.0f;
}

static void i8_scores(const shape & a, const char * block, const char * p, int64_t n, float * s, lookahead & next) {
    constexpr int ROWS = 2;
    const i8_tile tile(a, const_cast<char *>(p));
    const float * units = (const float *) (block + a.ld_k * BLOCK * 2);

    for (int64_t j = 0; j < n; j += ROWS) {
        const int8_t * q = (const int8_t *) block;
        const int64_t row[ROWS] = { j, std::min(j + 1, n - 1) };
        vf sum[ROWS][QV];
        for (auto & x : sum) {
            std::fill_n(x, QV, all(0.0f));
        }
        for (int64_t b = 0; b < a.ld_k / QK; b++) {
            int32x4_t hi[ROWS][QV], lo[ROWS][QV];
            for (int r = 0; r < ROWS; r++) {
                for (int v = 0; v < QV; v++) {
                    hi[r][v] = lo[r][v] = vdupq_n_s32(0);
                }
            }
            for (int64_t i = 0; i < QK; i += 4, q += 2 * BLOCK * 4) {
                next.step();
                int8x16_t key[ROWS];
                for (int r = 0; r < ROWS; r++) {
                    int32_t four;
                    memcpy(&four, tile.keys + row[r] * a.ld_k + b * QK + i, sizeof(four));
                    key[r] = vreinterpretq_s8_s32(vdupq_n_s32(four));
                }
                for (int v = 0; v < QV; v++) {
                    const int8x16_t x = vld1q_s8(q + v * 16), y = vld1q_s8(q + BLOCK * 4 + v * 16);
                    for (int r = 0; r < ROWS; r++) {
                        hi[r][v] = vdotq_s32(hi[r][v], x, key[r]);
                        lo[r][v] = vdotq_s32(lo[r][v], y, key[r]);
                    }
                }
            }
            for (int r = 0; r < ROWS; r++) {
                const float d = tile.scale[row[r] * (a.ld_k / QK) + b];
                for (int v = 0; v < QV; v++) {
                    const int32x4_t both = vaddq_s32(vshlq_n_s32(hi[r][v], 7), lo[r][v]);
                    sum[r][v] = fma(vcvtq_f32_s32(both), vmulq_n_f32(load(units + b * BLOCK + v * LANES), d), sum[r][v]);
                }
            }
        }
        for (int r = 0; r < ROWS; r++) {
            for (int v = 0; v < QV; v++) {
                store(s + (j + r) * BLOCK + v * LANES, sum[r][v]);
            }
        }
    }
}

static void i8_accumulate(const shape & a, const float * p, const float * decay, char * t, int64_t n, float * out) {
    shape values = a;
    values.ld_k = a.cols;
    engine_f32.accumulate(values, p, decay, (char *) i8_tile(a, t).values, n, out);
}

const engine engine_i8 = { i8_query_bytes, i8_tile_bytes, i8_pack, i8_load, i8_scores, i8_accumulate };

} // namespace mla

#endif
