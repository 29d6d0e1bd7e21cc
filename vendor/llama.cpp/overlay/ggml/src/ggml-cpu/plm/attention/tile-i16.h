#pragma once

// Tiles of 16-bit integers for x86: pairs of products are summed in 32 bits by one instruction (VNNI's
// vpdpwssd, or vpmaddwd and an addition), twice the work of an f32 multiply-add.
//
// A cached row becomes integers of at most K_TOP under a scale of its own: a rounding error of
// |row|max / 8192, about that of f16. A query row is scaled so that by Cauchy-Schwarz no score can leave
// 32 bits: ||Q'|| ||K'|| <= ||Q'|| K_TOP sqrt(n_k) < 2^31. Probabilities of a tile, times their rows' scales,
// become integers whose sum is at most P_SUM, so that sum_j p'_j |V'_j| <= P_SUM K_TOP < 2^31 as well. These
// sums are exact; what leaves a tile is f32.
//
// A tile is its rows one after the other, then their scales. Columns lie in the order that a saturating pack of
// two vectors makes. For scores, pairs are neighbours in a row, and queries lie in the same order. For the sum
// over rows, pairs are of two rows: unpacking makes them, and brings the columns back to their places.

#include "../vnni.h"
#include "../word-at.h"
#include "tile.h"

#if defined(PLM_AVX512) || defined(PLM_AVX2)
#define PLM_MLA_I16

namespace mla {

static constexpr float K_TOP = 4096.0f;
static constexpr float P_TOP = 32766.0f;
static constexpr float P_SUM = 520000.0f;

#if defined(PLM_AVX512)

using vi = __m512i;

static inline vi iload(const void * p) { return _mm512_loadu_si512(p); }
static inline void istore(void * p, vi x) { _mm512_storeu_si512(p, x); }
static inline vi izero() { return _mm512_setzero_si512(); }
static inline vi pair_of(const void * p) { return _mm512_set1_epi32(word_at<int32_t>(p)); }
static inline vf to_float(vi x) { return _mm512_cvtepi32_ps(x); }
static inline vi to_int(vf x) { return _mm512_cvtps_epi32(x); }
static inline vi unpack_lo(vi a, vi b) { return _mm512_unpacklo_epi16(a, b); }
static inline vi unpack_hi(vi a, vi b) { return _mm512_unpackhi_epi16(a, b); }
static inline vi pair_up(vi a, vi b) { return _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16)); }
static inline vi dot(vi acc, vi a, vi b) {
#if defined(PLM_AVX512_VNNI)
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

// the same where many sums are held at once; above, a factor from memory comes in the instruction itself
static inline vi dot_in_place(vi acc, vi a, vi b) {
#if defined(PLM_AVX512_VNNI)
    return add_products_of_words(acc, a, b);
#else
    return dot(acc, a, b);
#endif
}

// round(a f) and round(b f), below 2^15, in packed order
static inline vi round_pack(vf a, vf b, vf f) {
    // adding 1.5 * 2^23 leaves the integer in the low bits: a multiply-add instead of a product and a conversion
    const __m512 magic = _mm512_set1_ps(12582912.0f);
    const __m512i order = _mm512_set_epi16(62, 60, 58, 56, 30, 28, 26, 24, 54, 52, 50, 48, 22, 20, 18, 16,
                                           46, 44, 42, 40, 14, 12, 10, 8, 38, 36, 34, 32, 6, 4, 2, 0);
    return _mm512_permutex2var_epi16(_mm512_castps_si512(fma(a, f, magic)), order, _mm512_castps_si512(fma(b, f, magic)));
}

// 2 * LANES signed bytes from c of a block of 32, in packed order
using vb = __m256i;
static inline vi widen(vb x) {
    return _mm512_cvtepi8_epi16(_mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}
static inline vb q8_bytes(const void * p, int c) { return _mm256_loadu_si256((const __m256i *) ((const char *) p + c)); }
static inline vb q4_bytes(const void * p, int c) {
    (void) c;
    const __m128i x = _mm_loadu_si128((const __m128i *) p);
    const __m256i y = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(x, 4), x), _mm256_set1_epi8(15));
    return _mm256_sub_epi8(y, _mm256_set1_epi8(8));
}
static inline vi shift_left(vi x, int n) { return _mm512_sll_epi16(x, _mm_cvtsi32_si128(n)); }

