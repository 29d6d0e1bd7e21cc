#include "sixteen-rows.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "repack.h"

#include <string.h>
#include <type_traits>

namespace {

constexpr int GROUP = PLM_SIXTEEN_ROWS;
constexpr int64_t OF_A_VOCABULARY = 32768; // a matrix with as many rows, or more, is a vocabulary's

// where the parts of a group lie
template <int TABLES, int SCALES, int SCALARS> struct form {
    static constexpr int CODES = 8 * TABLES * 64; // bytes of a block
    static constexpr int BYTES = CODES + SCALES + SCALARS * GROUP * 2;

    static int64_t group_bytes(int64_t n_blocks) { return n_blocks * BYTES; }
    static const uint8_t * codes(const void * group, int64_t b) { return (const uint8_t *) group + b * CODES; }
    static const uint8_t * scales(const void * group, int64_t n_blocks, int64_t b) { return codes(group, n_blocks) + b * SCALES; }
    static const uint16_t * scalars(const void * group, int64_t n_blocks, int64_t b) {
        return (const uint16_t *) (scales(group, n_blocks, n_blocks) + b * SCALARS * GROUP * 2);
    }
};
using form_q3 = form<3, 192, 1>; // d
using form_q5 = form<5, 192, 2>; // d, dmin
static_assert(form_q3::BYTES == GROUP * sizeof(block_q3_K), "a group has its rows' bytes");
static_assert(form_q5::BYTES == GROUP * sizeof(block_q5_K), "a group has its rows' bytes");

// --- interleaving ------------------------------------------------------------------------------

// puts item i of n, a number of six bits
void put_six(uint8_t * to, int i, int n, int value) {
    to[i % (n / 2)] |= (value & 15) << (i < n / 2 ? 0 : 4);
    to[n / 2 + i % (n / 4)] |= (value >> 4) << 2 * (4 * i / n);
}

// Four codes at a time, as a byte each of a word.
struct words {
    uint32_t of[8];
    explicit words(const uint8_t * codes) { memcpy(of, codes, sizeof(of)); }
    uint32_t bits(int f, int first, int n) const { return of[f] >> first & 0x01010101u * ((1u << n) - 1); }
};

void put_tables(const words & c, uint8_t * to, int row, std::integral_constant<int, 3>) {
    const uint32_t tables[] = {
        c.of[0] | c.of[1] << 3 | c.bits(3, 0, 2) << 6,
        c.of[2] | c.of[5] << 3 | c.bits(3, 2, 1) << 6 | c.bits(7, 2, 1) << 7,
        c.of[4] | c.of[6] << 3 | c.bits(7, 0, 2) << 6,
    };
    for (const uint32_t & table : tables) {
        memcpy(to + (&table - tables) * 64 + 4 * row, &table, 4);
    }
}

void put_tables(const words & c, uint8_t * to, int row, std::integral_constant<int, 5>) {
    const uint32_t tables[] = {
        c.of[0] | c.bits(5, 0, 3) << 5,
        c.of[1] | c.bits(5, 3, 2) << 5 | c.bits(7, 3, 1) << 7,
        c.of[2] | c.bits(6, 0, 3) << 5,
        c.of[3] | c.bits(6, 3, 2) << 5 | c.bits(7, 4, 1) << 7,
        c.of[4] | c.bits(7, 0, 3) << 5,
    };
    for (const uint32_t & table : tables) {
        memcpy(to + (&table - tables) * 64 + 4 * row, &table, 4);
    }
}

void codes_of(const block_q3_K & x, uint8_t * to) {
    for (int u = 0; u < 8; u++) {
        const uint8_t * q = x.qs + 32 * (u / 4);
        for (int i = 0; i < 32; i++) {
            *to++ = (q[i] >> 2 * (u % 4) & 3) | (x.hmask[i] >> u & 1) << 2;
        }
    }
}

void codes_of(const block_q5_K & x, uint8_t * to) {
    for (int u = 0; u < 8; u++) {
        const uint8_t * q = x.qs + 32 * (u / 2);
        for (int i = 0; i < 32; i++) {
            *to++ = (q[i] >> 4 * (u % 2) & 15) | (x.qh[i] >> u & 1) << 4;
        }
    }
}

void put_scales(const block_q3_K & x, int row, uint8_t * to, uint16_t * scalars) {
    for (int j = 0; j < 16; j++) {
        const int value = (j < 8 ? x.scales[j] & 15 : x.scales[j - 8] >> 4) | (x.scales[8 + j % 4] >> 2 * (j / 4) & 3) << 4;
        put_six(to, 32 * (j / 2) + 2 * row + j % 2, 256, value);
    }
    scalars[row] = x.d;
}

void put_scales(const block_q5_K & x, int row, uint8_t * to, uint16_t * scalars) {
    for (int j = 0; j < 8; j++) {
        const uint8_t *a = x.scales + j % 4, *b = a + 4, *c = a + 8;
        const int scale = j < 4 ? *a & 63 : (*c & 15) | *a >> 6 << 4;
        const int min = j < 4 ? *b & 63 : *c >> 4 | *b >> 6 << 4;
        put_six(to, 16 * j + row, 128, scale);
        put_six(to + 96, 32 * (j / 2) + 2 * row + j % 2, 128, min);
    }
    memcpy(scalars + row, &x, 2); // d, then dmin, which C++ has no names for
    memcpy(scalars + GROUP + row, (const char *) &x + 2, 2);
}

template <class form, class block> void interleave(const block * rows, char * to, int64_t n, int64_t n_rows) {
    const int64_t n_blocks = n / QK_K;
    for (int64_t g = 0; g < n_rows / GROUP; g++, rows += GROUP * n_blocks, to += form::group_bytes(n_blocks)) {
        for (int64_t b = 0; b < n_blocks; b++) {
            uint8_t * codes = (uint8_t *) form::codes(to, b);
            uint8_t * scales = (uint8_t *) form::scales(to, n_blocks, b);
            memset(scales, 0, form::scales(to, n_blocks, 1) - form::scales(to, n_blocks, 0));
            for (int r = 0; r < GROUP; r++) {
                const block & x = rows[r * n_blocks + b];
                uint8_t code[QK_K];
                codes_of(x, code);
                for (int u = 0; u < 8; u++) {
                    put_tables(words(code + 32 * u), codes + u * (form::CODES / 8), r, std::integral_constant<int, form::CODES / 512>());
                }
                put_scales(x, r, scales, (uint16_t *) form::scalars(to, n_blocks, b));
            }
        }
    }
}

} // namespace

