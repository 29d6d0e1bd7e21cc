#pragma once

// Rows one behind the other: [a ; b] by their first dimension, each copied in one go. ggml's function computes the place of each
// value by itself. PLM's graph puts the rotated part behind each head's query, and behind each token's latent.

#include "ggml-cpu-impl.h"
#include "ggml-impl.h"

#include <cstring>

// Says whether it has done it: rows whose values lie one behind the other, of types without blocks.
inline bool plm_concat_rows(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor *a = dst->src[0], *b = dst->src[1];
    const size_t value = ggml_type_size(dst->type);
    if (ggml_get_op_params_i32(dst, 0) != 0 || ggml_blck_size(dst->type) != 1 || a->nb[0] != value || b->nb[0] != value || dst->nb[0] != value) {
        return false;
    }
    const size_t first = a->ne[0] * value, second = b->ne[0] * value;
    const int64_t n_rows = ggml_nrows(dst);
    for (int64_t row = n_rows * params->ith / params->nth; row < n_rows * (params->ith + 1) / params->nth; row++) {
        const int64_t i1 = row % dst->ne[1], i2 = row / dst->ne[1] % dst->ne[2], i3 = row / (dst->ne[1] * dst->ne[2]);
        const auto at = [&](const ggml_tensor * t) { return (char *) t->data + i1 * t->nb[1] + i2 * t->nb[2] + i3 * t->nb[3]; };
        memcpy(at(dst), at(a), first);
        memcpy(at(dst) + first, at(b), second);
    }
    return true;
}
