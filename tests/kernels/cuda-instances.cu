// Every instance of MUL_MAT_SPARSE_T's kernels that ggml-cuda/plm-sparse-t.cu launches, for the compiler to say what they take.
// It stands without ggml-cuda/common.cuh, which wants cuBLAS's headers.

#include "ggml.h"
#define GGML_COMMON_DECL_CUDA
#include "ggml-common.h"

#include <cuda_bf16.h>

static __device__ __forceinline__ void ggml_cuda_pdl_sync() {}
static __device__ __forceinline__ void ggml_cuda_pdl_lc() {}

template <typename T> static __device__ __forceinline__ T ggml_cuda_cast(float value) { return T(value); }

#include "ggml-cuda/plm/sparse-t.cuh"

#define TOKENS(type, relu_sqr, most) \
    template __global__ void plm_sum<type, most, relu_sqr>(const char *, const float *, const void *, bool, float *, plm_sparse_t_shape, int);
#define TYPE(type)                                                                               \
    TOKENS(type, true, 1)                                                                        \
    TOKENS(type, true, 2)                                                                        \
    TOKENS(type, true, 4)                                                                        \
    TOKENS(type, true, 8)                                                                        \
    TOKENS(type, false, 1)                                                                       \
    TOKENS(type, false, 2)                                                                       \
    TOKENS(type, false, 4)                                                                       \
    TOKENS(type, false, 8)                                                                       \
    template __global__ void plm_unpack<type, float>(const char *, float *, plm_sparse_t_shape); \
    template __global__ void plm_unpack<type, nv_bfloat16>(const char *, nv_bfloat16 *, plm_sparse_t_shape);

TYPE(GGML_TYPE_F32)
TYPE(GGML_TYPE_F16)
TYPE(GGML_TYPE_Q8_0)
TYPE(GGML_TYPE_Q4_0)
TYPE(GGML_TYPE_Q4_K)
TYPE(GGML_TYPE_Q5_K)
TYPE(GGML_TYPE_Q6_K)

template __global__ void plm_select<true>(const float *, uint32_t *, plm_sparse_t_shape);
template __global__ void plm_activate<true, float>(const float *, float *, plm_sparse_t_shape);
template __global__ void plm_activate<true, nv_bfloat16>(const float *, nv_bfloat16 *, plm_sparse_t_shape);
template __global__ void plm_activate<false, float>(const float *, float *, plm_sparse_t_shape);
template __global__ void plm_activate<false, nv_bfloat16>(const float *, nv_bfloat16 *, plm_sparse_t_shape);

// named by the host, or they are left out
const void * const kernels[] = { (const void *) plm_add };
