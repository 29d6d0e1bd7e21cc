#pragma once

// The lower bits of single rows, times x and the scales that `block_scales` kept.

#include "input.h"
#include "lanes.h"

namespace planes {
namespace {

// One block of a row.
struct low_block {
    const uint8_t * low;
    const input * x;
    const uint8_t * scales; // that `keep` kept
    int row;                // of the sixteen
};

// to[i]: of row[i] the lower bits of 256 values, times x and the scales of the eight sub-blocks, summed
#if defined(PLM_AVX512_VBMI)

PLM_INLINE void lower_sums(const low_block (&row)[4], int32_t * to) {
    const __m512i two = _mm512_set1_epi8(3), next = _mm512_set1_epi8(12);
    // a scale to both words of a sub-block, 32 bits each
    const __m512i sub_block = _mm512_cvtepu8_epi32(_mm_setr_epi8(0, 0, 16, 16, 32, 32, 48, 48, 64, 64, 80, 80, 96, 96, 112, 112));
    __m512i sum[4];
    for (int i = 0; i < 4; i++) {
        const __m512i v = load_once(row[i].low), w = _mm512_srli_epi16(v, 4);
        const auto with = [&](int f) PLM_LAMBDA { return _mm512_load_si512(row[i].x->fields[f]); };
        const __m512i fours = add_products_of_bytes(add_products_of_bytes(_mm512_setzero_si512(), _mm512_and_si512(v, next), with(1)), _mm512_and_si512(w, next), with(3));
        const __m512i ones = add_products_of_bytes(_mm512_srai_epi32(fours, 2), _mm512_and_si512(v, two), with(0));
        const __m512i dots = add_products_of_bytes(ones, _mm512_and_si512(w, two), with(2)); // below 2^15 each
        const __m512i scales = _mm512_maskz_permutex2var_epi8(0x1111111111111111, _mm512_loadu_si512(row[i].scales),
                                                              _mm512_add_epi8(sub_block, _mm512_set1_epi8((char) row[i].row)), _mm512_loadu_si512(row[i].scales + 64));
        sum[i] = _mm512_madd_epi16(dots, scales);
    }
    const auto halves = [](__m512i a, __m512i b) PLM_LAMBDA { return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b)); };
    const __m512i ab = halves(sum[0], sum[1]), cd = halves(sum[2], sum[3]);
    const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    _mm_storeu_si128((__m128i *) to, _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

#elif defined(PLM_AVX512) || defined(PLM_AVX2)

PLM_INLINE void lower_sums(const low_block (&row)[4], int32_t * to) {
    const __m256i two = _mm256_set1_epi8(3), next = _mm256_set1_epi8(12);
    // a scale to the four words of a sub-block, of which there are two in each half
    const __m256i to_words = _mm256_setr_epi64x((int64_t) 0x8000800080008000, (int64_t) 0x8001800180018001, (int64_t) 0x8002800280028002, (int64_t) 0x8003800380038003);
    __m256i sum[4];
    for (int r = 0; r < 4; r++) {
        const __m256i scales = _mm256_set1_epi64x(word_at<int64_t>(row[r].scales + 8 * row[r].row));
        sum[r] = _mm256_setzero_si256();
        for (int i = 0; i < 2; i++) {
            const __m256i v = _mm256_loadu_si256((const __m256i *) (row[r].low + 32 * i)), w = _mm256_srli_epi16(v, 4);
            const auto with = [&](int f) PLM_LAMBDA { return _mm256_load_si256((const __m256i *) (row[r].x->fields[f] + 32 * i)); };
            const __m256i ones = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(v, two), with(0)), _mm256_maddubs_epi16(_mm256_and_si256(w, two), with(2)));
            const __m256i fours = _mm256_add_epi16(_mm256_maddubs_epi16(_mm256_and_si256(v, next), with(1)), _mm256_maddubs_epi16(_mm256_and_si256(w, next), with(3)));
            const __m256i dots = _mm256_add_epi16(ones, _mm256_srai_epi16(fours, 2));
            const __m256i spread = _mm256_shuffle_epi8(scales, _mm256_add_epi8(to_words, _mm256_set1_epi16(short(4 * i))));
            sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(dots, spread));
        }
    }
    const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3]));
    _mm_storeu_si128((__m128i *) to, _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1)));
}

#elif defined(PLM_NEON)

PLM_INLINE void lower_sums(const low_block (&row)[4], int32_t * to) {
    const uint8x16_t two = vdupq_n_u8(3);
    for (int r = 0; r < 4; r++) {
        const uint8_t * scale = row[r].scales + 8 * row[r].row;
        int32x4_t sum = vdupq_n_s32(0);
        for (int i = 0; i < 4; i++) { // two sub-blocks
            const uint8x16_t v = vld1q_u8(row[r].low + 16 * i);
            const uint8x16_t codes[4] = { vandq_u8(v, two), vandq_u8(vshrq_n_u8(v, 2), two), vandq_u8(vshrq_n_u8(v, 4), two), vshrq_n_u8(v, 6) };
#if defined(PLANES_DOT_NEON)
            int32x4_t dots = vdupq_n_s32(0);
            for (int f = 0; f < 4; f++) {
                dots = vdotq_s32(dots, vreinterpretq_s8_u8(codes[f]), vld1q_s8(row[r].x->fields[f] + 16 * i));
            }
#else
            int16x8_t first = vdupq_n_s16(0), second = first;
            for (int f = 0; f < 4; f++) {
                const int8x16_t with = vld1q_s8(row[r].x->fields[f] + 16 * i), code = vreinterpretq_s8_u8(codes[f]);
                first = vmlal_s8(first, vget_low_s8(code), vget_low_s8(with));
                second = vmlal_high_s8(second, code, with);
            }
            const int32x4_t dots = vpaddlq_s16(vpaddq_s16(first, second));
#endif
            const int32_t a = scale[2 * i], b = scale[2 * i + 1];
            sum = vmlaq_s32(sum, dots, vcombine_s32(vdup_n_s32(a), vdup_n_s32(b)));
        }
        to[r] = vaddvq_s32(sum);
    }
}

#else

PLM_INLINE void lower_sums(const low_block (&row)[4], int32_t * to) {
    for (int r = 0; r < 4; r++) {
        const uint8_t * scale = row[r].scales + 8 * row[r].row;
        to[r] = 0;
        for (int j = 0; j < 8; j++) {
            int32_t dot = 0;
            for (int at = 8 * j; at < 8 * j + 8; at++) {
                for (int f = 0; f < 4; f++) {
                    dot += (row[r].low[at] >> (2 * f) & 3) * row[r].x->fields[f][at];
                }
            }
            to[r] += scale[j] * dot;
        }
    }
}

#endif

} // namespace
} // namespace planes
