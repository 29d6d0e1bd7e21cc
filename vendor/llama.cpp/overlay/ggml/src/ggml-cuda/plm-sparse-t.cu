#include "plm-sparse-t.cuh"

#include "convert.cuh"
#include "mmvq.cuh"
#include "plm/sparse-t-plan.h"

#include <algorithm>

#if defined(GGML_USE_HIP) || defined(GGML_USE_MUSA)

// their warps are not always of 32 threads
void ggml_cuda_mul_mat_sparse_t(ggml_backend_cuda_context &, ggml_tensor *) { GGML_ABORT("MUL_MAT_SPARSE_T is not supported"); }

void ggml_cuda_mul_mat_and_sparse_t(ggml_backend_cuda_context &, ggml_tensor *, ggml_tensor *) { GGML_ABORT("MUL_MAT_SPARSE_T is not supported"); }

bool ggml_cuda_mul_mat_marks(const ggml_tensor *, const ggml_tensor *) { return false; }

bool ggml_cuda_mul_mat_sparse_t_supported(const ggml_tensor *) { return false; }

#else

#include "plm/sparse-t.cuh"

namespace {

constexpr int MOST_BLOCKS = 65535; // of a grid's second dimension

// one call of the op
struct call {
    ggml_backend_cuda_context & ctx;
    const plm_sparse_t_shape s;
    const char * w;
    const float * x;
    float * y;
    const uint8_t * marks; // of the rows that are selected, or null

    template <typename Kernel, typename... Args>
    void launch(Kernel kernel, dim3 grid, dim3 block, Args... args) const {
        ggml_cuda_kernel_launch(kernel, ggml_cuda_kernel_launch_params(grid, block, size_t(0), ctx.stream()), args...);
    }

    template <ggml_type type, int most, bool relu_sqr> void sum() const {
        const plm_sparse_t_plan plan = plm_sparse_t_plan_of(s, relu_sqr, ggml_cuda_info().devices[ctx.device].nsm);
        const int n = s.n_out * s.n_tokens * s.n_slices;
        ggml_cuda_pool_alloc<uint32_t> mask(ctx.pool());
        if (relu_sqr && !marks) {
            mask.alloc(size_t((s.n_in + 31) / 32) * s.n_slices); // before the sums: a pool takes back in reverse order
        }
        ggml_cuda_pool_alloc<float> part(ctx.pool(), size_t(n) * plan.parts);
        if (relu_sqr && !marks) {
            launch(plm_select<true>, dim3((s.n_in + 255) / 256, s.n_slices), dim3(PLM_THREADS), x, mask.get(), s);
        }
        launch(plm_sum<type, most, relu_sqr>, dim3(plan.splits, plan.tiles, s.n_slices), dim3(PLM_THREADS), w, x, marks ? (const void *) marks : mask.get(), marks != nullptr, part.get(), s, plan.across);
        launch(plm_add, dim3((n + 31) / 32), dim3(32, PLM_WARPS), (const float *) part.get(), y, n, plan.parts);
    }

