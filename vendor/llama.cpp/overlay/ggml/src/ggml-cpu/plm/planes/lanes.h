#pragma once

// Integers of sixteen rows, whatever the CPU, and the products of bytes that the upper and the lower bits need.
//
//   i32x16   a sum a row

#include "input.h"
#include "../sixteen.h"
#include "../vnni.h"

#include "plm-planes/plm-planes.h"

#include <type_traits>

#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#define PLANES_DOT_NEON
#endif

namespace planes {

using namespace sixteen;

namespace {

// numbers of six bits, by sub-blocks and rows
PLM_INLINE void unpack_six_bits(const uint8_t * low, const uint8_t * high, uint8_t (*to)[16]) {
#if defined(PLM_AVX512) || defined(PLM_AVX2)
    const __m256i nibble = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(48);
    const __m256i h = _mm256_loadu_si256((const __m256i *) high);
    const auto put = [&](int j, __m256i l, __m256i above) PLM_LAMBDA {
        _mm256_storeu_si256((__m256i *) to[j], _mm256_or_si256(_mm256_and_si256(l, nibble), _mm256_and_si256(above, upper)));
    };
    const __m256i a = _mm256_loadu_si256((const __m256i *) low), b = _mm256_loadu_si256((const __m256i *) (low + 32));
    put(0, a, _mm256_slli_epi16(h, 4));
    put(2, b, _mm256_slli_epi16(h, 2));
    put(4, _mm256_srli_epi16(a, 4), h);
    put(6, _mm256_srli_epi16(b, 4), _mm256_srli_epi16(h, 2));
#else
    for (int j = 0; j < 8; j++) {
        const i8x16 four = bits(load_bytes(low + 16 * (j % 4)), j < 4 ? 0 : 4, 4);
        store_bytes(to[j], four | shl(bits(load_bytes(high + 16 * (j % 2)), 2 * (j / 2), 2), 4));
    }
#endif
}

// eight rows of sixteen bytes to sixteen of eight
PLM_INLINE void transpose(const uint8_t (*from)[16], uint8_t (*to)[8]) {
#if defined(PLM_AVX512) || defined(PLM_AVX2)
    const auto load = [&](int j) PLM_LAMBDA { return _mm_loadu_si128((const __m128i *) from[j]); };
    const auto rows = [&](int r, __m128i ab, __m128i cd, __m128i ef, __m128i gh) PLM_LAMBDA { // eight of them
        const __m128i a = _mm_unpacklo_epi16(ab, cd), b = _mm_unpackhi_epi16(ab, cd), c = _mm_unpacklo_epi16(ef, gh), d = _mm_unpackhi_epi16(ef, gh);
        _mm_storeu_si128((__m128i *) to[r], _mm_unpacklo_epi32(a, c));
        _mm_storeu_si128((__m128i *) to[r + 2], _mm_unpackhi_epi32(a, c));
        _mm_storeu_si128((__m128i *) to[r + 4], _mm_unpacklo_epi32(b, d));
        _mm_storeu_si128((__m128i *) to[r + 6], _mm_unpackhi_epi32(b, d));
    };
    const __m128i a = load(0), b = load(1), c = load(2), d = load(3), e = load(4), f = load(5), g = load(6), h = load(7);
    rows(0, _mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d), _mm_unpacklo_epi8(e, f), _mm_unpacklo_epi8(g, h));
    rows(8, _mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d), _mm_unpackhi_epi8(e, f), _mm_unpackhi_epi8(g, h));
#elif defined(PLM_NEON)
    for (int half = 0; half < 2; half++) {
        uint16x8_t pair[4];
        for (int i = 0; i < 4; i++) {
            const uint8x16_t a = vld1q_u8(from[2 * i]), b = vld1q_u8(from[2 * i + 1]);
            pair[i] = vreinterpretq_u16_u8(half ? vzip2q_u8(a, b) : vzip1q_u8(a, b));
        }
        const uint32x4_t a = vreinterpretq_u32_u16(vzip1q_u16(pair[0], pair[1])), b = vreinterpretq_u32_u16(vzip2q_u16(pair[0], pair[1]));
        const uint32x4_t c = vreinterpretq_u32_u16(vzip1q_u16(pair[2], pair[3])), d = vreinterpretq_u32_u16(vzip2q_u16(pair[2], pair[3]));
        vst1q_u32((uint32_t *) to[8 * half], vzip1q_u32(a, c));
        vst1q_u32((uint32_t *) to[8 * half + 2], vzip2q_u32(a, c));
        vst1q_u32((uint32_t *) to[8 * half + 4], vzip1q_u32(b, d));
        vst1q_u32((uint32_t *) to[8 * half + 6], vzip2q_u32(b, d));
    }
#else
    for (int r = 0; r < 16; r++) {
        for (int j = 0; j < 8; j++) {
            to[r][j] = from[j][r];
        }
    }
#endif
}

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
    int32_t both;
    memcpy(&both, two, sizeof(both));
    return { add_products_of_words(sum.v, a, _mm512_set1_epi32(both)) };
}
PLM_INLINE i32x16 add_pairs(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    return add_words(sum, pairs(even, odd), with);
}
PLM_INLINE i32x16 add_squares(i32x16 sum, const uint8_t * even, const uint8_t * odd, const int16_t * with) {
    const __m512i a = pairs(even, odd);
    return add_words(sum, _mm512_mullo_epi16(a, a), with);
}

