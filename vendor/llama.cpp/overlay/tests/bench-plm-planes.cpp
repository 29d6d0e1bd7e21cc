// The product of rows in planes against that of the same rows in q4_K, in turns, for one token.
//
//   bench-plm-planes [THREADS [ROUNDS]]      e.g. 2 15
//
// 32 matrices of PLM-1.8B's up projection, 2048 values and 8192 rows each, whose products are above zero for one row in ten.
// They are read from memory once a round; then as many products are made of the first 128 rows, which stay in a cache.
// Prints milliseconds for all: median (least to most), and the share of rows whose lower bits were read from memory.

#include "ggml-cpu.h"
#include "ggml.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"

#include "ggml-cpu/plm/k-quants/quantize-row.h"
#include "ggml-cpu/plm/k-quants/repacked.h"
#include "ggml-cpu/plm/planes/few.h"
#include "ggml-cpu/plm/planes/pieces.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace {

constexpr int64_t N = 2048, ROWS = 8192, MATRICES = 32, CACHED = 8;
constexpr int64_t BYTES = ROWS * N / QK_K * 144;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

char * allocate(size_t bytes) {
    char * p = (char *) aligned_alloc(2 << 20, (bytes + (2 << 20) - 1) >> 21 << 21);
#if defined(__linux__)
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    return p;
}

using product = std::function<void(int64_t matrix, int64_t group, int64_t n_groups, int thread)>;

// milliseconds until n_threads have done all groups of all matrices, a matrix after the other; from a cache those of the first
// CACHED groups as often as it takes
double time_of(int n_threads, const product & run, bool cached) {
    constexpr int64_t GROUPS = ROWS / PLM_PLANES_ROWS;
    std::atomic<int> ready{ 0 };
    std::vector<std::atomic<int64_t>> next(MATRICES);
    std::vector<std::atomic<int>> done(MATRICES);
    std::vector<std::thread> threads;
    const double start = now();
    for (int t = 0; t < n_threads; t++) {
        threads.emplace_back([&, t] {
            for (ready++; ready < n_threads;) {}
            for (int64_t m = 0; m < MATRICES; m++) {
                for (;;) {
                    const planes::piece p(next[m]++, GROUPS, n_threads);
                    if (p.first == GROUPS) {
                        break;
                    }
                    if (!cached) {
                        run(m, p.first, p.last - p.first, t);
                    }
                    for (int64_t g = p.first; cached && g < p.last; g += CACHED) {
                        run(0, 0, std::min(CACHED, p.last - g), t);
                    }
                }
                for (done[m]++; done[m] < n_threads;) {}
            }
        });
    }
    for (std::thread & t : threads) {
        t.join();
    }
    return (now() - start) * 1e3;
}

void print(const char * name, std::vector<double> ms) {
    std::sort(ms.begin(), ms.end());
    printf("%-24s %6.2f (%.2f to %.2f) ms\n", name, ms[ms.size() / 2], ms.front(), ms.back());
}

} // namespace

int main(int argc, char ** argv) {
    const int n_threads = argc > 1 ? std::max(1, atoi(argv[1])) : 2;
    const int rounds = argc > 2 ? std::max(1, atoi(argv[2])) : 15;
    ggml_cpu_init();

    // rows lean against a direction that x has, so that one product in ten is above zero
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> x(N), row(N);
    for (float & v : x) {
        v = normal(random) + 1;
    }
    std::vector<char> rows(64 * N / QK_K * 144), all(BYTES);
    for (int64_t first = 0; first < ROWS; first += 64) {
        for (int64_t r = 0; r < 64; r++) {
            for (float & v : row) {
                v = 0.02f * (normal(random) - 1.81f / sqrtf(float(N)));
            }
            ggml_quantize_chunk(GGML_TYPE_Q4_K, row.data(), all.data() + (first + r) * (BYTES / ROWS), 0, 1, N, nullptr);
        }
    }
    char * planes = allocate(MATRICES * BYTES);
    char * plain = allocate(MATRICES * BYTES); // its order does not matter for time
    const int64_t table = ROWS / PLM_PLANES_ROWS * (N / QK_K) * int64_t(sizeof(plm_planes_block));
    for (int64_t m = 0; m < MATRICES; m++) {
        memcpy(plain + m * BYTES, all.data(), BYTES);
        if (m == 0) {
            plm_planes_pack(all.data(), planes, planes + table, N, ROWS);
        } else {
            memcpy(planes + m * BYTES, planes, BYTES);
        }
    }

    std::vector<planes::input> input(N / QK_K);
    planes::prepare(x.data(), N, input.data());
    std::vector<block_q8_K> y(N / QK_K);
    plm_quantize_row_q8_K(x.data(), y.data(), N);
    std::vector<float> out(ROWS);
    std::vector<std::vector<char>> scratch(n_threads, std::vector<char>(64 + planes::few_scratch(N / QK_K, 1)));
    std::atomic<int64_t> read{ 0 };

    const auto in_planes = [&](float margin) {
        return [&, margin](int64_t m, int64_t group, int64_t n, int t) {
            const planes::matrix w = { planes + m * BYTES, N / QK_K, ROWS };
            char * memory = (char *) GGML_PAD((uintptr_t) scratch[t].data(), 64);
            read += planes::few(w, group, group + n, input.data(), 1, margin, out.data(), ROWS, memory);
        };
    };
    const auto in_q4_k = [&](int64_t m, int64_t group, int64_t n, int) {
        const int64_t row = group * PLM_PLANES_ROWS;
        plm_gemv_q4_K_8x8_q8_K(N, out.data() + row, 0, plain + m * BYTES + row * (BYTES / ROWS), y.data(), 1, int(n * PLM_PLANES_ROWS));
    };
    struct way {
        const char * name;
        product run;
        bool cached;
        std::vector<double> ms;
    };
    way ways[] = {
        { "in planes", in_planes(1), false, {} },
        { "in planes, all bits", in_planes(INFINITY), false, {} },
        { "q4_K, eight rows", in_q4_k, false, {} },
        { "cache: in planes", in_planes(1), true, {} },
        { "cache: q4_K", in_q4_k, true, {} },
    };
    double share = 0;
    for (int round = 0; round <= rounds; round++) {
        for (way & one : ways) {
            read = 0;
            const double ms = time_of(n_threads, one.run, one.cached);
            if (round > 0) { // the first warms up
                one.ms.push_back(ms);
            }
            if (&one == ways) {
                share = double(read) / (MATRICES * ROWS);
            }
        }
    }
    for (const way & one : ways) {
        print(one.name, one.ms);
    }
    printf("lower bits read: %.1f %% of the rows\n", 100 * share);
    free(planes);
    free(plain);
}
