#pragma once

// Products of eight repacked rows of q4_K with TOKENS vectors in 512 bits, with AVX-512 VNNI, and of twice eight rows. A
// register holds 8 bytes of each of eight rows, two words a row, whose sums are put together at the very end.

#include "repacked-scales.h"
#include "../vnni.h"

namespace {

inline __m512i eight_bytes(const void * at) { return _mm512_set1_epi64(word_at<int64_t>(at)); }

// byte r of eight to both words of row r
inline __m512i to_rows(uint64_t scale) {
    const __m512i spread = _mm512_set_epi64(0x8080800780808007, 0x8080800680808006, 0x8080800580808005, 0x8080800480808004,
                                            0x8080800380808003, 0x8080800280808002, 0x8080800180808001, 0x8080800080808000);
    return _mm512_shuffle_epi8(_mm512_set1_epi64(scale), spread);
}

// d of eight rows, both words of each
inline __m512 to_words(__m256 d) {
    return _mm512_permutexvar_ps(_mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0), _mm512_castps256_ps512(d));
}

template <int TOKENS> struct products {
    __m512 sum[TOKENS];
    __m256 less[TOKENS];
    __m512i acc[TOKENS];
    __m256i mins[TOKENS];

    products() {
        for (int t = 0; t < TOKENS; t++) {
            sum[t] = _mm512_setzero_ps();
            less[t] = _mm256_setzero_ps();
        }
    }

    // y: quants of value i of token t at 8 TOKENS (i / 8) + 8 t + i % 8; sums[p]: of 32 values of each token, two words
    // of 16 bits a token for the sub-blocks 2p and 2p + 1
    void add(const block_q4_Kx8 & x, const int8_t * y, const int16_t (*sums)[2 * TOKENS], const float * d) {
        const __m512i nibble = _mm512_set1_epi8(15);
        scales of;
        unpack(x.scales, of);
        for (int t = 0; t < TOKENS; t++) {
            acc[t] = _mm512_setzero_si512();
            mins[t] = _mm256_setzero_si256();
        }
        for (int p = 0; p < 4; p++) {
            __m512i low[TOKENS], high[TOKENS];
            for (int t = 0; t < TOKENS; t++) {
                low[t] = high[t] = _mm512_setzero_si512();
            }
            for (int k = 0; k < 4; k++) {
                const __m512i q = load_once(x.qs + 256 * p + 64 * k);
                const __m512i lower = _mm512_and_si512(q, nibble), upper = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
                const int8_t * with = y + TOKENS * (64 * p + 8 * k);
                for (int t = 0; t < TOKENS; t++) {
                    low[t] = add_products_of_bytes(low[t], lower, eight_bytes(with + 8 * t));
                    high[t] = add_products_of_bytes(high[t], upper, eight_bytes(with + TOKENS * 32 + 8 * t));
                }
            }
            // sums of sixteen products of 15 * 127 at most: below 2^15, so that the other half of a scale may be 0
            const __m512i even = to_rows(of.scale[PLACE[2 * p]]), odd = to_rows(of.scale[PLACE[2 * p + 1]]);
            for (int t = 0; t < TOKENS; t++) {
                acc[t] = add_products_of_words(add_products_of_words(acc[t], low[t], even), high[t], odd);
                mins[t] = add_products_of_words(mins[t], of.min[p], two_words(sums[p] + 2 * t));
            }
        }
        const __m512 scale = to_words(load_8_f16(x.d));
        const __m256 dmin = load_8_f16(x.dmin);
        for (int t = 0; t < TOKENS; t++) {
            sum[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[t]), _mm512_mul_ps(scale, _mm512_set1_ps(d[t])), sum[t]);
            less[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(mins[t]), _mm256_mul_ps(dmin, _mm256_set1_ps(d[t])), less[t]);
        }
    }

    void store(int t, float * s) const {
        const __m512i evens = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 14, 12, 10, 8, 6, 4, 2, 0);
        const __m512 both = _mm512_add_ps(sum[t], _mm512_shuffle_ps(sum[t], sum[t], 0xb1));
        _mm256_storeu_ps(s, _mm256_sub_ps(_mm512_castps512_ps256(_mm512_permutexvar_ps(evens, both)), less[t]));
    }
};

