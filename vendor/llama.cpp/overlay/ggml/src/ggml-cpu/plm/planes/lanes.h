#pragma once

// Integers of sixteen rows, whatever the CPU, and the products of bytes that the upper bits need.
//
//   i32x16   a sum a row

#include "../sixteen.h"
#include "../vnni.h"
#include "../word-at.h"

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#define PLANES_DOT_NEON
#endif

namespace planes {

using namespace sixteen;

namespace {

#if defined(PLM_AVX512_VNNI)

struct i32x16 {
    __m512i v;
};

PLM_INLINE i32x16 no_sums() { return { _mm512_setzero_si512() }; }
PLM_INLINE void store(int32_t * p, i32x16 a) { _mm512_storeu_si512(p, a.v); }
PLM_INLINE f32x16 floats(i32x16 a) { return { _mm512_cvtepi32_ps(a.v) }; }

// row by row a byte of `even` and one of `odd`, as words
PLM_INLINE __m512i pairs(const uint8_t * even, const uint8_t * odd) {
    const __m128i a = _mm_loadu_si128((const __m128i *) even), b = _mm_loadu_si128((const __m128i *) odd);
    return _mm512_cvtepu8_epi16(_mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b)));
}
PLM_INLINE i32x16 add_words(i32x16 sum, __m512i a, const int16_t * two) {
    return { add_products_of_words(sum.v, a, _mm512_set1_epi32(word_at<int32_t>(two))) };
}
PLM_INLINE i32x16 add_pairs(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    return add_words(sum, pairs(even, odd), with);
}
PLM_INLINE i32x16 add_squares(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    const __m512i a = pairs(even, odd);
    return add_words(sum, _mm512_mullo_epi16(a, a), with);
}

PLM_INLINE __m512i four_bytes(const int8_t * p) { return _mm512_set1_epi32(word_at<int32_t>(p)); }

// upper bits of a sub-block, two halves of 64 bytes, times its 32 bytes of x: below 2^15
PLM_INLINE __m512i upper_dots(const uint8_t (*high)[64], const int8_t * x) {
    const __m512i two = _mm512_set1_epi8(3), next = _mm512_set1_epi8(12);
    const __m512i v = load_once(high[0]), w = load_once(high[1]), v_up = _mm512_srli_epi16(v, 4), w_up = _mm512_srli_epi16(w, 4);
    const auto add = [&](__m512i sum, __m512i codes, int i) PLM_LAMBDA { return add_products_of_bytes(sum, codes, four_bytes(x + 4 * i)); };
    __m512i fours = add(_mm512_setzero_si512(), _mm512_and_si512(v, next), 1);
    fours = add(add(add(fours, _mm512_and_si512(v_up, next), 3), _mm512_and_si512(w, next), 5), _mm512_and_si512(w_up, next), 7);
    const __m512i sum = add(_mm512_srai_epi32(fours, 2), _mm512_and_si512(v, two), 0);
    return add(add(add(sum, _mm512_and_si512(v_up, two), 2), _mm512_and_si512(w, two), 4), _mm512_and_si512(w_up, two), 6);
}

// sum + scale * that
PLM_INLINE i32x16 add_upper(i32x16 sum, const uint8_t (*high)[64], const int8_t * x, const uint8_t * scale) {
    return { add_products_of_words(sum.v, upper_dots(high, x), _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) scale))) };
}

#elif defined(PLM_AVX512) || defined(PLM_AVX2)

struct i32x16 {
    __m256i v[2];
};

PLM_INLINE i32x16 no_sums() { return { { _mm256_setzero_si256(), _mm256_setzero_si256() } }; }
PLM_INLINE void store(int32_t * p, i32x16 a) {
    _mm256_storeu_si256((__m256i *) p, a.v[0]);
    _mm256_storeu_si256((__m256i *) (p + 8), a.v[1]);
}
PLM_INLINE f32x16 floats(i32x16 a) {
    const __m256 low = _mm256_cvtepi32_ps(a.v[0]), high = _mm256_cvtepi32_ps(a.v[1]);
#if defined(PLM_AVX512)
    return { _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1) };
#else
    return { { low, high } };
#endif
}

PLM_INLINE __m256i add_words(__m256i sum, __m256i a, __m256i b) {
#if defined(PLM_VNNI_256)
    return add_products_of_words(sum, a, b);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}
