#pragma once

#include "common.cuh"

// MUL_MAT_SPARSE_T by its contract (plm-ops/mul-mat-sparse-t.h): up to 8 tokens by kernels of ours (plm/sparse-t.cuh), whose
// sums are f32. Larger batches are a dense product of cuBLAS; with quantised W both matrices are bf16 there, whose range
// squared activations need, else f32, of whose factors cuBLAS takes 10 bits of mantissa as in all of ggml (TF32). And a W
// that is not finite counts whether a value selects it or not.
void ggml_cuda_mul_mat_sparse_t(ggml_backend_cuda_context & ctx, ggml_tensor * dst);

// Whether `product`, W_up's, can mark the rows that `next` takes of W_down where it writes its results. Then the two are one
// call, with one launch less.
bool ggml_cuda_mul_mat_marks(const ggml_tensor * product, const ggml_tensor * next);

void ggml_cuda_mul_mat_and_sparse_t(ggml_backend_cuda_context & ctx, ggml_tensor * product, ggml_tensor * next);

bool ggml_cuda_mul_mat_sparse_t_supported(const ggml_tensor * dst);
