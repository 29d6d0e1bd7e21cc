#pragma once

// The contract of multi-head latent attention, which every backend keeps: a family of GGML_OP_FLASH_ATTN_EXT. Every
// query head reads the same cached rows, and the values are the first part of the keys (the absorbed form).
//
//   Q     {n_k, n_q, n_head, n_stream}   f32
//   K     {n_k, n_kv, 1, n_stream}       f32, f16, bf16, q8_0 or q4_0: the cache, a row a token
//   V     {n_v, n_kv, 1, n_stream}       a view of the first n_v values of K's rows
//   mask  {n_kv, n_q, 1, n_stream or 1}  f16, or none
//   y     {n_v, n_head, n_q, n_stream}   f32, contiguous
//
//   s[j]  = scale * <Q[:, t, h], K[:, j]> + mask[j, t],   y[:, h, t] = sum_j softmax(s)[j] V[:, j]
//
// The expanded form has a KV head for each query head, and values of their own:
//
//   K     {n_k, n_kv, n_head, n_stream}, V {n_v < n_k, n_kv, n_head, n_stream}
//
// A query row with every cached row closed by the mask gives 0, as upstream's kernel does. The result must not depend
// on the number of threads, bit for bit.

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// Computes the equation above in double precision, in one thread, into y (as many values as dst has). All data must lie
// in memory that the CPU reads. Fast versions are compared with it.
GGML_API void ggml_mla_attention_reference(const struct ggml_tensor * dst, float * y);

#ifdef __cplusplus
}
#endif
