// The 8-bit engine for q8_0 and q4_0 caches on x86 with AVX-512 VNNI and VBMI: four products of bytes where the 16-bit
// engine makes two, and a cached row's quants are used as they are.
//
// Scores: a query is rounded to 8 bits under a scale for each block of 32, as ggml rounds the other factor of a q8_0
// product. The instruction wants one factor unsigned: keys are moved up by 128, and sums begin with what that adds.
//
// Sums over rows: what a row's block is multiplied by is its probability times its scale,
//
//   sum_j p_j d_jb v_jc  =  u_b sum_j w_jb v_jc,   w_jb = round(P_j D_jb / 2^15)  of 8 bits,
//
// with P_j = p_j / (the tile's largest) in 15 bits, D_jb = d_jb / (the tile's largest of block b) in 8. What is
// rounded off is at most a 255th of the largest weight of a tile, for each row.

#include "engine.h"

#if defined(PLM_MLA_U8) && defined(PLM_AVX512)

#include "../vnni.h"
#include "../word-at.h"

#include <algorithm>

namespace mla {

namespace {

constexpr int64_t QK = 32;  // values of a block
constexpr int64_t QUAD = 4; // rows whose products one instruction sums
constexpr int64_t QUADS = TILE / QUAD;

constexpr float P_TOP = 32767.0f, D_TOP = 255.0f;

int64_t n_blocks(const shape & a) { return a.ld_k / QK; }
int64_t ld_blocks(const shape & a) { return pad(n_blocks(a), LANES); }

struct tile_u8 {
    uint8_t * keys;      // [TILE][ld_k], plus 128
    int8_t * values;     // [QUADS][cols][QUAD]
    float * scale;       // [TILE][ld_blocks]
    int32_t * weight[2]; // [QUADS][ld_blocks]: D of a quad's rows 0 and 2, and of rows 1 and 3, two words each
    float * unit;        // [ld_blocks], u / (the largest p)

    tile_u8(const shape & a, char * p) {
        const int64_t ld = ld_blocks(a);
        keys = (uint8_t *) p;
        values = (int8_t *) (keys + TILE * a.ld_k);
        scale = (float *) (values + TILE * a.cols);
        weight[0] = (int32_t *) (scale + TILE * ld);
        weight[1] = weight[0] + QUADS * ld;
        unit = (float *) (weight[1] + QUADS * ld);
    }

    static size_t bytes(const shape & a) {
        return TILE * (a.ld_k + a.cols) + (TILE + 2 * QUADS + 1) * ld_blocks(a) * sizeof(float);
    }
};

// a packed block of queries
struct query_u8 {
    int8_t * values; // [ld_k / 4][BLOCK][4]
    float * unit;    // [n_blocks][BLOCK]
    int32_t * start; // [n_blocks][BLOCK], -128 times the sum of a block's values

    query_u8(const shape & a, const char * p) {
        values = (int8_t *) const_cast<char *>(p);
        unit = (float *) (values + a.ld_k * BLOCK);
        start = (int32_t *) (unit + n_blocks(a) * BLOCK);
    }

    static size_t bytes(const shape & a) { return a.ld_k * BLOCK + 2 * n_blocks(a) * BLOCK * sizeof(float); }
};

size_t u8_query_bytes(const shape & a) { return query_u8::bytes(a); }
size_t u8_tile_bytes(const shape & a) { return tile_u8::bytes(a); }

void u8_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    const query_u8 out(a, block);
    const __m512 positive = _mm512_castsi512_ps(_mm512_set1_epi32(0x7fffffff));
    for (int64_t b = 0; b < n_blocks(a); b++) {
        int8_t values[QK] = {};
        float unit = 0.0f;
        int32_t sum = 0;
        if (q) {
            const __m512 x = load(q + b * QK), y = load(q + b * QK + LANES);
            const __m512 zero = fma(all(0.0f), x, mul(all(0.0f), y)); // NaN where one is not finite
            const float top = _mm512_reduce_max_ps(max(_mm512_and_ps(x, positive), _mm512_and_ps(y, positive)));
            if (_mm512_cmp_ps_mask(zero, zero, _CMP_UNORD_Q)) {
                unit = NAN; // every score of this row will be NaN
            } else if (top > 1e-30f) {
                const __m512 f = all(127.0f / top);
                const __m512i i = _mm512_cvtps_epi32(mul(x, f)), j = _mm512_cvtps_epi32(mul(y, f));
                _mm_storeu_si128((__m128i *) values, _mm512_cvtsepi32_epi8(i));
                _mm_storeu_si128((__m128i *) (values + LANES), _mm512_cvtsepi32_epi8(j));
                sum = _mm512_reduce_add_epi32(_mm512_add_epi32(i, j));
                unit = top / 127.0f * scale;
            }
        }
        for (int64_t i = 0; i < QK; i += 4) {
            memcpy(out.values + ((b * QK + i) * BLOCK + lane * 4), values + i, 4);
        }
        out.unit[b * BLOCK + lane] = unit;
        out.start[b * BLOCK + lane] = -128 * sum;
    }
}

// the quants of a block, negated where its scale is negative
template <ggml_type TYPE> __m256i quants(const char * block, uint16_t d) {
    __m256i x;
    if (TYPE == GGML_TYPE_Q8_0) {
        x = _mm256_loadu_si256((const __m256i *) (block + 2));
    } else {
        const __m128i both = _mm_loadu_si128((const __m128i *) (block + 2));
        x = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(both, 4), both), _mm256_set1_epi8(15));
        x = _mm256_sub_epi8(x, _mm256_set1_epi8(8));
    }
    return _mm256_sign_epi8(x, _mm256_set1_epi8(int8_t(d >> 8 | 1)));
}

