#pragma once

// Absorbed multi-head latent attention on the CPU: GGML_OP_FLASH_ATTN_EXT where every query head reads
// the same cached rows, and the values are the first part of the keys.
//
//   Q     {n_k, n_q, n_head, n_stream}   f32
//   K     {n_k, n_kv, 1, n_stream}       f32, f16, bf16, q8_0 or q4_0: the cache, a row a token
//   V     {n_v, n_kv, 1, n_stream}       a view of the first n_v values of K's rows
//   mask  {n_kv, n_q, 1, n_stream or 1}  f16, or none
//   y     {n_v, n_head, n_q, n_stream}   f32, contiguous
//
//   s[j]  = scale * <Q[:, t, h], K[:, j]> + mask[j, t],   y[:, h, t] = sum_j softmax(s)[j] V[:, j]
//
// and its expanded form, a KV head for each query head and values of their own, for blocks of queries:
//
//   K     {n_k, n_kv, n_head, n_stream}, V {n_v < n_k, n_kv, n_head, n_stream}, n_q >= 16
//
// A cached row is converted once for up to mla::GROUP query rows (heads times tokens). Rows that the
// mask closes for all of these are not read. A query row with every cached row closed gives 0, as
// upstream's kernel does. The cache is cut into pieces by its length alone and the pieces are merged in
// order, so the result does not depend on the number of threads.
//
// Arithmetic: f32 throughout for an f32 cache. Otherwise, where the CPU has a 16-bit dot product, keys,
// values, queries and probabilities are rounded to 13 to 16 bits under a scale of their row (tile-i16.h);
// sums are exact within a tile and f32 between tiles. Quantised caches have ways of their own, with their quants as
// they are: tile-u8.cpp (AVX-512, all in 8 bits), tile-i8.cpp (ARM). A tile with a NaN or an infinity in it is
// computed by the plain formula in f32.

#include "ggml-cpu-impl.h"

#ifdef __cplusplus
extern "C" {
#endif

// whether the op is of this family: types, strides, and V inside K. The plain part (alibi, softcap, sinks,
// several KV heads) is upstream's.
bool ggml_mla_attention_supported(const struct ggml_tensor * dst);

// bytes of scratch that n_threads threads need for dst; 0 when the shape is not of this family.
// Does not look at data pointers: they may not be set yet.
size_t ggml_mla_attention_work_size(const struct ggml_tensor * dst, int n_threads);

void ggml_compute_forward_mla_attention(const struct ggml_compute_params * params, struct ggml_tensor * dst);

// the equation above, in double precision, one thread; the judge of the fast versions
void ggml_mla_attention_reference(const struct ggml_tensor * dst, float * y);

#ifdef __cplusplus
}
#endif
