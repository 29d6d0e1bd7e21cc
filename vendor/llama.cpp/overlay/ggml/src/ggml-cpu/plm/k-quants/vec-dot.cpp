#include "vec-dot.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "quants.h"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512VNNI__)

#include "../x86-intrinsics.h"

namespace {

// q with bit J of each byte of qh as its fifth
template <int J> inline __m256i with_fifth(__m256i q, __m256i qh) {
    const __m256i there = J < 4 ? _mm256_slli_epi16(qh, 4 - J) : _mm256_srli_epi16(qh, J - 4);
    return _mm256_ternarylogic_epi32(q, there, _mm256_set1_epi8(16), 0xf8); // a | (b & c)
}

// A group of 32 values: the sums of four products are below 2^15, so that the other half of a scale may be 0.
inline __m256i add_group(__m256i acc, __m256i q, const int8_t * y, int32_t scale) {
    const __m256i p = _mm256_dpbusd_epi32(_mm256_setzero_si256(), q, _mm256_loadu_si256((const __m256i *) y));
    return _mm256_dpwssd_epi32(acc, p, _mm256_set1_epi32(scale));
}

template <int J> inline void add_pair(__m256i (&acc)[2], const block_q5_K & x, __m256i qh, const int8_t * y, const int32_t * scales) {
    const __m256i nibble = _mm256_set1_epi8(15), both = _mm256_loadu_si256((const __m256i *) (x.qs + 32 * J));
    const __m256i lower = _mm256_and_si256(both, nibble), upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    acc[0] = add_group(acc[0], with_fifth<2 * J>(lower, qh), y + 64 * J, scales[2 * J]);
    acc[1] = add_group(acc[1], with_fifth<2 * J + 1>(upper, qh), y + 64 * J + 32, scales[2 * J + 1]);
}

} // namespace

// A block is 256 values d * scale * q - dmin * min, q of 5 bits, a scale and a minimum of 6 bits for each 32 of them.
// In 256 bits, since a nibble's two halves then need no shift that differs by lane.
void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t, const void * vx, size_t, const void * vy, size_t, int) {
    const block_q5_K * x = (const block_q5_K *) vx;
    const block_q8_K * y = (const block_q8_K *) vy;

    const __m128i twice = _mm_setr_epi8(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);

    __m256 sum = _mm256_setzero_ps(), less = _mm256_setzero_ps();
    for (int b = 0; b < n / QK_K; b++) {
        // two rows on: a row is a call, in whose first blocks the memory would else have nothing to do
        const char * next = (const char *) (x + b + 2 * (n / QK_K));
        _mm_prefetch(next, _MM_HINT_T0);
        _mm_prefetch(next + 64, _MM_HINT_T0);
        _mm_prefetch(next + 128, _MM_HINT_T0);

        // the words behind d and dmin: a, c's low nibbles with two bits of a above them, the same of b
        const __m128i head = _mm_loadu_si128((const __m128i *) &x[b]);
        const __m128i low = _mm_srlv_epi32(_mm_shuffle_epi32(head, _MM_SHUFFLE(3, 2, 3, 1)), _mm_setr_epi32(0, 0, 0, 4));
        const __m128i high = _mm_srli_epi32(_mm_shuffle_epi32(head, _MM_SHUFFLE(2, 2, 1, 1)), 2);
        const __m128i six = _mm_or_si128(_mm_and_si128(low, _mm_setr_epi32(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f)),
                                         _mm_and_si128(high, _mm_setr_epi32(0, 0x30303030, 0, 0x30303030)));
        const __m128 d = _mm_mul_ps(_mm_cvtph_ps(head), _mm_set1_ps(y[b].d)); // d, dmin

        const __m256i mins = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm_shuffle_epi8(six, twice)),
                                               _mm256_loadu_si256((const __m256i *) y[b].bsums));
        less = _mm256_fmadd_ps(_mm256_broadcastss_ps(_mm_movehdup_ps(d)), _mm256_cvtepi32_ps(mins), less);

        alignas(32) int32_t scales[8]; // a load gives one to all lanes for nothing
        _mm256_store_si256((__m256i *) scales, _mm256_cvtepu8_epi32(six));
        const __m256i qh = _mm256_loadu_si256((const __m256i *) x[b].qh);
        __m256i acc[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        add_pair<0>(acc, x[b], qh, y[b].qs, scales);
        add_pair<1>(acc, x[b], qh, y[b].qs, scales);
        add_pair<2>(acc, x[b], qh, y[b].qs, scales);
        add_pair<3>(acc, x[b], qh, y[b].qs, scales);
        sum = _mm256_fmadd_ps(_mm256_broadcastss_ps(d), _mm256_cvtepi32_ps(_mm256_add_epi32(acc[0], acc[1])), sum);
    }
    sum = _mm256_sub_ps(sum, less);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    *s = _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

#else

void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc) {
    ggml_vec_dot_q5_K_q8_K(n, s, bs, x, bx, y, by, nrc);
}

#endif
