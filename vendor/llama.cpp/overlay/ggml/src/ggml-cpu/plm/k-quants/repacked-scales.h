#pragma once

// Scales and minima of eight repacked rows of q4_K, unpacked for 256-bit and 512-bit products alike.

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "repack.h"
#include "../word-at.h"
#include "../x86-intrinsics.h"

namespace {

// Row r of sub-block j is byte r of scale[PLACE[j]]; min[k] holds the minima of the sub-blocks 2k and 2k + 1, row by row.
constexpr int PLACE[8] = { 0, 1, 4, 5, 2, 3, 6, 7 };

struct scales {
    alignas(32) uint64_t scale[8];
    __m256i min[4]; // int16
};

inline __m256i two_sub_blocks(__m128i of_both) {
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(of_both, _mm_unpackhi_epi64(of_both, of_both)));
}

// Words 0, 3, … 21 of the 24 in `packed`, words 1, 4, … and words 2, 5, …
struct thirds {
    __m256i a, b, c;
};

#if defined(PLM_AVX512)

inline __m256i every_third_word(__m512i a, __m512i b, int first) {
    const __m256i index = _mm256_add_epi32(_mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21), _mm256_set1_epi32(first));
    return _mm512_castsi512_si256(_mm512_permutex2var_epi32(a, _mm512_castsi256_si512(index), b));
}

inline thirds by_threes(const uint8_t * packed) {
    const __m512i front = _mm512_loadu_si512(packed);
    const __m512i back = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) (packed + 64)));
    return { every_third_word(front, back, 0), every_third_word(front, back, 1), every_third_word(front, back, 2) };
}

#else

inline thirds by_threes(const uint8_t * packed) {
    const __m256i x = _mm256_loadu_si256((const __m256i *) packed), y = _mm256_loadu_si256((const __m256i *) (packed + 32)),
                  z = _mm256_loadu_si256((const __m256i *) (packed + 64));
    // three registers hold those words at places that differ; then they are put in order
    const __m256i a = _mm256_blend_epi32(_mm256_blend_epi32(x, y, 0x92), z, 0x24);
    const __m256i b = _mm256_blend_epi32(_mm256_blend_epi32(x, y, 0x24), z, 0x49);
    const __m256i c = _mm256_blend_epi32(_mm256_blend_epi32(x, y, 0x49), z, 0x92);
    return { _mm256_permutevar8x32_epi32(a, _mm256_setr_epi32(0, 3, 6, 1, 4, 7, 2, 5)),
             _mm256_permutevar8x32_epi32(b, _mm256_setr_epi32(1, 4, 7, 2, 5, 0, 3, 6)),
             _mm256_permutevar8x32_epi32(c, _mm256_setr_epi32(2, 5, 0, 3, 6, 1, 4, 7)) };
}

#endif

// A sub-block's 12 bytes are three words: scales of rows 0 to 3 and minima of rows 0 to 3, in six bits each, and the
// low nibbles of both for rows 4 to 7, whose two upper bits lie above the sixes.
inline void unpack(const uint8_t * packed, scales & out) {
    const thirds of = by_threes(packed);
    const __m256i six = _mm256_set1_epi8(0x3f), nibble = _mm256_set1_epi8(0x0f), upper = _mm256_set1_epi8(0x30);
    const __m256i scale_0_3 = _mm256_and_si256(of.a, six), min_0_3 = _mm256_and_si256(of.b, six);
    const __m256i scale_4_7 = _mm256_or_si256(_mm256_and_si256(of.c, nibble), _mm256_and_si256(_mm256_srli_epi16(of.a, 2), upper));
    const __m256i min_4_7 = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(of.c, 4), nibble), _mm256_and_si256(_mm256_srli_epi16(of.b, 2), upper));

    _mm256_store_si256((__m256i *) out.scale, _mm256_unpacklo_epi32(scale_0_3, scale_4_7));       // 0 1 4 5
    _mm256_store_si256((__m256i *) (out.scale + 4), _mm256_unpackhi_epi32(scale_0_3, scale_4_7)); // 2 3 6 7
    const __m256i min_0145 = _mm256_unpacklo_epi32(min_0_3, min_4_7), min_2367 = _mm256_unpackhi_epi32(min_0_3, min_4_7);
    out.min[0] = two_sub_blocks(_mm256_castsi256_si128(min_0145));
    out.min[1] = two_sub_blocks(_mm256_castsi256_si128(min_2367));
    out.min[2] = two_sub_blocks(_mm256_extracti128_si256(min_0145, 1));
    out.min[3] = two_sub_blocks(_mm256_extracti128_si256(min_2367, 1));
}

inline __m256i two_words(const int16_t * at) { return _mm256_set1_epi32(word_at<int32_t>(at)); }

inline __m256 load_8_f16(const ggml_half * at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at)); }

} // namespace
