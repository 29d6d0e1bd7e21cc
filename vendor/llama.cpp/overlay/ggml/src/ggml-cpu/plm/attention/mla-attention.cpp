// The driver: which rows meet which queries, masks, the online softmax, threads, and the merge.
//
// Work is cut into units: (stream and KV head, group of query rows, piece of the cache). How many pieces depends on the
// shape alone. Threads take units as they come; each unit's sums go to their own place, and are merged in
// order of the pieces afterwards.

#include "mla-attention.h"

#include "engine.h"
#include "../simd.h"

#include <algorithm>

namespace mla {

namespace {

constexpr int64_t UNITS = 8;  // pieces are made until there are about so many units: each costs a merge
constexpr int64_t GRAIN = 16; // cached rows that pieces are whole numbers of: a short cache keeps more threads busy

struct plan {
    shape   a;                                // of the keys, and of values inside them
    shape   b;                                // of values that are a tensor of their own
    int64_t n_q, n_head, n_kv_head, n_set;    // n_head: query heads of one KV head; a set: one KV head of one stream
    int64_t n_rows, n_group, n_piece, piece;  // query rows of a set; groups of them; pieces of so many cached rows
    float   scale;
    const engine * e;

    size_t block_bytes;                        // a packed block of queries
    size_t blocks_bytes;                       // all of them
    size_t state_floats;                       // the state of one unit
    size_t states_bytes;                       // all of them
    size_t tile_at, value_at, plain_at, s_at, mask_at;   // in a thread's scratch
    size_t scratch_bytes;
};

size_t aligned(size_t n) { return pad(n, 64); }

plan make_plan(const ggml_tensor * dst) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];

    plan p = {};
    p.a = { k->ne[0], v->ne[0], k->ne[1], pad(k->ne[0], 32), pad(v->ne[0], 32), pad(v->ne[0], 32) + 16, k->type };
    p.b = { v->ne[0], v->ne[0], v->ne[1], pad(v->ne[0], 32), p.a.cols, p.a.ld_v, v->type };
    p.n_q       = q->ne[1];
    p.n_head    = q->ne[2] / k->ne[2];
    p.n_kv_head = k->ne[2];
    p.n_set     = k->ne[2] * q->ne[3];
    p.e        = &engine_for(k->type);
    memcpy(&p.scale, dst->op_params, sizeof(p.scale));

    p.n_rows  = p.n_q * p.n_head;
    p.n_group = (p.n_rows + GROUP - 1) / GROUP;
    const int64_t wanted = (UNITS + p.n_group * p.n_set - 1) / (p.n_group * p.n_set);
    const int64_t share  = (p.a.n_kv + wanted - 1) / wanted;
    p.piece   = std::max<int64_t>(pad(share, share < TILE ? GRAIN : TILE), GRAIN);
    p.n_piece = (p.a.n_kv + p.piece - 1) / p.piece;

    p.block_bytes  = aligned(p.e->query_bytes(p.a));
    p.blocks_bytes = p.block_bytes * (p.n_group * GROUP / BLOCK) * p.n_set;
    p.state_floats = std::min(GROUP, pad(p.n_rows, BLOCK)) * (2 + p.a.ld_v);
    p.states_bytes = aligned(p.state_floats * sizeof(float) * p.n_group * p.n_piece * p.n_set);

    size_t at = 0;
    const auto take = [&at](size_t n) { at += aligned(n); return at - aligned(n); };
    p.tile_at  = take(p.e->tile_bytes(p.a));
    p.value_at = take(p.e->tile_bytes(p.b));
    p.plain_at = take((p.a.ld_k + p.b.ld_k) * sizeof(float));
    p.s_at     = take(TILE * BLOCK * sizeof(float));
    p.mask_at  = take(GROUP * TILE * sizeof(float));
    p.scratch_bytes = at;
    return p;
}

bool is_absorbed(const ggml_tensor * dst) {
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    return k->ne[2] == 1 && v->nb[1] == k->nb[1] && (v->nb[3] == k->nb[3] || k->ne[3] == 1) && v->data == k->data;
}

// below a block of queries upstream's code is no slower
bool is_expanded(const ggml_tensor * dst) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    return k->ne[2] == q->ne[2] && v->ne[0] < k->ne[0] && q->ne[1] >= BLOCK;
}

