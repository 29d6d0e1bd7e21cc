#pragma once

// Rows in planes times up to 8 tokens, in one thread.

#include "input.h"
#include "matrix.h"

namespace planes {

// bytes of scratch memory, at an address that is a multiple of 64
size_t few_scratch(int64_t n_blocks, int64_t n_tokens);

// Groups of rows [first, last) of w times n_tokens of x, n_blocks inputs each; y[t * stride + row]. What `margin` is: rows.h.
// Returns how many rows' lower bits were read.
int64_t few(const matrix & w, int64_t first, int64_t last, const input * x, int64_t n_tokens, float margin, float * y, int64_t stride, char * scratch);

} // namespace planes

#ifdef __cplusplus
extern "C" {
#endif

// y[t * stride + r] of rows [first, last) of w, n_rows rows of n values in planes, for n_tokens (at most 8) of x, n floats
// each; first and last multiples of 16. Returns how many rows' lower bits were read. For tests.
int64_t plm_planes_product(const void * w, int64_t n, int64_t n_rows, int64_t first, int64_t last, const float * x, int64_t n_tokens, float margin, float * y, int64_t stride);

#ifdef __cplusplus
}
#endif
