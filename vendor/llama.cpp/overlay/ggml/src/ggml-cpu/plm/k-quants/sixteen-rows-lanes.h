#pragma once

// Registers of four bytes a row, and the products of bytes and words that the products of sixteen rows need.
//
//   reg     64 bytes of sixteen rows, or PARTS = 2 of 32 bytes of eight rows each
//   floats  one a row of these
//   dots    sums of products of bytes for 16 values: one of 32 bits a row, or where the CPU has no VNNI two words

#include "../vnni.h"
#include "../word-at.h"
#include "../x86-features.h"
#include "../x86-intrinsics.h"

#include <stdint.h>

namespace {

#if defined(PLM_AVX512_VNNI)

using reg = __m512i;
using floats = __m512;
constexpr int PARTS = 1;

inline reg load(const void * p) { return load_once(p); }
inline reg every_byte(int b) { return _mm512_set1_epi8((char) b); }
inline reg every_word(int32_t both) { return _mm512_set1_epi32(both); }
inline reg none() { return _mm512_setzero_si512(); }
inline reg operator_and(reg a, reg b) { return _mm512_and_si512(a, b); }
template <int N> inline reg shifted(reg a) { return _mm512_srli_epi16(a, N); }
// (a & m) | b
inline reg and_or(reg a, reg m, reg b) { return _mm512_ternarylogic_epi32(a, m, b, 0xea); }
inline reg add_32(reg a, reg b) { return _mm512_add_epi32(a, b); }
inline reg times_32(reg a, reg b) { return _mm512_mullo_epi32(a, b); }
template <int N> inline reg quotient_32(reg a) { return _mm512_srai_epi32(a, N); }
// the lower words of a, and those of b above them
inline reg side_by_side_words(reg a, reg b) { return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16)); }
// sixteen bytes a row's two, and one a row
inline reg signed_words(const int8_t * p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *) p)); }
inline reg unsigned_words(const uint8_t * p) { return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *) p)); }
inline reg unsigned_32(const uint8_t * p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) p)); }
inline floats no_floats() { return _mm512_setzero_ps(); }
inline floats to_floats(reg a) { return _mm512_cvtepi32_ps(a); }
inline floats from_f16(const uint16_t * p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p)); }
inline floats times(floats a, float b) { return _mm512_mul_ps(a, _mm512_set1_ps(b)); }
inline floats fma(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }
inline void store(float * p, floats a) { _mm512_storeu_ps(p, a); }
inline floats less(floats a, floats b) { return _mm512_sub_ps(a, b); }

#else

using reg = __m256i;
using floats = __m256;
constexpr int PARTS = 2;

inline reg load(const void * p) { return _mm256_loadu_si256((const __m256i *) p); }
inline reg every_byte(int b) { return _mm256_set1_epi8((char) b); }
inline reg every_word(int32_t both) { return _mm256_set1_epi32(both); }
inline reg none() { return _mm256_setzero_si256(); }
inline reg operator_and(reg a, reg b) { return _mm256_and_si256(a, b); }
template <int N> inline reg shifted(reg a) { return _mm256_srli_epi16(a, N); }
inline reg and_or(reg a, reg m, reg b) { return _mm256_or_si256(_mm256_and_si256(a, m), b); }
inline reg add_32(reg a, reg b) { return _mm256_add_epi32(a, b); }
inline reg times_32(reg a, reg b) { return _mm256_mullo_epi32(a, b); }
template <int N> inline reg quotient_32(reg a) { return _mm256_srai_epi32(a, N); }
inline reg side_by_side_words(reg a, reg b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }
inline reg signed_words(const int8_t * p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *) p)); }
inline reg unsigned_words(const uint8_t * p) { return _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *) p)); }
inline reg unsigned_32(const uint8_t * p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *) p)); }
inline floats no_floats() { return _mm256_setzero_ps(); }
inline floats to_floats(reg a) { return _mm256_cvtepi32_ps(a); }
inline floats from_f16(const uint16_t * p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
inline floats times(floats a, float b) { return _mm256_mul_ps(a, _mm256_set1_ps(b)); }
inline floats fma(floats a, floats b, floats c) { return _mm256_fmadd_ps(a, b, c); }
inline void store(float * p, floats a) { _mm256_storeu_ps(p, a); }
inline floats less(floats a, floats b) { return _mm256_sub_ps(a, b); }

#endif

constexpr int ROWS = 16 / PARTS; // of a register

inline reg four_bytes(const int8_t * p) { return every_word(word_at<int32_t>(p)); }
inline reg two_words(const int16_t * p) { return every_word(word_at<int32_t>(p)); }

#if defined(PLM_AVX512_VNNI) || defined(PLM_VNNI_256)

inline reg add_words(reg sum, reg a, reg b) { return add_products_of_words(sum, a, b); }
inline reg add_bytes(reg sum, reg u, reg s) { return add_products_of_bytes(sum, u, s); }
template <int N> inline reg quotient(reg a) { return quotient_32<N>(a); }

// scales of two times 16 values, as two words a row
struct scale_pair {
    reg both;
    explicit scale_pair(reg both) : both(both) {}
};
// sum + a scale[0] + b scale[1]; a and b are below 2^15
inline reg add_scaled(reg sum, reg a, reg b, const scale_pair & of) { return add_words(sum, side_by_side_words(a, b), of.both); }

// A code of five bits for 32 values: the two halves' dots are above 2^15 together, and each.
inline reg add_scaled_32(reg sum, reg a, reg b, reg scale) { return add_32(sum, times_32(add_32(a, b), scale)); }

#else

inline reg add_words(reg sum, reg a, reg b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
inline reg add_bytes(reg sum, reg u, reg s) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(u, s)); }
template <int N> inline reg quotient(reg a) { return _mm256_srai_epi16(a, N); }

struct scale_pair {
    reg both, first, second;
    explicit scale_pair(reg both)
        : both(both), first(_mm256_blend_epi16(both, _mm256_slli_epi32(both, 16), 0xaa)), second(_mm256_blend_epi16(_mm256_srli_epi32(both, 16), both, 0xaa)) {}
};
inline reg add_scaled(reg sum, reg a, reg b, const scale_pair & of) { return add_words(add_words(sum, a, of.first), b, of.second); }
inline reg add_scaled_32(reg sum, reg a, reg b, reg scale) {
    const reg both = _mm256_or_si256(scale, _mm256_slli_epi32(scale, 16));
    return add_words(add_words(sum, a, both), b, both);
}

#endif

} // namespace