// The same for two blocks of eight rows, with the same bits. What is read of the vectors serves both: reading is what the
// products of one wait for.
// One template for both was up to 8 % slower, and never faster: gcc 12 hands out registers by how the loops are written.
template <int TOKENS> struct products_of_two {
    __m512 sum[2][TOKENS];
    __m512 less[TOKENS]; // of all sixteen rows

    products_of_two() {
        for (int t = 0; t < TOKENS; t++) {
            sum[0][t] = sum[1][t] = less[t] = _mm512_setzero_ps();
        }
    }

    void add(const block_q4_Kx8 & a, const block_q4_Kx8 & b, const int8_t * y, const int16_t (*sums)[2 * TOKENS], const float * d) {
        const __m512i nibble = _mm512_set1_epi8(15);
        const block_q4_Kx8 * const x[2] = { &a, &b };
        scales of[2];
        unpack(a.scales, of[0]);
        unpack(b.scales, of[1]);
        __m512i acc[2][TOKENS];
        for (int t = 0; t < TOKENS; t++) {
            acc[0][t] = acc[1][t] = _mm512_setzero_si512();
        }
        for (int p = 0; p < 4; p++) {
            __m512i low[2][TOKENS], high[2][TOKENS];
            for (int t = 0; t < TOKENS; t++) {
                low[0][t] = low[1][t] = high[0][t] = high[1][t] = _mm512_setzero_si512();
            }
            for (int k = 0; k < 4; k++) {
                __m512i lower[2], upper[2];
                for (int i = 0; i < 2; i++) {
                    const __m512i q = load_once(x[i]->qs + 256 * p + 64 * k);
                    lower[i] = _mm512_and_si512(q, nibble);
                    upper[i] = _mm512_and_si512(_mm512_srli_epi16(q, 4), nibble);
                }
                const int8_t * with = y + TOKENS * (64 * p + 8 * k);
                for (int t = 0; t < TOKENS; t++) {
                    const __m512i first = eight_bytes(with + 8 * t), second = eight_bytes(with + TOKENS * 32 + 8 * t);
                    low[0][t] = add_products_of_bytes(low[0][t], lower[0], first);
                    low[1][t] = add_products_of_bytes(low[1][t], lower[1], first);
                    high[0][t] = add_products_of_bytes(high[0][t], upper[0], second);
                    high[1][t] = add_products_of_bytes(high[1][t], upper[1], second);
                }
            }
            for (int i = 0; i < 2; i++) {
                const __m512i even = to_rows(of[i].scale[PLACE[2 * p]]), odd = to_rows(of[i].scale[PLACE[2 * p + 1]]);
                for (int t = 0; t < TOKENS; t++) {
                    acc[i][t] = add_products_of_words(add_products_of_words(acc[i][t], low[i][t], even), high[i][t], odd);
                }
            }
        }
        for (int t = 0; t < TOKENS; t++) {
            __m512i mins = _mm512_setzero_si512();
            for (int p = 0; p < 4; p++) {
                const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(of[0].min[p]), of[1].min[p], 1);
                mins = add_products_of_words(mins, both, _mm512_broadcastd_epi32(_mm256_castsi256_si128(two_words(sums[p] + 2 * t))));
            }
            const __m512 dt = _mm512_set1_ps(d[t]);
            const __m512 dmin = _mm512_insertf32x8(_mm512_castps256_ps512(load_8_f16(a.dmin)), load_8_f16(b.dmin), 1);
            less[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(mins), _mm512_mul_ps(dmin, dt), less[t]);
            for (int i = 0; i < 2; i++) {
                sum[i][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[i][t]), _mm512_mul_ps(to_words(load_8_f16(x[i]->d)), dt), sum[i][t]);
            }
        }
    }

    void store(int t, float * s) const {
        const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        __m512 both[2];
        for (int i = 0; i < 2; i++) {
            both[i] = _mm512_add_ps(sum[i][t], _mm512_shuffle_ps(sum[i][t], sum[i][t], 0xb1));
        }
        _mm512_storeu_ps(s, _mm512_sub_ps(_mm512_permutex2var_ps(both[0], evens, both[1]), less[t]));
    }
};

} // namespace
