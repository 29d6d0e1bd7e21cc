#pragma once

// What ggml-cuda/common.cuh and CUDA's libraries give to code of the host, so that it too is executed: plm-sparse-t.cu as it is
// compiled for a GPU. The pool is as strict as the one of virtual memory, which every GPU since Pascal has.

#include "common.cuh"

#include "ggml-backend.h"
#include "ggml-impl.h"

#include <type_traits>

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline void require(bool good, const char * what) {
    if (!good) {
        fprintf(stderr, "the host's code: %s\n", what);
        abort();
    }
}

// What it gives is not zero. What was given last is taken back first.
struct ggml_cuda_pool {
    std::vector<char> memory = std::vector<char>(size_t(32) << 20);
    size_t used = 0;

    void * alloc(size_t size) {
        void * given = memory.data() + used;
        used += GGML_PAD(size, 128);
        require(used <= memory.size(), "the pool is too small for this test");
        memset(given, 0xAA, GGML_PAD(size, 128));
        return given;
    }
    void free(void * given, size_t size) {
        used -= GGML_PAD(size, 128);
        require(given == memory.data() + used, "memory is not given back in reverse order");
    }
};

template <typename T> struct ggml_cuda_pool_alloc {
    ggml_cuda_pool * pool;
    T * ptr = nullptr;
    size_t size = 0;

    explicit ggml_cuda_pool_alloc(ggml_cuda_pool & pool) : pool(&pool) {}
    ggml_cuda_pool_alloc(ggml_cuda_pool & pool, size_t n) : pool(&pool) { alloc(n); }
    ggml_cuda_pool_alloc(const ggml_cuda_pool_alloc &) = delete;
    ~ggml_cuda_pool_alloc() {
        if (ptr) {
            pool->free(ptr, size);
        }
    }
    T * alloc(size_t n) {
        require(!ptr, "memory is asked for twice");
        size = n * sizeof(T);
        return ptr = (T *) pool->alloc(size);
    }
    T * get() { return ptr; }
};

using cudaStream_t = int;
using cublasHandle_t = int;

struct ggml_backend_cuda_context {
    int device = 0;
    ggml_cuda_pool memory;
    ggml_cuda_pool & pool() { return memory; }
    cudaStream_t stream() { return 1; }
    cublasHandle_t cublas_handle() { return 1; }
};

struct ggml_cuda_device_info {
    struct {
        int cc, nsm;
    } devices[1];
};
inline ggml_cuda_device_info the_device{ { { 900, 132 } } };
inline const ggml_cuda_device_info & ggml_cuda_info() { return the_device; }
inline int ggml_cuda_get_device() { return 0; }
inline bool fast_bf16_hardware_available(int cc) { return cc >= 800; }

struct ggml_cuda_kernel_launch_params {
    dim3 grid, block;
    ggml_cuda_kernel_launch_params(dim3 grid, dim3 block, size_t, cudaStream_t) : grid(grid), block(block) {}
};

template <typename Kernel, typename... Args> void ggml_cuda_kernel_launch(Kernel kernel, const ggml_cuda_kernel_launch_params & p, Args... args) {
    const unsigned threads = p.block.x * p.block.y * p.block.z;
    require(threads % 32 == 0 && threads <= 1024, "such blocks there are not");
    require(p.grid.x > 0 && p.grid.x <= 0x7FFFFFFF && p.grid.y > 0 && p.grid.y <= 65535 && p.grid.z > 0 && p.grid.z <= 65535, "such a grid there is not");
    emulator::launch({ p.grid.x, p.grid.y, p.grid.z }, { p.block.x, p.block.y, p.block.z }, [=] { kernel(args...); });
}

using nv_bfloat16 = ggml_bf16_t;

enum cudaDataType_t { CUDA_R_32F,
                      CUDA_R_16BF };
enum { CUBLAS_OP_N,
       CUBLAS_COMPUTE_32F,
       CUBLAS_GEMM_DEFAULT };
#define CUBLAS_CHECK(call) (call)

// cuBLAS: matrices are stored by columns, which are `ld` apart
inline void cublasGemmStridedBatchedEx(cublasHandle_t, int transpose_a, int transpose_b, int m, int n, int k, const void * alpha,
                                       const void * a, cudaDataType_t type_a, int lda, long long stride_a, const void * b, cudaDataType_t type_b, int ldb, long long stride_b,
                                       const void * beta, void * c, cudaDataType_t type_c, int ldc, long long stride_c, int batches, int compute, int) {
    require(transpose_a == CUBLAS_OP_N && transpose_b == CUBLAS_OP_N && compute == CUBLAS_COMPUTE_32F && type_c == CUDA_R_32F && type_a == type_b, "another product");
    require(lda >= m && ldb >= k && ldc >= m && *(const float *) alpha == 1.0f && *(const float *) beta == 0.0f, "another product");
    const auto at = [](const void * from, cudaDataType_t type, long long i) {
        return type == CUDA_R_32F ? ((const float *) from)[i] : ggml_bf16_to_fp32(((const ggml_bf16_t *) from)[i]);
    };
    for (int batch = 0; batch < batches; batch++) {
        for (int col = 0; col < n; col++) {
            std::vector<double> sum(m);
            for (int i = 0; i < k; i++) {
                const double value = at(b, type_b, batch * stride_b + (long long) col * ldb + i);
                for (int row = 0; value != 0.0 && row < m; row++) {
                    sum[row] += value * at(a, type_a, batch * stride_a + (long long) i * lda + row);
                }
            }
            for (int row = 0; row < m; row++) {
                ((float *) c)[batch * stride_c + (long long) col * ldc + row] = float(sum[row]);
            }
        }
    }
}