template <ggml_type TYPE> bool load_tile(const shape & a, const char * rows, size_t stride, int64_t n, const tile_u8 & tile) {
    constexpr int64_t BYTES = TYPE == GGML_TYPE_Q8_0 ? 34 : 18;
    const int64_t blocks = n_blocks(a), ld = ld_blocks(a);

    const __m256i up = _mm256_set1_epi8(int8_t(-128));

    const int64_t n_quads = (n + QUAD - 1) / QUAD, ld_k = a.ld_k, cols = a.cols;
    __m256i worst = _mm256_setzero_si256();
    for (int64_t t = 0; t < n_quads; t++) {
        const char * row[QUAD];
        for (int64_t r = 0; r < QUAD; r++) {
            row[r] = rows + std::min(t * QUAD + r, n - 1) * stride;
        }
        uint8_t * key = tile.keys + t * QUAD * ld_k;
        int8_t * value = tile.values + t * cols * QUAD;
        uint16_t d[QUAD][N_K_MAX / QK];
        for (int64_t b = 0; b < blocks; b++, key += QK, value += QK * QUAD) {
            __m256i x[QUAD];
            for (int64_t r = 0; r < QUAD; r++) {
                const auto bits = word_at<uint16_t>(row[r]);
                d[r][b] = bits;
                x[r] = quants<TYPE>(row[r], bits);
                row[r] += BYTES;
                _mm256_storeu_si256((__m256i *) (key + r * ld_k), _mm256_xor_si256(x[r], up));
            }
            if (b * QK < cols) {
                const __m512i first = _mm512_inserti64x4(_mm512_castsi256_si512(x[0]), x[1], 1);
                const __m512i second = _mm512_inserti64x4(_mm512_castsi256_si512(x[2]), x[3], 1);
                _mm512_storeu_si512(value, side_by_side<false>(first, second));
                _mm512_storeu_si512(value + 64, side_by_side<true>(first, second));
            }
        }
        for (int64_t r = 0; r < QUAD; r++) {
            std::fill(d[r] + blocks, d[r] + ld, uint16_t(0));
            for (int64_t b = 0; b < blocks; b += LANES) {
                const __m256i bits = _mm256_and_si256(_mm256_loadu_si256((const __m256i *) (d[r] + b)), _mm256_set1_epi16(0x7fff));
                worst = _mm256_max_epu16(worst, bits);
                store(tile.scale + (t * QUAD + r) * ld + b, _mm512_cvtph_ps(bits));
            }
        }
    }
    if (_mm256_cmpge_epu16_mask(worst, _mm256_set1_epi16(0x7c00))) { // an infinity or a NaN
        return false;
    }
    for (int64_t b = 0; b < blocks; b += LANES) {
        vf top = all(0.0f);
        for (int64_t j = 0; j < n; j++) {
            top = max(load(tile.scale + j * ld + b), top);
        }
        const vf f = div(all(D_TOP), max(top, all(1e-30f)));
        store(tile.unit + b, mul(top, all(32768.0f / (P_TOP * D_TOP))));
        for (int64_t t = 0; t < n_quads; t++) {
            const float * from = tile.scale + t * QUAD * ld + b;
            __m512i x[QUAD];
            for (int64_t r = 0; r < QUAD; r++) {
                x[r] = _mm512_cvtps_epi32(mul(load(from + r * ld), f));
            }
            for (int i = 0; i < 2; i++) {
                _mm512_storeu_si512(tile.weight[i] + t * ld + b, _mm512_or_si512(x[i], _mm512_slli_epi32(x[i + 2], 16)));
            }
        }
    }
    return true;
}

bool u8_load(const shape & a, const char * rows, size_t stride, int64_t n, char * p) {
    return a.type == GGML_TYPE_Q8_0 ? load_tile<GGML_TYPE_Q8_0>(a, rows, stride, n, tile_u8(a, p))
                                    : load_tile<GGML_TYPE_Q4_0>(a, rows, stride, n, tile_u8(a, p));
}

__m512i dword_of(const void * p) { return _mm512_set1_epi32(word_at<int32_t>(p)); }

