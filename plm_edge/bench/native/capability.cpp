// What a machine can do at most: how fast it reads memory, how fast it multiplies. The same two figures as
// plm_edge/bench/capability.py, which uses numpy: here a plain sum, and ggml's own float32 product.

#include "engine.h"

#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <thread>

constexpr int ROUNDS = 5;
constexpr int SIZE   = 1024; // of the square matrices

typedef uint64_t line_t __attribute__((vector_size(64), aligned(64), may_alias));

static volatile uint64_t sink;

static void sum(const line_t * data, size_t lines) {
    // four streams: one alone waits for its own sums on small cores
    const size_t each    = lines / 4;
    line_t       part[4] = {};
    for (size_t i = 0; i < each; i++) {
        for (int s = 0; s < 4; s++) {
            part[s] += data[s * each + i];
        }
    }
    part[0] += part[1] + part[2] + part[3];
    sink = part[0][0];
}

// bytes a second of each round, in which all threads read a buffer of their own
static std::vector<double> reads(int threads, size_t bytes) {
    std::vector<void *> buffers;
    std::vector<double>   rates;
    for (int i = 0; i < threads; i++) {
        void * memory = nullptr;
        if (posix_memalign(&memory, 2 << 20, bytes) != 0) {
            fail("there is no memory to measure bandwidth with", std::to_string(bytes) + " bytes", "close programs", 5);
        }
#if defined(MADV_HUGEPAGE)
        madvise(memory, bytes, MADV_HUGEPAGE); // as the engine asks for its weights
#endif
        memset(memory, 1, bytes);
        buffers.push_back(memory);
    }
    for (int round = 0; round <= ROUNDS; round++) {
        std::atomic<int>         ready{ 0 };
        std::atomic<bool>        go{ false };
        std::vector<std::thread> pool;
        for (const void * buffer : buffers) {
            pool.emplace_back([&, buffer] {
                ready++;
                while (!go) {
                    std::this_thread::yield();
                }
                sum((const line_t *) buffer, bytes / sizeof(line_t));
            });
        }
        while (ready < threads) {
            std::this_thread::yield();
        }
        const double began = now();
        go = true;
        for (auto & thread : pool) {
            thread.join();
        }
        if (round) { // the first warms up
            rates.push_back(threads * (double) bytes / (now() - began));
        }
    }
    for (void * buffer : buffers) {
        free(buffer);
    }
    return rates;
}

// float32 operations a second of each round's product by ggml's CPU kernels; empty without a CPU device
static std::vector<double> products(int threads) {
    ggml_backend_load_all();
    ggml_backend_t cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    if (!cpu) {
        return {};
    }
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu));
    auto set = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    if (set) {
        set(cpu, threads);
    }
    ggml_context * ctx = ggml_init({ ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true });
    ggml_tensor *  a   = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, SIZE, SIZE);
    ggml_tensor *  b   = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, SIZE, SIZE);
    ggml_cgraph *  graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, ggml_mul_mat(ctx, a, b));
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, cpu);
    ggml_backend_buffer_clear(buffer, 0);
    std::vector<double> rates;
    for (int round = 0; round <= ROUNDS; round++) {
        const double began = now();
        ggml_backend_graph_compute(cpu, graph);
        if (round) {
            rates.push_back(2.0 * SIZE * SIZE * SIZE / (now() - began));
        }
    }
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    ggml_backend_free(cpu);
    return rates;
}

static std::string listed(const std::vector<double> & values) {
    std::string out;
    for (const double value : values) {
        out += (out.empty() ? "" : ", ") + std::to_string(value);
    }
    return "[" + out + "]";
}

int capability(const request & asked) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    const int                 threads = asked.whole("threads"), mib = asked.whole("mib");
    const std::vector<double> read = reads(threads, (size_t) mib << 20), done = products(threads);
    const double              fastest = *std::max_element(read.begin(), read.end());
    say("capability",
        "\"threads\": " + std::to_string(threads) + ", \"read_bytes_s\": " + std::to_string(fastest) +
            ", \"read_samples\": " + listed(read) + ", \"read_how\": \"sum over " + std::to_string(mib) +
            " MiB by each of " + std::to_string(threads) + " threads, best round\", \"flops\": " +
            (done.empty() ? "null" : std::to_string(*std::max_element(done.begin(), done.end()))) +
            ", \"flops_samples\": " + listed(done) + ", \"flops_how\": \"ggml's float32 product of " +
            std::to_string(SIZE) + " x " + std::to_string(SIZE) + " matrices, best round\"");
    return 0;
}
