#pragma once

// y = W^T x for rows of W that an activation selects: GGML_OP_MUL_MAT_SPARSE_T on the CPU.
//
//   W  {n_out, n_in,     n_head}          any type with a to_float; n_in rows of n_out values
//   x  {n_in,  n_tokens, n_head, n_batch} f32
//   y  {n_out, n_tokens, n_head, n_batch} f32, contiguous
//
//   y[:, t, h, b] = sum over i, in ascending order, of x[i, t, h, b] * W[:, i, h]
//
// Rows with x_i = 0 are neither read nor computed. W with one head serves every head of x.
// Sums are f32. Each output column is summed by one thread in one order, so the result does not
// depend on the number of threads.

#include "ggml-cpu-impl.h"

#ifdef __cplusplus
extern "C" {
#endif

// bytes of scratch that n_threads threads need for dst
size_t ggml_mul_mat_sparse_t_work_size(const struct ggml_tensor * dst, int n_threads);

void ggml_compute_forward_mul_mat_sparse_t(const struct ggml_compute_params * params, struct ggml_tensor * dst);

// whether the CPU can compute dst (types and strides)
bool ggml_mul_mat_sparse_t_supported(const struct ggml_tensor * dst);

#ifdef __cplusplus
}
#endif
