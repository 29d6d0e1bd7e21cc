// The engine for f16 caches on ARM CPUs with dot products of bytes: keys, queries and probabilities become integers as on x86
// (tile-i16.h), and each integer two digits, 64 high + low. Of the four products of two such integers three are computed, in
// units of 64; low times low is about what rounding is worth. So sixteen multiply-adds take three instructions, in f32 four.
//
// A cached row is multiplied by a power of two that brings its largest value between 4096 and 8192: its rounding is no
// coarser than on x86. Queries and probabilities are at most 127 * 64. High digits are from -128 to 127, low ones from -32
// to 32, or 63 where a high one would be 128. Sums are exact, of up to N_K_MAX columns or TILE rows.

#include "engine.h"

#if defined(PLM_MLA_DIGITS)

#include <algorithm>

namespace mla {

namespace {

constexpr int64_t QUAD = 4; // cached rows whose products one instruction sums, or that are computed together
constexpr int64_t QUADS = TILE / QUAD;
constexpr int64_t STEP = 16; // columns of a row in one register
constexpr int64_t WIDE = 8;  // query rows, or columns of values, whose sums are in registers together
constexpr int64_t LINE = 64; // bytes of WIDE columns or query rows, four bytes of each, of both digits
constexpr float TOP = 8128;  // the largest integer of two digits
constexpr float BASE = 64.0f;
constexpr int BITS = 6; // of BASE

struct tile_digits {
    int8_t * keys;   // [TILE][ld_k / STEP][2][STEP], high digits before low ones
    int8_t * values; // [cols / WIDE][QUADS][2][WIDE][QUAD]
    float * scale;   // [TILE], what one is worth

    tile_digits(const shape & a, char * p) : keys((int8_t *) p), values(keys + 2 * TILE * a.ld_k), scale((float *) (values + 2 * TILE * a.cols)) {}

    static size_t bytes(const shape & a) { return 2 * TILE * (a.ld_k + a.cols) + TILE * sizeof(float); }
};

// a packed block of queries
struct query_digits {
    int8_t * values; // [BLOCK / WIDE][ld_k / 4][2][WIDE][4]
    float * unit;    // [BLOCK], of BASE

    query_digits(const shape & a, const char * p) : values((int8_t *) const_cast<char *>(p)), unit((float *) (values + 2 * BLOCK * a.ld_k)) {}

    static size_t bytes(const shape & a) { return 2 * BLOCK * a.ld_k + BLOCK * sizeof(float); }
};

size_t digits_query_bytes(const shape & a) { return query_digits::bytes(a); }
size_t digits_tile_bytes(const shape & a) { return tile_digits::bytes(a); }

void digits_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    const query_digits out(a, block);
    float values[N_K_MAX];
    std::fill_n(values, a.ld_k, 0.0f);
    if (q) {
        std::copy_n(q, a.n_k, values);
    }
    vf top = all(0.0f), zero = all(0.0f); // NaN where one is not finite
    for (int64_t i = 0; i < a.ld_k; i += LANES) {
        const vf x = load(values + i);
        top = max(vabsq_f32(x), top);
        zero = fma(all(0.0f), x, zero);
    }
    const float most = vmaxvq_f32(top);
    const bool finite = vaddvq_f32(zero) == 0.0f, used = finite && most > 1e-30f;
    const vf f = all(used ? TOP / most : 0.0f);
    int8_t * to = out.values + lane / WIDE * (a.ld_k / 4) * LINE + lane % WIDE * 4;
    for (int64_t i = 0; i < a.ld_k; i += 4, to += LINE) {
        const int32x4_t x = vcvtnq_s32_f32(mul(load(values + i), f)), high = vrshrq_n_s32(x, BITS);
        const int32x4_t low = vsubq_s32(x, vshlq_n_s32(high, BITS));
        const int32x2_t both = vreinterpret_s32_s8(vmovn_s16(vcombine_s16(vmovn_s32(high), vmovn_s32(low))));
        vst1_lane_s32((int32_t *) to, both, 0);
        vst1_lane_s32((int32_t *) (to + LINE / 2), both, 1);
    }
    out.unit[lane] = used ? most / TOP * BASE * scale : finite ? 0.0f
                                                               : NAN; // else every score of this row will be NaN
}

// --- rows to digits ---------------------------------------------------------------------------

struct digits {
    int8x16_t high, low;
};

// A row's power of two, and its reciprocal. Twice, as halves are multiplied by it: f16 has none above 2^15.
struct power {
    float once, again, unit;

