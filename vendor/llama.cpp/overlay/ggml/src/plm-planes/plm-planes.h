// Rows of q4_K in planes: the form in which version 2 of the edge layout stores the up projection.
//
// A value of q4_K is a code of four bits, times a scale, less a minimum. Here the two upper bits of sixteen rows lie side
// by side, with their scales; the two lower ones follow row by row. What the upper bits give tells for most rows that
// squared ReLU makes zero of them, and then their lower bits are not read (ggml-cpu/plm/planes/). The values and the size
// are those of the same rows in q4_K.
//
// A matrix of n_rows rows of n values, n a multiple of 256 and n_rows one of 16, is two tables, one after the other:
//
//   plm_planes_block [n_rows / 16][n / 256]
//   lower bits       [n_rows][n / 256][8 sub-blocks][2 halves][4 bytes], packed as the upper ones

#pragma once

#include "ggml.h"

#define PLM_PLANES_ROWS 16
#define PLM_PLANES_LOW 64 // bytes of the lower bits of 256 values

#ifdef __cplusplus
extern "C" {
#endif

// 256 values of sixteen rows. A number of six bits, of sub-block j (32 values) and row r, is item 16 j + r: its four
// lower bits are the lower or, from item 64 on, the upper half of byte item % 64; its two upper bits are bits
// 2 (item / 32) on of byte item % 32.
struct plm_planes_block {
    ggml_fp16_t d[PLM_PLANES_ROWS], dmin[PLM_PLANES_ROWS];
    uint8_t scale_low[64], scale_high[32];
    uint8_t min_low[64], min_high[32];
    // [sub-block][half][4 r + b]: bits 2f and 2f + 1 belong to value 16 half + 4 f + b of the sub-block
    uint8_t high[8][2][64];
};

// whether a matrix of this type and shape can be stored so
GGML_API bool plm_planes_fits(enum ggml_type type, int64_t n, int64_t n_rows);

// From n_rows rows of q4_K, a multiple of 16, to their parts of the two tables, and back.
GGML_API void plm_planes_pack(const void * rows, void * blocks, void * low, int64_t n, int64_t n_rows);
GGML_API void plm_planes_unpack(const void * blocks, const void * low, void * rows, int64_t n, int64_t n_rows);

#ifdef __cplusplus
}
#endif
