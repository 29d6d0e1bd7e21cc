// Our products of q3_K, q4_K, q5_K and q6_K against those of ggml's that they stand for, in turns.
//
//   bench-plm-k-quants [THREADS [ROUNDS]]      e.g. 2 15
//
// Rows of 2048 values, of which each thread has its own. "memory": 128 MiB a thread, read once a round. "cache":
// 256 KiB a thread, again and again. Prints GB/s (1e9) of weights: median (least to most), and beside them a plain
// reading of the same bytes. Last, milliseconds of one thread for a batch: 512 vectors times 8192 rows.

#include "ggml-cpu.h"
#include "ggml.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "ggml-cpu/plm/k-quants/quantize-row.h"
#include "ggml-cpu/plm/k-quants/repacked.h"
#include "ggml-cpu/plm/k-quants/sixteen-rows.h"
#include "ggml-cpu/plm/k-quants/vec-dot.h"
#include "ggml-cpu/quants.h"
#include "ggml-cpu/repack.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

constexpr int N = 2048;      // values of a row
constexpr int64_t STEP = 64; // rows of a call

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct spread {
    std::vector<double> values;
    double at(double part) {
        std::sort(values.begin(), values.end());
        return values[size_t(part * double(values.size() - 1) + 0.5)];
    }
    std::string text() {
        char out[64];
        snprintf(out, sizeof(out), "%6.1f (%.1f to %.1f)", at(0.5), at(0), at(1));
        return out;
    }
};

using product = std::function<void(const char * rows, float * sums)>; // of STEP rows

struct kind {
    const char * name;
    int64_t row_bytes;
    product run;
};

// seconds of the slowest thread for `rows` rows each, `times` times over
double time_of(const kind & k, const std::vector<char *> & weights, int64_t rows, int times) {
    std::atomic<int> ready{ 0 };
    std::vector<double> seconds(weights.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < weights.size(); i++) {
        threads.emplace_back([&, i] {
            float sums[STEP];
            for (ready++; ready < (int) weights.size();) {}
            const double start = now();
            for (int t = 0; t < times; t++) {
                for (int64_t r = 0; r < rows; r += STEP) {
                    k.run(weights[i] + r * k.row_bytes, sums);
                }
            }
            seconds[i] = now() - start;
        });
    }
    for (std::thread & t : threads) {
        t.join();
    }
    return *std::max_element(seconds.begin(), seconds.end());
}

// any finite blocks will do: scales are f16 whose upper exponent bit is clear
char * weights_of(size_t bytes, uint64_t seed) {
    char * p = (char *) aligned_alloc(2 << 20, bytes);
#if defined(__linux__)
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t x = (i + seed) * 0x9e3779b97f4a7c15ull & 0xbfffbfffbfffbfffull;
        memcpy(p + i, &x, 8);
    }
    return p;
}

volatile uint64_t kept;

void only_read(const char * rows, int64_t bytes) {
    uint64_t sum[8] = {};
    for (int64_t i = 0; i + 64 <= bytes; i += 64) {
        uint64_t x[8];
        memcpy(x, rows + i, 64);
        for (int j = 0; j < 8; j++) {
            sum[j] ^= x[j];
        }
    }
    kept = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

} // namespace

