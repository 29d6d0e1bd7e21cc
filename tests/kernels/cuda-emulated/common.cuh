#pragma once

// Stands in for ggml-cuda/common.cuh where kernels are executed by the emulator.

#include "emulator.h"

#include "ggml.h"
#define GGML_COMMON_DECL_CUDA
#include "ggml-common.h"

#include <algorithm>

using std::max;
using std::min;

inline void ggml_cuda_pdl_sync() {}
inline void ggml_cuda_pdl_lc() {}

template <typename T> T ggml_cuda_cast(float value);
template <> inline float ggml_cuda_cast<float>(float value) { return value; }
template <> inline ggml_bf16_t ggml_cuda_cast<ggml_bf16_t>(float value) { return ggml_fp32_to_bf16(value); }

// a copy that a GPU does by one instruction
template <int bytes> void ggml_cuda_memcpy_1(void * to, const void * from) {
    if (uintptr_t(to) % bytes != 0 || uintptr_t(from) % bytes != 0) {
        fprintf(stderr, "a copy of %d bytes is not aligned\n", bytes);
        abort();
    }
    memcpy(to, from, bytes);
}
