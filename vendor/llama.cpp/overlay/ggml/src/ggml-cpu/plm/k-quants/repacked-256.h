#pragma once

// Products of eight repacked rows of q4_K with TOKENS vectors in 256 bits: with AVX2, or with VNNI in that width.
// A register holds 8 bytes of each of four rows; rows 0 to 3 and rows 4 to 7 are a half each.

#include "repacked-scales.h"
#include "../vnni.h"

namespace {

// Sums of a sub-block for four rows, and those times the rows' scales in 32 bits.
#if defined(PLM_VNNI_256)

// byte 4 HALF + i of eight to row i: two sums of 32 bits, of sixteen products of 15 * 127 at most. They are below 2^15, so
// that the other half of a scale may be 0.
template <int HALF> inline __m256i to_rows(uint64_t scale) {
    const int64_t row = 0x8080800080808000 + HALF * 0x0000000400000004;
    return _mm256_shuffle_epi8(_mm256_set1_epi64x(scale), _mm256_setr_epi64x(row, row + 0x100000001, row + 0x200000002, row + 0x300000003));
}
template <bool FIRST> inline __m256i add_bytes(__m256i sum, __m256i u, __m256i s) {
    return add_products_of_bytes(FIRST ? _mm256_setzero_si256() : sum, u, s);
}
inline __m256i add_words(__m256i sum, __m256i a, __m256i b) { return add_products_of_words(sum, a, b); }

#else

// to row i: four sums of 16 bits, of eight products of 15 * 127 at most
template <int HALF> inline __m256i to_rows(uint64_t scale) {
    const int64_t row = 0x8000800080008000 + HALF * 0x0004000400040004;
    return _mm256_shuffle_epi8(_mm256_set1_epi64x(scale), _mm256_setr_epi64x(row, row + 0x1000100010001, row + 0x2000200020002, row + 0x3000300030003));
}
template <bool FIRST> inline __m256i add_bytes(__m256i sum, __m256i u, __m256i s) {
    const __m256i products = _mm256_maddubs_epi16(u, s);
    return FIRST ? products : _mm256_add_epi16(sum, products);
}
inline __m256i add_words(__m256i sum, __m256i a, __m256i b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

#endif

inline __m256i eight_bytes(const void * at) { return _mm256_set1_epi64x(word_at<int64_t>(at)); }

template <int TOKENS> struct products {
    __m256 sum[TOKENS];  // rows 0 1 4 5 2 3 6 7
    __m256 less[TOKENS]; // rows in order

    products() {
        for (int t = 0; t < TOKENS; t++) {
            sum[t] = less[t] = _mm256_setzero_ps();
        }
    }

    // y: quants of value i of token t at 8 TOKENS (i / 8) + 8 t + i % 8; sums[p]: of 32 values of each token, two words
    // of 16 bits a token for the sub-blocks 2p and 2p + 1
    void add(const block_q4_Kx8 & x, const int8_t * y, const int16_t (*sums)[2 * TOKENS], const float * d) {
        scales of;
        unpack(x.scales, of);
        __m256i acc[2][TOKENS];
        half<0>(x, y, of, acc[0]);
        half<1>(x, y, of, acc[1]);
        // of d, as the sums of neighbours come out
        const __m256 scale = _mm256_permutevar8x32_ps(load_8_f16(x.d), _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7)), dmin = load_8_f16(x.dmin);
        for (int t = 0; t < TOKENS; t++) {
            __m256i mins = _mm256_setzero_si256();
            for (int p = 0; p < 4; p++) {
                mins = add_words(mins, of.min[p], two_words(sums[p] + 2 * t));
            }
            const __m256 dt = _mm256_set1_ps(d[t]);
            sum[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_hadd_epi32(acc[0][t], acc[1][t])), _mm256_mul_ps(scale, dt), sum[t]);
            less[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(mins), _mm256_mul_ps(dmin, dt), less[t]);
        }
    }

    void store(int t, float * s) const {
        const __m256 in_order = _mm256_permutevar8x32_ps(sum[t], _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7));
        _mm256_storeu_ps(s, _mm256_sub_ps(in_order, less[t]));
    }

  private:
    template <int HALF> static inline void half(const block_q4_Kx8 & x, const int8_t * y, const scales & of, __m256i * acc) {
        for (int t = 0; t < TOKENS; t++) {
            acc[t] = _mm256_setzero_si256();
        }
        for (int p = 0; p < 4; p++) {
            __m256i low[TOKENS], high[TOKENS];
            const uint8_t * q = x.qs + 256 * p + 32 * HALF;
            const int8_t * with = y + TOKENS * 64 * p;
            eight<true>(q, with, low, high);
            eight<false>(q + 64, with + TOKENS * 8, low, high);
            eight<false>(q + 128, with + TOKENS * 16, low, high);
            eight<false>(q + 192, with + TOKENS * 24, low, high);
            const __m256i even = to_rows<HALF>(of.scale[PLACE[2 * p]]), odd = to_rows<HALF>(of.scale[PLACE[2 * p + 1]]);
            for (int t = 0; t < TOKENS; t++) {
                acc[t] = add_words(add_words(acc[t], low[t], even), high[t], odd);
            }
        }
    }

    // eight values of a sub-block and eight of the next one
    template <bool FIRST> static inline void eight(const uint8_t * q, const int8_t * with, __m256i * low, __m256i * high) {
        const __m256i nibble = _mm256_set1_epi8(15), both = _mm256_loadu_si256((const __m256i *) q);
        const __m256i lower = _mm256_and_si256(both, nibble), upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
        for (int t = 0; t < TOKENS; t++) {
            low[t] = add_bytes<FIRST>(low[t], lower, eight_bytes(with + 8 * t));
            high[t] = add_bytes<FIRST>(high[t], upper, eight_bytes(with + TOKENS * 32 + 8 * t));
        }
    }
};

} // namespace
