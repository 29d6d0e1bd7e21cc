#pragma once

// y = W^T f(x) for rows of W that an activation selects: GGML_OP_MUL_MAT_SPARSE_T on the CPU.
//
//   W  {n_out, n_in,     n_head or 1, n_batch or 1} any type with a to_float; n_in rows of n_out values
//   x  {n_in,  n_tokens, n_head,      n_batch}      f32
//   y  {n_out, n_tokens, n_head,      n_batch}      f32
//
//   y[:, t, h, b] = sum over i, in ascending order, of f(x[i, t, h, b]) * W[:, i, h, b]
//
//   f(x) = x, or with op_params[0] = 1 the squared ReLU max(0, x)^2
//
// The first dimension of each is contiguous; rows, heads and batches may have any strides (views).
//
// Rows with f(x_i) = 0 are neither read nor computed, so a W that is not finite counts only where a value
// selects it (a dense product would make NaN of 0 * Inf). A NaN in x is no zero: it makes its token's whole
// output NaN, under the squared ReLU as well (ggml's own relu makes 0 of it). An infinity makes it infinite or
// NaN.
//
// One of three ways is taken, by what the tokens select (plan and selection in the .cpp):
//   packed  few rows a token, or few tokens: each token sums its rows straight from their packed form
//   tiled   the rows that any token selects are unpacked once, a tile at a time, for all tokens
//   dense   most rows, many tokens, a quantised W, finite values: 8-bit integers (dense.h)
//
// Sums are f32 (dense: of blocks of exact integer sums), fused where the CPU can. Each output is summed by one thread in one
// order, so the result does not depend on the number of threads, bit for bit. A token alone and in a batch
// may differ by rounding.

#include "ggml-cpu-impl.h"

#ifdef __cplusplus
extern "C" {
#endif

// bytes of scratch that n_threads threads need for dst
size_t ggml_mul_mat_sparse_t_work_size(const struct ggml_tensor * dst, int n_threads);

void ggml_compute_forward_mul_mat_sparse_t(const struct ggml_compute_params * params, struct ggml_tensor * dst);

// The same by the equation above, without regard to speed: what the fast versions are tested against.
// One thread.
void ggml_mul_mat_sparse_t_reference(struct ggml_tensor * dst);

// whether the CPU can compute dst (types and strides)
bool ggml_mul_mat_sparse_t_supported(const struct ggml_tensor * dst);

#ifdef __cplusplus
}
#endif