// round(x f / 2^15) of x = the bytes times 2^SHIFT
template <int SHIFT> static inline vi scale_bytes(vb x, int16_t f) {
    return _mm512_mulhrs_epi16(_mm512_slli_epi16(widen(x), SHIFT), _mm512_set1_epi16(f));
}

// the largest |x| of n (a multiple of 32) f16 or bf16 values, as their bits
static inline uint16_t max_bits(const uint16_t * p, int64_t n) {
    const __m512i positive = _mm512_set1_epi16(0x7fff);
    __m512i m = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 32) {
        m = _mm512_max_epu16(m, _mm512_and_si512(positive, _mm512_loadu_si512(p + i)));
    }
    const __m256i m8 = _mm256_max_epu16(_mm512_castsi512_si256(m), _mm512_extracti64x4_epi64(m, 1));
    const __m128i m4 = _mm_max_epu16(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    return 0xffff - _mm_extract_epi16(_mm_minpos_epu16(_mm_xor_si128(m4, _mm_set1_epi16(-1))), 0);
}

#else

using vi = __m256i;

static inline vi iload(const void * p) { return _mm256_loadu_si256((const __m256i *) p); }
static inline void istore(void * p, vi x) { _mm256_storeu_si256((__m256i *) p, x); }
static inline vi izero() { return _mm256_setzero_si256(); }
static inline vi pair_of(const void * p) { return _mm256_set1_epi32(word_at<int32_t>(p)); }
static inline vf to_float(vi x) { return _mm256_cvtepi32_ps(x); }
static inline vi to_int(vf x) { return _mm256_cvtps_epi32(x); }
static inline vi unpack_lo(vi a, vi b) { return _mm256_unpacklo_epi16(a, b); }
static inline vi unpack_hi(vi a, vi b) { return _mm256_unpackhi_epi16(a, b); }
static inline vi pair_up(vi a, vi b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }
static inline vi dot(vi acc, vi a, vi b) {
#if defined(PLM_VNNI_256)
    return add_products_of_words(acc, a, b);
#else
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
#endif
}

static inline vi dot_in_place(vi acc, vi a, vi b) {
#if defined(PLM_VNNI_256)
    return add_products_of_words(acc, a, b);
#else
    const vi products = _mm256_madd_epi16(a, b);
#if defined(__GNUC__) && !defined(__clang__)
    asm("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products)); // else gcc copies each sum
    return acc;
#else
    return _mm256_add_epi32(acc, products);
#endif
#endif
}

static inline vi round_pack(vf a, vf b, vf f) { return _mm256_packs_epi32(to_int(mul(a, f)), to_int(mul(b, f))); }

using vb = __m128i;
static inline vi widen(vb x) { return _mm256_cvtepi8_epi16(_mm_shuffle_epi32(x, _MM_SHUFFLE(3, 1, 2, 0))); }
static inline vb q8_bytes(const void * p, int c) { return _mm_loadu_si128((const __m128i *) ((const char *) p + c)); }
static inline vb q4_bytes(const void * p, int c) {
    const __m128i x = _mm_loadu_si128((const __m128i *) p);
    return _mm_sub_epi8(_mm_and_si128(c ? _mm_srli_epi16(x, 4) : x, _mm_set1_epi8(15)), _mm_set1_epi8(8));
}
static inline vi shift_left(vi x, int n) { return _mm256_sll_epi16(x, _mm_cvtsi32_si128(n)); }

template <int SHIFT> static inline vi scale_bytes(vb x, int16_t f) {
    return _mm256_mulhrs_epi16(_mm256_slli_epi16(widen(x), SHIFT), _mm256_set1_epi16(f));
}

static inline uint16_t max_bits(const uint16_t * p, int64_t n) {
    const __m256i positive = _mm256_set1_epi16(0x7fff);
    __m256i m = _mm256_setzero_si256();
    for (int64_t i = 0; i < n; i += 16) {
        m = _mm256_max_epu16(m, _mm256_and_si256(positive, _mm256_loadu_si256((const __m256i *) (p + i))));
    }
    const __m128i m4 = _mm_max_epu16(_mm256_castsi256_si128(m), _mm256_extracti128_si256(m, 1));
    return 0xffff - _mm_extract_epi16(_mm_minpos_epu16(_mm_xor_si128(m4, _mm_set1_epi16(-1))), 0);
}

#endif

// where the c-th of 2 * LANES columns lies: by fours, those of the first and the second vector in turn
static constexpr int packed_place(int c) { return c % LANES / 4 * 8 + c / LANES * 4 + c % 4; }

} // namespace mla

#endif
