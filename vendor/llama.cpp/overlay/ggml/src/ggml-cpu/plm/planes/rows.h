#pragma once

// Sixteen rows times the tokens of a small batch: all upper bits, and the lower bits of rows that may come out above zero.
//
// A code of four bits is 4 u + l. Of the upper bits alone a row's value is
//
//   c = sum over blocks of d dx sum over sub-blocks j of s_j (A sum u x + B sum x)  -  dmin dx sum m_j sum x
//
// where A u + B is the mean code that has upper bits u. What it is off by is a sum of many small errors, one a value, of
// variance V, so it is about normal, with
//
//   sigma^2 = V sum over blocks of (d dx)^2 sum over j of s_j^2 sum x^2
//
// A row with c < -margin sigma keeps c, which is below zero. Of the others the lower bits are read, and the result is that
// of the product of q4_K with q8_K: the same integers, and floats in the same order.

#include "input.h"
#include "lanes.h"
#include "matrix.h"

#include <cmath>

namespace planes {
namespace {

// The line through the mean codes, and what is left, of normal weights in q4_K (docs/lab/planes.md).
constexpr float CODE_A = 3.845f, CODE_B = 1.72f, CODE_V = 1.26f;

// a * b + c, rounded once where sixteen.h's fma is
PLM_INLINE float fused(float a, float b, float c) {
#if defined(PLM_AVX512) || defined(PLM_AVX2) || defined(PLM_NEON)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

// What is kept of sixteen rows until their lower bits are read, of one block and all tokens.
struct kept_block {
    uint8_t scale[16][8]; // by rows
};

// and of one block and one token
struct kept_sums {
    int32_t upper[16]; // sum of s_j sum u x
    float scale[16];   // d dx
};

// of one token
struct kept_token {
    float less[16]; // what the minima take
    uint32_t rows;  // bit r: the lower bits of row r are read
};

// The scratch memory of one group.
struct kept {
    kept_block * blocks;
    kept_sums * sums; // [token][block]
    kept_token * of;

    static size_t bytes(int64_t n_blocks, int64_t n_tokens) {
        return n_blocks * sizeof(kept_block) + n_tokens * n_blocks * sizeof(kept_sums) + n_tokens * sizeof(kept_token);
    }
    kept(void * memory, int64_t n_blocks, int64_t n_tokens) {
        blocks = (kept_block *) memory;
        sums = (kept_sums *) (blocks + n_blocks);
        of = (kept_token *) (sums + n_tokens * n_blocks);
    }
};

struct sums_of_token {
    f32x16 value, less, variance;
};

// bit r: lane r of c is not surely below zero
PLM_INLINE uint32_t may_be_positive(f32x16 c, f32x16 limit) {
    float value[16], square[16];
    store(value, c);
    store(square, limit);
    uint32_t rows = 0;
    for (int r = 0; r < 16; r++) { // also what is not finite
        rows |= uint32_t(!(value[r] < 0 && value[r] * value[r] > square[r])) << r;
    }
    return rows;
}

// Rows of a group whose lower bits any of the tokens needs.
struct low_rows {
    const uint8_t * rows[PLM_PLANES_ROWS];
    int n = 0;

    low_rows() = default;
    low_rows(const matrix & w, int64_t group, const kept & k, int64_t n_tokens) {
        uint32_t read = 0;
        for (int64_t t = 0; t < n_tokens; t++) {
            read |= k.of[t].rows;
        }
        for (; read; read &= read - 1) {
            rows[n++] = w.low(group * PLM_PLANES_ROWS + __builtin_ctz(read));
        }
    }
};

// The upper bits of a group of rows: y[t * stride + r] becomes c, and `k` what the lower bits are added to. Meanwhile `soon` is
// asked for.
template <int MAX_TOKENS>
PLM_INLINE void upper_of_group(const matrix & w, int64_t group, const input * x, int64_t n_tokens, float margin, float * y, int64_t stride, const kept & k, const low_rows & soon) {
    sums_of_token total[MAX_TOKENS] = {};
    const plm_planes_block * block = w.blocks(group);
    for (int64_t b = 0; b < w.n_blocks; b++, block++) {
        for (int i = 0; i < soon.n && 2 * b < w.n_blocks; i++) { // early enough for the last ones to come
            simd::prefetch_near(soon.rows[i] + 2 * b * PLM_PLANES_LOW);
            simd::prefetch_near(soon.rows[i] + (2 * b + 1) * PLM_PLANES_LOW);
        }
        alignas(32) uint8_t scale[8][16], min[8][16];
        unpack_six_bits(block->scale_low, block->scale_high, scale);
        unpack_six_bits(block->min_low, block->min_high, min);
        transpose(scale, k.blocks[b].scale);
        const f32x16 d = load_f16(block->d), dmin = load_f16(block->dmin);
        for (int64_t t = 0; t < n_tokens; t++) {
            const input & xb = x[t * w.n_blocks + b];
            i32x16 upper = no_sums(), offset = no_sums(), less = no_sums(), variance = no_sums();
            for (int j = 0; j < 8; j++) {
                if (t == 0) { // the next group, bit by bit
                    const char * later = (const char *) (block + w.n_blocks) + sizeof(*block) / 8 * j;
                    simd::prefetch(later);
                    simd::prefetch(later + 64);
                    simd::prefetch(later + 128);
                }
                upper = add_upper(upper, block->high[j], xb.q + 32 * j, scale[j]);
            }
            for (int j = 0; j < 8; j += 2) {
                offset = add_pairs(offset, scale[j], scale[j + 1], xb.sums + j);
                less = add_pairs(less, min[j], min[j + 1], xb.sums + j);
                variance = add_squares(variance, scale[j], scale[j + 1], xb.squares + j);
            }
            kept_sums & to = k.sums[t * w.n_blocks + b];
            const f32x16 dx = splat(xb.d), ddx = d * dx;
            store(to.upper, upper);
            store(to.scale, ddx);
            sums_of_token & s = total[t];
            s.value = fma(fma(floats(upper), splat(CODE_A), floats(offset) * splat(CODE_B)), ddx, s.value);
            s.less = fma(floats(less), dmin * dx, s.less);
            s.variance = fma(floats(variance), ddx * ddx, s.variance);
        }
    }
    for (int64_t t = 0; t < n_tokens; t++) {
        const f32x16 c = fma(total[t].less, splat(-1), total[t].value);
        store(y + t * stride, c);
        store(k.of[t].less, total[t].less);
        k.of[t].rows = may_be_positive(c, total[t].variance * splat(16 * CODE_V * margin * margin));
    }
}

// The lower bits of the rows that need them; y[t * stride + r] becomes the product.
PLM_INLINE void lower_of_group(const matrix & w, int64_t group, const input * x, int64_t n_tokens, float * y, int64_t stride, const kept & k) {
    for (int64_t t = 0; t < n_tokens; t++) {
        for (uint32_t rows = k.of[t].rows; rows; rows &= rows - 1) {
            const int r = __builtin_ctz(rows);
            const uint8_t * low = w.low(group * PLM_PLANES_ROWS + r);
            float sum = 0;
            for (int64_t b = 0; b < w.n_blocks; b++) {
                const kept_sums & of = k.sums[t * w.n_blocks + b];
                const int32_t all = 4 * of.upper[r] + lower(low + b * PLM_PLANES_LOW, x[t * w.n_blocks + b].fields, k.blocks[b].scale[r]);
                sum = fused(float(all), of.scale[r], sum);
            }
            y[t * stride + r] = sum - k.of[t].less[r];
        }
    }
}

} // namespace
} // namespace planes
