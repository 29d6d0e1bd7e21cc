#pragma once

// CUDA's half for the emulator: 16 bits that convert to float.

#include "ggml.h"

struct half {
    ggml_fp16_t bits;
    operator float() const { return ggml_fp16_to_fp32(bits); }
};

struct half2 {
    half x, y;
};
