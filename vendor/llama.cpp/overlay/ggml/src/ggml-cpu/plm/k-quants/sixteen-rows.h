#pragma once

// Sixteen rows of q3_K or q5_K side by side, multiplied with vectors of q8_K: four bytes of each row a register, so that
// a sum stays in the lane of its row. In the place of ggml's products row by row, on x86 with AVX2 or more.
//
// A group of sixteen rows takes the bytes that the rows take: codes, then scales, then d, each for all blocks of 256 values.
//
// Codes: 32 values of sixteen rows are three tables of 64 bytes (q3_K), or five (q5_K). Byte 4 r + b of a table belongs to row
// r; bit by bit, with codes[f] that of value 4 f + b:
//
//   q3_K   c[0] c[1] c[3] without its upper bit          q5_K   c[0], bits 0 to 2 of c[5]
//          c[2] c[5] the upper bits of c[3] and c[7]            c[1], bits 3 to 4 of c[5], bit 3 of c[7]
//          c[4] c[6] c[7] without its upper bit                 c[2], bits 0 to 2 of c[6]
//                                                               c[3], bits 3 to 4 of c[6], bit 4 of c[7]
//                                                               c[4], bits 0 to 2 of c[7]
//
// Numbers of six bits: item i of n has its four lower bits in byte i % (n / 2), in the upper half of it from item n / 2 on;
// its two upper bits are bits 2 (4 i / n) on of byte n / 2 + i % (n / 4).
//
//   q3_K   256 scales, item 32 u + 2 r + s: of the 16 values 32 u + 16 s on
//   q5_K   128 scales, item 16 u + r: of the 32 values 32 u on; 128 minima, item 32 p + 2 r + s: of the values 64 p + 32 s on

#include "ggml.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLM_SIXTEEN_ROWS 16

// Whether this CPU has these products, and the matrix is of such a type and shape. One with as many rows as a vocabulary is
// left as it is: its rows are also taken one by one.
bool plm_sixteen_rows_fits(const struct ggml_tensor * w);

// n_rows rows, a multiple of 16, of n values, a multiple of 256
void plm_interleave_q3_K(const void * rows, void * to, int64_t n, int64_t n_rows);
void plm_interleave_q5_K(const void * rows, void * to, int64_t n, int64_t n_rows);

// As ggml_gemv_… and ggml_gemm_… of repack.h: nc rows, times one vector, or times nr of them, a multiple of 4, as
// ggml_quantize_mat_q8_K_4x8 rounds four. A vector's results do not depend on what stands beside it.
void plm_gemv_q3_K_16_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc);
void plm_gemm_q3_K_16_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc);
void plm_gemv_q5_K_16_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc);
void plm_gemm_q5_K_16_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc);

#ifdef __cplusplus
}
#endif
