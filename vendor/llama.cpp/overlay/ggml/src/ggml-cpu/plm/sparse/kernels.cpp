#include "kernels.h"

#include "sum-float.h"
#include "sum-int.h"

#include <algorithm>
#include <utility>

namespace sparse_t {
namespace {

template <class T> void unpack(ggml_type, const char * row, int n_columns, float * out, size_t panel_stride) {
    const int n_blocks = n_columns / T::N;
    const auto place = [&](int c) { return out + c / PANEL * panel_stride + c % PANEL; };
    for (int b = 0; b < n_blocks; b++) {
        const auto & from = ((const typename T::block *) row)[b];
        float scales[SCALES<T>];
        T::prepare(from, scales);
        SPARSE_T_IN_MEMORY(scales);
        each(std::make_integer_sequence<int, T::N / 16>{}, [&](auto j) PLM_LAMBDA {
            constexpr int g = T::GROUPS * 16 * j / T::N;
            f32x16 v = quants<T>(from, j);
            if constexpr (T::OFFSET) {
                v = fma(v, splat(scales[g]), splat(scales[T::GROUPS + g]));
            } else if constexpr (T::GROUPS > 0) {
                v = v * splat(scales[g]);
            }
            store(place(b * T::N + 16 * j), v);
        });
    }
    int c = n_blocks * T::N;
    if constexpr (T::GROUPS == 0) {
        if (c < n_columns) {
            store(place(c), partial_block<T>(row, n_columns));
            c += 16;
        }
    }
    for (; c % PANEL; c += 16) {
        store(place(c), splat(0.0f));
    }
}

// types without a kernel of their own
void unpack_any(ggml_type type, const char * row, int n_columns, float * out, size_t panel_stride) {
    float values[256] = {};
    ggml_get_type_traits(type)->to_float(row, values, n_columns);
    for (int c = 0; c < n_columns; c += PANEL) {
        std::copy_n(values + c, PANEL, out + c / PANEL * panel_stride);
    }
}

template <class T> kernels of() {
#if defined(SPARSE_T_DOT)
    if constexpr (sums_in_integers<T>()) {
        return { SPAN, true, sum_rows_int<T>, sum_shared_int<T>, unpack<T> };
    }
#endif
    return { T::N, false, sum_rows_float<T>, nullptr, unpack<T> };
}

} // namespace

kernels find_kernels(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32:    return of<row_f32>();
        case GGML_TYPE_F16:    return of<row_f16>();
        case GGML_TYPE_BF16:   return of<row_bf16>();
        case GGML_TYPE_Q4_0:   return of<row_q4_0>();
        case GGML_TYPE_Q4_1:   return of<row_q4_1>();
        case GGML_TYPE_Q5_0:   return of<row_q5_0>();
        case GGML_TYPE_Q5_1:   return of<row_q5_1>();
        case GGML_TYPE_Q8_0:   return of<row_q8_0>();
        case GGML_TYPE_Q2_K:   return of<row_q2_k>();
        case GGML_TYPE_Q3_K:   return of<row_q3_k>();
        case GGML_TYPE_Q4_K:   return of<row_q4_k>();
        case GGML_TYPE_Q5_K:   return of<row_q5_k>();
        case GGML_TYPE_Q6_K:   return of<row_q6_k>();
        case GGML_TYPE_IQ4_NL: return of<row_iq4_nl>();
        case GGML_TYPE_IQ4_XS: return of<row_iq4_xs>();
        default:               return { (int) ggml_blck_size(type), false, nullptr, nullptr, unpack_any };
    }
}

void sum_panel(const float * panel, int32_t first, const int32_t * index, const float * x, int n, float * y, int n_columns) {
    constexpr int V = PANEL / 16;

    float padded[PANEL];
    float * from = y;
    if (n_columns < PANEL) {
        std::copy_n(y, n_columns, padded);
        std::fill(padded + n_columns, padded + PANEL, 0.0f);
        from = padded;
    }

    f32x16 sum[V];
    for (int i = 0; i < V; i++) {
        sum[i] = load(from + 16 * i);
    }
    for (int k = 0; k < n; k++) {
        const float * row = panel + (size_t) (index[k] - first) * PANEL;
        const f32x16 xk = splat(x[k]);
        for (int i = 0; i < V; i++) {
            sum[i] = fma(xk, load(row + 16 * i), sum[i]);
        }
    }
    for (int i = 0; i < V; i++) {
        store(from + 16 * i, sum[i]);
    }

    if (n_columns < PANEL) {
        std::copy_n(padded, n_columns, y);
    }
}

int32_t select(const float * x, int32_t n, bool relu_sqr, int32_t * index, float * value, int32_t * starts, uint32_t * mask) {
    int32_t count = 0;
    for (int32_t i0 = 0; i0 < n; i0 += 32) {
        if (starts) {
            starts[i0 / 32] = count;
        }
        uint32_t found = 0;
#if defined(PLM_AVX512)
        for (int32_t i = i0; i < std::min(i0 + 32, n); i += 16) {
            const __mmask16 there = n - i >= 16 ? 0xffff : (__mmask16) ((1u << (n - i)) - 1);
            const __m512 v = _mm512_maskz_loadu_ps(there, x + i);
            // "not less or equal" and "not equal" hold for NaN as well
            const __mmask16 take = relu_sqr ? _mm512_mask_cmp_ps_mask(there, v, _mm512_setzero_ps(), _CMP_NLE_UQ)
                                            : _mm512_mask_cmp_ps_mask(there, v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
            const __m512i at = _mm512_add_epi32(_mm512_set1_epi32(i),
                                                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
            // compressed in a register: compressing stores are slow on Zen 4
            _mm512_storeu_ps(value + count, _mm512_maskz_compress_ps(take, relu_sqr ? _mm512_mul_ps(v, v) : v));
            _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32(take, at));
            count += __builtin_popcount(take);
            found |= (uint32_t) take << (i - i0);
        }
#else
        for (int32_t i = i0; i < std::min(i0 + 32, n); i++) {
            // without a branch: there is no telling which values are 0
            const float v = x[i];
            const bool take = relu_sqr ? !(v <= 0.0f) : v != 0.0f;
            value[count] = relu_sqr ? v * v : v;
            index[count] = i;
            count += take;
            found |= (uint32_t) take << (i - i0);
        }
#endif
        if (mask) {
            mask[i0 / 32] = found;
        }
    }
    if (starts) {
        starts[(n + 31) / 32] = count;
    }
    return count;
}

int32_t select_all(const float * x, int32_t n, int32_t * index, float * value, int32_t * starts, uint32_t * mask) {
    std::fill_n(mask, (n + 31) / 32, 0);
    for (int32_t i = 0; i < n; i++) {
        starts[i / 32] = i / 32 * 32;
        mask[i / 32] |= 1u << i % 32;
        index[i] = i;
        value[i] = x[i] <= 0.0f ? 0.0f : x[i] * x[i];
    }
    starts[(n + 31) / 32] = n;
    return n;
}

} // namespace sparse_t
