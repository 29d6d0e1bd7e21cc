#pragma once

// Sums of products of bytes and of words, by the instructions that do it at once.
//
//   PLM_VNNI_256        the functions for 8 sums are there: AVX-VNNI (Intel since Alder Lake, AMD since Zen 5), or AVX-512's
//   PLM_VNNI_EMULATED   set by tests: the same functions by instructions of AVX2, for CPUs without any of these
//
// In place, for gcc 12 copies every sum before and after these intrinsics, and where many are held at once it runs out
// of registers and goes through memory: half of the speed.

#include "x86-features.h"

#if defined(__AVXVNNI__) && !(defined(__AVX512VL__) && defined(__AVX512VNNI__))
#define PLM_VNNI_256

#include "x86-intrinsics.h"

static inline __m256i add_products_of_bytes(__m256i sum, __m256i u, __m256i s) {
#if defined(__GNUC__) && !defined(__clang__)
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(u), "x"(s));
    return sum;
#else
    return _mm256_dpbusd_avx_epi32(sum, u, s);
#endif
}

static inline __m256i add_products_of_words(__m256i sum, __m256i a, __m256i b) {
#if defined(__GNUC__) && !defined(__clang__)
    asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    return sum;
#else
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#endif
}

#elif defined(PLM_VNNI_EMULATED)
#define PLM_VNNI_256

#include "x86-intrinsics.h"

static inline __m256i add_products_of_words(__m256i sum, __m256i a, __m256i b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

static inline __m256i add_products_of_bytes(__m256i sum, __m256i u, __m256i s) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}

#elif (defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)) || defined(PLM_AVX512_VNNI)

#include "x86-intrinsics.h"

#if defined(__GNUC__) && !defined(__clang__) && !defined(PLM_AVX512_EMULATED)
#define PLM_VNNI_IN_PLACE
#endif

// 16 sums, each of 4 products of unsigned bytes of u with signed bytes of s
static inline __m512i add_products_of_bytes(__m512i sum, __m512i u, __m512i s) {
#if defined(PLM_VNNI_IN_PLACE)
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
    return sum;
#else
    return _mm512_dpbusd_epi32(sum, u, s);
#endif
}

// Read once: gcc would else read again for each use, though reading is what these products wait for.
static inline __m512i load_once(const void * p) {
    __m512i v = _mm512_loadu_si512(p);
#if defined(PLM_VNNI_IN_PLACE)
    asm("" : "+v"(v));
#endif
    return v;
}

#define PLM_VNNI_256

// 8 of them
static inline __m256i add_products_of_bytes(__m256i sum, __m256i u, __m256i s) {
#if defined(PLM_VNNI_IN_PLACE)
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
    return sum;
#else
    return _mm256_dpbusd_epi32(sum, u, s);
#endif
}

// 16 sums, each of 2 products of signed words
static inline __m512i add_products_of_words(__m512i sum, __m512i a, __m512i b) {
#if defined(PLM_VNNI_IN_PLACE)
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    return _mm512_dpwssd_epi32(sum, a, b);
#endif
}

static inline __m256i add_products_of_words(__m256i sum, __m256i a, __m256i b) {
#if defined(PLM_VNNI_IN_PLACE)
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    return _mm256_dpwssd_epi32(sum, a, b);
#endif
}

#if defined(PLM_AVX512_VBMI)
// Byte 0 of four rows, then byte 1, and so on, of rows of 32 bytes: of the first 16 where UPPER is not set. Rows 0 and 1
// are one after the other in ab, 2 and 3 in cd.
template <bool UPPER> static inline __m512i side_by_side(__m512i ab, __m512i cd) {
    const __m512i lower = _mm512_set_epi8(111, 79, 47, 15, 110, 78, 46, 14, 109, 77, 45, 13, 108, 76, 44, 12, 107, 75, 43, 11, 106, 74, 42, 10,
                                          105, 73, 41, 9, 104, 72, 40, 8, 103, 71, 39, 7, 102, 70, 38, 6, 101, 69, 37, 5, 100, 68, 36, 4,
                                          99, 67, 35, 3, 98, 66, 34, 2, 97, 65, 33, 1, 96, 64, 32, 0);
    return _mm512_permutex2var_epi8(ab, UPPER ? _mm512_add_epi8(lower, _mm512_set1_epi8(16)) : lower, cd);
}
#endif

#endif
