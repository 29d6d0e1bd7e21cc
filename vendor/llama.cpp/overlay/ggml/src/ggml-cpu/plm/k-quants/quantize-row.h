#pragma once

// Rounding of a row to what dot products take, where ggml has no fast version for this CPU.

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Rounds k floats of x to blocks of block_q8_K, k a multiple of 256, with the bits that quantize_row_q8_K gives. One
// thread does this while the others wait, before each product with rows of K-quants.
void plm_quantize_row_q8_K(const float * x, void * y, int64_t k);

#ifdef __cplusplus
}
#endif
