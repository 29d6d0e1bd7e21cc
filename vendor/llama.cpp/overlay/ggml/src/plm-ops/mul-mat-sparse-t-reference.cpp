// MUL_MAT_SPARSE_T by its equation (mul-mat-sparse-t.h), one value after the other.

#include "mul-mat-sparse-t.h"

#include "ggml-impl.h"

#include <algorithm>
#include <vector>

void ggml_mul_mat_sparse_t_reference(ggml_tensor * dst) {
    const ggml_tensor * w = dst->src[0];
    const ggml_tensor * x = dst->src[1];
    const bool relu_sqr = ggml_get_op_params_i32(dst, 0) == GGML_SPARSE_T_RELU_SQR;
    const auto to_float = ggml_get_type_traits(w->type)->to_float;

    std::vector<float> row(w->ne[0]);
    for (int64_t b = 0; b < x->ne[3]; b++) {
        for (int64_t h = 0; h < x->ne[2]; h++) {
            for (int64_t t = 0; t < x->ne[1]; t++) {
                const float * xs = (const float *) ((const char *) x->data + b * x->nb[3] + h * x->nb[2] + t * x->nb[1]);
                float * ys = (float *) ((char *) dst->data + b * dst->nb[3] + h * dst->nb[2] + t * dst->nb[1]);
                for (int64_t c = 0; c < w->ne[0]; c++) {
                    ys[c] = 0.0f;
                }
                for (int64_t i = 0; i < w->ne[1]; i++) {
                    const float xi = !relu_sqr ? xs[i] : (xs[i] <= 0.0f ? 0.0f : xs[i] * xs[i]);
                    if (xi == 0.0f) {
                        continue;
                    }
                    const char * packed = (const char *) w->data + b % w->ne[3] * w->nb[3] + h % w->ne[2] * w->nb[2] + i * w->nb[1];
                    if (w->type == GGML_TYPE_F32) {
                        std::copy_n((const float *) packed, row.size(), row.data());
                    } else {
                        to_float(packed, row.data(), w->ne[0]);
                    }
                    for (int64_t c = 0; c < w->ne[0]; c++) {
                        ys[c] += xi * row[c];
                    }
                }
            }
        }
    }
}
