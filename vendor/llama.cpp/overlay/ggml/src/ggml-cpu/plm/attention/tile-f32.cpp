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
        vf bad = all(0.0f); // 0 * x is 0 for every finite x, and NaN else
        for (int64_t i = 0; i < a.ld_k; i += LANES) {
            bad = fma(all(0.0f), load(out + i), bad);
        }
        float lane[LANES];
        store(lane, bad);
        for (int i = 0; i < LANES; i++) {
            finite &= lane[i] == 0.0f;
        }
    }
    std::fill(out, (float *) tile + pad(n, 4) * a.ld_k, 0.0f);
    return finite;
}

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
        for (int64_t i = 0; i < a.n_k; i++, q += BLOCK) {
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
            for (int64_t j = 0; j < n; j++, row += a.ld_k) {
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