int main(int argc, char ** argv) {
    const int n_threads = argc > 1 ? std::max(1, atoi(argv[1])) : 2;
    const int rounds = argc > 2 ? std::max(1, atoi(argv[2])) : 15;
    ggml_cpu_init();

    std::vector<float> x(N);
    for (int i = 0; i < N; i++) {
        x[i] = float(i * 37 % 101 - 50) / 50;
    }
    std::vector<block_q8_K> y(N / QK_K);
    plm_quantize_row_q8_K(x.data(), y.data(), N);

    constexpr int64_t q3 = N / QK_K * sizeof(block_q3_K), q4 = N / QK_K * sizeof(block_q4_K), q5 = N / QK_K * sizeof(block_q5_K), q6 = N / QK_K * sizeof(block_q6_K);
    const auto vectors = [&](auto dot, int64_t row_bytes) {
        return [&y, dot, row_bytes](const char * rows, float * sums) {
            for (int64_t r = 0; r < STEP; r++) {
                dot(N, sums + r, 0, rows + r * row_bytes, 0, y.data(), 0, 1);
            }
        };
    };
    const kind kinds[] = {
        { "reading", q4, [](const char * rows, float *) { only_read(rows, STEP * q4); } },
        { "q4_K, eight rows", q4, [&](const char * rows, float * s) { plm_gemv_q4_K_8x8_q8_K(N, s, 0, rows, y.data(), 1, STEP); } },
        { "  ggml's", q4, [&](const char * rows, float * s) { ggml_gemv_q4_K_8x8_q8_K(N, s, 0, rows, y.data(), 1, STEP); } },
        { "q4_K, a row", q4, vectors(plm_vec_dot_q4_K_q8_K, q4) },
        { "  ggml's", q4, vectors(ggml_vec_dot_q4_K_q8_K, q4) },
        { "q3_K, sixteen rows", q3, [&](const char * rows, float * s) { plm_gemv_q3_K_16_q8_K(N, s, 0, rows, y.data(), 1, STEP); } },
        { "  ggml's, a row", q3, vectors(ggml_vec_dot_q3_K_q8_K, q3) },
        { "q5_K, sixteen rows", q5, [&](const char * rows, float * s) { plm_gemv_q5_K_16_q8_K(N, s, 0, rows, y.data(), 1, STEP); } },
        { "q5_K, a row", q5, vectors(plm_vec_dot_q5_K_q8_K, q5) },
        { "  ggml's", q5, vectors(ggml_vec_dot_q5_K_q8_K, q5) },
        { "q6_K, a row", q6, vectors(plm_vec_dot_q6_K_q8_K, q6) },
        { "  ggml's", q6, vectors(ggml_vec_dot_q6_K_q8_K, q6) },
    };

    constexpr int64_t memory_bytes = 128 << 20, cache_bytes = 256 << 10;
    std::vector<char *> weights;
    for (int i = 0; i < n_threads; i++) {
        weights.push_back(weights_of(memory_bytes, i));
    }
    spread results[std::size(kinds)][2];
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < std::size(kinds); i++) {
            for (int cached = 0; cached < 2; cached++) {
                const int64_t rows = (cached ? cache_bytes : memory_bytes) / kinds[i].row_bytes / STEP * STEP;
                const int times = cached ? 200 : 1;
                const double t = time_of(kinds[i], weights, rows, times);
                results[i][cached].values.push_back(double(rows) * kinds[i].row_bytes * n_threads * times / t / 1e9);
            }
        }
    }
    printf("%-20s %-26s %s\n", "GB/s", "memory", "cache");
    for (size_t i = 0; i < std::size(kinds); i++) {
        printf("%-20s %-26s %s\n", kinds[i].name, results[i][0].text().c_str(), results[i][1].text().c_str());
    }

    constexpr int64_t n_vectors = 512, n_rows = 8192;
    std::vector<float> four(4 * N), sums(n_vectors * n_rows);
    for (size_t i = 0; i < four.size(); i++) {
        four[i] = float(i * 37 % 101) / 50 - 1;
    }
    std::vector<block_q8_Kx4> batch(n_vectors / 4 * N / QK_K);
    for (int64_t t = 0; t < n_vectors / 4; t++) {
        ggml_quantize_mat_q8_K_4x8(four.data(), batch.data() + t * N / QK_K, N);
    }
    using batch_product = void (*)(int, float *, size_t, const void *, const void *, int, int);
    struct {
        const char * name;
        int64_t row_bytes;
        batch_product run;
        spread ms;
    } batches[] = {
        { "q4_K, a batch, ms", q4, plm_gemm_q4_K_8x8_q8_K, {} },
        { "  ggml's", q4, ggml_gemm_q4_K_8x8_q8_K, {} },
        { "q3_K, a batch, ms", q3, plm_gemm_q3_K_16_q8_K, {} },
        { "q5_K, a batch, ms", q5, plm_gemm_q5_K_16_q8_K, {} },
    };
    for (int round = 0; round < (rounds + 2) / 3; round++) {
        for (auto & one : batches) {
            const double start = now();
            for (int64_t r = 0; r < n_rows; r += STEP) { // some 70 KiB of weights at a time, as ggml's chunks are
                one.run(N, sums.data() + r, n_rows, weights[0] + r * one.row_bytes, batch.data(), n_vectors, STEP);
            }
            one.ms.values.push_back((now() - start) * 1e3);
        }
    }
    for (auto & one : batches) {
        printf("%-20s %s\n", one.name, one.ms.text().c_str());
    }
    for (char * p : weights) {
        free(p);
    }
}
