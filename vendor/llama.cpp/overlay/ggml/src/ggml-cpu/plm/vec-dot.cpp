#include "vec-dot.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "quants.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// gcc's own header of AVX-512 intrinsics sets it off: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
#    pragma GCC diagnostic ignored "-Wuninitialized"
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <immintrin.h>

// Two groups of 32 values lie side by side in a register. Tables, since a row is but some blocks long: to make these
// anew would take as long as two blocks.
#define BOTH(lower, upper) { lower, lower, lower, lower, upper, upper, upper, upper }
alignas(64) static const uint64_t SHIFT[8]    = BOTH(0, 0x0004000400040004);
alignas(64) static const uint64_t BIT[4][8]   = { BOTH(0x0101010101010101, 0x0202020202020202), BOTH(0x0404040404040404, 0x0808080808080808),
                                                  BOTH(0x1010101010101010, 0x2020202020202020), BOTH(0x4040404040404040, 0x8080808080808080) };
alignas(64) static const uint64_t GROUP[4][8] = { BOTH(0x000000000, 0x100000001), BOTH(0x200000002, 0x300000003),
                                                  BOTH(0x400000004, 0x500000005), BOTH(0x600000006, 0x700000007) };
#undef BOTH

// A block is 256 values d * scale * q - dmin * min, q of 5 bits, a scale and a minimum of 6 bits for each 32 of them.
void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t, const void * vx, size_t, const void * vy, size_t, int) {
    const block_q5_K * x = (const block_q5_K *) vx;
    const block_q8_K * y = (const block_q8_K *) vy;

    const __m512i nibble = _mm512_set1_epi8(15), fifth = _mm512_set1_epi8(16), shift = _mm512_load_si512(SHIFT);

    __m512 sum  = _mm512_setzero_ps();
    __m128 less = _mm_setzero_ps();
    for (int b = 0; b < n / QK_K; b++) {
        // the words behind d and dmin: a, c's low nibbles with two bits of a above them, the same of b
        const __m128i head = _mm_loadu_si128((const __m128i *) &x[b]);
        const __m128i low  = _mm_srlv_epi32(_mm_shuffle_epi32(head, _MM_SHUFFLE(3, 2, 3, 1)), _mm_setr_epi32(0, 0, 0, 4));
        const __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(head, _MM_SHUFFLE(2, 2, 1, 1)), 2);
        const __m128i six  = _mm_or_si128(_mm_and_si128(low, _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)),
                                          _mm_and_si128(high, _mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
        const __m128 d = _mm_mul_ps(_mm_cvtph_ps(head), _mm_set1_ps(y[b].d)); // d, dmin

        const __m128i * bsums = (const __m128i *) y[b].bsums;
        const __m128i   of_32 = _mm_hadd_epi16(_mm_loadu_si128(bsums), _mm_loadu_si128(bsums + 1));
        const __m128i   mins  = _mm_madd_epi16(_mm_unpackhi_epi8(six, _mm_setzero_si128()), of_32);
        less = _mm_fmadd_ps(_mm_shuffle_ps(d, d, 0x55), _mm_cvtepi32_ps(mins), less);

        const __m512i scales = _mm512_cvtepu8_epi32(six);
        const __m512i qh     = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) x[b].qh));
        __m512i acc = _mm512_setzero_si512();
        for (int j = 0; j < 4; j++) {
            const __m512i four = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *) (x[b].qs + 32 * j)));
            __m512i q = _mm512_and_si512(_mm512_srlv_epi16(four, shift), nibble);
            q = _mm512_mask_add_epi8(q, _mm512_test_epi8_mask(qh, _mm512_load_si512(BIT[j])), q, fifth);
            // sums of four products: below 2^15, so that the other half of a scale may be 0
            const __m512i p = _mm512_dpbusd_epi32(_mm512_setzero_si512(), q, _mm512_loadu_si512(y[b].qs + 64 * j));
            acc = _mm512_dpwssd_epi32(acc, p, _mm512_permutexvar_epi32(_mm512_load_si512(GROUP[j]), scales));
        }
        sum = _mm512_fmadd_ps(_mm512_broadcastss_ps(d), _mm512_cvtepi32_ps(acc), sum);
    }
    less = _mm_add_ps(less, _mm_movehl_ps(less, less));
    less = _mm_add_ss(less, _mm_movehdup_ps(less));
    *s = _mm512_reduce_add_ps(sum) - _mm_cvtss_f32(less);
}

#else

void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc) {
    ggml_vec_dot_q5_K_q8_K(n, s, bs, x, bx, y, by, nrc);
}

#endif
