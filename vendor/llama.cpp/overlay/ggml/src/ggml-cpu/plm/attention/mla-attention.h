#pragma once

// Multi-head latent attention on the CPU, by the contract of plm-ops/mla-attention.h: the absorbed form, and the
// expanded one for blocks of 16 queries or more.
//
// A cached row is converted once for up to mla::GROUP query rows (heads times tokens). Rows that the
// mask closes for all of these are not read. The cache is cut into pieces by its length alone and the pieces are
// merged in order, so the result does not depend on the number of threads.
//
// Arithmetic: f32 throughout for an f32 cache. Otherwise, where the CPU has a 16-bit dot product, keys,
// values, queries and probabilities are rounded to 13 to 16 bits under a scale of their row (tile-i16.h), and f16 caches where
// ARM has one of bytes (tile-digits-arm.cpp); sums are exact within a tile and f32 between tiles. Quantised caches have a way of their own, with their quants as
// they are and all in 8 bits: tile-u8.cpp (AVX-512), tile-u8-arm.cpp. A tile with a NaN or an infinity in it is computed by
// the plain formula in f32.
//
// The parts:
//   plan.h     which ops are of this family, and how one is cut into work
//   worker.h   one thread's work: masks, the online softmax, merging
//   engine.h   what computes a tile of cached rows against a block of queries; tile-*.cpp, one for each arithmetic

#include "ggml-cpu-impl.h"
#include "plm-ops/mla-attention.h"

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

#ifdef __cplusplus
}
#endif