    // bits: of the row's largest magnitude
    explicit power(uint16_t bits) {
        const int exponent = std::max(bits >> 10, 1); // the value is below 2^(exponent - 14)
        const int to = 27 - exponent;                 // and times 2^to below 2^13
        once = exponent_bits(std::min(to, 15));
        again = exponent_bits(std::max(to - 15, 0));
        unit = exponent_bits(-to);
    }

    static float exponent_bits(int n) {
        const uint32_t bits = uint32_t(n + 127) << 23;
        float x;
        memcpy(&x, &bits, sizeof(x));
        return x;
    }
};

// of n values, a multiple of STEP
uint16_t largest_bits(const uint16_t * row, int64_t n) {
    uint16x8_t top[2] = { vdupq_n_u16(0), vdupq_n_u16(0) }; // without the sign, which is shifted out
    for (int64_t i = 0; i < n; i += STEP) {
        top[0] = vmaxq_u16(top[0], vshlq_n_u16(vld1q_u16(row + i), 1));
        top[1] = vmaxq_u16(top[1], vshlq_n_u16(vld1q_u16(row + i + 8), 1));
    }
    return vmaxvq_u16(vmaxq_u16(top[0], top[1])) >> 1;
}

#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)

// 16 values. All steps but the roundings are exact: digits come to lie in the lowest bits of 1536 + digit, where a conversion to
// integers takes one of two pipes for four cycles.
template <bool TWICE> PLM_INLINE digits digits_of(const uint16_t * p, const power & f) {
    const float16x8_t begin = vdupq_n_f16(1536), once = vdupq_n_f16(float16_t(f.once)), again = vdupq_n_f16(float16_t(f.again));
    float16x8_t high[2], low[2];
    for (int i = 0; i < 2; i++) {
        float16x8_t x = vmulq_f16(vreinterpretq_f16_u16(vld1q_u16(p + 8 * i)), once);
        if (TWICE) {
            x = vmulq_f16(x, again);
        }
        high[i] = vminq_f16(vfmaq_f16(begin, x, vdupq_n_f16(1.0f / BASE)), vdupq_n_f16(1536 + 127));
        low[i] = vaddq_f16(vfmsq_f16(x, vsubq_f16(high[i], begin), vdupq_n_f16(BASE)), begin);
    }
    const auto lowest = [](const float16x8_t * x) PLM_LAMBDA { return vuzp1q_s8(vreinterpretq_s8_f16(x[0]), vreinterpretq_s8_f16(x[1])); };
    return { lowest(high), lowest(low) };
}

#else

template <bool> PLM_INLINE digits digits_of(const uint16_t * p, const power & f) {
    int16x8_t high[2], low[2];
    for (int i = 0; i < 2; i++) {
        const float16x8_t x = vreinterpretq_f16_u16(vld1q_u16(p + 8 * i));
        const float times = f.once * f.again;
        const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vcvt_f32_f16(vget_low_f16(x)), times));
        const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vcvt_f32_f16(vget_high_f16(x)), times));
        const int16x8_t both = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
        high[i] = vminq_s16(vrshrq_n_s16(both, BITS), vdupq_n_s16(127));
        low[i] = vsubq_s16(both, vshlq_n_s16(high[i], BITS));
    }
    const auto lowest = [](const int16x8_t * x) PLM_LAMBDA { return vuzp1q_s8(vreinterpretq_s8_s16(x[0]), vreinterpretq_s8_s16(x[1])); };
    return { lowest(high), lowest(low) };
}

#endif

// STEP columns of four rows, of one digit: the rows' bytes side by side
PLM_INLINE void put_values(int8_t * to, const int8x16_t & a, const int8x16_t & b, const int8x16_t & c, const int8x16_t & d) {
    const int16x8_t ab[2] = { vreinterpretq_s16_s8(vzip1q_s8(a, b)), vreinterpretq_s16_s8(vzip2q_s8(a, b)) };
    const int16x8_t cd[2] = { vreinterpretq_s16_s8(vzip1q_s8(c, d)), vreinterpretq_s16_s8(vzip2q_s8(c, d)) };
    for (int i = 0; i < 2; i++, to += QUADS * LINE) {
        vst1q_s8(to, vreinterpretq_s8_s16(vzip1q_s16(ab[i], cd[i])));
        vst1q_s8(to + 16, vreinterpretq_s8_s16(vzip2q_s16(ab[i], cd[i])));
    }
}

template <bool TWICE> void load_quad(const shape & a, const uint16_t * const * row, const power * f, int8_t * key, int8_t * value) {
    for (int64_t c = 0; c < a.ld_k; c += STEP) {
        digits x[QUAD];
        for (int r = 0; r < QUAD; r++) {
            x[r] = digits_of<TWICE>(row[r] + c, f[r]);
            vst1q_s8(key + 2 * (r * a.ld_k + c), x[r].high);
            vst1q_s8(key + 2 * (r * a.ld_k + c) + STEP, x[r].low);
        }
        if (c < a.cols) {
            put_values(value + c / WIDE * QUADS * LINE, x[0].high, x[1].high, x[2].high, x[3].high);
            put_values(value + c / WIDE * QUADS * LINE + LINE / 2, x[0].low, x[1].low, x[2].low, x[3].low);
        }
    }
}