bool is_of_family(const ggml_tensor * dst, bool with_data) {
    const ggml_tensor * q    = dst->src[0];
    const ggml_tensor * k    = dst->src[1];
    const ggml_tensor * v    = dst->src[2];
    const ggml_tensor * mask = dst->src[3];

    float max_bias, softcap;
    memcpy(&max_bias, (const float *) dst->op_params + 1, sizeof(float));
    memcpy(&softcap,  (const float *) dst->op_params + 2, sizeof(float));

    switch (k->type) {
        case GGML_TYPE_F32: case GGML_TYPE_F16: case GGML_TYPE_BF16: case GGML_TYPE_Q8_0: case GGML_TYPE_Q4_0: break;
        default: return false;
    }
    return !dst->src[4] && max_bias == 0.0f && softcap == 0.0f &&
           q->type == GGML_TYPE_F32 && v->type == k->type && dst->type == GGML_TYPE_F32 &&
           k->ne[3] == q->ne[3] && v->ne[3] == q->ne[3] && v->ne[2] == k->ne[2] &&
           k->ne[0] == q->ne[0] && k->ne[0] <= N_K_MAX && v->ne[0] <= k->ne[0] && v->ne[1] == k->ne[1] &&
           q->nb[0] == sizeof(float) && k->nb[0] == ggml_type_size(k->type) && v->nb[0] == k->nb[0] &&
           ((with_data ? is_absorbed(dst) : k->ne[2] == 1) || is_expanded(dst)) &&
           (!mask || (mask->type == GGML_TYPE_F16 && mask->ne[2] == 1 && mask->nb[0] == sizeof(ggml_fp16_t) &&
                      mask->ne[0] >= k->ne[1] && mask->ne[1] >= q->ne[1] && q->ne[3] % mask->ne[3] == 0));
}

// One thread's work on one op.
struct worker {
    const plan & p;
    const ggml_tensor * q;
    const ggml_tensor * k;
    const ggml_tensor * v;
    const ggml_tensor * mask;
    bool absorbed;  // V lies in K
    char * blocks;  // packed queries
    char * states;  // [unit][state_floats]
    char * scratch; // this thread's
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

    void pack(int ith, int nth) const {
        const int64_t rows = pad(p.n_rows, BLOCK);
        for (int64_t i = ith; i < rows * p.n_set; i += nth) {
            const int64_t set = i / rows, row = i % rows;
            p.e->pack(p.a, int(row % BLOCK), row < p.n_rows ? query(set, row) : nullptr, p.scale, block(set, row));
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
        float * keys   = (float *) (scratch + p.plain_at);
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
            const float keep  = above == top ? 1.0f : expf(top - above);
            const float w     = s == -INFINITY ? 0.0f : expf(s - above);
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
        const state   st = state_of(set, group, piece);

        std::fill_n(st.max, pad(rows, BLOCK), -INFINITY);
        std::fill_n(st.sum, pad(rows, BLOCK), 0.0f);

        char  * tile = scratch + p.tile_at;
        char  * values = absorbed ? tile : scratch + p.value_at;
        const shape & of_values = absorbed ? p.a : p.b;
        float * s    = (float *) (scratch + p.s_at);
        bool    open[GROUP];
        bool    begun[GROUP / BLOCK] = {}; // blocks whose sums are set
        float   decay[BLOCK];

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
                next.at  = cached(k, set, j0 + TILE);
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

bool ggml_mla_attention_supported(const ggml_tensor * dst) {
    return mla::is_of_family(dst, true);
}

size_t ggml_mla_attention_work_size(const ggml_tensor * dst, int n_threads) {
    if (!mla::is_of_family(dst, false)) {
        return 0;
    }
    const mla::plan p = mla::make_plan(dst);
    return 64 + p.blocks_bytes + p.states_bytes + p.scratch_bytes * n_threads;
}

void ggml_compute_forward_mla_attention(const ggml_compute_params * params, ggml_tensor * dst) {
    const mla::plan p = mla::make_plan(dst);

    char * work = (char *) mla::aligned((size_t) params->wdata);
    GGML_ASSERT(work + p.blocks_bytes + p.states_bytes + p.scratch_bytes * params->nth <= (char *) params->wdata + params->wsize);

    weights_ahead weights(params);

    const mla::worker w = { p, dst->src[0], dst->src[1], dst->src[2], dst->src[3], mla::is_absorbed(dst), work, work + p.blocks_bytes,
                            work + p.blocks_bytes + p.states_bytes + p.scratch_bytes * params->ith, &weights };

    w.pack(params->ith, params->nth);
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    const int64_t n_unit = p.n_set * p.n_group * p.n_piece;
    for (int64_t i = params->ith; i < n_unit; i = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        w.unit(i / (p.n_group * p.n_piece), i / p.n_piece % p.n_group, i % p.n_piece);
    }
    ggml_barrier(params->threadpool);

    for (int64_t i = params->ith; i < p.n_rows * p.n_set; i += params->nth) {
        const int64_t set = i / p.n_rows, row = i % p.n_rows;
        const int64_t head = set % p.n_kv_head * p.n_head + row % p.n_head;
        w.merge(set, row, (float *) ((char *) dst->data + row / p.n_head * dst->nb[2] + head * dst->nb[1] + set / p.n_kv_head * dst->nb[3]));
    }
}