void plm_interleave_q3_K(const void * rows, void * to, int64_t n, int64_t n_rows) {
    interleave<form_q3>((const block_q3_K *) rows, (char *) to, n, n_rows);
}

void plm_interleave_q5_K(const void * rows, void * to, int64_t n, int64_t n_rows) {
    interleave<form_q5>((const block_q5_K *) rows, (char *) to, n, n_rows);
}

// --- products ----------------------------------------------------------------------------------

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)

#include "../simd.h"
#include "sixteen-rows-lanes.h"

bool plm_sixteen_rows_fits(const struct ggml_tensor * w) {
    // an embedding, or a part of one, that is the output matrix as well would be held twice
    const bool of_embedding = strncmp(w->name, "token_embd.", 11) == 0;
    return !of_embedding && (w->type == GGML_TYPE_Q3_K || w->type == GGML_TYPE_Q5_K) && w->ne[0] % QK_K == 0 && w->ne[1] % GROUP == 0 && w->ne[1] < OF_A_VOCABULARY;
}

namespace {

// --- the vectors

// a block of one vector
struct one_vector {
    const block_q8_K * y;
    // the bytes of values 32 u + 4 f on
    const int8_t * four(int, int u, int f) const { return y->qs + 32 * u + 4 * f; }
    float d(int) const { return y->d; }
    // of each 16 values: two words for the values 32 u on at 2 u
    void sums(int16_t (*to)[16]) const { memcpy(to[0], y->bsums, sizeof(to[0])); }
};

// and of four, as ggml_quantize_mat_q8_K_4x8 makes it
struct four_vectors {
    const block_q8_Kx4 * y;
    const int8_t * four(int t, int u, int f) const { return y->qs + 128 * u + 32 * (f / 2) + 8 * t + 4 * (f % 2); }
    float d(int t) const { return y->d[t]; }
    void sums(int16_t (*to)[16]) const {
        for (int p = 0; p < 4; p++) {
            for (int t = 0; t < 4; t++) {
                memcpy(to[t] + 4 * p, y->bsums + 16 * p + 4 * t, 8);
            }
        }
    }
};

// --- numbers of six bits, 32 at a time

struct sixes {
    alignas(64) uint8_t of[256];

