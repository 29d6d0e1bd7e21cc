#include "vec-dot.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "quants.h"

#include "../simd.h"

#include <algorithm>

namespace {

// by ggml's product of that type
void dot_of_type(enum ggml_type type, int n, float * s, const void * x, const void * y, const void * later) {
    for (size_t at = 0; at < ggml_row_size(type, n); at += 64) {
        simd::prefetch((const char *) later + at);
    }
    ggml_get_type_traits_cpu(type)->vec_dot(n, s, 0, x, 0, y, 0, 1);
}

} // namespace

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include "../vnni.h"
#include "../x86-intrinsics.h"

namespace {

// q with bit J of each byte of qh as its fifth
template <int J> inline __m256i with_fifth(__m256i q, __m256i qh) {
    const __m256i there = J < 4 ? _mm256_slli_epi16(qh, 4 - J) : _mm256_srli_epi16(qh, J - 4);
#if defined(__AVX512VL__)
    return _mm256_ternarylogic_epi32(q, there, _mm256_set1_epi8(16), 0xf8); // a | (b & c)
#else
    return _mm256_or_si256(q, _mm256_and_si256(there, _mm256_set1_epi8(16)));
#endif
}

// A group of 32 values, times a scale that `in_words` made.
#if defined(PLM_VNNI_256)
// the sums of four products are below 2^15, so that the other half of a scale may be 0
inline __m256i in_words(__m256i scales) { return scales; }
inline __m256i add_group(__m256i acc, __m256i q, const int8_t * y, int32_t scale) {
    const __m256i p = add_products_of_bytes(_mm256_setzero_si256(), q, _mm256_loadu_si256((const __m256i *) y));
    return add_products_of_words(acc, p, _mm256_set1_epi32(scale));
}
#else
// the sums of two products are words, each of which is multiplied
inline __m256i in_words(__m256i scales) { return _mm256_or_si256(scales, _mm256_slli_epi32(scales, 16)); }
inline __m256i add_group(__m256i acc, __m256i q, const int8_t * y, int32_t scale) {
    const __m256i p = _mm256_maddubs_epi16(q, _mm256_loadu_si256((const __m256i *) y));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(p, _mm256_set1_epi32(scale)));
}
#endif

// the fifth bits of a block's values
struct fifth_bits {
    __m256i qh;

    explicit fifth_bits(const block_q5_K & x) : qh(_mm256_loadu_si256((const __m256i *) x.qh)) {}
    template <int J> __m256i with(__m256i q) const { return with_fifth<J>(q, qh); }
};

struct no_fifth_bits {
    explicit no_fifth_bits(const block_q4_K &) {}
    template <int> __m256i with(__m256i q) const { return q; }
};

template <int J, class fifth> inline void add_pair(__m256i (&acc)[2], const uint8_t * qs, const fifth & bits, const int8_t * y, const int32_t * scales) {
    const __m256i nibble = _mm256_set1_epi8(15), both = _mm256_loadu_si256((const __m256i *) (qs + 32 * J));
    const __m256i lower = _mm256_and_si256(both, nibble), upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    acc[0] = add_group(acc[0], bits.template with<2 * J>(lower), y + 64 * J, scales[2 * J]);
    acc[1] = add_group(acc[1], bits.template with<2 * J + 1>(upper), y + 64 * J + 32, scales[2 * J + 1]);
}

// Block b of a row that comes later: a row is a call, in whose first blocks the memory would else have nothing to do. Some
// lines with each block, since of many at once most are not asked for.
template <class block> inline void ask_for(const char * later, int b) {
    for (size_t i = 0; i < sizeof(block); i += 64) {
        _mm_prefetch(later + b * sizeof(block) + i, _MM_HINT_T0);
    }
}

// What is read after this row: the row after the next, and of short rows so far on that the memory can answer until then.
inline const char * read_later(const void * row, int n, size_t block) { return (const char *) row + std::max(2 * (n / QK_K) * block, size_t(4096)); }

