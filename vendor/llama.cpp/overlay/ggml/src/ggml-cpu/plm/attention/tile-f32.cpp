// Tiles of f32 and fused multiply-add: the exact engine, for f32 caches and for CPUs whose 16-bit dot
// products are no faster.
//
// Scores: queries lie [k][BLOCK], so a cached value meets all of a block's rows in one multiplication by a
// scalar, without horizontal sums. Values: columns are the lanes, a probability is the scalar.

#include "engine.h"

#include <algorithm>

namespace mla {

static constexpr int QV = BLOCK / LANES; // vectors across a block

static size_t f32_query_bytes(const shape & a) { return a.n_k * BLOCK * sizeof(float); }
static size_t f32_tile_bytes(const shape & a) { return TILE * a.ld_k * sizeof(float); }

static void f32_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    float * out = (float *) block + lane;
    for (int64_t i = 0; i < a.n_k; i++) {
        out[i * BLOCK] = q ? q[i] * scale : 0.0f;
    }
}

static bool f32_load(const shape & a, const char * rows, size_t stride, int64_t n, char * tile) {
    float * out = (float *) tile;
    bool finite = true;
    for (int64_t j = 0; j < n; j++, out += a.ld_k) {
        row_to_f32(a.type, rows + j * stride, out, a.n_k);
        std::fill(out + a.n_k, out + a.ld_k, 0.0f);
        constexpr int SUMS = LANES == 1 ? 1 : 32 / LANES; // ld_k is a multiple of 32; one sum would wait for itself
        vf bad[SUMS];
        std::fill_n(bad, SUMS, all(0.0f)); // 0 * x is 0 for every finite x, and NaN else
        for (int64_t i = 0; i < a.ld_k; i += SUMS * LANES) {
            for (int k = 0; k < SUMS; k++) {
                bad[k] = fma(all(0.0f), load(out + i + k * LANES), bad[k]);
            }
        }
        for (int k = 1; k < SUMS; k++) {
            bad[0] = add(bad[0], bad[k]);
        }
        float lane[LANES];
        store(lane, bad[0]);
        for (int i = 0; i < LANES; i++) {
            finite &= lane[i] == 0.0f;
        }
    }
    std::fill(out, (float *) tile + pad(n, 4) * a.ld_k, 0.0f);
    return finite;
}

// NEON multiplies by a lane of a register: four values are loaded at once, where others load each into all lanes.

#if defined(PLM_NEON)

template <int I, int ROWS> PLM_INLINE void add_scores(vf (*acc)[QV], const vf * x, const float * q) {
    for (int v = 0; v < QV; v++) {
        const vf y = load(q + I * BLOCK + v * LANES);
        for (int r = 0; r < ROWS; r++) {
            acc[r][v] = vfmaq_laneq_f32(acc[r][v], y, x[r], I);
        }
    }
}

// how many of n_k values were done
template <int ROWS> PLM_INLINE int64_t scores_by_fours(vf (*acc)[QV], const float * const * row, const float * q, int64_t n_k, lookahead & next) {
    int64_t i = 0;
    for (; i + 4 <= n_k; i += 4, q += 4 * BLOCK) {
        next.step();
        vf x[ROWS];
        for (int r = 0; r < ROWS; r++) {
            x[r] = load(row[r] + i);
        }
        add_scores<0, ROWS>(acc, x, q);
        add_scores<1, ROWS>(acc, x, q);
        add_scores<2, ROWS>(acc, x, q);
        add_scores<3, ROWS>(acc, x, q);
    }
    return i;
}

// acc[i] += p[i] * row for four heads
template <int VECTORS> PLM_INLINE void add_row(vf (*acc)[VECTORS], const float * p, const float * row) {
    const vf w = load(p);
    for (int v = 0; v < VECTORS; v++) {
        const vf x = load(row + v * LANES);
        acc[0][v] = vfmaq_laneq_f32(acc[0][v], x, w, 0);
        acc[1][v] = vfmaq_laneq_f32(acc[1][v], x, w, 1);
        acc[2][v] = vfmaq_laneq_f32(acc[2][v], x, w, 2);
        acc[3][v] = vfmaq_laneq_f32(acc[3][v], x, w, 3);
    }
}