    // n of them, a multiple of 128
    sixes(const uint8_t * packed, int n) {
        const __m256i nibble = _mm256_set1_epi8(15), upper = _mm256_set1_epi8(48);
        for (int i = 0; i < n / 4; i += 32) {
            const auto low = [&](int at) PLM_LAMBDA { return _mm256_loadu_si256((const __m256i *) (packed + at)); };
            const auto put = [&](int at, __m256i four, __m256i two) PLM_LAMBDA {
                _mm256_store_si256((__m256i *) (of + at), _mm256_or_si256(_mm256_and_si256(four, nibble), _mm256_and_si256(two, upper)));
            };
            const __m256i a = low(i), b = low(n / 4 + i), h = low(n / 2 + i);
            put(i, a, _mm256_slli_epi16(h, 4));
            put(n / 4 + i, b, _mm256_slli_epi16(h, 2));
            put(n / 2 + i, _mm256_srli_epi16(a, 4), h);
            put(3 * n / 4 + i, _mm256_srli_epi16(b, 4), _mm256_srli_epi16(h, 2));
        }
    }
};

// --- one block, by type: what it adds to the sums of TOKENS vectors

template <int TOKENS> struct q3 {
    using form = form_q3;
    floats sum[PARTS][TOKENS];

    q3() {
        for (auto & part : sum) {
            for (floats & s : part) {
                s = no_floats();
            }
        }
    }

    template <class vectors, class next> void add(const void * group, int64_t n_blocks, int64_t b, const vectors & y, const next & ask) {
        const uint8_t * codes = form::codes(group, b);
        const uint16_t * d = form::scalars(group, n_blocks, b);
        sixes six(form::scales(group, n_blocks, b), 256);
        for (int i = 0; i < 256; i += 32) { // a scale is 32 above its value
            const __m256i s = _mm256_load_si256((const __m256i *) (six.of + i));
            _mm256_store_si256((__m256i *) (six.of + i), _mm256_sub_epi8(s, _mm256_set1_epi8(32)));
        }
        int16_t less[TOKENS][16]; // a code is 4 above its value
        y.sums(less);
        for (auto & of : less) {
            for (int16_t & s : of) {
                s = int16_t(-4 * s);
            }
        }
        const reg ones = every_byte(7), eights = every_byte(56), three = every_byte(3), four = every_byte(4);
        for (int part = 0; part < PARTS; part++) {
            reg acc[TOKENS];
            for (reg & a : acc) {
                a = none();
            }
            for (int u = 0; u < 8; u++) {
                const uint8_t * table = codes + 192 * u + 32 * part;
                if (part == 0) {
                    ask(u);
                }
                const reg a = load(table), b = load(table + 64), c = load(table + 128);
                const reg c3 = and_or(shifted<4>(b), four, operator_and(shifted<6>(a), three)), c7 = and_or(shifted<5>(b), four, operator_and(shifted<6>(c), three));
                const scale_pair scale(signed_words((const int8_t *) six.of + 32 * u + 16 * part));
                for (int t = 0; t < TOKENS; t++) {
                    const auto with = [&](int f) PLM_LAMBDA { return four_bytes(y.four(t, u, f)); };
                    reg low = quotient<3>(add_bytes(none(), operator_and(a, eights), with(1)));
                    reg up = quotient<3>(add_bytes(add_bytes(none(), operator_and(b, eights), with(5)), operator_and(c, eights), with(6)));
                    low = add_bytes(add_bytes(add_bytes(low, operator_and(a, ones), with(0)), operator_and(b, ones), with(2)), c3, with(3));
                    up = add_bytes(add_bytes(up, operator_and(c, ones), with(4)), c7, with(7));
                    acc[t] = add_words(acc[t], scale.both, two_words(less[t] + 2 * u));
                    acc[t] = add_scaled(acc[t], low, up, scale);
                }
            }
            const floats scale = from_f16(d + ROWS * part);
            for (int t = 0; t < TOKENS; t++) {
                sum[part][t] = fma(to_floats(acc[t]), times(scale, y.d(t)), sum[part][t]);
            }
        }
    }

    floats result(int part, int t) const { return sum[part][t]; }
};

template <int TOKENS> struct q5 {
    using form = form_q5;
    floats sum[PARTS][TOKENS], minus[PARTS][TOKENS];

    q5() {
        for (int part = 0; part < PARTS; part++) {
            for (int t = 0; t < TOKENS; t++) {
                sum[part][t] = minus[part][t] = no_floats();
            }
        }
    }

    template <class vectors, class next> void add(const void * group, int64_t n_blocks, int64_t b, const vectors & y, const next & ask) {
        const uint8_t *codes = form::codes(group, b), *scales = form::scales(group, n_blocks, b);
        const uint16_t * d = form::scalars(group, n_blocks, b);
        const sixes scale(scales, 128), min(scales + 96, 128);
        int16_t of_16[TOKENS][16], of_32[TOKENS][8];
        y.sums(of_16);
        for (int t = 0; t < TOKENS; t++) {
            for (int u = 0; u < 8; u++) {
                of_32[t][u] = int16_t(of_16[t][2 * u] + of_16[t][2 * u + 1]);
            }
        }
        const reg five = every_byte(31), low_three = every_byte(7), fourths = every_byte(24), fourth = every_byte(8), fifth = every_byte(16);
        for (int part = 0; part < PARTS; part++) {
            reg acc[TOKENS], mins[TOKENS];
            for (int t = 0; t < TOKENS; t++) {
                acc[t] = mins[t] = none();
            }
            for (int u = 0; u < 8; u++) {
                const uint8_t * table = codes + 320 * u + 32 * part;
                if (part == 0) {
                    ask(u);
                }
                const reg a = load(table), b = load(table + 64), c = load(table + 128), e = load(table + 192), f = load(table + 256);
                const reg c5 = and_or(shifted<2>(b), fourths, operator_and(shifted<5>(a), low_three));
                const reg c6 = and_or(shifted<2>(e), fourths, operator_and(shifted<5>(c), low_three));
                const reg c7 = and_or(shifted<3>(e), fifth, and_or(shifted<4>(b), fourth, operator_and(shifted<5>(f), low_three)));
                const reg times = unsigned_32(scale.of + 16 * u + ROWS * part);
                for (int t = 0; t < TOKENS; t++) {
                    const auto with = [&](int k) PLM_LAMBDA { return four_bytes(y.four(t, u, k)); };
                    reg low = add_bytes(none(), operator_and(a, five), with(0)), up = add_bytes(none(), operator_and(f, five), with(4));
                    low = add_bytes(low, operator_and(b, five), with(1));
                    up = add_bytes(up, c5, with(5));
                    low = add_bytes(low, operator_and(c, five), with(2));
                    up = add_bytes(up, c6, with(6));
                    low = add_bytes(low, operator_and(e, five), with(3));
                    up = add_bytes(up, c7, with(7));
                    acc[t] = add_scaled_32(acc[t], low, up, times);
                }
            }
            for (int p = 0; p < 4; p++) {
                const reg two = unsigned_words(min.of + 32 * p + 16 * part);
                for (int t = 0; t < TOKENS; t++) {
                    mins[t] = add_words(mins[t], two, two_words(of_32[t] + 2 * p));
                }
            }
            const floats scale = from_f16(d + ROWS * part), dmin = from_f16(d + GROUP + ROWS * part);
            for (int t = 0; t < TOKENS; t++) {
                sum[part][t] = fma(to_floats(acc[t]), ::times(scale, y.d(t)), sum[part][t]);
                minus[part][t] = fma(to_floats(mins[t]), ::times(dmin, y.d(t)), minus[part][t]);
            }
        }
    }

    floats result(int part, int t) const { return less(sum[part][t], minus[part][t]); }
};

// --- all rows

template <class products> void put(const products & of, int t, float * s) {
    for (int part = 0; part < PARTS; part++) {
        store(s + ROWS * part, of.result(part, t));
    }
}

template <template <int> class type> void one(int n, float * s, const void * x, const block_q8_K * y, int n_rows) {
    using form = typename type<1>::form;
    const int64_t n_blocks = n / QK_K;
    const char * group = (const char *) x;
    for (int row = 0; row < n_rows; row += GROUP, group += form::group_bytes(n_blocks)) {
        type<1> of;
        for (int64_t b = 0; b < n_blocks; b++) {
            const char * later = group + form::group_bytes(n_blocks) + b * form::BYTES; // of the next group, as many bytes
            of.add(group, n_blocks, b, one_vector{ y + b }, [later](int u) PLM_LAMBDA {
                for (int i = 0; i < form::BYTES / 8; i += 64) {
                    simd::prefetch(later + u * (form::BYTES / 8) + i);
                }
            });
        }
        put(of, 0, s + row);
    }
}

template <template <int> class type> void batch(int n, float * s, size_t stride, const void * x, const block_q8_Kx4 * y, int n_vectors, int n_rows) {
    using form = typename type<4>::form;
    const int64_t n_blocks = n / QK_K;
    const char * group = (const char *) x;
    for (int row = 0; row < n_rows; row += GROUP, group += form::group_bytes(n_blocks)) { // which stays in the first cache
        for (int t = 0; t < n_vectors; t += 4) {
            type<4> of;
            for (int64_t b = 0; b < n_blocks; b++) {
                of.add(group, n_blocks, b, four_vectors{ y + t / 4 * n_blocks + b }, [](int) {});
            }
            for (int i = 0; i < 4; i++) {
                put(of, i, s + (t + i) * stride + row);
            }
        }
    }
}

} // namespace

