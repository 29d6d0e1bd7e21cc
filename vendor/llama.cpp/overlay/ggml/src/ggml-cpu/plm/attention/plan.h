#pragma once

// Which ops are latent attention, and how one is cut into units: (stream and KV head, group of query rows, piece of the
// cache). How many pieces there are depends on the shape alone.

#include "engine.h"

#include <algorithm>
#include <cstring>

namespace mla {
namespace {

constexpr int64_t UNITS = 8;  // pieces are made until there are about so many units: each costs a merge
constexpr int64_t GRAIN = 16; // cached rows that pieces are whole numbers of: a short cache keeps more threads busy

struct plan {
    shape a;                                 // of the keys, and of values inside them
    shape b;                                 // of values that are a tensor of their own
    int64_t n_q, n_head, n_kv_head, n_set;   // n_head: query heads of one KV head; a set: one KV head of one stream
    int64_t n_rows, n_group, n_piece, piece; // query rows of a set; groups of them; pieces of so many cached rows
    float scale;
    const engine * e;

    size_t block_bytes;                                // a packed block of queries
    size_t blocks_bytes;                               // all of them
    size_t state_floats;                               // the state of one unit
    size_t states_bytes;                               // all of them
    size_t tile_at, value_at, plain_at, s_at, mask_at; // in a thread's scratch
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
    p.n_q = q->ne[1];
    p.n_head = q->ne[2] / k->ne[2];
    p.n_kv_head = k->ne[2];
    p.n_set = k->ne[2] * q->ne[3];
    p.e = &engine_for(k->type);
    memcpy(&p.scale, dst->op_params, sizeof(p.scale));

    p.n_rows = p.n_q * p.n_head;
    p.n_group = (p.n_rows + GROUP - 1) / GROUP;
    const int64_t wanted = (UNITS + p.n_group * p.n_set - 1) / (p.n_group * p.n_set);
    const int64_t share = (p.a.n_kv + wanted - 1) / wanted;
    p.piece = std::max<int64_t>(pad(share, share < TILE ? GRAIN : TILE), GRAIN);
    p.n_piece = (p.a.n_kv + p.piece - 1) / p.piece;

    p.block_bytes = aligned(p.e->query_bytes(p.a));
    p.blocks_bytes = p.block_bytes * (p.n_group * GROUP / BLOCK) * p.n_set;
    p.state_floats = std::min(GROUP, pad(p.n_rows, BLOCK)) * (2 + p.a.ld_v);
    p.states_bytes = aligned(p.state_floats * sizeof(float) * p.n_group * p.n_piece * p.n_set);

    size_t at = 0;
    const auto take = [&at](size_t n) { at += aligned(n); return at - aligned(n); };
    p.tile_at = take(p.e->tile_bytes(p.a));
    p.value_at = take(p.e->tile_bytes(p.b));
    p.plain_at = take((p.a.ld_k + p.b.ld_k) * sizeof(float));
    p.s_at = take(TILE * BLOCK * sizeof(float));
    p.mask_at = take(GROUP * TILE * sizeof(float));
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
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    const ggml_tensor * mask = dst->src[3];

    float max_bias, softcap;
    memcpy(&max_bias, (const float *) dst->op_params + 1, sizeof(float));
    memcpy(&softcap, (const float *) dst->op_params + 2, sizeof(float));

    switch (k->type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
        case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q4_0: break;
        default:             return false;
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

} // namespace
} // namespace mla