bool digits_load(const shape & a, const char * rows, size_t stride, int64_t n, char * p) {
    const tile_digits tile(a, p);
    alignas(16) uint16_t whole[QUAD][N_K_MAX]; // of rows whose length is no whole number of steps
    for (int64_t j = 0; j < n; j += QUAD) {
        const uint16_t * row[QUAD];
        uint16_t bits[QUAD];
        for (int64_t r = 0; r < QUAD; r++) {
            row[r] = (const uint16_t *) (rows + std::min(j + r, n - 1) * stride);
            if (a.n_k != a.ld_k) {
                std::copy_n(row[r], a.n_k, whole[r]);
                std::fill(whole[r] + a.n_k, whole[r] + a.ld_k, uint16_t(0));
                row[r] = whole[r];
            }
            bits[r] = largest_bits(row[r], a.ld_k);
            if (bits[r] >= 0x7c00) { // an infinity or a NaN
                return false;
            }
        }
        const power f[QUAD] = { power(bits[0]), power(bits[1]), power(bits[2]), power(bits[3]) };
        bool twice = false;
        for (int r = 0; r < QUAD; r++) {
            tile.scale[j + r] = f[r].unit;
            twice |= f[r].again != 1.0f;
        }
        int8_t *key = tile.keys + 2 * j * a.ld_k, *value = tile.values + j / QUAD * LINE;
        if (twice) {
            load_quad<true>(a, row, f, key, value);
        } else {
            load_quad<false>(a, row, f, key, value);
        }
    }
    return true;
}

// --- products ---------------------------------------------------------------------------------

// 4 columns of 4 cached rows by WIDE query rows
template <int I> PLM_INLINE void add_four(int32x4_t (*high)[2], int32x4_t (*mixed)[2], const digits * key, const int8_t * q) {
    for (int v = 0; v < 2; v++) {
        const int8x16_t x = vld1q_s8(q + I * LINE + v * 16), y = vld1q_s8(q + I * LINE + LINE / 2 + v * 16);
        for (int r = 0; r < QUAD; r++) {
            high[r][v] = vdotq_laneq_s32(high[r][v], x, key[r].high, I);
            mixed[r][v] = vdotq_laneq_s32(mixed[r][v], x, key[r].low, I);
        }
        for (int r = 0; r < QUAD; r++) {
            mixed[r][v] = vdotq_laneq_s32(mixed[r][v], y, key[r].high, I);
        }
    }
}

void digits_scores(const shape & a, const char * block, const char * p, int64_t n, float * s, lookahead & next) {
    const tile_digits tile(a, const_cast<char *>(p));
    const query_digits query(a, block);

    for (int64_t j = 0; j < n; j += QUAD) { // rows behind the last are computed with the others
        const int8_t * q = query.values;
        for (int64_t lane = 0; lane < BLOCK; lane += WIDE) {
            const int8_t * keys = tile.keys + 2 * j * a.ld_k;
            int32x4_t high[QUAD][2], mixed[QUAD][2];
            for (int r = 0; r < QUAD; r++) {
                high[r][0] = high[r][1] = mixed[r][0] = mixed[r][1] = vdupq_n_s32(0);
            }
            for (int64_t i = 0; i < a.ld_k; i += STEP, keys += 2 * STEP, q += STEP / 4 * LINE) {
                next.step();
                digits key[QUAD];
                for (int r = 0; r < QUAD; r++) {
                    key[r] = { vld1q_s8(keys + 2 * r * a.ld_k), vld1q_s8(keys + 2 * r * a.ld_k + STEP) };
                }
                add_four<0>(high, mixed, key, q);
                add_four<1>(high, mixed, key, q);
                add_four<2>(high, mixed, key, q);
                add_four<3>(high, mixed, key, q);
            }
            for (int r = 0; r < QUAD; r++) {
                for (int v = 0; v < 2; v++) {
                    const vf x = fma(vcvtq_f32_s32(high[r][v]), all(BASE), vcvtq_f32_s32(mixed[r][v]));
                    store(s + (j + r) * BLOCK + lane + v * LANES, mul(x, mul(load(query.unit + lane + v * LANES), all(tile.scale[j + r]))));
                }
            }
        }
    }
}