    template <ggml_type type, bool relu_sqr, typename dense_t> void multiply(cudaDataType_t data) const {
        const int w_slices = s.w_heads * s.w_batches;
        ggml_cuda_pool_alloc<dense_t> dense_w(ctx.pool(), size_t(s.n_out) * s.n_in * w_slices);
        ggml_cuda_pool_alloc<dense_t> dense_x(ctx.pool(), size_t(s.n_in) * s.n_tokens * s.n_slices);
        const int64_t warps = int64_t(s.n_in) * ((s.n_out + 255) / 256);
        launch(plm_unpack<type, dense_t>, dim3((warps + PLM_WARPS - 1) / PLM_WARPS, w_slices), dim3(PLM_THREADS), w, dense_w.get(), s);
        launch(plm_activate<relu_sqr, dense_t>, dim3((s.n_in + 255) / 256, std::min(s.n_tokens, MOST_BLOCKS), s.n_slices), dim3(PLM_THREADS), x, dense_x.get(), s);

        const float one = 1.0f, zero = 0.0f;
        const int64_t of_w = int64_t(s.n_out) * s.n_in, of_x = int64_t(s.n_in) * s.n_tokens, of_y = int64_t(s.n_out) * s.n_tokens;
        for (int batch = 0; batch < s.n_slices / s.n_heads; batch++) {
            // W's rows are the columns of cuBLAS's matrix, so neither is transposed
            CUBLAS_CHECK(cublasGemmStridedBatchedEx(ctx.cublas_handle(), CUBLAS_OP_N, CUBLAS_OP_N, s.n_out, s.n_tokens, s.n_in, &one,
                                                    dense_w.get() + (s.w_batches == 1 ? 0 : batch) * s.w_heads * of_w, data, s.n_out, s.w_heads == 1 ? 0 : of_w,
                                                    dense_x.get() + batch * s.n_heads * of_x, data, s.n_in, of_x, &zero,
                                                    y + batch * s.n_heads * of_y, CUDA_R_32F, s.n_out, of_y, s.n_heads, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
        }
    }

    template <ggml_type type, bool relu_sqr> void of_type() const {
        if (s.n_tokens > PLM_SPARSE_T_TOKENS) {
            if (!plm_rows<type>::exact && fast_bf16_hardware_available(ggml_cuda_info().devices[ctx.device].cc)) {
                multiply<type, relu_sqr, nv_bfloat16>(CUDA_R_16BF);
            } else {
                multiply<type, relu_sqr, float>(CUDA_R_32F);
            }
        } else if (s.n_tokens > 4) {
            sum<type, 8, relu_sqr>();
        } else if (s.n_tokens > 2) {
            sum<type, 4, relu_sqr>();
        } else if (s.n_tokens > 1) {
            sum<type, 2, relu_sqr>();
        } else {
            sum<type, 1, relu_sqr>();
        }
    }

    template <bool relu_sqr> void run(ggml_type type) const {
        switch (type) {
            case GGML_TYPE_F32:  return of_type<GGML_TYPE_F32, relu_sqr>();
            case GGML_TYPE_F16:  return of_type<GGML_TYPE_F16, relu_sqr>();
            case GGML_TYPE_Q8_0: return of_type<GGML_TYPE_Q8_0, relu_sqr>();
            case GGML_TYPE_Q4_0: return of_type<GGML_TYPE_Q4_0, relu_sqr>();
            case GGML_TYPE_Q4_K: return of_type<GGML_TYPE_Q4_K, relu_sqr>();
            case GGML_TYPE_Q5_K: return of_type<GGML_TYPE_Q5_K, relu_sqr>();
            case GGML_TYPE_Q6_K: return of_type<GGML_TYPE_Q6_K, relu_sqr>();
            default:             GGML_ABORT("MUL_MAT_SPARSE_T of this type is not supported");
        }
    }
};

} // namespace

static void compute(ggml_backend_cuda_context & ctx, ggml_tensor * dst, const uint8_t * marks) {
    const call c{ ctx, plm_sparse_t_shape_of(dst), (const char *) dst->src[0]->data, (const float *) dst->src[1]->data, (float *) dst->data, marks };
    if (ggml_get_op_params_i32(dst, 0) == GGML_SPARSE_T_RELU_SQR) {
        c.run<true>(dst->src[0]->type);
    } else {
        c.run<false>(dst->src[0]->type);
    }
}

void ggml_cuda_mul_mat_sparse_t(ggml_backend_cuda_context & ctx, ggml_tensor * dst) { compute(ctx, dst, nullptr); }

bool ggml_cuda_mul_mat_marks(const ggml_tensor * product, const ggml_tensor * next) {
    if (product->op != GGML_OP_MUL_MAT || next->op != GGML_OP_MUL_MAT_SPARSE_T || next->src[1] != product ||
        ggml_get_op_params_i32(next, 0) != GGML_SPARSE_T_RELU_SQR || !(next->flags & GGML_TENSOR_FLAG_COMPUTE)) {
        return false;
    }
    const ggml_tensor * w = product->src[0];
    const int cc = ggml_cuda_info().devices[ggml_cuda_get_device()].cc;
    return ggml_is_quantized(w->type) && ggml_backend_buffer_get_usage(w->buffer) == GGML_BACKEND_BUFFER_USAGE_WEIGHTS &&
           product->src[1]->type == GGML_TYPE_F32 && ggml_is_matrix(product) && product->ne[1] <= std::min(PLM_SPARSE_T_TOKENS, MMVQ_MAX_BATCH_SIZE) &&
           ggml_cuda_should_use_mmvq(w->type, cc, product->ne[1]);
}

void ggml_cuda_mul_mat_and_sparse_t(ggml_backend_cuda_context & ctx, ggml_tensor * product, ggml_tensor * next) {
    ggml_cuda_pool_alloc<uint8_t> marks(ctx.pool(), GGML_PAD(product->ne[0], 32));
    ggml_cuda_mm_fusion_args_host fusion{};
    fusion.plm_marks = marks.get();
    ggml_cuda_mul_mat_vec_q(ctx, product->src[0], product->src[1], nullptr, product, &fusion);
    compute(ctx, next, marks.get());
}

bool ggml_cuda_mul_mat_sparse_t_supported(const ggml_tensor * dst) { return plm_sparse_t_takes(dst); }

#endif
