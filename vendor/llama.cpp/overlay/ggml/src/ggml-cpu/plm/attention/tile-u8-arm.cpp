// The 8-bit engine of tile-u8.cpp on ARM CPUs with dot products of bytes: the same rounding of queries, probabilities and
// scales. udot makes 16 products where an f32 multiply-add makes 4.
//
// Keys and queries are both signed. Values are moved up by 128, since weights need all of 8 bits and take no sign; sums over
// rows begin with less by what that adds.

#include "engine.h"

#if defined(PLM_MLA_U8) && defined(PLM_NEON)

#include <algorithm>

namespace mla {

namespace {

constexpr int64_t QK = 32;  // values of a block
constexpr int64_t QUAD = 4; // rows whose products one instruction sums
constexpr int64_t QUADS = TILE / QUAD;
constexpr int LANE_VECTORS = BLOCK / 4; // of four query rows each

constexpr float P_TOP = 32767.0f, D_TOP = 255.0f;

// Integers begin with the bits of 1.5 * 2^23: below 2^22 a float is then one subtraction away, where a conversion takes one of
// two pipes for two cycles.
constexpr float BEGIN = 12582912.0f;
constexpr int32_t BEGIN_BITS = 0x4b400000;

PLM_INLINE vf to_float(int32x4_t x) { return sub(vreinterpretq_f32_s32(x), all(BEGIN)); }

int64_t n_blocks(const shape & a) { return a.ld_k / QK; }

struct tile_u8 {
    int8_t * keys;    // [TILE][ld_k]
    uint8_t * values; // [QUADS][cols][QUAD], plus 128
    float * scale;    // [QUADS][n_blocks][QUAD]
    int16_t * weight; // [QUADS][n_blocks][QUAD], D of a quad's rows 0, 2, 1, 3
    float * unit;     // [n_blocks], u / (the largest p)

    tile_u8(const shape & a, char * p) {
        keys = (int8_t *) p;
        values = (uint8_t *) (keys + TILE * a.ld_k);
        scale = (float *) (values + TILE * a.cols);
        weight = (int16_t *) (scale + TILE * n_blocks(a));
        unit = (float *) (weight + TILE * n_blocks(a));
    }

    static size_t bytes(const shape & a) {
        return TILE * (a.ld_k + a.cols) + TILE * n_blocks(a) * (sizeof(float) + sizeof(int16_t)) + n_blocks(a) * sizeof(float);
    }
};

// a packed block of queries
struct query_u8 {
    int8_t * values; // [ld_k / 4][BLOCK][4]
    float * unit;    // [n_blocks][BLOCK]

    query_u8(const shape & a, const char * p) {
        values = (int8_t *) const_cast<char *>(p);
        unit = (float *) (values + a.ld_k * BLOCK);
    }

