#pragma once

// The scales and minima of a block of sixteen rows, numbers of six bits, and the sums that they weight.

#include "input.h"
#include "lanes.h"

#include "plm-planes/plm-planes.h"

#include <type_traits>

namespace planes {
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

constexpr int KEPT = 128; // bytes of a block's scales, for `lower_sums`
static_assert(KEPT == 16 * 8 && KEPT == 2 * 64, "both block_scales keep as much");

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

} // namespace
} // namespace planes
