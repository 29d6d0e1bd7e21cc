#pragma once

// The ways through one head: a thread's columns of the products of a group of tokens.

#include "cost.h"
#include "select.h"

#include <algorithm>

namespace sparse_t {
namespace {

// one head of one batch, tokens [t0, t0 + n)
struct job {
    const plan & p;
    const char * w;
    const char * x;
    char * y;
    const char * following; // the weights of the thread's next head, or null
    int64_t n;

    static const char * weights(const plan & p, int64_t head) {
        const int64_t h = head % p.x->ne[2], b = head / p.x->ne[2];
        const int64_t hw = p.w->ne[2] == 1 ? 0 : h, bw = p.w->ne[3] == 1 ? 0 : b;
        return (const char *) p.w->data + bw * p.w->nb[3] + hw * p.w->nb[2];
    }

    // heads up to `last` are the thread's
    job(const plan & p, int64_t head, int64_t g, int64_t last) : p(p) {
        const int64_t h = head % p.x->ne[2], b = head / p.x->ne[2];
        const int64_t t0 = g * p.group;
        n = std::min(p.group, p.n_tokens - t0);
        w = weights(p, head);
        following = head < last ? weights(p, head + 1) : nullptr;
        x = (const char *) p.x->data + b * p.x->nb[3] + h * p.x->nb[2] + t0 * p.x->nb[1];
        y = (char *) p.y->data + b * p.y->nb[3] + h * p.y->nb[2] + t0 * p.y->nb[1];
    }

    const float * x_row(int64_t t) const { return (const float *) (x + t * p.x->nb[1]); }
    float * y_row(int64_t t) const { return (float *) (y + t * p.y->nb[1]); }
    const char * w_row(int64_t i, int64_t column) const { return w + i * p.w->nb[1] + ggml_row_size(p.w->type, column); }

    // tokens first, first + step, …: fills their lists; returns how many rows they select
    uint64_t select(const selection & s, int64_t first, int64_t step) const {
        uint64_t n_active = 0;
        for (int64_t t = first; t < n; t += step) {
            n_active += s.fill(t, x_row(t));
        }
        return n_active;
    }

    // whether the tokens whose lists are filled are faster with 8-bit integers and all rows
    bool prefers_dense(const selection & s) const {
        return p.may_dense && s.finite(n) && sparse_t::prefers_dense(p, n, s.count_of(n));
    }

    void fill_dense(const selection & s, int64_t first, int64_t step) const {
        for (int64_t t = first; t < n; t += step) {
            s.fill_dense(t, x_row(t));
        }
    }

    // columns [c0, c1), some tokens at a time, in 8-bit integers
    void sum_shared(const int32_t * rows, int64_t n_rows, int64_t c0, int64_t c1) const {
        for (int64_t first = 0; first < n; first += SHARED) {
            const int64_t here = std::min(SHARED, n - first);
            const float * x_of[SHARED];
            float * y_of[SHARED];
            for (int64_t t = 0; t < here; t++) {
                x_of[t] = x_row(first + t);
                y_of[t] = y_row(first + t) + c0;
                std::fill_n(y_of[t], c1 - c0, 0.0f);
            }
            p.k.sum_shared(w_row(0, c0), p.w->nb[1], rows, (int) n_rows, x_of, p.relu_sqr, (int) here, y_of, (int) (c1 - c0),
                           following && first + here == n ? following + (w_row(0, c0) - w) : nullptr);
        }
    }

    // columns [c0, c1), each token by itself, from the packed rows
    void sum_packed(const selection & s, int64_t c0, int64_t c1) const {
        for (int64_t t = 0; t < n; t++) {
            std::fill_n(y_row(t) + c0, c1 - c0, 0.0f);
            p.k.sum_rows(w_row(0, c0), p.w->nb[1], s.index(t), s.value(t), s.count(t), y_row(t) + c0, (int) (c1 - c0));
        }
    }

