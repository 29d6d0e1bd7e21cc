#pragma once

// A dense product of 8-bit integers, for batches in which so many rows are selected that skipping the others
// saves less than integers do.
//
// Blocks of DENSE_ROWS rows of W and of as many values of x are rounded to 8 bits with a scale a column and a
// scale a token: what ggml's dense products do with x, and finer by a factor of 8 to 16 than the steps of a
// four-bit W. Used for quantised W alone, and for finite values alone.

#include <cstddef>
#include <cstdint>

namespace sparse_t {

constexpr int DENSE_ROWS = 256;

// whether this CPU has the product; the other functions may be called only then
bool has_dense();

// n values of a token, as max(0, x)^2 or as they are, in blocks: scale[b] * q[i], and the sum of each block's q.
// The last block is filled up with zeros. From one block to the next there are `tokens` of them, scales and sums: the
// tokens of a block lie together, for rows of 8192 bytes each would compete for the same few lines of a cache.
void quantize_token(const float * x, int64_t n, bool relu_sqr, int8_t * q, float * scale, int32_t * sum, int64_t tokens);

// A panel of n_rows <= DENSE_ROWS rows of PANEL floats to bytes q, DENSE_ROWS * PANEL of them, and a scale a
// column. Returns false when a value is not finite.
bool quantize_panel(const float * panel, int n_rows, uint8_t * q, float * scale);

// y[t][c] += w_scale[c] * x_scale[t] * sum of q and x over the n_rows rows of a block, c in [0, n_columns).
// y_stride: from one token to the next, in elements.
void multiply_panel(const uint8_t * q, const float * w_scale, int n_rows, const int8_t * x, const float * x_scale, const int32_t * x_sum,
                    int64_t n_tokens, float * y, size_t y_stride, int n_columns);

} // namespace sparse_t
