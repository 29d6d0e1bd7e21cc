#pragma once

// What ggml-cuda/common.cuh and plm-sparse-t.cu name of cuBLAS, so that they compile where its headers are not.

#include <library_types.h>

typedef struct cublasContext * cublasHandle_t;
typedef int cublasStatus_t;
enum { CUBLAS_STATUS_SUCCESS,
       CUBLAS_TF32_TENSOR_OP_MATH };
enum cublasOperation_t { CUBLAS_OP_N };
enum cublasComputeType_t { CUBLAS_COMPUTE_32F };
enum cublasGemmAlgo_t { CUBLAS_GEMM_DEFAULT };
cublasStatus_t cublasCreate(cublasHandle_t *);
cublasStatus_t cublasSetMathMode(cublasHandle_t, int);
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t);
const char * cublasGetStatusString(cublasStatus_t);
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                                          const void * alpha, const void * a, cudaDataType, int lda, long long stride_a,
                                          const void * b, cudaDataType, int ldb, long long stride_b,
                                          const void * beta, void * c, cudaDataType, int ldc, long long stride_c,
                                          int batches, cublasComputeType_t, cublasGemmAlgo_t);
