#pragma once

// All logits by the codes of two bits.

#include "plm-head/plm-head.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include <cstdint>

namespace head {

// What is multiplied with the codes, of one token.
struct token {
    const block_q8_K * blocks; // s_k (z_j(k) - mean), rounded to bytes by blocks of 256
    const float * offsets;     // of each, -3 times the sum of its bytes
    float base;                // m h
};

// y[t * stride + row] of the groups [first, last) of n_rows rows, for at most 8 tokens; their largest values to most[t], where
// they are larger.
void coarse(const plm_head_block * codes, int64_t n_blocks, const float * bias, int64_t n_rows, int64_t first, int64_t last, const token * x, int64_t n_tokens, float * y, int64_t stride, float * most);

} // namespace head