PLM_INLINE __m512i four_bytes(const int8_t * p) {
    int32_t four;
    memcpy(&four, p, sizeof(four));
    return _mm512_set1_epi32(four);
}

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
PLM_INLINE __m256i two_words(const int16_t * p) {
    int32_t both;
    memcpy(&both, p, sizeof(both));
    return _mm256_set1_epi32(both);
}
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

PLM_INLINE __m256i four_bytes(const int8_t * p) {
    int32_t four;
    memcpy(&four, p, sizeof(four));
    return _mm256_set1_epi32(four);
}

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

PLM_INLINE int8x16_t four_bytes(const int8_t * p) {
    int32_t four;
    memcpy(&four, p, sizeof(four));
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

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

// --- one block of sixteen rows -----------------------------------------------------------------

// of one token
struct block_sums {
    i32x16 upper;        // sum over j of s_j sum u x
    i32x16 offset, less; // sum of s_j sum x, of m_j sum x
    i32x16 variance;     // sum of s_j^2 sum x^2
};

#if defined(PLM_AVX512_VBMI)

// The scales and the minima of a block, in registers: numbers of sub-blocks 0 to 3, then of 4 to 7.
struct block_scales {
    struct numbers {
        __m512i of[2];

        numbers(const uint8_t * low, const uint8_t * high) {
            const __m512i nibble = _mm512_set1_epi8(15), upper = _mm512_set1_epi8(48), four = _mm512_loadu_si512(low);
            const __m512i two = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) high));
            const __m512i up = _mm512_mask_blend_epi64(0xf0, _mm512_set1_epi16(4), _mm512_set1_epi16(2)), down = _mm512_sub_epi16(_mm512_set1_epi16(4), up);
            of[0] = _mm512_ternarylogic_epi32(_mm512_sllv_epi16(two, up), upper, _mm512_and_si512(four, nibble), 0xea); // (a & b) | c
            of[1] = _mm512_ternarylogic_epi32(_mm512_srlv_epi16(two, down), upper, _mm512_and_si512(_mm512_srli_epi16(four, 4), nibble), 0xea);
        }
        // of sub-blocks 2 P and 2 P + 1, a word each, row by row
        template <int P> PLM_INLINE_METHOD __m512i pair() const {
            const __m512i rows = _mm512_cvtepu8_epi32(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
            const __m512i first = _mm512_or_si512(rows, _mm512_slli_epi32(_mm512_add_epi32(rows, _mm512_set1_epi32(16)), 16));
            return _mm512_maskz_permutexvar_epi8(0x5555555555555555, _mm512_add_epi8(first, _mm512_set1_epi8(P % 2 * 32)), of[P / 2]);
        }
    } scale, min;

    explicit block_scales(const plm_planes_block & b) : scale(b.scale_low, b.scale_high), min(b.min_low, b.min_high) {}

    // for `lower_sums`
    PLM_INLINE_METHOD void keep(uint8_t * to) const {
        _mm512_storeu_si512(to, scale.of[0]);
        _mm512_storeu_si512(to + 64, scale.of[1]);
    }

    template <class F> PLM_INLINE_METHOD block_sums sums(const uint8_t (*high)[2][64], const input & x, const F & meanwhile) const {
        block_sums s = { no_sums(), no_sums(), no_sums(), no_sums() };
        const auto add = [&](auto p) PLM_LAMBDA {
            meanwhile(2 * p);
            const __m512i even = upper_dots(high[2 * p], x.q + 64 * p);
            meanwhile(2 * p + 1);
            const __m512i odd = upper_dots(high[2 * p + 1], x.q + 64 * p + 32);
            const __m512i two = scale.template pair<p>();
            s.upper.v = add_products_of_words(s.upper.v, _mm512_mask_blend_epi16(0xaaaaaaaa, even, _mm512_slli_epi32(odd, 16)), two);
            s.offset = add_words(s.offset, two, x.sums + 2 * p);
            s.less = add_words(s.less, min.template pair<p>(), x.sums + 2 * p);
            s.variance = add_words(s.variance, _mm512_mullo_epi16(two, two), x.squares + 2 * p);
        };
        add(std::integral_constant<int, 0>());
        add(std::integral_constant<int, 1>());
        add(std::integral_constant<int, 2>());
        add(std::integral_constant<int, 3>());
        return s;
    }
};

#else

struct block_scales {
    alignas(32) uint8_t scale[8][16], min[8][16];

    explicit block_scales(const plm_planes_block & b) {
        unpack_six_bits(b.scale_low, b.scale_high, scale);
        unpack_six_bits(b.min_low, b.min_high, min);
    }

    PLM_INLINE_METHOD void keep(uint8_t * to) const { transpose(scale, (uint8_t (*)[8]) to); }

    template <class F> PLM_INLINE_METHOD block_sums sums(const uint8_t (*high)[2][64], const input & x, const F & meanwhile) const {
        block_sums s = { no_sums(), no_sums(), no_sums(), no_sums() };
        for (int j = 0; j < 8; j++) {
            meanwhile(j);
            s.upper = add_upper(s.upper, high[j], x.q + 32 * j, scale[j]);
        }
        for (int j = 0; j < 8; j += 2) {
            s.offset = add_pairs(s.offset, scale[j], scale[j + 1], x.sums + j);
            s.less = add_pairs(s.less, min[j], min[j + 1], x.sums + j);
            s.variance = add_squares(s.variance, scale[j], scale[j + 1], x.squares + j);
        }
        return s;
    }
};

#endif

// --- the lower bits of rows --------------------------------------------------------------------

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
        int64_t eight;
        memcpy(&eight, row[r].scales + 8 * row[r].row, sizeof(eight));
        const __m256i scales = _mm256_set1_epi64x(eight);
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
