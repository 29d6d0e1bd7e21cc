#include "quantize-row.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "quants.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)

#include "../x86-intrinsics.h"
#include <string.h>

void plm_quantize_row_q8_K(const float * x, void * vy, int64_t k) {
    block_q8_K * y = (block_q8_K *) vy;
    for (int64_t b = 0; b < k / QK_K; b++, x += QK_K, y++) {
        // a NaN as the first operand gives the second: it is passed over, as by the reference's comparison
        __m512 top = _mm512_setzero_ps();
        for (int i = 0; i < QK_K; i += 16) {
            top = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(x + i)), top);
        }
        const float most = _mm512_reduce_max_ps(top);
        if (most == 0.0f) {
            memset(y, 0, sizeof(*y));
            continue;
        }
        float first = most; // with its sign: the one that comes first
        for (int i = 0; i < QK_K; i += 16) {
            const __mmask16 there = _mm512_cmpeq_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(x + i)), _mm512_set1_ps(most));
            if (there) {
                first = x[i + __builtin_ctz(there)];
                break;
            }
        }
        const float inverse = -127.0f / first;
        for (int i = 0; i < QK_K; i += 16) {
            const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(inverse));
            const __m512i q = _mm512_maskz_cvtps_epi32(_mm512_cmpord_ps_mask(v, v), v); // the reference gives 0 for NaN
            _mm_storeu_si128((__m128i *) (y->qs + i), _mm512_cvtepi32_epi8(q));
            y->bsums[i / 16] = (int16_t) _mm512_reduce_add_epi32(q);
        }
        y->d = 1.0f / inverse;
    }
}

#else

void plm_quantize_row_q8_K(const float * x, void * y, int64_t k) { quantize_row_q8_K(x, y, k); }

#endif
