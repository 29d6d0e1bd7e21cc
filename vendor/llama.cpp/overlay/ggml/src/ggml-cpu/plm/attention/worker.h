#pragma once

// What one thread does for one op: it packs queries, takes units as they come (masks, scores, the online softmax,
// sums), each of which has a place of its own for its sums, and merges the pieces of a query row in their order.

#include "plan.h"

#include <algorithm>

namespace mla {
namespace {

// One thread's work on one op.
struct worker {
    const plan & p;
    const ggml_tensor * q;
    const ggml_tensor * k;
    const ggml_tensor * v;
    const ggml_tensor * mask;
    bool absorbed;           // V lies in K
    char * blocks;           // packed queries
    char * states;           // [unit][state_floats]
    char * scratch;          // this thread's
    weights_ahead * weights; // of what comes after the op, this thread's share

    int64_t rows_of(int64_t group) const { return std::min(GROUP, p.n_rows - group * GROUP); }

    char * block(int64_t set, int64_t row) const {
        return blocks + (set * (p.n_group * GROUP / BLOCK) + row / BLOCK) * p.block_bytes;
    }

    // query rows are numbered by token, then head, so that a block has one token's mask where heads allow
    const float * query(int64_t set, int64_t row) const {
        const int64_t head = set % p.n_kv_head * p.n_head + row % p.n_head;
        return (const float *) ((const char *) q->data + row / p.n_head * q->nb[1] + head * q->nb[2] + set / p.n_kv_head * q->nb[3]);
    }

    const char * cached(const ggml_tensor * t, int64_t set, int64_t j) const {
        return (const char *) t->data + j * t->nb[1] + set % p.n_kv_head * t->nb[2] + set / p.n_kv_head * t->nb[3];
    }

    state state_of(int64_t set, int64_t group, int64_t piece) const {
        const int64_t rows = pad(rows_of(group), BLOCK);
        float * x = (float *) states + ((set * p.n_group + group) * p.n_piece + piece) * p.state_floats;
        return { x, x + rows, x + 2 * rows };
    }

    // A thread takes whole blocks: the lanes of one share their cache lines.
    void pack(int ith, int nth) const {
        const int64_t blocks_of_set = pad(p.n_rows, BLOCK) / BLOCK;
        for (int64_t i = ith; i < blocks_of_set * p.n_set; i += nth) {
            const int64_t set = i / blocks_of_set, first = i % blocks_of_set * BLOCK;
            for (int64_t row = first; row < first + BLOCK; row++) {
                p.e->pack(p.a, int(row - first), row < p.n_rows ? query(set, row) : nullptr, p.scale, block(set, first));
            }
        }
    }

    // The masks of a group's tokens over n cached rows from j0, [token][TILE]. Returns how many of these rows there are up
    // to the last that is open to any of the tokens.
    int64_t read_mask(int64_t set, int64_t t0, int64_t t1, int64_t j0, int64_t n, bool * open) const {
        float * out = (float *) (scratch + p.mask_at);
        int64_t end = 0;
        for (int64_t t = t0; t <= t1; t++, out += TILE, open++) {
            const uint16_t * m = (const uint16_t *) ((const char *) mask->data + t * mask->nb[1] + set / p.n_kv_head % mask->ne[3] * mask->nb[3]) + j0;
            int64_t last = n;
            while (last > 0 && m[last - 1] == 0xfc00) { // -inf
                last--;
            }
            *open = last > 0;
            end = std::max(end, last);
            row_to_f32(GGML_TYPE_F16, m, out, n);
        }
        return end;
    }

    // s += mask for the block of rows from `row`, whose group starts with token t0
    void add_mask(float * s, int64_t row, int64_t t0, int64_t n) const {
        const float * m = (const float *) (scratch + p.mask_at);
        const float * of_lane[BLOCK];
        bool same = true;
        for (int64_t i = 0; i < BLOCK; i++) {
            of_lane[i] = m + (std::min(row + i, p.n_rows - 1) / p.n_head - t0) * TILE;
            same &= of_lane[i] == of_lane[0];
        }
        for (int64_t j = 0; j < n; j++, s += BLOCK) {
            if (same) {
                const vf x = all(of_lane[0][j]);
                for (int i = 0; i < BLOCK; i += LANES) {
                    store(s + i, add(load(s + i), x));
                }
            } else {
                for (int i = 0; i < BLOCK; i++) {
                    s[i] += of_lane[i][j];
                }
            }
        }
    }

    // scores to probabilities in place; max and sum are brought up to date, decay is what becomes of `out`
    static void softmax(float * s, int64_t n, float * max_of, float * sum_of, float * decay) {
        for (int i = 0; i < BLOCK; i += LANES) {
            const vf old = load(max_of + i);
            vf top = old;
            for (int64_t j = 0; j < n; j++) {
                top = max(load(s + j * BLOCK + i), top);
            }
            // a row that is closed so far keeps -inf; subtract something finite from its scores
            const vf base = max(all(-3.0e38f), top);
            const vf keep = exp_negative(sub(old, base));
            vf sum = all(0.0f);
            for (int64_t j = 0; j < n; j++) {
                const vf x = exp_negative(sub(load(s + j * BLOCK + i), base));
                store(s + j * BLOCK + i, x);
                sum = add(sum, x);
            }
            store(max_of + i, top);
            store(sum_of + i, fma(load(sum_of + i), keep, sum));
            store(decay + i, keep);
        }
    }

