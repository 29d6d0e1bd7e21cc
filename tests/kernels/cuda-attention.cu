// Attention's kernels that upstream does not have, for the compiler to say what they take: over quantised caches, and of 192/128
// with keys of each head's own. CASE is which: they compile for long, and side by side.

#include "ggml-cuda/fattn-mma-f16.cuh"

#define KERNEL(k, v, ncols1, ncols2, is_view, row)                                                                                                                         \
    template __global__ void flash_attn_ext_f16<k, v, ncols1, ncols2, false, is_view, false, row>(                                                                         \
        const char *, const char *, const char *, const char *, const char *, const int *, float *, float2 *, float, float, float, float, uint32_t, float, int32_t, uint3, \
        int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int32_t, int64_t, int32_t, int32_t, int64_t, int32_t, int32_t, int32_t,  \
        int32_t, int32_t, int64_t);

#define CACHED(row)                    \
    KERNEL(576, 512, 1, 16, true, row) \
    KERNEL(576, 512, 2, 16, true, row) \
    KERNEL(576, 512, 4, 16, true, row)

#if CASE == 0
CACHED(block_q8_0)
#elif CASE == 1
CACHED(block_q4_0)
#elif CASE == 2
KERNEL(192, 128, 8, 1, false, half2)
KERNEL(192, 128, 16, 1, false, half2)
KERNEL(192, 128, 32, 1, false, half2)
KERNEL(192, 128, 64, 1, false, half2)
#else
CACHED(half2) // upstream's, for comparison
#endif
