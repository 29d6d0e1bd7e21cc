#pragma once

// Dot products of one row, where ggml has none for this CPU that keeps up with the memory.

#include "ggml-cpu.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Computes what ggml_vec_dot_q5_K_q8_K does; without AVX2 it calls that function. The edge layout's output
// matrix is q5_K, and is not repacked: its rows are looked up as embeddings as well.
void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc);

// The same for ggml_vec_dot_q4_K_q8_K: half of W_kvb is multiplied head by head, by its rows as they lie.
void plm_vec_dot_q4_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc);

// The same for ggml_vec_dot_q6_K_q8_K: attention's output matrix is q6_K.
void plm_vec_dot_q6_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc);

// The dot product of a type's row x, for rows that are picked one here, one there: with the bits of the type's function, but what
// is asked of the memory meanwhile is the row `later`.
void plm_dot_of_picked(enum ggml_type type, int n, float * s, const void * x, const void * y, const void * later);

#ifdef __cplusplus
}
#endif