    // the plain formula for a tile with a NaN or an infinity in it, one query row after the other
    void plain(int64_t set, int64_t row, int64_t t0, int64_t j0, int64_t n, float & top, float & sum, float * out) const {
        const float * x = query(set, row);
        const float * m = (const float *) (scratch + p.mask_at) + (row / p.n_head - t0) * TILE;
        float * keys = (float *) (scratch + p.plain_at);
        float * values = absorbed ? keys : keys + p.a.ld_k;
        for (int64_t j = 0; j < n; j++) {
            if (mask && m[j] == -INFINITY) {
                continue;
            }
            row_to_f32(p.a.type, cached(k, set, j0 + j), keys, p.a.n_k);
            if (!absorbed) {
                row_to_f32(p.b.type, cached(v, set, j0 + j), values, p.b.n_k);
            }
            float s = 0.0f;
            for (int64_t i = 0; i < p.a.n_k; i++) {
                s += x[i] * keys[i];
            }
            s = s * p.scale + (mask ? m[j] : 0.0f);
            const float above = s > top ? s : top;
            const float keep = above == top ? 1.0f : expf(top - above);
            const float w = s == -INFINITY ? 0.0f : expf(s - above);
            for (int64_t i = 0; i < p.a.n_v; i++) {
                out[i] = out[i] * keep + w * values[i];
            }
            sum = sum * keep + w;
            top = above;
        }
    }

    void unit(int64_t set, int64_t group, int64_t piece) const {
        const int64_t row0 = group * GROUP, rows = rows_of(group);
        const int64_t t0 = row0 / p.n_head, t1 = (row0 + rows - 1) / p.n_head;
        const int64_t from = piece * p.piece, to = std::min(p.a.n_kv, from + p.piece);
        const state st = state_of(set, group, piece);

        std::fill_n(st.max, pad(rows, BLOCK), -INFINITY);
        std::fill_n(st.sum, pad(rows, BLOCK), 0.0f);

        char * tile = scratch + p.tile_at;
        char * values = absorbed ? tile : scratch + p.value_at;
        const shape & of_values = absorbed ? p.a : p.b;
        float * s = (float *) (scratch + p.s_at);
        bool open[GROUP];
        bool begun[GROUP / BLOCK] = {}; // blocks whose sums are set
        float decay[BLOCK];

        for (int64_t j0 = from; j0 < to; j0 += TILE) {
            const int64_t rows_here = std::min(TILE, to - j0);
            const int64_t n = mask ? read_mask(set, t0, t1, j0, rows_here, open) : rows_here;
            if (n == 0) {
                continue;
            }
            const bool finite = p.e->load(p.a, cached(k, set, j0), k->nb[1], n, tile) &&
                                (absorbed || p.e->load(p.b, cached(v, set, j0), v->nb[1], n, values));

            lookahead next;
            next.weights = weights;
            if (j0 + TILE < to && (int64_t) k->nb[1] <= 2 * (int64_t) ggml_row_size(p.a.type, p.a.n_k)) {
                next.at = cached(k, set, j0 + TILE);
                next.end = cached(k, set, std::min(j0 + 2 * TILE, to));
            }

            for (int64_t b = 0; b < rows; b += BLOCK) {
                const int64_t last = std::min(row0 + b + BLOCK, row0 + rows) - 1;
                if (mask && std::none_of(open + (row0 + b) / p.n_head - t0, open + last / p.n_head - t0 + 1, [](bool x) { return x; })) {
                    continue;
                }
                const bool first = !begun[b / BLOCK];
                begun[b / BLOCK] = true;
                if (!finite) {
                    if (first) {
                        std::fill_n(st.out + b * p.a.ld_v, BLOCK * p.a.ld_v, 0.0f);
                    }
                    for (int64_t i = b; i <= last - row0; i++) {
                        if (!mask || open[(row0 + i) / p.n_head - t0]) {
                            plain(set, row0 + i, t0, j0, n, st.max[i], st.sum[i], st.out + i * p.a.ld_v);
                        }
                    }
                    continue;
                }
                p.e->scores(p.a, block(set, row0 + b), tile, n, s, next);
                if (mask) {
                    add_mask(s, row0 + b, t0, n);
                }
                softmax(s, n, st.max + b, st.sum + b, decay);
                std::fill(s + n * BLOCK, s + TILE * BLOCK, 0.0f);
                p.e->accumulate(of_values, s, first ? nullptr : decay, values, n, st.out + b * p.a.ld_v, next);
            }
        }
    }

    // one query row's pieces to its result
    void merge(int64_t set, int64_t row, float * y) const {
        const int64_t group = row / GROUP, i = row % GROUP;
        float top = -INFINITY;
        for (int64_t c = 0; c < p.n_piece; c++) {
            const float m = state_of(set, group, c).max[i];
            top = m > top ? m : top;
        }
        float sum = 0.0f;
        std::fill_n(y, p.a.n_v, 0.0f);
        for (int64_t c = 0; c < p.n_piece; c++) {
            const state st = state_of(set, group, c);
            if (st.sum[i] == 0.0f) {
                continue;
            }
            const float w = st.max[i] == top ? 1.0f : expf(st.max[i] - top);
            sum += w * st.sum[i];
            const float * x = st.out + i * p.a.ld_v;
            for (int64_t d = 0; d < p.a.n_v; d++) {
                y[d] += w * x[d];
            }
        }
        if (sum != 0.0f) {
            const float inverse = 1.0f / sum;
            for (int64_t d = 0; d < p.a.n_v; d++) {
                y[d] *= inverse;
            }
        }
    }
};

} // namespace
} // namespace mla