PLM_INLINE __m256i two_words(const int16_t * p) { return _mm256_set1_epi32(word_at<int32_t>(p)); }
// row by row a byte of `even` and one of `odd`, as words: of rows 0 to 7, of rows 8 to 15
struct byte_pairs {
    __m256i v[2];
    inline byte_pairs(const uint8_t * even, const uint8_t * odd) {
        const __m128i a = _mm_loadu_si128((const __m128i *) even), b = _mm_loadu_si128((const __m128i *) odd);
        v[0] = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
        v[1] = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
    }
};
PLM_INLINE i32x16 add_pairs(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    const byte_pairs a(even, odd);
    const __m256i b = two_words(with);
    return { { add_words(sum.v[0], a.v[0], b), add_words(sum.v[1], a.v[1], b) } };
}
PLM_INLINE i32x16 add_squares(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    const byte_pairs a(even, odd);
    const __m256i b = two_words(with);
    return { { add_words(sum.v[0], _mm256_mullo_epi16(a.v[0], a.v[0]), b), add_words(sum.v[1], _mm256_mullo_epi16(a.v[1], a.v[1]), b) } };
}

PLM_INLINE __m256i four_bytes(const int8_t * p) { return _mm256_set1_epi32(word_at<int32_t>(p)); }

#if defined(PLM_VNNI_256)

PLM_INLINE __m256i add_bytes(__m256i sum, __m256i u, __m256i s) { return add_products_of_bytes(sum, u, s); }
PLM_INLINE __m256i quarter(__m256i a) { return _mm256_srai_epi32(a, 2); }
PLM_INLINE __m256i add_parts(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
// eight scales to the rows' sums: those are below 2^15, so that the other word may be 0
PLM_INLINE __m256i spread(const uint8_t * scale) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) scale)); }

#else

// in words: at most eight products of 3 * 127 each, or of four times that
PLM_INLINE __m256i add_bytes(__m256i sum, __m256i u, __m256i s) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(u, s)); }
PLM_INLINE __m256i quarter(__m256i a) { return _mm256_srai_epi16(a, 2); }
PLM_INLINE __m256i add_parts(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
PLM_INLINE __m256i spread(const uint8_t * scale) {
    const __m128i s = _mm_loadl_epi64((const __m128i *) scale);
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(s, s));
}

#endif

PLM_INLINE i32x16 add_upper(i32x16 sum, const uint8_t (*high)[64], const int8_t * x, const uint8_t * scale) {
    const __m256i two = _mm256_set1_epi8(3), next = _mm256_set1_epi8(12);
    __m256i ones[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() }, fours[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    for (int h = 0; h < 2; h++, x += 16) {
        const __m256i x0 = four_bytes(x), x1 = four_bytes(x + 4), x2 = four_bytes(x + 8), x3 = four_bytes(x + 12);
        for (int r = 0; r < 2; r++) {
            const __m256i v = _mm256_loadu_si256((const __m256i *) (high[h] + 32 * r)), w = _mm256_srli_epi16(v, 4);
            ones[r] = add_bytes(ones[r], _mm256_and_si256(v, two), x0);
            fours[r] = add_bytes(fours[r], _mm256_and_si256(v, next), x1);
            ones[r] = add_bytes(ones[r], _mm256_and_si256(w, two), x2);
            fours[r] = add_bytes(fours[r], _mm256_and_si256(w, next), x3);
        }
    }
    for (int r = 0; r < 2; r++) {
        sum.v[r] = add_words(sum.v[r], add_parts(ones[r], quarter(fours[r])), spread(scale + 8 * r));
    }
    return sum;
}

#elif defined(PLM_NEON)

struct i32x16 {
    int32x4_t v[4];
};

PLM_INLINE i32x16 no_sums() {
    const int32x4_t none = vdupq_n_s32(0);
    return { { none, none, none, none } };
}
PLM_INLINE void store(int32_t * p, i32x16 a) {
    for (int i = 0; i < 4; i++) { vst1q_s32(p + 4 * i, a.v[i]); }
}
PLM_INLINE f32x16 floats(i32x16 a) {
    return { { vcvtq_f32_s32(a.v[0]), vcvtq_f32_s32(a.v[1]), vcvtq_f32_s32(a.v[2]), vcvtq_f32_s32(a.v[3]) } };
}
// sum + a[row] * n, for words of sixteen rows
PLM_INLINE i32x16 add_words(i32x16 sum, int16x8_t low, int16x8_t high, int16_t n) {
    sum.v[0] = vmlal_n_s16(sum.v[0], vget_low_s16(low), n);
    sum.v[1] = vmlal_n_s16(sum.v[1], vget_high_s16(low), n);
    sum.v[2] = vmlal_n_s16(sum.v[2], vget_low_s16(high), n);
    sum.v[3] = vmlal_n_s16(sum.v[3], vget_high_s16(high), n);
    return sum;
}
PLM_INLINE int16x8_t low_words(const uint8_t * p) { return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))); }
PLM_INLINE i32x16 add_pairs(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    sum = add_words(sum, low_words(even), low_words(even + 8), with[0]);
    return add_words(sum, low_words(odd), low_words(odd + 8), with[1]);
}
PLM_INLINE i32x16 add_squares(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    const uint8_t * of[2] = { even, odd };
    for (int i = 0; i < 2; i++) {
        const int16x8_t low = low_words(of[i]), high = low_words(of[i] + 8);
        sum = add_words(sum, vmulq_s16(low, low), vmulq_s16(high, high), with[i]);
    }
    return sum;
}

