#pragma once

// What the products of rows in planes read of a token: bytes, as q8_K has them, their sums and squares.

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include <cstdint>

namespace planes {

// of 256 values
struct alignas(64) input {
    int8_t q[QK_K];       // in order: four bytes at a time are multiplied with the upper bits of sixteen rows
    int8_t fields[4][64]; // in the order of a row's lower bits: byte 8 j + 4 h + b of field f is value 32 j + 16 h + 4 f + b
    int16_t sums[8];      // of 32 values
    int16_t squares[8];   // of 32 values, divided by 16 and rounded up
    float d;
};

// Rounds n values, a multiple of 256, into n / 256 of them.
void prepare(const float * x, int64_t n, input * to);

} // namespace planes
