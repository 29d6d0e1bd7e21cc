#pragma once

// Stands in for ggml-cuda/mmvq.cuh: a product that was computed before, of which the rows that it leaves are noted.

#include "host.h"

#include "ggml-cuda/plm/marks.cuh"

#define MMVQ_MAX_BATCH_SIZE 8

struct ggml_cuda_mm_fusion_args_host {
    uint8_t * plm_marks = nullptr;
};

inline bool ggml_cuda_should_use_mmvq(ggml_type, int, int64_t) { return true; }

// as mmvq.cu notes them where it writes its results, token after token
inline void ggml_cuda_mul_mat_vec_q(ggml_backend_cuda_context & ctx, const ggml_tensor *, const ggml_tensor *, const ggml_tensor *, ggml_tensor * dst,
                                    const ggml_cuda_mm_fusion_args_host * fusion) {
    ggml_cuda_pool_alloc<char> activations(ctx.pool(), 1000); // in 8 bits; given back before what comes next
    for (int64_t row = 0; row < dst->ne[0]; row++) {
        for (int64_t t = 0; t < dst->ne[1]; t++) {
            plm_mark(fusion->plm_marks + row, ((const float *) ((const char *) dst->data + t * dst->nb[1]))[row], t == 0);
        }
    }
}
