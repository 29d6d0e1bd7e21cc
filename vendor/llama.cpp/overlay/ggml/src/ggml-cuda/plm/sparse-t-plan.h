#pragma once

// How MUL_MAT_SPARSE_T is cut into blocks of threads. It depends on shapes alone, so that a captured CUDA graph stays right.

#include "ggml.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

// tokens that the kernels take together; larger batches are products of all rows
#define PLM_SPARSE_T_TOKENS 8

// Shapes and strides, by value: W's in bytes, x's in floats. y is contiguous.
struct plm_sparse_t_shape {
    int n_in, n_out, n_tokens, n_heads, n_slices; // a slice is a head of a batch
    int w_heads, w_batches;                       // 1: all share it
    size_t w_row, w_head, w_batch;
    int64_t x_token, x_head, x_batch;
};

struct plm_sparse_t_plan {
    int across; // of the eight warps of a block, side by side; the rest take other rows
    int tiles;  // blocks of threads beside each other
    int splits; // of the active rows
    int parts;  // sums of each output that are added up at the end
};

inline plm_sparse_t_shape plm_sparse_t_shape_of(const ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    return { int(w->ne[1]), int(w->ne[0]), int(x->ne[1]), int(x->ne[2]), int(x->ne[2] * x->ne[3]),
             int(w->ne[2]), int(w->ne[3]), w->nb[1], w->nb[2], w->nb[3],
             int64_t(x->nb[1] / sizeof(float)), int64_t(x->nb[2] / sizeof(float)), int64_t(x->nb[3] / sizeof(float)) };
}

// `select`: most rows are expected to be skipped; `n_sm`: multiprocessors, of which each is to have two blocks
inline plm_sparse_t_plan plm_sparse_t_plan_of(const plm_sparse_t_shape & s, bool select, int n_sm) {
    const int blocks = (s.n_out + 255) / 256;
    plm_sparse_t_plan plan{ 8, 0, 0, 0 };
    while (plan.across > 1 && plan.across / 2 >= blocks) {
        plan.across /= 2;
    }
    const int groups = 8 / plan.across;
    plan.tiles = (blocks + plan.across - 1) / plan.across;
    const int rows = select ? s.n_in / 8 : s.n_in;     // one in eight is active, say
    const int most = std::max(1, rows / (4 * groups)); // a warp has four rows' loads in flight
    plan.splits = std::clamp(2 * n_sm / (plan.tiles * s.n_slices), 1, most);
    plan.parts = plan.splits * groups;
    return plan;
}

// what supports_op asks: whether the kernels take this operation
inline bool plm_sparse_t_takes(const ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    switch (w->type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_F16:
        case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_K:
        case GGML_TYPE_Q5_K:
        case GGML_TYPE_Q6_K:
            break;
        default:
            return false;
    }
    constexpr int64_t most = int64_t(1) << 30;
    return x->type == GGML_TYPE_F32 && dst->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) && w->nb[0] == ggml_type_size(w->type) &&
           w->ne[1] <= most && ggml_nelements(dst) <= most && x->ne[2] * x->ne[3] < 65536 && ggml_is_contiguous(dst);
}