#if defined(PLANES_DOT_NEON)

PLM_INLINE i32x16 add_upper(i32x16 sum, const uint8_t (*high)[64], const int8_t * x, const uint8_t * scale) {
    const uint8x16_t two = vdupq_n_u8(3);
    const int8x16_t xs[2] = { vld1q_s8(x), vld1q_s8(x + 16) };
    const uint8x16_t s = vld1q_u8(scale);
    const uint16x8_t low = vmovl_u8(vget_low_u8(s)), upper = vmovl_high_u8(s);
    const uint32x4_t scales[4] = { vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(upper)), vmovl_high_u16(upper) };
    for (int r = 0; r < 4; r++) {
        int32x4_t dot = vdupq_n_s32(0);
        for (int h = 0; h < 2; h++) {
            const uint8x16_t v = vld1q_u8(high[h] + 16 * r);
            dot = vdotq_laneq_s32(dot, vreinterpretq_s8_u8(vandq_u8(v, two)), xs[h], 0);
            dot = vdotq_laneq_s32(dot, vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 2), two)), xs[h], 1);
            dot = vdotq_laneq_s32(dot, vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(v, 4), two)), xs[h], 2);
            dot = vdotq_laneq_s32(dot, vreinterpretq_s8_u8(vshrq_n_u8(v, 6)), xs[h], 3);
        }
        sum.v[r] = vmlaq_s32(sum.v[r], dot, vreinterpretq_s32_u32(scales[r]));
    }
    return sum;
}

#else

PLM_INLINE int8x16_t four_bytes(const int8_t * p) { return vreinterpretq_s8_s32(vdupq_n_s32(word_at<int32_t>(p))); }

PLM_INLINE i32x16 add_upper(i32x16 sum, const uint8_t (*high)[64], const int8_t * x, const uint8_t * scale) {
    const uint8x16_t two = vdupq_n_u8(3);
    for (int r = 0; r < 4; r++) {
        int16x8_t low = vdupq_n_s16(0), upper = low; // four products of each of two rows
        for (int h = 0; h < 2; h++) {
            const uint8x16_t v = vld1q_u8(high[h] + 16 * r);
            const uint8x16_t codes[4] = { vandq_u8(v, two), vandq_u8(vshrq_n_u8(v, 2), two), vandq_u8(vshrq_n_u8(v, 4), two), vshrq_n_u8(v, 6) };
            for (int f = 0; f < 4; f++) {
                const int8x16_t with = four_bytes(x + 16 * h + 4 * f), code = vreinterpretq_s8_u8(codes[f]);
                low = vmlal_s8(low, vget_low_s8(code), vget_low_s8(with));
                upper = vmlal_high_s8(upper, code, with);
            }
        }
        const int32x4_t dot = vpaddlq_s16(vpaddq_s16(low, upper));
        const uint32_t s[4] = { scale[4 * r], scale[4 * r + 1], scale[4 * r + 2], scale[4 * r + 3] };
        sum.v[r] = vmlaq_s32(sum.v[r], dot, vreinterpretq_s32_u32(vld1q_u32(s)));
    }
    return sum;
}

#endif

#else

struct i32x16 {
    int32_t v[16];
};

PLM_INLINE i32x16 no_sums() { return {}; }
PLM_INLINE void store(int32_t * p, i32x16 a) { memcpy(p, a.v, sizeof(a.v)); }
PLM_INLINE f32x16 floats(i32x16 a) {
    f32x16 f;
    for (int r = 0; r < 16; r++) { f.v[r] = float(a.v[r]); }
    return f;
}
PLM_INLINE i32x16 add_pairs(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    for (int r = 0; r < 16; r++) { sum.v[r] += even[r] * with[0] + odd[r] * with[1]; }
    return sum;
}
PLM_INLINE i32x16 add_squares(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    for (int r = 0; r < 16; r++) { sum.v[r] += even[r] * even[r] * with[0] + odd[r] * odd[r] * with[1]; }
    return sum;
}
PLM_INLINE i32x16 add_upper(i32x16 sum, const uint8_t (*high)[64], const int8_t * x, const uint8_t * scale) {
    for (int r = 0; r < 16; r++) {
        int32_t dot = 0;
        for (int h = 0; h < 2; h++) {
            for (int f = 0; f < 4; f++) {
                for (int b = 0; b < 4; b++) {
                    dot += (high[h][4 * r + b] >> (2 * f) & 3) * x[16 * h + 4 * f + b];
                }
            }
        }
        sum.v[r] += scale[r] * dot;
    }
    return sum;
}

#endif

} // namespace
} // namespace planes
