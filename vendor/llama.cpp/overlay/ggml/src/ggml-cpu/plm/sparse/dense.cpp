#include "dense.h"

#include "kernels.h"
#include "../vnni.h"
#include "../word-at.h"

#include <algorithm>

namespace sparse_t {

#if defined(PLM_AVX512_VNNI)

namespace {

constexpr int V = PANEL / 16;

// T tokens and a whole panel: T * V sums stay in registers over all rows
template <int T>
void multiply_some(const uint8_t * q, const float * w_scale, int n_quads, const int8_t * x, const float * x_scale, const int32_t * x_sum,
                   float * y, size_t y_stride, int n_columns) {
    __m512i sum[T][V];
    for (int t = 0; t < T; t++) {
        for (int v = 0; v < V; v++) {
            sum[t][v] = _mm512_setzero_si512();
        }
    }
    for (int k = 0; k < n_quads; k++) {
        __m512i w[V];
        for (int v = 0; v < V; v++) {
            w[v] = _mm512_loadu_si512(q + (k * V + v) * 64);
        }
        for (int t = 0; t < T; t++) {
            const __m512i xt = _mm512_set1_epi32(word_at<int32_t>(x + t * DENSE_ROWS + 4 * k));
            for (int v = 0; v < V; v++) {
                sum[t][v] = add_products_of_bytes(sum[t][v], w[v], xt);
            }
        }
    }
    for (int t = 0; t < T; t++) {
        // bytes of W are stored with 128 added, for the instruction takes one side without a sign
        const __m512i excess = _mm512_set1_epi32(128 * x_sum[t]);
        const __m512 scale = _mm512_set1_ps(x_scale[t]);
        for (int v = 0; v < V; v++) {
            const int left = std::clamp(n_columns - 16 * v, 0, 16);
            const __mmask16 there = (__mmask16) ((1u << left) - 1);
            const __m512 s = _mm512_mul_ps(scale, _mm512_loadu_ps(w_scale + 16 * v));
            float * to = y + t * y_stride + 16 * v;
            const __m512 before = _mm512_maskz_loadu_ps(there, to);
            _mm512_mask_storeu_ps(to, there, _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum[t][v], excess)), s, before));
        }
    }
}

} // namespace

bool has_dense() { return true; }

void quantize_token(const float * x, int64_t n, bool relu_sqr, int8_t * q, float * scale, int32_t * sum, int64_t tokens) {
    for (int64_t i0 = 0; i0 < n; i0 += DENSE_ROWS, q += tokens * DENSE_ROWS, scale += tokens, sum += tokens) {
        __m512 v[DENSE_ROWS / 16];
        __m512 most = _mm512_setzero_ps();
        for (int j = 0; j < DENSE_ROWS / 16; j++) {
            const int64_t left = std::clamp<int64_t>(n - i0 - 16 * j, 0, 16);
            v[j] = _mm512_maskz_loadu_ps((__mmask16) ((1u << left) - 1), x + i0 + 16 * j);
            if (relu_sqr) {
                v[j] = _mm512_max_ps(v[j], _mm512_setzero_ps());
                v[j] = _mm512_mul_ps(v[j], v[j]);
            }
            most = _mm512_max_ps(most, _mm512_abs_ps(v[j]));
        }
        const float largest = _mm512_reduce_max_ps(most);
        const __m512 inverse = _mm512_set1_ps(largest > 0 ? 127.0f / largest : 0.0f);
        __m512i total = _mm512_setzero_si512();
        for (int j = 0; j < DENSE_ROWS / 16; j++) {
            const __m512i r = _mm512_cvtps_epi32(_mm512_mul_ps(v[j], inverse));
            total = _mm512_add_epi32(total, r);
            _mm_storeu_si128((__m128i *) (q + 16 * j), _mm512_cvtsepi32_epi8(r));
        }
        *scale = largest / 127.0f;
        *sum = _mm512_reduce_add_epi32(total);
    }
}

bool quantize_panel(const float * panel, int n_rows, uint8_t * q, float * scale) {
    bool finite = true;
    for (int v = 0; v < V; v++) {
        const float * from = panel + 16 * v;
        __m512i most = _mm512_setzero_si512(); // magnitudes of floats order as integers do, NaN above all
        for (int r = 0; r < n_rows; r++) {
            most = _mm512_max_epi32(most, _mm512_castps_si512(_mm512_abs_ps(_mm512_loadu_ps(from + r * PANEL))));
        }
        finite = finite && _mm512_cmpge_epi32_mask(most, _mm512_set1_epi32(0x7f800000)) == 0;
        const __m512 largest = _mm512_castsi512_ps(most);
        _mm512_storeu_ps(scale + 16 * v, _mm512_mul_ps(largest, _mm512_set1_ps(1.0f / 127.0f)));
        const __m512 inverse = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(largest, _mm512_setzero_ps(), _CMP_GT_OQ),
                                                   _mm512_set1_ps(127.0f), largest);
        for (int r = 0; r < n_rows; r += 4) {
            __m512i four = _mm512_setzero_si512();
            for (int i = 0; i < 4; i++) {
                const __m512 w = r + i < n_rows ? _mm512_loadu_ps(from + (r + i) * PANEL) : _mm512_setzero_ps();
                const __m512i b = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(w, inverse)), _mm512_set1_epi32(128));
                four = _mm512_or_si512(four, _mm512_slli_epi32(b, 8 * i));
            }
            _mm512_storeu_si512(q + (r / 4 * V + v) * 64, four);
        }
    }
    return finite;
}

void multiply_panel(const uint8_t * q, const float * w_scale, int n_rows, const int8_t * x, const float * x_scale, const int32_t * x_sum,
                    int64_t n_tokens, float * y, size_t y_stride, int n_columns) {
    constexpr int T = 6; // 24 sums, 4 registers of W, 1 of x
    const int n_quads = (n_rows + 3) / 4;
    const auto some = [&](auto multiply, int64_t t) {
        multiply(q, w_scale, n_quads, x + t * DENSE_ROWS, x_scale + t, x_sum + t, y + t * y_stride, y_stride, n_columns);
    };
    int64_t t = 0;
    for (; t + T <= n_tokens; t += T) {
        some(multiply_some<T>, t);
    }
    for (; t + 2 <= n_tokens; t += 2) {
        some(multiply_some<2>, t);
    }
    for (; t < n_tokens; t++) {
        some(multiply_some<1>, t);
    }
}

#else

// elsewhere products of floats serve every batch
bool has_dense() { return false; }
void quantize_token(const float *, int64_t, bool, int8_t *, float *, int32_t *, int64_t) {}
bool quantize_panel(const float *, int, uint8_t *, float *) { return false; }
void multiply_panel(const uint8_t *, const float *, int, const int8_t *, const float *, const int32_t *, int64_t, float *, size_t, int) {}

#endif

} // namespace sparse_t