    static size_t bytes(const shape & a) { return a.ld_k * BLOCK + n_blocks(a) * BLOCK * sizeof(float); }
};

size_t u8_query_bytes(const shape & a) { return query_u8::bytes(a); }
size_t u8_tile_bytes(const shape & a) { return tile_u8::bytes(a); }

void u8_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    const query_u8 out(a, block);
    for (int64_t b = 0; b < n_blocks(a); b++) {
        int32_t values[QK] = {};
        float unit = 0.0f;
        if (q) {
            vf top = all(0.0f), zero = all(0.0f); // NaN where one is not finite
            for (int64_t i = 0; i < QK; i += LANES) {
                const vf x = load(q + b * QK + i);
                top = max(vabsq_f32(x), top);
                zero = fma(all(0.0f), x, zero);
            }
            const float most = vmaxvq_f32(top);
            if (!(vaddvq_f32(zero) == 0.0f)) {
                unit = NAN; // every score of this row will be NaN
            } else if (most > 1e-30f) {
                const vf f = all(127.0f / most);
                for (int64_t i = 0; i < QK; i += LANES) {
                    vst1q_s32(values + i, vcvtnq_s32_f32(mul(load(q + b * QK + i), f)));
                }
                unit = most / 127.0f * scale;
            }
        }
        for (int64_t i = 0; i < QK; i++) {
            out.values[(b * QK + i / 4 * 4) * BLOCK + lane * 4 + i % 4] = int8_t(values[i]);
        }
        out.unit[b * BLOCK + lane] = unit;
    }
}

template <ggml_type TYPE> struct block_bytes {
    static constexpr int64_t value = TYPE == GGML_TYPE_Q8_0 ? 34 : 18;
};

// the quants of a block
template <ggml_type TYPE> PLM_INLINE int8x16x2_t quants(const char * block) {
    if (TYPE == GGML_TYPE_Q8_0) {
        return { { vld1q_s8((const int8_t *) block + 2), vld1q_s8((const int8_t *) block + 18) } };
    }
    const uint8x16_t x = vld1q_u8((const uint8_t *) block + 2);
    const int8x16_t eight = vdupq_n_s8(8);
    return { { vsubq_s8(vreinterpretq_s8_u8(vandq_u8(x, vdupq_n_u8(15))), eight), vsubq_s8(vreinterpretq_s8_u8(vshrq_n_u8(x, 4)), eight) } };
}

// 16 columns of four rows: the rows' bytes side by side
PLM_INLINE void put_values(uint8_t * to, const int8x16_t * row) {
    const int8x16_t up = vdupq_n_s8(-128);
    int8x16_t x[QUAD];
    for (int r = 0; r < QUAD; r++) {
        x[r] = veorq_s8(row[r], up);
    }
    const int16x8_t ab[2] = { vreinterpretq_s16_s8(vzip1q_s8(x[0], x[1])), vreinterpretq_s16_s8(vzip2q_s8(x[0], x[1])) };
    const int16x8_t cd[2] = { vreinterpretq_s16_s8(vzip1q_s8(x[2], x[3])), vreinterpretq_s16_s8(vzip2q_s8(x[2], x[3])) };
    for (int i = 0; i < 2; i++) {
        vst1q_u8(to + 32 * i, vreinterpretq_u8_s16(vzip1q_s16(ab[i], cd[i])));
        vst1q_u8(to + 32 * i + 16, vreinterpretq_u8_s16(vzip2q_s16(ab[i], cd[i])));
    }
}

// four rows of a block: their quants, negated where a scale is negative; returns the scales' bits
template <ggml_type TYPE> PLM_INLINE uint16x4_t load_block(const char * const * row, int8_t * key, int64_t ld_k, uint8_t * value) {
    uint16x4_t d = vdup_n_u16(0);
    d = vld1_lane_u16((const uint16_t *) row[0], d, 0);
    d = vld1_lane_u16((const uint16_t *) row[1], d, 1);
    d = vld1_lane_u16((const uint16_t *) row[2], d, 2);
    d = vld1_lane_u16((const uint16_t *) row[3], d, 3);
    int8x16_t x[2][QUAD];
    for (int r = 0; r < QUAD; r++) {
        const int8x16x2_t both = quants<TYPE>(row[r]);
        x[0][r] = both.val[0];
        x[1][r] = both.val[1];
    }
    if (vmaxv_u16(d) & 0x8000) {
        uint16_t bits[QUAD];
        vst1_u16(bits, d);
        for (int r = 0; r < QUAD; r++) {
            const int8x16_t sign = vdupq_n_s8(bits[r] & 0x8000 ? -1 : 1);
            x[0][r] = vmulq_s8(x[0][r], sign);
            x[1][r] = vmulq_s8(x[1][r], sign);
        }
    }
    for (int r = 0; r < QUAD; r++) {
        vst1q_s8(key + r * ld_k, x[0][r]);
        vst1q_s8(key + r * ld_k + 16, x[1][r]);
    }
    if (value) {
        put_values(value, x[0]);
        put_values(value + 16 * QUAD, x[1]);
    }
    return d;
}

template <ggml_type TYPE> bool load_tile(const shape & a, const char * rows, size_t stride, int64_t n, const tile_u8 & tile) {
    const int64_t blocks = n_blocks(a), n_quads = (n + QUAD - 1) / QUAD, ld_k = a.ld_k, cols = a.cols;
    uint16x4_t worst = vdup_n_u16(0);
    for (int64_t t = 0; t < n_quads; t++) {
        const char * row[QUAD];
        for (int64_t r = 0; r < QUAD; r++) {
            row[r] = rows + std::min(t * QUAD + r, n - 1) * stride;
        }
        int8_t * key = tile.keys + t * QUAD * ld_k;
        uint8_t * value = tile.values + t * cols * QUAD;
        for (int64_t b = 0; b < blocks; b++, key += QK, value += QK * QUAD) {
            const uint16x4_t d = vand_u16(load_block<TYPE>(row, key, ld_k, b * QK < cols ? value : nullptr), vdup_n_u16(0x7fff));
            worst = vmax_u16(worst, d);
            store(tile.scale + (t * blocks + b) * QUAD, vcvt_f32_f16(vreinterpret_f16_u16(d)));
            for (int r = 0; r < QUAD; r++) {
                row[r] += block_bytes<TYPE>::value;
            }
        }
    }
    if (vmaxv_u16(worst) >= 0x7c00) { // an infinity or a NaN
        return false;
    }
    for (int64_t b = 0; b < blocks; b++) {
        vf top = all(0.0f);
        for (int64_t t = 0; t < n_quads; t++) {
            top = max(load(tile.scale + (t * blocks + b) * QUAD), top);
        }
        const float most = vmaxvq_f32(top);
        tile.unit[b] = most * (32768.0f / (P_TOP * D_TOP));
        const vf f = all(D_TOP / std::max(most, 1e-30f));
        for (int64_t t = 0; t < n_quads; t++) {
            const int16x4_t x = vmovn_s32(vcvtnq_s32_f32(mul(load(tile.scale + (t * blocks + b) * QUAD), f)));
            const int32x2_t even = vreinterpret_s32_s16(vuzp1_s16(x, x)), odd = vreinterpret_s32_s16(vuzp2_s16(x, x));
            vst1_s16(tile.weight + (t * blocks + b) * QUAD, vreinterpret_s16_s32(vzip1_s32(even, odd)));
        }
    }
    return true;
}

bool u8_load(const shape & a, const char * rows, size_t stride, int64_t n, char * p) {
    return a.type == GGML_TYPE_Q8_0 ? load_tile<GGML_TYPE_Q8_0>(a, rows, stride, n, tile_u8(a, p))
                                    : load_tile<GGML_TYPE_Q4_0>(a, rows, stride, n, tile_u8(a, p));
}

// sums of 4 cached rows by 8 query rows, of 4 values of each
template <int I> PLM_INLINE void add_four(int32x4_t (*sum)[2], const int8x16_t * key, const int8_t * q) {
    for (int v = 0; v < 2; v++) {
        const int8x16_t x = vld1q_s8(q + I * BLOCK * 4 + v * 16);
        for (int r = 0; r < QUAD; r++) {
            sum[r][v] = vdotq_laneq_s32(sum[r][v], x, key[r], I);
        }
    }
}

template <int R> PLM_INLINE void add_row(vf * sum, const int32x4_t * products, const vf * unit, vf scale) {
    for (int v = 0; v < 2; v++) {
        sum[v] = fma(to_float(products[v]), vmulq_laneq_f32(unit[v], scale, R), sum[v]);
    }
}

void u8_scores(const shape & a, const char * block, const char * p, int64_t n, float * s, lookahead & next) {
    constexpr int WIDE = 8; // query rows whose scores are in registers together
    const tile_u8 tile(a, const_cast<char *>(p));
    const query_u8 query(a, block);
    const int64_t blocks = n_blocks(a);

    for (int64_t j = 0; j < n; j += QUAD) { // rows behind the last are computed with the others
        for (int64_t lane = 0; lane < BLOCK; lane += WIDE) {
            const int8_t *q = query.values + lane * 4, *keys = tile.keys + j * a.ld_k;
            const float *scale = tile.scale + j * blocks, *unit = query.unit + lane;
            vf sum[QUAD][2];
            for (auto & x : sum) {
                x[0] = x[1] = all(0.0f);
            }
            for (int64_t b = 0; b < blocks; b++, keys += QK, scale += QUAD, unit += BLOCK) {
                int32x4_t products[QUAD][2];
                for (auto & x : products) {
                    x[0] = x[1] = vdupq_n_s32(BEGIN_BITS);
                }
                next.step();
                for (int i = 0; i < QK; i += 16, q += 16 * BLOCK) {
                    int8x16_t key[QUAD];
                    for (int r = 0; r < QUAD; r++) {
                        key[r] = vld1q_s8(keys + r * a.ld_k + i);
                    }
                    add_four<0>(products, key, q);
                    add_four<1>(products, key, q);
                    add_four<2>(products, key, q);
                    add_four<3>(products, key, q);
                }
                const vf of_rows = load(scale), units[2] = { load(unit), load(unit + LANES) };
                add_row<0>(sum[0], products[0], units, of_rows);
                add_row<1>(sum[1], products[1], units, of_rows);
                add_row<2>(sum[2], products[2], units, of_rows);
                add_row<3>(sum[3], products[3], units, of_rows);
            }
            for (int r = 0; r < QUAD; r++) {
                store(s + (j + r) * BLOCK + lane, sum[r][0]);
                store(s + (j + r) * BLOCK + lane + LANES, sum[r][1]);
            }
        }
    }
}

// P of a tile's rows, two words of each lane: for the rows 0 and 2 of a quad, and for 1 and 3; unit[lane] is what one is worth
struct rounded {
    int16x8_t even[QUADS][LANE_VECTORS], odd[QUADS][LANE_VECTORS];
    vf unit[LANE_VECTORS];

