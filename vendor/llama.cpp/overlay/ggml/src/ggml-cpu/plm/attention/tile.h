#pragma once

// What the parts of the attention kernel share: sizes, and the state of the online softmax.

#include "../simd.h"
#include "ggml.h"

#include <cstdint>

namespace mla {

using simd::add, simd::all, simd::div, simd::fma, simd::max, simd::min, simd::mul, simd::pow2, simd::round, simd::sub;
using simd::exp_negative, simd::from_bf16, simd::from_f16, simd::LANES, simd::load, simd::store, simd::vf;

static constexpr int64_t BLOCK = 16;  // query rows whose scores are computed together, one a lane
static constexpr int64_t GROUP = 128; // query rows that share a converted tile
static constexpr int64_t TILE = 64;   // cached rows converted at a time

static constexpr int64_t N_K_MAX = 4096; // longer keys than any model has are left to upstream

static inline int64_t pad(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct shape {
    int64_t n_k, n_v, n_kv;
    int64_t ld_k; // values from one row of a tile to the next
    int64_t cols; // n_v, rounded up to whole vectors
    int64_t ld_v; // values from one row of the sums to the next: not a power of two, to spread over cache sets
    ggml_type type;
};

// the online softmax of one block: sum_j p_j V_j and sum_j p_j, with p_j = exp(s_j - max)
struct state {
    float * max; // [BLOCK]
    float * sum; // [BLOCK]
    float * out; // [BLOCK][ld_v]
};

// n values of a cached row, as f32
void row_to_f32(ggml_type type, const void * row, float * out, int64_t n);

} // namespace mla
