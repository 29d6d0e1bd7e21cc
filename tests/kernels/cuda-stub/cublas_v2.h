#pragma once

// What ggml-cuda/common.cuh names of cuBLAS, so that kernels compile where its headers are not.

typedef struct cublasContext * cublasHandle_t;
typedef int cublasStatus_t;
enum { CUBLAS_STATUS_SUCCESS,
       CUBLAS_TF32_TENSOR_OP_MATH };
cublasStatus_t cublasCreate(cublasHandle_t *);
cublasStatus_t cublasSetMathMode(cublasHandle_t, int);
cublasStatus_t cublasSetStream(cublasHandle_t, cudaStream_t);
const char * cublasGetStatusString(cublasStatus_t);