// What a tile's rows are multiplied by, times their scales: for four query rows a register, four cached rows of each
struct weights_of_tile {
    digits of[QUADS][BLOCK / LANES];
    vf unit[BLOCK / LANES]; // what BASE are worth

    weights_of_tile(const float * p, const float * scale, int64_t n_quads) {
        for (int v = 0; v < BLOCK / LANES; v++) {
            const float * at = p + v * LANES;
            vf top = all(0.0f), sum = all(0.0f);
            for (int64_t j = 0; j < n_quads * QUAD; j++) {
                const vf x = mul(load(at + j * BLOCK), all(scale[j]));
                top = max(x, top);
                sum = add(sum, x);
            }
            unit[v] = fma(all(0.0f), sum, mul(top, all(BASE / TOP))); // NaN stays NaN
            const vf f = div(all(TOP), max(top, all(1e-30f)));
            for (int64_t t = 0; t < n_quads; t++) {
                int32x4_t high[QUAD], low[QUAD];
                for (int r = 0; r < QUAD; r++) {
                    const int64_t j = t * QUAD + r;
                    const int32x4_t x = vcvtnq_s32_f32(mul(mul(load(at + j * BLOCK), all(scale[j])), f));
                    high[r] = vrshrq_n_s32(x, BITS);
                    low[r] = vsubq_s32(x, vshlq_n_s32(high[r], BITS));
                }
                of[t][v] = { side_by_side(high), side_by_side(low) };
            }
        }
    }

    static int8x16_t side_by_side(const int32x4_t * x) {
        return vreinterpretq_s8_s32(vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(x[0], x[1], 8), x[2], 16), x[3], 24));
    }
};

// WIDE columns of four cached rows for query row I of four
template <int I> PLM_INLINE void add_columns(int32x4_t (*high)[2], int32x4_t (*mixed)[2], const digits * x, const digits & w) {
    for (int v = 0; v < 2; v++) {
        high[I][v] = vdotq_laneq_s32(high[I][v], x[v].high, w.high, I);
        mixed[I][v] = vdotq_laneq_s32(mixed[I][v], x[v].low, w.high, I);
    }
    for (int v = 0; v < 2; v++) {
        mixed[I][v] = vdotq_laneq_s32(mixed[I][v], x[v].high, w.low, I);
    }
}

template <int I> PLM_INLINE void put_columns(float * out, const int32x4_t (*high)[2], const int32x4_t (*mixed)[2], vf unit, const vf * decay) {
    for (int v = 0; v < 2; v++, out += LANES) {
        const vf x = vmulq_laneq_f32(vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high[I][v], BITS), mixed[I][v])), unit, I);
        store(out, decay ? vfmaq_laneq_f32(x, load(out), *decay, I) : x);
    }
}

void digits_accumulate(const shape & a, const float * p, const float * decay, char * at, int64_t n, float * out, lookahead & next) {
    const tile_digits tile(a, at);
    const int64_t n_quads = (n + QUAD - 1) / QUAD;
    const weights_of_tile weights(p, tile.scale, n_quads);

    for (int64_t c = 0; c < a.cols; c += WIDE) {
        for (int h = 0; h < BLOCK / LANES; h++) {
            const vf kept = decay ? load(decay + h * LANES) : all(0.0f);
            int32x4_t high[LANES][2], mixed[LANES][2];
            for (int i = 0; i < LANES; i++) {
                high[i][0] = high[i][1] = mixed[i][0] = mixed[i][1] = vdupq_n_s32(0);
            }
            const int8_t * values = tile.values + c / WIDE * QUADS * LINE;
            for (int64_t t = 0; t < n_quads; t++, values += LINE) {
                if (t % 4 == 0) {
                    next.step();
                }
                const digits x[2] = { { vld1q_s8(values), vld1q_s8(values + 32) }, { vld1q_s8(values + 16), vld1q_s8(values + 48) } };
                const digits w = weights.of[t][h];
                add_columns<0>(high, mixed, x, w);
                add_columns<1>(high, mixed, x, w);
                add_columns<2>(high, mixed, x, w);
                add_columns<3>(high, mixed, x, w);
            }
            float * to = out + h * LANES * a.ld_v + c;
            const vf * keep = decay ? &kept : nullptr;
            put_columns<0>(to, high, mixed, weights.unit[h], keep);
            put_columns<1>(to + a.ld_v, high, mixed, weights.unit[h], keep);
            put_columns<2>(to + 2 * a.ld_v, high, mixed, weights.unit[h], keep);
            put_columns<3>(to + 3 * a.ld_v, high, mixed, weights.unit[h], keep);
        }
    }
}

} // namespace

const engine engine_digits = { digits_query_bytes, digits_tile_bytes, digits_pack, digits_load, digits_scores, digits_accumulate };

} // namespace mla

#endif
