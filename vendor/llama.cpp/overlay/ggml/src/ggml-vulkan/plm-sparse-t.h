#pragma once

// MUL_MAT_SPARSE_T on Vulkan (vulkan-shaders/plm_sparse_t.comp), by its contract (plm-ops/mul-mat-sparse-t.h). The shader asks
// nothing of a device that ggml's others do not ask: no subgroup of a certain size, no float atomics, 5 KiB of shared memory.

#include "ggml-vulkan-common.h"

#include <algorithm>

struct vk_op_plm_sparse_t_push_constants {
    uint32_t n_in, n_out, n_tokens, n_slices, n_heads, n_groups;
    uint32_t w_heads, w_batches, w_row, w_head, w_batch, w_offset; // strides in blocks
    uint32_t x_token, x_head, x_batch, x_offset;                   // in floats
    uint32_t share, relu_sqr;
};

static_assert(sizeof(vk_op_plm_sparse_t_push_constants) <= 128);

// `create(pipeline, name, length, data, push constants' size, tokens)` for each type and number of tokens
template <typename create_t>
void ggml_vk_plm_sparse_t_pipelines(vk_pipeline (&pipelines)[GGML_TYPE_COUNT][4], const create_t & create) {
    for (uint32_t i = 0; i < 4; i++) {
        const auto of_type = [&](ggml_type type, const char * name, size_t length, const void * data) {
            create(pipelines[type][i], name, length, data, sizeof(vk_op_plm_sparse_t_push_constants), 1u << i);
        };
        of_type(GGML_TYPE_F32, "plm_sparse_t_f32", plm_sparse_t_f32_len, plm_sparse_t_f32_data);
        of_type(GGML_TYPE_F16, "plm_sparse_t_f16", plm_sparse_t_f16_len, plm_sparse_t_f16_data);
        of_type(GGML_TYPE_Q8_0, "plm_sparse_t_q8_0", plm_sparse_t_q8_0_len, plm_sparse_t_q8_0_data);
        of_type(GGML_TYPE_Q4_0, "plm_sparse_t_q4_0", plm_sparse_t_q4_0_len, plm_sparse_t_q4_0_data);
        of_type(GGML_TYPE_Q4_K, "plm_sparse_t_q4_k", plm_sparse_t_q4_k_len, plm_sparse_t_q4_k_data);
        of_type(GGML_TYPE_Q5_K, "plm_sparse_t_q5_k", plm_sparse_t_q5_k_len, plm_sparse_t_q5_k_data);
        of_type(GGML_TYPE_Q6_K, "plm_sparse_t_q6_k", plm_sparse_t_q6_k_len, plm_sparse_t_q6_k_data);
    }
}

inline bool ggml_vk_plm_sparse_t_supported(const vk_device & device, const ggml_tensor * dst) {
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
    const auto & limits = device->properties.limits;
    const size_t block = ggml_type_size(w->type);
    // two columns are read at a time, and a view of W may begin where a device's buffers may
    return x->type == GGML_TYPE_F32 && x->nb[0] == sizeof(float) && w->nb[0] == block && w->ne[0] % 2 == 0 &&
           w->nb[1] % block == 0 && w->nb[2] % block == 0 && w->nb[3] % block == 0 && w->view_offs % limits.minStorageBufferOffsetAlignment == 0 &&
           ggml_is_contiguous(dst) && ggml_nelements(dst) < (int64_t(1) << 31) && ggml_nbytes(w) <= limits.maxStorageBufferRange &&
           ggml_nbytes(x) <= limits.maxStorageBufferRange && ggml_nbytes(dst) <= limits.maxStorageBufferRange &&
           x->ne[2] * x->ne[3] * ((x->ne[1] + 7) / 8) <= std::min<int64_t>(65535, limits.maxComputeWorkGroupCount[2]);
}

inline void ggml_vk_plm_sparse_t(ggml_backend_vk_context * ctx, vk_context & subctx, ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    const uint32_t n_in = uint32_t(w->ne[1]), n_out = uint32_t(w->ne[0]), n_tokens = uint32_t(x->ne[1]);
    const uint32_t n_slices = uint32_t(x->ne[2] * x->ne[3]), n_tiles = CEIL_DIV(n_out, 256);
    const uint32_t level = n_tokens > 4 ? 3 : n_tokens > 2 ? 2
                                          : n_tokens > 1   ? 1
                                                           : 0; // 1 << level tokens are taken together
    const uint32_t n_groups = CEIL_DIV(n_tokens, 1u << level);

    // enough workgroups for the device, each with rows enough to list
    const uint32_t wanted = ctx->device->shader_core_count > 0 ? 8 * ctx->device->shader_core_count : 64;
    const uint32_t splits = std::clamp(wanted / (n_tiles * n_slices * n_groups), 1u, CEIL_DIV(n_in, 64u));
    const uint32_t share = CEIL_DIV(n_in, splits), n_splits = CEIL_DIV(n_in, share);

    vk_pipeline pipeline = ctx->device->pipeline_plm_sparse_t[w->type][level];
    GGML_ASSERT(pipeline != nullptr);
    ggml_pipeline_request_descriptor_sets(ctx, pipeline, 1);

    const vk_subbuffer to = ggml_vk_tensor_subbuffer(ctx, dst);
    vk_subbuffer sums = to;
    if (n_splits > 1) {
        ggml_pipeline_request_descriptor_sets(ctx, ctx->device->pipeline_matmul_split_k_reduce, 1);
        const size_t size = ggml_nbytes(dst) * n_splits;
        if (ctx->prealloc_size_split_k < size) {
            ctx->prealloc_size_split_k = size;
            ggml_vk_preallocate_buffers(ctx, subctx);
        }
        sums = vk_subbuffer{ ctx->prealloc_split_k, 0, size };
        if (ctx->prealloc_split_k_need_sync) {
            ggml_vk_sync_buffers(ctx, subctx);
        }
    }
    const size_t block = ggml_type_size(w->type);
    const uint32_t w_misaligned = get_misalign_bytes(ctx, w);
    GGML_ASSERT(w_misaligned % block == 0);
    const vk_op_plm_sparse_t_push_constants pc = {
        n_in, n_out, n_tokens, n_slices, uint32_t(x->ne[2]), n_groups,
        uint32_t(w->ne[2]), uint32_t(w->ne[3]), uint32_t(w->nb[1] / block), uint32_t(w->nb[2] / block), uint32_t(w->nb[3] / block), uint32_t(w_misaligned / block),
        uint32_t(x->nb[1] / sizeof(float)), uint32_t(x->nb[2] / sizeof(float)), uint32_t(x->nb[3] / sizeof(float)), uint32_t(get_misalign_bytes(ctx, x) / sizeof(float)),
        share, ggml_get_op_params_i32(dst, 0) == GGML_SPARSE_T_RELU_SQR
    };
    ggml_vk_dispatch_pipeline(ctx, subctx, pipeline, { ggml_vk_tensor_subbuffer(ctx, w, true), ggml_vk_tensor_subbuffer(ctx, x, true), sums },
                              pc, { n_tiles, n_splits, n_slices * n_groups });
    if (n_splits > 1) {
        ggml_vk_sync_buffers(ctx, subctx);
        const uint32_t n = uint32_t(ggml_nelements(dst));
        const std::array<uint32_t, 2> add = { n, n_splits };
        ggml_vk_dispatch_pipeline(ctx, subctx, ctx->device->pipeline_matmul_split_k_reduce, { sums, to }, add, { n, 1, 1 });
        ctx->prealloc_split_k_need_sync = true;
    }
}
