#pragma once

// CUDA's half for the emulator: 16 bits that convert to float and back. An operation is of floats, which hold sums and
// products of two halves exactly or nearly so, and is rounded once, as a GPU does.

#include "ggml.h"

struct half {
    ggml_fp16_t bits;
    half() = default;
    half(float value) : bits(ggml_fp32_to_fp16(value)) {}
    operator float() const { return ggml_fp16_to_fp32(bits); }
};

struct half2 {
    half x, y;
};

inline half __float2half(float value) { return half(value); }
inline float __half2float(half value) { return value; }
inline half2 make_half2(half x, half y) { return { x, y }; }
inline half2 __halves2half2(half x, half y) { return { x, y }; }
inline half2 __hsub2(half2 a, half2 b) { return { float(a.x) - float(b.x), float(a.y) - float(b.y) }; }
inline half2 __hmul2(half2 a, half2 b) { return { float(a.x) * float(b.x), float(a.y) * float(b.y) }; }
inline half2 operator*(half2 a, half2 b) { return __hmul2(a, b); }
inline half2 & operator*=(half2 & a, half2 b) { return a = a * b; }
