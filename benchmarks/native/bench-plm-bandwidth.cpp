// How fast this machine reads memory: the most that any way of reading reached, to measure the kernels against.
// Without ggml, unlike the figure of `plm-edge bench` (plm_edge/bench/kernels.py): a share of what our own kernels
// reach would hide what they lack.
//
//   bench-plm-bandwidth [--threads N] [--mib N] [--reps N] [--way N]
//
// Prints JSON, one entry for each way of reading, with all samples in GB/s (1e9): huge pages or pages of 4 KiB, 1 to
// 8 streams a thread, with and without software prefetch. Every thread reads its own part of one buffer that no
// cache holds. --way N: only the N-th of them, for a quick look between other measurements.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

typedef uint64_t line_t __attribute__((vector_size(64), aligned(64)));

constexpr size_t AHEAD = 16; // lines that are prefetched ahead in each stream

static volatile uint64_t sink;

template <int STREAMS, bool PREFETCH> static void read_part(const line_t * data, size_t lines) {
    const size_t each = lines / STREAMS;
    line_t sum[STREAMS] = {};
    for (size_t i = 0; i < each; i++) {
        for (int s = 0; s < STREAMS; s++) {
            if (PREFETCH) {
                __builtin_prefetch(data + s * each + i + AHEAD);
            }
            sum[s] ^= data[s * each + i];
        }
    }
    for (int s = 1; s < STREAMS; s++) {
        sum[0] ^= sum[s];
    }
    sink = sum[0][0];
}

struct way {
    int streams;
    bool prefetch;
    void (*read)(const line_t *, size_t);
};
static const way WAYS[] = {
    { 1, false, read_part<1, false> },
    { 2, false, read_part<2, false> },
    { 4, false, read_part<4, false> },
    { 8, false, read_part<8, false> },
    { 1, true, read_part<1, true> },
    { 2, true, read_part<2, true> },
    { 4, true, read_part<4, true> },
    { 8, true, read_part<8, true> },
};

// seconds that all threads need to read the buffer once
static double once(const way & w, const line_t * data, size_t lines, int threads) {
    std::atomic<int> ready{ 0 };
    std::atomic<bool> go{ false };
    std::vector<std::thread> pool;
    const size_t part = lines / threads;
    const auto work = [&](int t) { w.read(data + t * part, part); };
    for (int t = 1; t < threads; t++) {
        pool.emplace_back([&, t] {
            ready++;
            while (!go) {
            }
            work(t);
        });
    }
    while (ready < threads - 1) {
    }
    const auto start = std::chrono::steady_clock::now();
    go = true;
    work(0);
    for (auto & thread : pool) {
        thread.join();
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// bytes of this process that lie in transparent huge pages
static long long huge_bytes() {
    std::ifstream file("/proc/self/smaps_rollup");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind("AnonHugePages:", 0) == 0) {
            return atoll(line.c_str() + strlen("AnonHugePages:")) * 1024;
        }
    }
    return -1;
}

int main(int argc, char ** argv) {
    int threads = 1, mib = 1024, reps = 9, only = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i];
        (name == "--threads" ? threads : name == "--mib" ? mib
                                     : name == "--way"   ? only
                                                         : reps) = std::max(1, atoi(argv[i + 1]));
    }
    const size_t bytes = (size_t) mib << 20;
    printf("{\"threads\": %d, \"bytes\": %zu, \"ways\": [", threads, bytes);
    bool first = true;
    constexpr int N_WAYS = sizeof(WAYS) / sizeof(WAYS[0]);
    for (const bool huge : { true, false }) {
        if (only && (only <= N_WAYS) != huge) {
            continue;
        }
        constexpr size_t HUGE_PAGE = 2 << 20;
        void * const base = mmap(nullptr, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED) {
            perror("mmap");
            return 1;
        }
        char * const data = (char *) (((uintptr_t) base + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
        madvise(data, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
        memset(data, 1, bytes);
        const long long in_huge = huge_bytes();
        for (const way & w : WAYS) {
            if (only && (only - 1) % N_WAYS != &w - WAYS) {
                continue;
            }
            printf("%s\n{\"pages\": \"%s\", \"huge_page_bytes\": %lld, \"streams\": %d, \"prefetch\": %s, \"gb_s\": [",
                   first ? "" : ",", huge ? "huge" : "4k", in_huge, w.streams, w.prefetch ? "true" : "false");
            first = false;
            once(w, (const line_t *) data, bytes / 64, threads);
            for (int r = 0; r < reps; r++) {
                printf("%s%.3f", r ? ", " : "", bytes / once(w, (const line_t *) data, bytes / 64, threads) / 1e9);
            }
            printf("]}");
        }
        munmap(base, bytes + HUGE_PAGE);
    }
    printf("]}\n");
    return 0;
}