inline float sum_of(__m256 x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// A block is 256 values d * scale * q - dmin * min, q of 5 bits or 4, a scale and a minimum of 6 bits for each 32 of them.
// In 256 bits, since a nibble's two halves then need no shift that differs by lane.
template <class block, class fifth> void dot_with_minima(int n, float * s, const void * vx, const void * vy, const char * later) {
    const block * x = (const block *) vx;
    const block_q8_K * y = (const block_q8_K *) vy;

    const __m128i twice = _mm_setr_epi8(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);

    __m256 sum = _mm256_setzero_ps(), less = _mm256_setzero_ps();
    for (int b = 0; b < n / QK_K; b++) {
        ask_for<block>(later, b);
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
        _mm256_store_si256((__m256i *) scales, in_words(_mm256_cvtepu8_epi32(six)));
        const fifth bits(x[b]);
        __m256i acc[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        add_pair<0>(acc, x[b].qs, bits, y[b].qs, scales);
        add_pair<1>(acc, x[b].qs, bits, y[b].qs, scales);
        add_pair<2>(acc, x[b].qs, bits, y[b].qs, scales);
        add_pair<3>(acc, x[b].qs, bits, y[b].qs, scales);
        sum = _mm256_fmadd_ps(_mm256_broadcastss_ps(d), _mm256_cvtepi32_ps(_mm256_add_epi32(acc[0], acc[1])), sum);
    }
    *s = sum_of(_mm256_sub_ps(sum, less));
}

constexpr auto dot_q4_K = dot_with_minima<block_q4_K, no_fifth_bits>;
constexpr auto dot_q5_K = dot_with_minima<block_q5_K, fifth_bits>;

// A block is 256 values d * scale * (q - 32), q of 6 bits: four in ql, two above them in qh; a scale of 8 bits, with its
// sign, for each 16 of them.
void dot_q6_K(int n, float * s, const void * vx, const void * vy, const char * later) {
    const block_q6_K * x = (const block_q6_K *) vx;
    const block_q8_K * y = (const block_q8_K *) vy;
    const __m256i nibble = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(48);
    const __m128i evens_first = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);

    __m256 sum = _mm256_setzero_ps();
    for (int b = 0; b < n / QK_K; b++) {
        ask_for<block_q6_K>(later, b);
        const __m128i packed = _mm_loadu_si128((const __m128i *) x[b].scales);
        const __m256i less = _mm256_madd_epi16(_mm256_cvtepi8_epi16(packed), _mm256_loadu_si256((const __m256i *) y[b].bsums));
        // scales 0, 2, … as words in the lower half, 1, 3, … in the upper one
        const __m256i scales = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(packed, evens_first));
        __m256i acc = _mm256_slli_epi32(_mm256_sub_epi32(_mm256_setzero_si256(), less), 5);
        const auto add = [&](int i, __m256i q) PLM_LAMBDA {
            const __m256i two = _mm256_shuffle_epi8(scales, _mm256_set1_epi16((short) (2 * i | (2 * i + 1) << 8)));
            const __m256i p = _mm256_maddubs_epi16(q, _mm256_loadu_si256((const __m256i *) (y[b].qs + 32 * i)));
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(p, two));
        };
        for (int j = 0; j < 2; j++) {
            const __m256i front = _mm256_loadu_si256((const __m256i *) (x[b].ql + 64 * j));
            const __m256i back = _mm256_loadu_si256((const __m256i *) (x[b].ql + 64 * j + 32));
            const __m256i high = _mm256_loadu_si256((const __m256i *) (x[b].qh + 32 * j));
            const auto join = [&](__m256i low, __m256i above) PLM_LAMBDA {
                return _mm256_or_si256(_mm256_and_si256(low, nibble), _mm256_and_si256(above, upper));
            };
            add(4 * j, join(front, _mm256_slli_epi16(high, 4)));
            add(4 * j + 1, join(back, _mm256_slli_epi16(high, 2)));
            add(4 * j + 2, join(_mm256_srli_epi16(front, 4), high));
            add(4 * j + 3, join(_mm256_srli_epi16(back, 4), _mm256_srli_epi16(high, 2)));
        }
        sum = _mm256_fmadd_ps(_mm256_set1_ps(simd::f16(x[b].d) * y[b].d), _mm256_cvtepi32_ps(acc), sum);
    }
    *s = sum_of(sum);
}

} // namespace

void plm_vec_dot_q4_K_q8_K(int n, float * s, size_t, const void * x, size_t, const void * y, size_t, int) {
    dot_q4_K(n, s, x, y, read_later(x, n, sizeof(block_q4_K)));
}

void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t, const void * x, size_t, const void * y, size_t, int) {
    dot_q5_K(n, s, x, y, read_later(x, n, sizeof(block_q5_K)));
}

void plm_vec_dot_q6_K_q8_K(int n, float * s, size_t, const void * x, size_t, const void * y, size_t, int) {
    dot_q6_K(n, s, x, y, read_later(x, n, sizeof(block_q6_K)));
}

void plm_dot_of_picked(enum ggml_type type, int n, float * s, const void * x, const void * y, const void * later) {
    if (type == GGML_TYPE_Q5_K || type == GGML_TYPE_Q6_K) {
        (type == GGML_TYPE_Q5_K ? dot_q5_K : dot_q6_K)(n, s, x, y, (const char *) later);
    } else {
        dot_of_type(type, n, s, x, y, later);
    }
}

#else

void plm_vec_dot_q4_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc) {
    ggml_vec_dot_q4_K_q8_K(n, s, bs, x, bx, y, by, nrc);
}

void plm_vec_dot_q5_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc) {
    ggml_vec_dot_q5_K_q8_K(n, s, bs, x, bx, y, by, nrc);
}

void plm_vec_dot_q6_K_q8_K(int n, float * s, size_t bs, const void * x, size_t bx, const void * y, size_t by, int nrc) {
    ggml_vec_dot_q6_K_q8_K(n, s, bs, x, bx, y, by, nrc);
}

void plm_dot_of_picked(enum ggml_type type, int n, float * s, const void * x, const void * y, const void * later) {
    dot_of_type(type, n, s, x, y, later);
}

#endif