    rounded(const float * p, int64_t n_quads) {
        for (int v = 0; v < LANE_VECTORS; v++) {
            const float * of = p + v * LANES;
            vf top = all(0.0f), sum = all(0.0f);
            for (int64_t j = 0; j < n_quads * QUAD; j++) {
                const vf x = load(of + j * BLOCK);
                top = max(x, top);
                sum = add(sum, x);
            }
            unit[v] = fma(all(0.0f), sum, top); // NaN stays NaN
            const vf f = div(all(P_TOP), max(top, all(1e-30f)));
            for (int64_t t = 0; t < n_quads; t++, of += QUAD * BLOCK) {
                int32x4_t x[QUAD];
                for (int r = 0; r < QUAD; r++) {
                    x[r] = vcvtnq_s32_f32(mul(load(of + r * BLOCK), f));
                }
                even[t][v] = vreinterpretq_s16_s32(vsliq_n_s32(x[0], x[2], 16));
                odd[t][v] = vreinterpretq_s16_s32(vsliq_n_s32(x[1], x[3], 16));
            }
        }
    }
};

// the weights of a tile's rows for one block of columns
struct weights_of_block {
    uint8x16_t of[QUADS][LANE_VECTORS]; // four rows of each lane
    int32_t start[BLOCK];               // what integers begin with, less 128 times their sum