    // columns [c0, c1), at most TILE: the rows of the union are unpacked once, some at a time, then each token
    // sums its own
    void sum_tiled(const selection & s, int64_t c0, int64_t c1, const row_union & any, int64_t tile_rows, float * tile) const {
        for (int64_t t = 0; t < n; t++) {
            std::fill_n(y_row(t) + c0, c1 - c0, 0.0f);
        }
        const int64_t panel_stride = tile_rows * PANEL;
        const int n_columns = (int) (c1 - c0);
        const int64_t piece = ggml_row_size(p.w->type, n_columns);
        for (int64_t i0 = 0; i0 < p.n_in; i0 += tile_rows) {
            const int64_t from = i0 / 32, to = (std::min(i0 + tile_rows, p.n_in) + 31) / 32;
            for (int32_t k = any.starts[from]; k < any.starts[to]; k++) {
                const char * next = w_row(any.rows[k + AHEAD / 2], c0);
                for (int64_t o = 0; o < piece; o += 64) {
                    __builtin_prefetch(next + o);
                }
                p.k.unpack(p.w->type, w_row(any.rows[k], c0), n_columns, tile + (any.rows[k] - i0) * PANEL, panel_stride);
            }
            for (int64_t c = c0; c < c1; c += PANEL) {
                const float * panel = tile + (c - c0) / PANEL * panel_stride;
                for (int64_t t = 0; t < n; t++) {
                    const int32_t a = s.starts(t)[from], count = s.starts(t)[to] - a;
                    if (count) {
                        sum_panel(panel, (int32_t) i0, s.index(t) + a, s.value(t) + a, count, y_row(t) + c,
                                  (int) std::min<int64_t>(PANEL, c1 - c));
                    }
                }
            }
        }
    }

    // columns [c0, c1), at most TILE: all rows, in 8-bit integers
    void sum_dense(const selection & s, int64_t c0, int64_t c1, char * scratch) const {
        float * tile = (float *) scratch;
        uint8_t * q = (uint8_t *) scratch + p.tile_bytes();
        for (int64_t t = 0; t < n; t++) {
            std::fill_n(y_row(t) + c0, c1 - c0, 0.0f);
        }
        const int n_columns = (int) (c1 - c0);
        const int64_t piece = ggml_row_size(p.w->type, n_columns);
        const int64_t panel_stride = DENSE_ROWS * PANEL;
        for (int64_t b = 0; b < p.n_dense; b++) {
            const int64_t i0 = b * DENSE_ROWS, i1 = std::min(i0 + DENSE_ROWS, p.n_in);
            for (int64_t i = i0; i < i1; i++) {
                const char * next = w_row(std::min(i + AHEAD / 2, p.n_in - 1), c0);
                for (int64_t o = 0; o < piece; o += 64) {
                    __builtin_prefetch(next + o);
                }
                p.k.unpack(p.w->type, w_row(i, c0), n_columns, tile + (i - i0) * PANEL, panel_stride);
            }
            for (int64_t c = c0; c < c1; c += PANEL) {
                const float * panel = tile + (c - c0) / PANEL * panel_stride;
                const int width = (int) std::min<int64_t>(PANEL, c1 - c);
                float w_scale[PANEL];
                if (quantize_panel(panel, (int) (i1 - i0), q, w_scale)) {
                    const int64_t at = b * p.group;
                    multiply_panel(q, w_scale, (int) (i1 - i0), s.dense_ + at * DENSE_ROWS, s.dense_scale_ + at, s.dense_sum_ + at, n,
                                   y_row(0) + c, p.y->nb[1] / sizeof(float), width);
                    continue;
                }
                for (int64_t t = 0; t < n; t++) {
                    const int32_t a = s.starts(t)[i0 / 32], count = s.starts(t)[(i1 + 31) / 32] - a;
                    sum_panel(panel, (int32_t) i0, s.index(t) + a, s.value(t) + a, count, y_row(t) + c, width);
                }
            }
        }
    }

    // columns [c0, c1)
    void sum(const selection & s, int64_t c0, int64_t c1, bool dense, char * scratch) const {
        if (c0 >= c1) {
            return;
        }
        if (dense) {
            for (int64_t c = c0; c < c1; c += TILE) {
                sum_dense(s, c, std::min(c + TILE, c1), scratch + p.union_bytes());
            }
            return;
        }
        if (p.single) {
            if (choose(p, 1, s.count(0), s.count(0)) == way::shared) {
                sum_shared(s.index(0), s.count(0), c0, c1);
            } else {
                sum_packed(s, c0, c1);
            }
            return;
        }
        const row_union any(s, n, scratch);
        switch (choose(p, n, s.count_of(n), any.count)) {
            case way::shared: sum_shared(any.rows, any.count, c0, c1); return;
            case way::packed: sum_packed(s, c0, c1); return;
            default:          break;
        }
        int64_t tile_rows = PANEL_BYTES / (PANEL * sizeof(float)) * p.n_in / std::max<int64_t>(1, any.count);
        tile_rows = std::clamp<int64_t>(tile_rows / 32 * 32, 32, std::min(TILE_ROWS, round_up(p.n_in, 32)));
        float * tile = (float *) (scratch + p.union_bytes());
        for (int64_t c = c0; c < c1; c += TILE) {
            sum_tiled(s, c, std::min(c + TILE, c1), any, tile_rows, tile);
        }
    }
};

} // namespace
} // namespace sparse_t
