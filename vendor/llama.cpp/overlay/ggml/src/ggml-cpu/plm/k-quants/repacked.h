#pragma once

// Products of repacked rows, where ggml has none for this CPU that keeps up with the memory, or with its multipliers.

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Computes what ggml_gemv_q4_K_8x8_q8_K does; without AVX2 it calls that function.
// s[j] = sum over i of x[j][i] * y[i] for nc rows of n values, x in blocks of eight rows (block_q4_Kx8), y one row of
// block_q8_K (nr is 1), s of nc floats.
void plm_gemv_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc);

// Computes what ggml_gemm_q4_K_8x8_q8_K does, or calls it: the same for nr vectors, a multiple of four, y in blocks of
// four (block_q8_Kx4); s[t * bs + j].
void plm_gemm_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc);

#ifdef __cplusplus
}
#endif
