#pragma once

// MUL_MAT_SPARSE_T on the CPU, by the contract of plm-ops/mul-mat-sparse-t.h.
//
// The tokens of a batch decide by what they select which of four ways is taken (cost.h):
//   packed  few rows a token, or few tokens: each token sums its rows straight from their packed form
//   shared  some tokens that use most of the rows: up to 8 at a time sum a packed row, in 8-bit integers
//   tiled   the rows that any token selects are unpacked once, a tile at a time, for all tokens
//   dense   most rows, many tokens, a quantised W, finite values: 8-bit integers (dense.h)
//
// Sums are f32 (of integers: blocks of exact sums, then f32), fused where the CPU can. Each output is summed by one
// thread in one order, so the result does not depend on the number of threads, bit for bit.
//
// The parts:
//   plan.h       how an op is cut into work, and the scratch memory that takes
//   select.h     which rows each token selects
//   cost.h       what each way costs, and so which is taken
//   run.h        the ways, over the columns of one thread
//   kernels.h    their inner loops, by type of W

#include "ggml-cpu-impl.h"
#include "plm-ops/mul-mat-sparse-t.h"

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
