#pragma once

// Sums of products in place. gcc 12 copies every sum before and after these intrinsics, and where many are held at
// once it runs out of registers and goes through memory: half of the speed.

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include "x86-intrinsics.h"

// 16 sums, each of 4 products of unsigned bytes of u with signed bytes of s
static inline __m512i add_products_of_bytes(__m512i sum, __m512i u, __m512i s) {
#if defined(__GNUC__) && !defined(__clang__)
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
    return sum;
#else
    return _mm512_dpbusd_epi32(sum, u, s);
#endif
}

// 8 of them
static inline __m256i add_products_of_bytes(__m256i sum, __m256i u, __m256i s) {
#if defined(__GNUC__) && !defined(__clang__)
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(s));
    return sum;
#else
    return _mm256_dpbusd_epi32(sum, u, s);
#endif
}

// 16 sums, each of 2 products of signed words
static inline __m512i add_products_of_words(__m512i sum, __m512i a, __m512i b) {
#if defined(__GNUC__) && !defined(__clang__)
    asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else
    return _mm512_dpwssd_epi32(sum, a, b);
#endif
}

#endif