    void make(const rounded & p, const int16_t * d, int64_t stride, int64_t n_quads) {
        uint32x4_t sum[LANE_VECTORS];
        std::fill_n(sum, LANE_VECTORS, vdupq_n_u32(0));
        for (int64_t t = 0; t < n_quads; t++, d += stride) {
            int32_t two[2];
            memcpy(two, d, sizeof(two));
            const int16x8_t even = vreinterpretq_s16_s32(vdupq_n_s32(two[0])), odd = vreinterpretq_s16_s32(vdupq_n_s32(two[1]));
            for (int v = 0; v < LANE_VECTORS; v++) {
                const int16x8_t x = vqrdmulhq_s16(p.even[t][v], even), y = vqrdmulhq_s16(p.odd[t][v], odd);
                of[t][v] = vreinterpretq_u8_s16(vsliq_n_s16(x, y, 8));
                sum[v] = vdotq_u32(sum[v], of[t][v], vdupq_n_u8(1));
            }
        }
        for (int v = 0; v < LANE_VECTORS; v++) {
            vst1q_s32(start + v * LANES, vsubq_s32(vdupq_n_s32(BEGIN_BITS), vreinterpretq_s32_u32(vshlq_n_u32(sum[v], 7))));
        }
    }
};

// 16 columns of four rows for one of four lanes
template <int I> PLM_INLINE void add_columns(uint32x4_t * sum, const uint8x16_t * x, uint8x16_t w) {
    for (int v = 0; v < 4; v++) {
        sum[v] = vdotq_laneq_u32(sum[v], x[v], w, I);
    }
}

template <int I> PLM_INLINE void put_columns(float * out, const uint32x4_t * sum, vf unit, const vf * decay) {
    for (int v = 0; v < 4; v++, out += LANES) {
        const vf x = vmulq_laneq_f32(to_float(vreinterpretq_s32_u32(sum[v])), unit, I);
        store(out, decay ? vfmaq_laneq_f32(x, load(out), *decay, I) : x);
    }
}

void u8_accumulate(const shape & a, const float * p, const float * decay, char * at, int64_t n, float * out, lookahead & next) {
    const tile_u8 tile(a, at);
    const int64_t blocks = n_blocks(a), n_quads = (n + QUAD - 1) / QUAD, cols = a.cols;
    const rounded probabilities(p, n_quads);
    weights_of_block weights;

    for (int64_t c = 0; c < cols; c += QK) {
        const int64_t b = c / QK;
        weights.make(probabilities, tile.weight + b * QUAD, blocks * QUAD, n_quads);
        for (int h = 0; h < LANE_VECTORS; h++) {
            const vf unit = mul(probabilities.unit[h], all(tile.unit[b]));
            const vf kept = decay ? load(decay + h * LANES) : all(0.0f);
            for (int64_t half = c; half < c + QK; half += 16) {
                uint32x4_t sum[4][4];
                for (int i = 0; i < 4; i++) {
                    std::fill_n(sum[i], 4, vdupq_n_u32(uint32_t(weights.start[h * 4 + i])));
                }
                const uint8_t * values = tile.values + half * QUAD;
                for (int64_t t = 0; t < n_quads; t++, values += cols * QUAD) {
                    if (t % 2 == 0) {
                        next.step();
                    }
                    const uint8x16_t x[4] = { vld1q_u8(values), vld1q_u8(values + 16), vld1q_u8(values + 32), vld1q_u8(values + 48) };
                    const uint8x16_t w = weights.of[t][h];
                    add_columns<0>(sum[0], x, w);
                    add_columns<1>(sum[1], x, w);
                    add_columns<2>(sum[2], x, w);
                    add_columns<3>(sum[3], x, w);
                }
                float * to = out + h * 4 * a.ld_v + half;
                const vf * keep = decay ? &kept : nullptr;
                put_columns<0>(to, sum[0], unit, keep);
                put_columns<1>(to + a.ld_v, sum[1], unit, keep);
                put_columns<2>(to + 2 * a.ld_v, sum[2], unit, keep);
                put_columns<3>(to + 3 * a.ld_v, sum[3], unit, keep);
            }
        }
    }
}

} // namespace

const engine engine_u8 = { u8_query_bytes, u8_tile_bytes, u8_pack, u8_load, u8_scores, u8_accumulate };

} // namespace mla

#endif
