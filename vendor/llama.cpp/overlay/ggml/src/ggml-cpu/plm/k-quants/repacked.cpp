#include "repacked.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "repack.h"
#include "../vnni.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include "../x86-intrinsics.h"
#include <string.h>

namespace {

// Scales and minima of a block: row r of sub-block j is byte r of scale[PLACE[j]]; min[k] holds those of the sub-blocks
// 2k and 2k + 1, row by row.
constexpr int PLACE[8] = { 0, 1, 4, 5, 2, 3, 6, 7 };

struct scales {
    alignas(32) uint64_t scale[8];
    __m256i min[4]; // int16
};

inline __m256i every_third_word(__m512i a, __m512i b, int first) {
    const __m256i index = _mm256_add_epi32(_mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21), _mm256_set1_epi32(first));
    return _mm512_castsi512_si256(_mm512_permutex2var_epi32(a, _mm512_castsi256_si512(index), b));
}

inline __m256i two_sub_blocks(__m128i of_both) {
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(of_both, _mm_unpackhi_epi64(of_both, of_both)));
}

// A sub-block's 12 bytes are three words: scales of rows 0 to 3 and minima of rows 0 to 3, in six bits each, and the
// low nibbles of both for rows 4 to 7, whose two upper bits lie above the sixes.
inline void unpack(const uint8_t * packed, scales & out) {
    const __m512i front = _mm512_loadu_si512(packed);
    const __m512i back = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) (packed + 64)));
    const __m256i a = every_third_word(front, back, 0), b = every_third_word(front, back, 1), c = every_third_word(front, back, 2);

    const __m256i six = _mm256_set1_epi8(0x3f), nibble = _mm256_set1_epi8(0x0f), upper = _mm256_set1_epi8(0x30);
    const __m256i scale_0_3 = _mm256_and_si256(a, six), min_0_3 = _mm256_and_si256(b, six);
    const __m256i scale_4_7 = _mm256_or_si256(_mm256_and_si256(c, nibble), _mm256_and_si256(_mm256_srli_epi16(a, 2), upper));
    const __m256i min_4_7 = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(c, 4), nibble), _mm256_and_si256(_mm256_srli_epi16(b, 2), upper));

    _mm256_store_si256((__m256i *) out.scale, _mm256_unpacklo_epi32(scale_0_3, scale_4_7));       // 0 1 4 5
    _mm256_store_si256((__m256i *) (out.scale + 4), _mm256_unpackhi_epi32(scale_0_3, scale_4_7)); // 2 3 6 7
    const __m256i min_0145 = _mm256_unpacklo_epi32(min_0_3, min_4_7), min_2367 = _mm256_unpackhi_epi32(min_0_3, min_4_7);
    out.min[0] = two_sub_blocks(_mm256_castsi256_si128(min_0145));
    out.min[1] = two_sub_blocks(_mm256_castsi256_si128(min_2367));
    out.min[2] = two_sub_blocks(_mm256_extracti128_si256(min_0145, 1));
    out.min[3] = two_sub_blocks(_mm256_extracti128_si256(min_2367, 1));
}

inline __m512i eight_bytes(const void * at) {
    int64_t bytes;
    memcpy(&bytes, at, sizeof bytes);
    return _mm512_set1_epi64(bytes);
}

inline __m256i two_words(const int16_t * at) {
    int32_t both;
    memcpy(&both, at, sizeof both);
    return _mm256_set1_epi32(both);
}

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

inline __m256 load_8_f16(const ggml_half * at) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) at)); }

// Products of eight rows with TOKENS vectors, in a register 8 bytes of each row: two words a row, whose sums are put
// together at the very end.
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
                const __m512i q = _mm512_loadu_si512(x.qs + 256 * p + 64 * k);
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
                mins[t] = _mm256_dpwssd_epi32(mins[t], of.min[p], two_words(sums[p] + 2 * t));
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

} // namespace

void plm_gemv_q4_K_8x8_q8_K(int n, float * s, size_t, const void * vx, const void * vy, int, int nc) {
    const int blocks = n / QK_K;
    const block_q8_K * y = (const block_q8_K *) vy;
    for (int j = 0; j < nc; j += 8) {
        const block_q4_Kx8 * x = (const block_q4_Kx8 *) vx + (size_t) (j / 8) * blocks;
        products<1> rows;
        for (int b = 0; b < blocks; b++) {
            const __m128i * bsums = (const __m128i *) y[b].bsums; // of 16 values
            int16_t sums[4][2];
            _mm_storeu_si128((__m128i *) sums, _mm_hadd_epi16(_mm_loadu_si128(bsums), _mm_loadu_si128(bsums + 1)));
            rows.add(x[b], y[b].qs, sums, &y[b].d);
        }
        rows.store(0, s + j);
    }
}

void plm_gemm_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * vx, const void * vy, int nr, int nc) {
    const int blocks = n / QK_K;
    for (int j = 0; j < nc; j += 8) { // eight rows stay in the first cache for all tokens
        const block_q4_Kx8 * x = (const block_q4_Kx8 *) vx + (size_t) (j / 8) * blocks;
        for (int t = 0; t < nr; t += 4) {
            const block_q8_Kx4 * y = (const block_q8_Kx4 *) vy + (size_t) (t / 4) * blocks;
            products<4> rows;
            for (int b = 0; b < blocks; b++) {
                int16_t sums[4][8];
                for (int p = 0; p < 4; p++) { // of 16 values: four of each token
                    const __m128i * bsums = (const __m128i *) (y[b].bsums + 16 * p);
                    _mm_storeu_si128((__m128i *) sums[p], _mm_hadd_epi16(_mm_loadu_si128(bsums), _mm_loadu_si128(bsums + 1)));
                }
                rows.add(x[b], y[b].qs, sums, y[b].d);
            }
            for (int i = 0; i < 4; i++) {
                rows.store(i, s + (t + i) * bs + j);
            }
        }
    }
}

#else

void plm_gemv_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc) {
    ggml_gemv_q4_K_8x8_q8_K(n, s, bs, x, y, nr, nc);
}

void plm_gemm_q4_K_8x8_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc) {
    ggml_gemm_q4_K_8x8_q8_K(n, s, bs, x, y, nr, nc);
}

#endif
