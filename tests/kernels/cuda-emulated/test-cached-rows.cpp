// Tiles of a quantised cache as flash attention loads them on CUDA, executed by the emulator: every bit is that of the cache
// converted to f16, and nothing else of the tile is written.

#include "mma.cuh"

#include <random>

using namespace ggml_cuda_mma;

#include "ggml-cuda/plm/cached-rows.cuh"

namespace {

constexpr int N_ROW = 576, N_TILE = 32; // columns of a cached row; rows of a tile
int failures = 0;

template <typename block_t> struct cache {
    ggml_type type;
    int stride; // of rows, in blocks
    std::vector<block_t> rows;
    std::vector<uint16_t> f16; // of all rows, {N_ROW, 2 * N_TILE}

    cache(ggml_type type, int apart, float special) : type(type), stride(N_ROW / 32 + apart), rows(size_t(stride) * 2 * N_TILE) {
        std::mt19937 random(1);
        std::normal_distribution<float> normal;
        memset((void *) rows.data(), 0xFF, rows.size() * sizeof(block_t));
        std::vector<float> values(N_ROW);
        for (int i = 0; i < 2 * N_TILE; i++) {
            for (float & v : values) {
                v = normal(random) * (i % 5 == 0 ? 1e-6f : 3.0f); // some scales are subnormal
            }
            block_t * row = &rows[size_t(i) * stride];
            ggml_quantize_chunk(type, values.data(), row, 0, 1, N_ROW, nullptr);
            if (special != 0.0f) {
                const ggml_fp16_t scale = ggml_fp32_to_fp16(special);
                memcpy(&row[i % (N_ROW / 32)].d, &scale, sizeof(scale));
            }
            ggml_get_type_traits(type)->to_float(row, values.data(), N_ROW);
            for (float v : values) {
                f16.push_back(ggml_fp32_to_fp16(v));
            }
        }
    }
};

bool is_nan(uint16_t bits) { return (bits & 0x7FFF) > 0x7C00; }

template <typename block_t, int stride_tile, bool swz, int nwarps>
void check(const cache<block_t> & c, int first_row, int from, int n) {
    constexpr uint16_t UNTOUCHED = 0xABCD;
    alignas(16) static uint16_t tile[2 * N_TILE * stride_tile];
    for (bool backwards : { false, true }) {
        std::fill(std::begin(tile), std::end(tile), UNTOUCHED);
        emulator::backwards = backwards;
        emulator::launch({ 1, 1, 1 }, { 32, nwarps, 1 }, [&] {
            flash_attn_ext_f16_load_tile<stride_tile, swz, nwarps, N_TILE, true, false, false>(
                plm_from_column(c.rows.data(), from), (half2 *) tile, n, c.stride, first_row, N_TILE, nullptr);
        });
        size_t touched = 0;
        for (uint16_t bits : tile) {
            touched += bits != UNTOUCHED;
        }
        int wrong = touched > size_t(2 * n * N_TILE);
        for (int i = 0; i < N_TILE; i++) {
            for (int j = 0; j < 2 * n; j++) {
                const uint16_t found = tile[swizzle_bytes<swz, half2>(i, j / 2, stride_tile) / 2 + j % 2];
                const uint16_t expected = c.f16[size_t(first_row + i) * N_ROW + 2 * from + j];
                wrong += is_nan(expected) ? !is_nan(found) : found != expected;
            }
        }
        if (wrong) {
            printf("WRONG: %s, rows %d and on, columns %d to %d, %d warps: %d values\n", ggml_type_name(c.type), first_row, 2 * from, 2 * (from + n), nwarps, wrong);
            failures++;
        }
    }
    emulator::backwards = false;
}

template <typename block_t> void check_type(ggml_type type) {
    for (float special : { 0.0f, NAN, INFINITY, -65504.0f }) {
        for (int apart : { 0, 2 }) {
            const cache<block_t> c(type, apart, special);
            // the tiles that fattn-mma-f16.cuh has for 576/512: of Ampere and newer, of Turing, of Volta's padded rows
            check<block_t, 288, true, 2>(c, 32, 0, 288);
            check<block_t, 160, true, 4>(c, 0, 160, 128);
            check<block_t, 160, true, 8>(c, 32, 0, 160);
            check<block_t, 96, true, 2>(c, 0, 192, 96);
            check<block_t, 96, true, 2>(c, 32, 64, 64);
            check<block_t, 292, false, 2>(c, 5, 0, 288);
        }
    }
}

} // namespace

int main() {
    check_type<block_q8_0>(GGML_TYPE_Q8_0);
    check_type<block_q4_0>(GGML_TYPE_Q4_0);
    printf(failures ? "%d wrong\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
