#pragma once

// The product of rows in planes (plm-planes/plm-planes.h) with a few tokens or many: MUL_MAT whose first factor has
// GGML_TENSOR_FLAG_PLANES.
//
// With GGML_HINT_POSITIVE only what is above zero counts of the result, as before a ReLU. In batches of up to 8 tokens
// elements that are surely not may then have any value below zero (rows.h), which saves reading their lower bits. All
// others, and all elements of larger batches, are what ggml's product of q4_K gives.

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

bool plm_planes_supported(const struct ggml_tensor * op);
size_t plm_planes_work_size(const struct ggml_tensor * op, int n_threads);
void plm_compute_forward_planes(const struct ggml_compute_params * params, struct ggml_tensor * op);

// Elements count as surely below zero where the upper bits say that they are by `margin` standard deviations of what the
// lower bits may add: 1 unless this said otherwise. Where exact.h says so, the lower bits of all rows are read.
// May be called while nothing computes.
GGML_BACKEND_API void plm_edge_planes_margin(float margin);

#ifdef __cplusplus
}
#endif
