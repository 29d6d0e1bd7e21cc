#include "quantize-row.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "quants.h"

#include "../x86-features.h"

#if defined(PLM_AVX512)

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

#elif defined(__AVX2__)

#include "../x86-intrinsics.h"
#include <string.h>

void plm_quantize_row_q8_K(const float * x, void * vy, int64_t k) {
    const __m256 positive = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    block_q8_K * y = (block_q8_K *) vy;
    for (int64_t b = 0; b < k / QK_K; b++, x += QK_K, y++) {
        // NaN as above
        __m256 top = _mm256_setzero_ps();
        for (int i = 0; i < QK_K; i += 8) {
            top = _mm256_max_ps(_mm256_and_ps(_mm256_loadu_ps(x + i), positive), top);
        }
        __m128 four = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
        four = _mm_max_ps(four, _mm_movehl_ps(four, four));
        const float most = _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
        if (most == 0.0f) {
            memset(y, 0, sizeof(*y));
            continue;
        }
        float first = most; // with its sign: the one that comes first
        for (int i = 0; i < QK_K; i += 8) {
            const __m256 magnitude = _mm256_and_ps(_mm256_loadu_ps(x + i), positive);
            const int there = _mm256_movemask_ps(_mm256_cmp_ps(magnitude, _mm256_set1_ps(most), _CMP_EQ_OQ));
            if (there) {
                first = x[i + __builtin_ctz(there)];
                break;
            }
        }
        const float inverse = -127.0f / first;
        const auto rounded = [&](const float * from) {
            const __m256 v = _mm256_mul_ps(_mm256_loadu_ps(from), _mm256_set1_ps(inverse));
            return _mm256_cvtps_epi32(_mm256_and_ps(v, _mm256_cmp_ps(v, v, _CMP_ORD_Q))); // the reference gives 0 for NaN
        };
        for (int i = 0; i < QK_K; i += 16) {
            const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(rounded(x + i), rounded(x + i + 8)), 0xd8);
            const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
            _mm_storeu_si128((__m128i *) (y->qs + i), bytes);
            const __m128i sums = _mm_sad_epu8(_mm_xor_si128(bytes, _mm_set1_epi8((char) 0x80)), _mm_setzero_si128());
            y->bsums[i / 16] = (int16_t) (_mm_cvtsi128_si32(sums) + _mm_extract_epi32(sums, 2) - 16 * 128);
        }
        y->d = 1.0f / inverse;
    }
}

#else

void plm_quantize_row_q8_K(const float * x, void * y, int64_t k) { quantize_row_q8_K(x, y, k); }

#endif
