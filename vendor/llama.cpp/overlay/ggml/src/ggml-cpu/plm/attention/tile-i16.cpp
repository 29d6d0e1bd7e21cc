// The 16-bit integer engine (tile-i16.h) for f16, bf16, q8_0 and q4_0 caches.

#include "tile-i16.h"

#include "engine.h"

#include <algorithm>

#if defined(PLM_MLA_I16)

namespace mla {

static constexpr int QV = BLOCK / LANES; // vectors across a block

// pairs of values between two looks ahead: with 256 bits a pair is so few instructions that looking would be a third of them
static constexpr int PAIRS = LANES == 16 ? 1 : 4;

struct i16_tile {
    int16_t * keys; // [TILE][ld_k]
    float * scale;  // [TILE]

    i16_tile(const shape & a, char * p) : keys((int16_t *) p), scale((float *) (keys + TILE * a.ld_k)) {}

    static size_t bytes(const shape & a) { return TILE * (a.ld_k * sizeof(int16_t) + sizeof(float)); }
};

// [ld_k / 2][BLOCK][2] integers, then the lanes' scales
static size_t i16_query_bytes(const shape & a) { return a.ld_k * BLOCK * sizeof(int16_t) + BLOCK * sizeof(float); }
static size_t i16_tile_bytes(const shape & a) { return i16_tile::bytes(a); }

// --- rows to integers -------------------------------------------------------------------------

// the largest |x| of n values; NaN where one is not finite
static float largest(const float * row, int64_t n) {
    vf top = all(0.0f), bad = all(0.0f);
    for (int64_t i = 0; i < n; i += LANES) {
        const vf x = load(row + i);
        top = max(max(x, sub(all(0.0f), x)), top);
        bad = fma(all(0.0f), x, bad); // 0 * x is 0 for every finite x
    }
    float lane[LANES], flag[LANES], m = 0.0f;
    store(lane, top);
    store(flag, bad);
    for (int i = 0; i < LANES; i++) {
        m = flag[i] == 0.0f ? std::max(m, lane[i]) : NAN;
        if (m != m) {
            break;
        }
    }
    return m;
}

static void round_row(const float * row, float times, int64_t n, int16_t * out) {
    const vf f = all(times);
    for (int64_t i = 0; i < n; i += 2 * LANES) {
        istore(out + i, round_pack(load(row + i), load(row + i + LANES), f));
    }
}

static void i16_pack(const shape & a, int lane, const float * q, float scale, char * block) {
    int32_t * out = (int32_t *) block + lane;
    float & unit = ((float *) (block + a.ld_k * BLOCK * sizeof(int16_t)))[lane];

    float values[N_K_MAX];
    int16_t integers[N_K_MAX];

    unit = 0.0f;
    std::fill_n(integers, a.ld_k, int16_t(0));
    if (q) {
        std::copy_n(q, a.n_k, values);
        std::fill(values + a.n_k, values + a.ld_k, 0.0f);
        const float m = largest(values, a.ld_k);
        if (m != m) {
            unit = NAN; // every score of this row will be NaN
        } else if (m > 1e-30f) {
            vf sum = all(0.0f);
            for (int64_t i = 0; i < a.ld_k; i += LANES) {
                const vf x = mul(load(values + i), all(1.0f / m));
                sum = fma(x, x, sum);
            }
            float part[LANES], norm = 0.0f;
            store(part, sum);
            for (float x : part) {
                norm += x;
            }
            norm = std::sqrt(norm);
            // of the query: at most ||K'|| < (K_TOP + 1) sqrt(ld_k); rounding adds half a unit a column
            const float root = std::sqrt(float(a.ld_k));
            const float limit = std::min(32000.0f * norm, 2147e6f / (K_TOP + 1) / root - 0.5f * root);
            unit = norm / limit * m * scale;
            round_row(values, limit / norm / m, a.ld_k, integers);
        }
    }
    for (int64_t i = 0; i < a.ld_k / 2; i++) {
        memcpy(out + i * BLOCK, integers + 2 * i, sizeof(int32_t));
    }
}

// Each kind of row has the largest |value| of it, NaN where one is not finite, and its rounding to integers.

template <uint32_t INFINITE> static float top_of_16(const uint16_t * row, int64_t n) {
    const uint16_t bits = max_bits(row, n);
    if (bits >= INFINITE) {
        return NAN;
    }
    const uint32_t wide = uint32_t(bits) << 16;
    float m;
    memcpy(&m, &wide, sizeof(m));
    return INFINITE == 0x7c00 ? _cvtsh_ss(bits) : m;
}

template <vf (*from)(const uint16_t *)> static void round_16(const uint16_t * row, float m, int64_t n, int16_t * out) {
    const vf f = all(m > 1e-30f ? K_TOP / m : 0.0f);
    for (int64_t i = 0; i < n; i += 2 * LANES) {
        istore(out + i, round_pack(from(row + i), from(row + i + LANES), f));
    }
}

struct f16_rows {
    static constexpr float UNIT = K_TOP;
    static float top(const char * row, int64_t n, uint16_t *) { return top_of_16<0x7c00>((const uint16_t *) row, n); }
    static void convert(const char * row, float m, int64_t n, uint16_t *, int16_t * out) { round_16<from_f16>((const uint16_t *) row, m, n, out); }
};

struct bf16_rows {
    static constexpr float UNIT = K_TOP;
    static float top(const char * row, int64_t n, uint16_t *) { return top_of_16<0x7f80>((const uint16_t *) row, n); }
    static void convert(const char * row, float m, int64_t n, uint16_t *, int16_t * out) { round_16<from_bf16>((const uint16_t *) row, m, n, out); }
};

static constexpr int64_t N_SCALES = N_K_MAX / 32;

// n / 32 blocks of an f16 scale d and quants below 2^(12 - SHIFT); d / (the largest |d|) goes into the integers
template <int BYTES, int SHIFT, vb (*bytes)(const void *, int)> struct block_rows {
    static constexpr float UNIT = float(1 << SHIFT) * (32767.0f / 32768.0f);

    // leaves the scales in d
    static float top(const char * row, int64_t n, uint16_t * d) {
        unsigned bits = 0;
        for (int64_t i = 0; i < n / 32; i++) {
            const auto x = word_at<uint16_t>(row + i * BYTES);
            d[i] = x;
            bits = std::max(bits, x & 0x7fffu);
        }
        return bits >= 0x7c00 ? NAN : _cvtsh_ss(uint16_t(bits));
    }

    static void convert(const char * row, float m, int64_t n, uint16_t * d, int16_t * out) {
        int16_t part[N_SCALES];
        const vf f = all(m > 0.0f ? 32767.0f / m : 0.0f);
        for (int64_t i = 0; i < n / 32; i += 2 * LANES) { // d is as long as whole vectors; what is not set is not used
            istore(part + i, round_pack(from_f16(d + i), from_f16(d + i + LANES), f));
        }
        for (int64_t i = 0; i < n / 32; i++, row += BYTES) {
            const int64_t in_order = i / (2 * LANES) * (2 * LANES) + packed_place(int(i % (2 * LANES)));
            for (int c = 0; c < 32; c += 2 * LANES) {
                istore(out + 32 * i + c, scale_bytes<SHIFT>(bytes(row + 2, c), part[in_order]));
            }
        }
    }
};

using q8_rows = block_rows<34, 5, q8_bytes>; // 127 * 2^5 < K_TOP
using q4_rows = block_rows<18, 9, q4_bytes>; // 8 * 2^9 = K_TOP

template <class kind> static bool load_rows(const shape & a, const char * rows, size_t stride, int64_t n, const i16_tile & tile) {
    constexpr int64_t AHEAD = 8; // the largest values of some rows first, so that their latencies overlap
    uint16_t d[AHEAD][N_SCALES];
    float m[AHEAD];
    bool finite = true;
    for (int64_t j0 = 0; j0 < n; j0 += AHEAD) {
        const int64_t j1 = std::min(n, j0 + AHEAD);
        for (int64_t j = j0; j < j1; j++) {
            m[j - j0] = kind::top(rows + j * stride, a.n_k, d[j - j0]);
            tile.scale[j] = m[j - j0] / kind::UNIT;
            finite &= m[j - j0] == m[j - j0];
        }
        for (int64_t j = j0; j < j1 && finite; j++) {
            kind::convert(rows + j * stride, m[j - j0], a.n_k, d[j - j0], tile.keys + j * a.ld_k);
        }
    }
    return finite;
}

// rows whose length is no whole number of vectors
static bool load_by_f32(const shape & a, const char * rows, size_t stride, int64_t n, const i16_tile & tile) {
    float values[N_K_MAX];
    for (int64_t j = 0; j < n; j++) {
        row_to_f32(a.type, rows + j * stride, values, a.n_k);
        std::fill(values + a.n_k, values + a.ld_k, 0.0f);
        const float m = largest(values, a.ld_k);
        if (m != m) {
            return false;
        }
        tile.scale[j] = m / K_TOP;
        round_row(values, m > 1e-30f ? K_TOP / m : 0.0f, a.ld_k, tile.keys + j * a.ld_k);
    }
    return true;
}

static bool i16_load(const shape & a, const char * rows, size_t stride, int64_t n, char * p) {
    const i16_tile tile(a, p);
    if (n % 2) { // rows are summed by pairs
        std::fill_n(tile.keys + n * a.ld_k, a.ld_k, int16_t(0));
        tile.scale[n] = 0.0f;
    }
    const bool whole = a.n_k == a.ld_k;
    switch (a.type) {
        case GGML_TYPE_Q8_0: return load_rows<q8_rows>(a, rows, stride, n, tile);
        case GGML_TYPE_Q4_0: return load_rows<q4_rows>(a, rows, stride, n, tile);
        case GGML_TYPE_F16:  return whole ? load_rows<f16_rows>(a, rows, stride, n, tile) : load_by_f32(a, rows, stride, n, tile);
        case GGML_TYPE_BF16: return whole ? load_rows<bf16_rows>(a, rows, stride, n, tile) : load_by_f32(a, rows, stride, n, tile);
        default:             return load_by_f32(a, rows, stride, n, tile);
    }
}

// --- products ---------------------------------------------------------------------------------

static void i16_scores(const shape & a, const char * block, const char * p, int64_t n, float * s, lookahead & next) {
    constexpr int ROWS = LANES == 16 ? 16 : 4;
    const i16_tile tile(a, const_cast<char *>(p));
    const float * scales = (const float *) (block + a.ld_k * BLOCK * sizeof(int16_t));

    for (int64_t j = 0; j < n; j += ROWS) {
        const char * q = block;
        // rows behind the last are computed with the others: no address of its own for each row
        const int16_t * fourth[ROWS / 4];
        vi acc[ROWS][QV];
        for (int r = 0; r < ROWS; r++) {
            fourth[r / 4] = tile.keys + (j + r / 4 * 4) * a.ld_k;
            for (int v = 0; v < QV; v++) {
                acc[r][v] = izero();
            }
        }
        static_assert(32 % (2 * PAIRS) == 0, "ld_k is a multiple of 32");
        for (int64_t i = 0; i < a.ld_k; i += 2 * PAIRS) {
            next.step();
            for (int pair = 0; pair < PAIRS; pair++, q += BLOCK * 4) {
                vi x[QV];
                for (int v = 0; v < QV; v++) {
                    x[v] = iload(q + v * sizeof(vi));
                }
                for (int r = 0; r < ROWS; r++) {
                    const vi y = pair_of(fourth[r / 4] + r % 4 * a.ld_k + 2 * pair);
                    for (int v = 0; v < QV; v++) {
                        acc[r][v] = LANES == 16 ? dot(acc[r][v], x[v], y) : dot_in_place(acc[r][v], x[v], y);
                    }
                }
            }
            for (int r = 0; r < ROWS / 4; r++) {
                fourth[r] += 2 * PAIRS;
                MLA_IN_REGISTER(fourth[r]);
            }
        }
        for (int r = 0; r < ROWS; r++) {
            const vf f = all(tile.scale[std::min(j + r, n - 1)]);
            for (int v = 0; v < QV; v++) {
                store(s + (j + r) * BLOCK + v * LANES, mul(to_float(acc[r][v]), mul(f, load(scales + v * LANES))));
            }
        }
    }
}

// probabilities times row scales as integers, [row / 2][BLOCK][2]; unit[lane] is what one is worth
static void probabilities(const i16_tile & tile, const float * p, int64_t n, char * out, float * unit) {
    for (int v = 0; v < QV; v++) {
        vf top = all(0.0f), sum = all(0.0f);
        for (int64_t j = 0; j < n; j++) {
            const vf x = mul(load(p + j * BLOCK + v * LANES), all(tile.scale[j]));
            top = max(x, top);
            sum = add(sum, x);
        }
        // 1e-30 keeps the quotients finite where all is 0; adding 0 * sum makes NaN stay NaN
        const vf f = min(div(all(P_TOP), add(top, all(1e-30f))), div(all(P_SUM), add(sum, all(1e-30f))));
        store(unit + v * LANES, fma(all(0.0f), sum, div(all(1.0f), f)));
        for (int64_t j = 0; j < n; j += 2) {
            const vi x = to_int(mul(mul(load(p + j * BLOCK + v * LANES), all(tile.scale[j])), f));
            const vi y = to_int(mul(mul(load(p + (j + 1) * BLOCK + v * LANES), all(tile.scale[j + 1])), f));
            istore(out + (j / 2 * BLOCK + v * LANES) * 4, pair_up(x, y));
        }
    }
}

static void i16_accumulate(const shape & a, const float * p, const float * decay, char * t, int64_t n, float * out, lookahead & next) {
    constexpr int HEADS = LANES == 16 ? 8 : 4;
    const i16_tile tile(a, t);

    char pairs[TILE / 2 * BLOCK * 4];
    float unit[BLOCK];
    probabilities(tile, p, n, pairs, unit);

    for (int64_t c = 0; c < a.cols; c += 2 * LANES) {
        for (int h = 0; h < BLOCK; h += HEADS) {
            vi lo[HEADS], hi[HEADS]; // the first and the second LANES of these columns
            for (int i = 0; i < HEADS; i++) {
                lo[i] = hi[i] = izero();
            }
            const int16_t * row = tile.keys + c;
            const char * pair = pairs + h * 4;
            for (int64_t j = 0; j < n;) {
                next.step();
                for (int k = 0; k < PAIRS && (k == 0 || j < n); k++, j += 2, row += 2 * a.ld_k, pair += BLOCK * 4) {
                    MLA_IN_REGISTER(pair);
                    const vi x = iload(row), y = iload(row + a.ld_k);
                    const vi u = unpack_lo(x, y), w = unpack_hi(x, y);
                    for (int i = 0; i < HEADS; i++) {
                        const vi f = pair_of(pair + i * 4);
                        lo[i] = dot_in_place(lo[i], u, f);
                        hi[i] = dot_in_place(hi[i], w, f);
                    }
                }
            }
            for (int i = 0; i < HEADS; i++) {
                float * o = out + (h + i) * a.ld_v + c;
                const vf f = all(unit[h + i]), x = mul(to_float(lo[i]), f), y = mul(to_float(hi[i]), f);
                store(o, decay ? fma(load(o), all(decay[h + i]), x) : x);
                store(o + LANES, decay ? fma(load(o + LANES), all(decay[h + i]), y) : y);
            }
        }
    }
}

const engine engine_i16 = { i16_query_bytes, i16_tile_bytes, i16_pack, i16_load, i16_scores, i16_accumulate };

} // namespace mla

#endif