template <int VECTORS> PLM_INLINE int64_t rows_by_fours(vf (*acc)[VECTORS], const float * p, const float * row, int64_t ld, int64_t n, lookahead & next) {
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        next.step();
        for (int k = 0; k < 4; k++, p += BLOCK, row += ld) {
            add_row<VECTORS>(acc, p, row);
        }
    }
    return j;
}

#else

template <int ROWS> PLM_INLINE int64_t scores_by_fours(vf (*)[QV], const float * const *, const float *, int64_t, lookahead &) { return 0; }
template <int VECTORS> PLM_INLINE int64_t rows_by_fours(vf (*)[VECTORS], const float *, const float *, int64_t, int64_t, lookahead &) { return 0; }

#endif

static void f32_scores(const shape & a, const char * block, const char * tile, int64_t n, float * s, lookahead & next) {
    constexpr int ROWS = LANES == 16 ? 8 : 4;
    for (int64_t j = 0; j < n; j += ROWS) {
        const float * q = (const float *) block;
        const float * row[ROWS];
        vf acc[ROWS][QV];
        for (int r = 0; r < ROWS; r++) {
            row[r] = (const float *) tile + std::min(j + r, n - 1) * a.ld_k;
            for (int v = 0; v < QV; v++) {
                acc[r][v] = all(0.0f);
            }
        }
        int64_t i = scores_by_fours<ROWS>(acc, row, q, a.n_k, next);
        for (q += i * BLOCK; i < a.n_k; i++, q += BLOCK) {
            next.step();
            vf x[QV];
            for (int v = 0; v < QV; v++) {
                x[v] = load(q + v * LANES);
            }
            for (int r = 0; r < ROWS; r++) {
                for (int v = 0; v < QV; v++) {
                    acc[r][v] = fma(all(row[r][i]), x[v], acc[r][v]);
                }
            }
        }
        for (int r = 0; r < ROWS; r++) {
            for (int v = 0; v < QV; v++) {
                store(s + (j + r) * BLOCK + v * LANES, acc[r][v]);
            }
        }
    }
}

static void f32_accumulate(const shape & a, const float * p, const float * decay, char * tile, int64_t n, float * out, lookahead & next) {
    constexpr int HEADS = LANES == 16 ? 8 : 4;
    constexpr int VECTORS = LANES >= 8 ? 2 : 4;
    // cols and ld_k are multiples of 32, and a row of V may run on into the rest of the key
    static_assert(32 % (VECTORS * LANES) == 0 || LANES == 1, "columns");
    for (int64_t c = 0; c < a.cols; c += VECTORS * LANES) {
        for (int h = 0; h < BLOCK; h += HEADS) {
            vf acc[HEADS][VECTORS];
            for (int i = 0; i < HEADS; i++) {
                for (int v = 0; v < VECTORS; v++) {
                    acc[i][v] = decay ? mul(load(out + (h + i) * a.ld_v + c + v * LANES), all(decay[h + i])) : all(0.0f);
                }
            }
            const float * row = (const float *) tile + c;
            int64_t j = rows_by_fours<VECTORS>(acc, p + h, row, a.ld_k, n, next);
            for (row += j * a.ld_k; j < n; j++, row += a.ld_k) {
                next.step();
                vf x[VECTORS];
                for (int v = 0; v < VECTORS; v++) {
                    x[v] = load(row + v * LANES);
                }
                for (int i = 0; i < HEADS; i++) {
                    for (int v = 0; v < VECTORS; v++) {
                        acc[i][v] = fma(all(p[j * BLOCK + h + i]), x[v], acc[i][v]);
                    }
                }
            }
            for (int i = 0; i < HEADS; i++) {
                for (int v = 0; v < VECTORS; v++) {
                    store(out + (h + i) * a.ld_v + c + v * LANES, acc[i][v]);
                }
            }
        }
    }
}

const engine engine_f32 = { f32_query_bytes, f32_tile_bytes, f32_pack, f32_load, f32_scores, f32_accumulate };

} // namespace mla
