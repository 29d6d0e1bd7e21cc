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
#include "lower.h"
#include "matrix.h"
#include "scales.h"
#include "../alone.h"

#include <algorithm>
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

// What is kept of a block and a token until a row's lower bits are read.
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
    uint8_t * scales; // KEPT bytes a block
    kept_sums * sums; // [token][block]
    kept_token * of;

    static size_t bytes(int64_t n_blocks, int64_t n_tokens) {
        return n_blocks * KEPT + n_tokens * n_blocks * sizeof(kept_sums) + n_tokens * sizeof(kept_token);
    }
    kept(void * memory, int64_t n_blocks, int64_t n_tokens) {
        scales = (uint8_t *) memory;
        sums = (kept_sums *) (scales + n_blocks * KEPT);
        of = (kept_token *) (sums + n_tokens * n_blocks);
    }
};

struct sums_of_token {
    f32x16 value, less, variance;
};

// bit r: lane r of c is not surely below zero
PLM_INLINE uint32_t may_be_positive(f32x16 c, f32x16 limit) {
#if defined(PLM_AVX512)
    return uint16_t(~(_mm512_cmp_ps_mask(c.v, _mm512_setzero_ps(), _CMP_LT_OQ) & _mm512_cmp_ps_mask(_mm512_mul_ps(c.v, c.v), limit.v, _CMP_GT_OQ)));
#else
    float value[16], square[16];
    store(value, c);
    store(square, limit);
    uint32_t rows = 0;
    for (int r = 0; r < 16; r++) { // also what is not finite
        rows |= uint32_t(!(value[r] < 0 && value[r] * value[r] > square[r])) << r;
    }
    return rows;
#endif
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
        const block_scales scales(*block);
        scales.keep(k.scales + b * KEPT);
        const f32x16 d = load_f16(block->d), dmin = load_f16(block->dmin);
        for (int64_t t = 0; t < n_tokens; t++) {
            const input & xb = x[t * w.n_blocks + b];
            const block_sums sums = scales.sums(block->high, xb, [&](int j) PLM_LAMBDA {
                const char * later = (const char *) (block + w.n_blocks) + sizeof(*block) / 8 * j; // the next group, bit by bit
                for (int i = 0; i < 2 + j % 2 && t == 0; i++) {
                    simd::prefetch(later + 64 * i);
                }
            });
            kept_sums & to = k.sums[t * w.n_blocks + b];
            const f32x16 dx = splat(xb.d), ddx = d * dx;
            store(to.upper, sums.upper);
            store(to.scale, ddx);
            sums_of_token & s = total[t];
            s.value = fma(fma(floats(sums.upper), splat(CODE_A), floats(sums.offset) * splat(CODE_B)), ddx, s.value);
            s.less = fma(floats(sums.less), dmin * dx, s.less);
            s.variance = fma(floats(sums.variance), ddx * ddx, s.variance);
        }
    }
    for (int64_t t = 0; t < n_tokens; t++) {
        const f32x16 c = fma(total[t].less, splat(-1), total[t].value);
        store(y + t * stride, c);
        store(k.of[t].less, total[t].less);
        k.of[t].rows = may_be_positive(c, total[t].variance * splat(16 * CODE_V * margin * margin));
    }
}

// A row whose lower bits are read for a token, until then.
struct pending {
    const uint8_t * low;
    const input * x;
    const kept * of;
    int64_t group, token;
    int row;
    float * y;
};

// Rows that wait for their lower bits: these come from memory meanwhile. Four at a time become products.
class queue {
    static constexpr int MOST = 4 + PLM_PLANES_ROWS * PLM_ALONE;

    pending rows[MOST];
    int n = 0;
    const int64_t n_blocks;

  public:
    explicit queue(int64_t n_blocks) : n_blocks(n_blocks) {}

    void add(const matrix & w, int64_t group, const input * x, int64_t n_tokens, const kept & k, float * y, int64_t stride) {
        for (int64_t t = 0; t < n_tokens; t++) {
            for (uint32_t left = k.of[t].rows; left; left &= left - 1) {
                const int r = __builtin_ctz(left);
                rows[n++] = { w.low(group * PLM_PLANES_ROWS + r), x + t * n_blocks, &k, group, t, r, y + t * stride + r };
            }
        }
    }

    // All but up to three; these too where their group lies before `oldest`.
    void compute(int64_t oldest) {
        int done = 0;
        for (; n - done >= 4; done += 4) {
            four(rows + done);
        }
        if (done > 0) {
            std::copy(rows + done, rows + n, rows);
            n -= done;
        }
        if (n > 0 && rows[0].group < oldest) {
            std::fill(rows + n, rows + 4, rows[0]); // the same once more, to the same place
            four(rows);
            n = 0;
        }
    }

  private:
    void four(const pending * p) const {
        float sum[4] = {};
        for (int64_t b = 0; b < n_blocks; b++) {
            low_block row[4];
            for (int i = 0; i < 4; i++) {
                row[i] = { p[i].low + b * PLM_PLANES_LOW, p[i].x + b, p[i].of->scales + b * KEPT, p[i].row };
            }
            int32_t low[4];
            lower_sums(row, low);
            for (int i = 0; i < 4; i++) {
                const kept_sums & of = p[i].of->sums[p[i].token * n_blocks + b];
                sum[i] = fused(float(4 * of.upper[p[i].row] + low[i]), of.scale[p[i].row], sum[i]);
            }
        }
        for (int i = 0; i < 4; i++) {
            *p[i].y = sum[i] - p[i].of->of[p[i].token].less[p[i].row];
        }
    }
};

} // namespace
} // namespace planes