void plm_gemv_q3_K_16_q8_K(int n, float * s, size_t, const void * x, const void * y, int, int nc) { one<q3>(n, s, x, (const block_q8_K *) y, nc); }
void plm_gemv_q5_K_16_q8_K(int n, float * s, size_t, const void * x, const void * y, int, int nc) { one<q5>(n, s, x, (const block_q8_K *) y, nc); }
void plm_gemm_q3_K_16_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc) {
    batch<q3>(n, s, bs, x, (const block_q8_Kx4 *) y, nr, nc);
}
void plm_gemm_q5_K_16_q8_K(int n, float * s, size_t bs, const void * x, const void * y, int nr, int nc) {
    batch<q5>(n, s, bs, x, (const block_q8_Kx4 *) y, nr, nc);
}

#else

bool plm_sixteen_rows_fits(const struct ggml_tensor *) { return false; }

// never called
void plm_gemv_q3_K_16_q8_K(int, float *, size_t, const void *, const void *, int, int) { GGML_ABORT("rows of q3_K are not interleaved here"); }
void plm_gemv_q5_K_16_q8_K(int, float *, size_t, const void *, const void *, int, int) { GGML_ABORT("rows of q5_K are not interleaved here"); }
void plm_gemm_q3_K_16_q8_K(int, float *, size_t, const void *, const void *, int, int) { GGML_ABORT("rows of q3_K are not interleaved here"); }
void plm_gemm_q5_K_16_q8_K(int, float *, size_t, const void *, const void *, int, int) { GGML_ABORT("rows of q5_K are not interleaved here"); }

#endif
