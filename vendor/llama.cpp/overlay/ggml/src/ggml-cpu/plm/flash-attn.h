#pragma once

// Attention as the CPU computes it: latent attention by ours, all other by upstream's, and each token of a small batch
// by itself (alone.h). How a cache is cut into pieces, and what scales its tiles are rounded under, depends on which
// of its rows some query of the op may see.

#include "ggml-cpu-impl.h"

// Rows of a cache that are summed in one piece for a single query of upstream's attention. Cut by the number of threads, as
// upstream does, the same text would have other logits with another number.
#define PLM_PIECE 128

#ifdef __cplusplus
extern "C" {
#endif

// as ggml_mla_attention_work_size, whichever way the op is computed
size_t plm_flash_attn_work_size(const struct ggml_tensor * dst, int n_threads);

void plm_compute_forward_flash_attn(const struct ggml_compute_params * params, struct ggml_tensor * dst);

#ifdef __cplusplus
}
#endif
