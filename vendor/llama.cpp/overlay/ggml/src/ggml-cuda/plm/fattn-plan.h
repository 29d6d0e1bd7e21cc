#pragma once

// Which attention reads a cache's quantised rows where they lie (cached-rows.cuh), and which has one query head a KV head.
// fattn.cu asks when it plans memory, when it says what is supported, and when it launches.

#include "ggml-impl.h"

// 576/512 with the values a part of the keys, sixteen heads or a multiple of them sharing each row. `mma`: the device
// multiplies by ldmatrix and mma (Turing and newer).
inline bool plm_fattn_reads_quantised(bool mma, const ggml_tensor * dst) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    const ggml_tensor * v = dst->src[2];
    const bool is_part = v->view_src && v->type == k->type && v->nb[1] == k->nb[1] && v->nb[2] == k->nb[2] && v->nb[3] == k->nb[3] &&
                         (v->view_src == k || (v->view_src == k->view_src && v->view_offs == k->view_offs));
    const bool aligned = k->nb[1] % 4 == 0 && k->nb[2] % 4 == 0 && k->nb[3] % 4 == 0 && k->view_offs % 4 == 0;
    return mma && aligned && (k->type == GGML_TYPE_Q8_0 || k->type == GGML_TYPE_Q4_0) && is_part && k->ne[0] == 576 && v->ne[0] == 512 &&
           q->ne[2] / k->ne[2] % 16 == 0 && ggml_get_op_params_f32(dst, 2) == 0.0f && ggml_get_op_params_i32(dst, 4) == 0;
}

// 192/128, as prompts of PLM are computed: each head has keys and values of its own
inline bool plm_fattn_is_expanded(bool mma, const ggml_tensor * dst) {
    return mma && dst->src[1]->ne[0] == 192 && dst->src[2]->ne[0] == 128 && dst->src[0]->ne[2] == dst->src[1]->ne[2];
}
