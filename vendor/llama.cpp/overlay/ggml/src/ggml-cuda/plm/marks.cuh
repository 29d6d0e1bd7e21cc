#pragma once

// Which rows of W_down a token selects, noted by the product before MUL_MAT_SPARSE_T where it writes its results (mmvq.cu):
// a byte a row, so that nothing need be cleared before and no two blocks of threads write into one word.
//
// The includer brings CUDA's qualifiers: common.cuh, or the emulator of tests/kernels.

// Notes one token's value of a row; `first`: none was noted before. One thread notes all tokens of a row.
static __device__ __forceinline__ void plm_mark(uint8_t * mark, float value, bool first) {
    const bool selected = !(value <= 0.0f); // a NaN as well
    if (first || selected) {
        *mark = selected;
    }
}

// bit i: row 32 * word + i of n_in is marked. `marks` is aligned to 4 and is readable to whole words.
static __device__ __forceinline__ uint32_t plm_marked(const uint8_t * marks, int word, int n_in) {
    const uint32_t * fours = (const uint32_t *) marks + 8 * word;
    uint32_t bits = 0;
    for (int i = 0; i < 8; i++) {
        bits |= ((fours[i] & 0x01010101u) * 0x10204080u >> 28) << (4 * i); // the bytes' lowest bits side by side
    }
    const int left = n_in - 32 * word; // what follows is of no row
    return left < 32 ? bits & ((1u << left) - 1) : bits;
}
