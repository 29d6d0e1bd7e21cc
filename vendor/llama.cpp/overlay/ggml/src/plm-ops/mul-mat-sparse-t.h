#pragma once

// The contract of GGML_OP_MUL_MAT_SPARSE_T, which every backend keeps: y = W^T f(x) for rows of W that x selects.
//
//   W  {n_out, n_in,     n_head or 1, n_batch or 1} any type with a to_float; n_in rows of n_out values
//   x  {n_in,  n_tokens, n_head,      n_batch}      f32
//   y  {n_out, n_tokens, n_head,      n_batch}      f32
//
//   y[:, t, h, b] = sum over i, in ascending order, of f(x[i, t, h, b]) * W[:, i, h, b]
//
//   f(x) = x, or with op_params[0] = GGML_SPARSE_T_RELU_SQR the squared ReLU max(0, x)^2
//
// The first dimension of each is contiguous; rows, heads and batches may have any strides (views).
//
// Rows with f(x_i) = 0 are neither read nor computed, so a W that is not finite counts only where a value
// selects it (a dense product would make NaN of 0 * Inf). A NaN in x is no zero: it makes its token's whole
// output NaN, under the squared ReLU as well (ggml's own relu makes 0 of it). An infinity makes it infinite or
// NaN.
//
// Sums are f32. A backend may round x and W to integers where its header says so. Its result must not depend on the
// number of threads, bit for bit; a token alone and in a batch may differ by rounding.

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// Computes dst by the equation above, one value after the other, in one thread. All of its data must lie in memory
// that the CPU reads. Fast versions are compared with it.
GGML_API void ggml_mul_mat_sparse_t_reference(struct ggml_tensor * dst);

#ifdef __cplusplus
}
#endif