void u8_scores(const shape & a, const char * block, const char * p, int64_t n, float * s, lookahead & next) {
    constexpr int ROWS = 8;
    const tile_u8 tile(a, const_cast<char *>(p));
    const query_u8 query(a, block);
    const int64_t blocks = n_blocks(a), ld = ld_blocks(a);

    for (int64_t j = 0; j < n; j += ROWS) {
        // rows behind the last are computed with the others
        const uint8_t * keys = tile.keys + j * a.ld_k;
        const float * scale = tile.scale + j * ld;
        const int8_t * q = query.values;
        vf sum[ROWS];
        for (vf & x : sum) {
            x = all(0.0f);
        }
        for (int64_t b = 0; b < blocks; b++) {
            __m512i acc[ROWS];
            for (__m512i & x : acc) {
                x = _mm512_loadu_si512(query.start + b * BLOCK);
            }
            for (int64_t i = 0; i < QK; i += 4, q += 4 * BLOCK) {
                const __m512i x = _mm512_loadu_si512(q);
                for (int r = 0; r < ROWS; r++) {
                    acc[r] = add_products_of_bytes(acc[r], dword_of(keys + r * a.ld_k + b * QK + i), x);
                }
                if (i % 8 == 0) {
                    next.step();
                }
            }
            next.step();
            const vf unit = load(query.unit + b * BLOCK);
            for (int r = 0; r < ROWS; r++) {
                sum[r] = fma(_mm512_cvtepi32_ps(acc[r]), mul(unit, all(scale[r * ld + b])), sum[r]);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            store(s + (j + r) * BLOCK, sum[r]);
        }
    }
}

// P of a tile's rows, [QUADS][two words of each lane] for the rows 0 and 2 of a quad, and for 1 and 3; unit[lane] is what
// one is worth
void probabilities(const float * p, int64_t n_quads, __m512i * even, __m512i * odd, float * unit) {
    vf top = all(0.0f), sum = all(0.0f);
    for (int64_t j = 0; j < n_quads * QUAD; j++) {
        const vf x = load(p + j * BLOCK);
        top = max(x, top);
        sum = add(sum, x);
    }
    const vf f = div(all(P_TOP), max(top, all(1e-30f)));
    store(unit, fma(all(0.0f), sum, top)); // NaN stays NaN
    for (int64_t t = 0; t < n_quads; t++, p += QUAD * BLOCK) {
        __m512i x[QUAD];
        for (int64_t r = 0; r < QUAD; r++) {
            x[r] = _mm512_cvtps_epi32(mul(load(p + r * BLOCK), f));
        }
        even[t] = _mm512_or_si512(x[0], _mm512_slli_epi32(x[2], 16));
        odd[t] = _mm512_or_si512(x[1], _mm512_slli_epi32(x[3], 16));
    }
}

void u8_accumulate(const shape & a, const float * p, const float * decay, char * at, int64_t n, float * out, lookahead & next) {
    constexpr int HEADS = 8;
    const tile_u8 tile(a, at);
    const int64_t ld = ld_blocks(a), n_quads = (n + QUAD - 1) / QUAD;

    __m512i even[QUADS], odd[QUADS], weights[QUADS]; // of the lanes, four rows each
    float unit[BLOCK];
    probabilities(p, n_quads, even, odd, unit);

    for (int64_t c = 0; c < a.cols; c += QK) {
        const int64_t b = c / QK;
        for (int64_t t = 0; t < n_quads; t++) {
            const __m512i x = _mm512_mulhrs_epi16(even[t], dword_of(tile.weight[0] + t * ld + b));
            const __m512i y = _mm512_mulhrs_epi16(odd[t], dword_of(tile.weight[1] + t * ld + b));
            weights[t] = _mm512_or_si512(x, _mm512_slli_epi16(y, 8));
        }
        for (int h = 0; h < BLOCK; h += HEADS) {
            __m512i lo[HEADS], hi[HEADS]; // the first and the second LANES of these columns
            for (int i = 0; i < HEADS; i++) {
                lo[i] = hi[i] = _mm512_setzero_si512();
            }
            const int8_t * values = tile.values + c * QUAD;
            const char * w = (const char *) weights + h * 4;
            for (int64_t t = 0; t < n_quads; t++, values += a.cols * QUAD, w += sizeof(*weights)) {
                MLA_IN_REGISTER(w);
                next.step();
                const __m512i x = _mm512_loadu_si512(values), y = _mm512_loadu_si512(values + 64);
                for (int i = 0; i < HEADS; i++) {
                    const __m512i f = dword_of(w + i * 4);
                    lo[i] = add_products_of_bytes(lo[i], f, x);
                    hi[i] = add_products_of_bytes(hi[i], f, y);
                }
            }
            for (int i = 0; i < HEADS; i++) {
                float * o = out + (h + i) * a.ld_v + c;
                const vf f = all(unit[h + i] * tile.unit[b]);
                const vf x = mul(_mm512_cvtepi32_ps(lo[i]), f), y = mul(_mm512_cvtepi32_ps(hi[i]), f);
                store(o, decay ? fma(load(o), all(decay[h + i]), x) : x);
                store(o + LANES, decay ? fma(load(o + LANES), all(decay[h + i]), y) : y);
            }
        }
    }
}

} // namespace

const engine engine_u8 = { u8_query_bytes, u8_tile_bytes, u8_pack, u8_load, u8_scores, u8_accumulate };

} // namespace mla

#endif
