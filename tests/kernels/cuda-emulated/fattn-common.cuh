#pragma once

// Stands in for ggml-cuda/fattn-common.cuh, and for what fattn-mma-f16.cuh takes of common.cuh.

#include "common.cuh"

#include <cfloat>
#include <cmath>

#define SOFTMAX_FTZ_THRESHOLD -20.0f
#define FATTN_KQ_MAX_OFFSET (3.0f * 0.6931f)
#define GGML_CUDA_RESTRICT
#define NO_DEVICE_CODE abort()

// Ampere's code, or Turing's
#define FLASH_ATTN_AVAILABLE
#define TURING_MMA_AVAILABLE
#define GGML_CUDA_CC_TURING 750
#ifdef EMULATE_TURING
#define __CUDA_ARCH__ 750
#else
#define __CUDA_ARCH__ 800
#define AMPERE_MMA_AVAILABLE
#define CP_ASYNC_AVAILABLE
#endif

struct float2 {
    float x, y;
};
struct uint3 {
    uint32_t x, y, z;
};

inline float2 make_float2(float x, float y) { return { x, y }; }
inline float2 __half22float2(half2 v) { return { v.x, v.y }; }
inline uint32_t fastmodulo(uint32_t n, uint3 by) { return n % by.z; }
inline float get_alibi_slope(float, uint32_t, uint32_t, float, float) { return 1.0f; }
constexpr int ggml_cuda_get_physical_warp_size() { return 32; }

template <int n> struct ggml_cuda_unroll {
    template <typename Func> void operator()(const Func & f) const {
        f(std::integral_constant<int, n - 1>());
        if constexpr (n > 1) {
            ggml_cuda_unroll<n - 1>{}(f);
        }
    }
};

// what the host asks of a device
inline bool ampere_mma_available(int) { return false; }
inline bool turing_mma_available(int) { return false; }
inline bool volta_mma_available(int) { return false; }
inline bool amd_mfma_available(int) { return false; }
inline bool amd_wmma_available(int) { return false; }
inline bool cp_async_available(int) { return false; }
