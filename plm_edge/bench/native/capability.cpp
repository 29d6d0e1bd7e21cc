// What a device can do at most: how fast the engine reads memory, how fast it multiplies. The program for devices,
// where there may be no Python, of what plm_edge/bench/capability.py tells of this machine. Both read by the same
// product, the engine's own of a float32 matrix with a vector, hence the shares that a report shows are comparable.
// benchmarks/native/bench-plm-bandwidth.cpp asks another question: what no way of reading exceeds.

#include "engine.h"

#include "ggml-backend.h"
#include "ggml.h"

#include <algorithm>

constexpr int     READ_ROUNDS = 15;   // as in plm_edge/bench/kernels.py
constexpr int64_t COLUMNS     = 4096; // of the matrix that is read, as there
constexpr int     ROUNDS      = 5;
constexpr int     SIZE        = 1024; // of the square matrices

// ggml's CPU kernels with so many threads; null where the build has none
static ggml_backend_t cpu_backend(int threads) {
    ggml_backend_load_all();
    ggml_backend_t cpu = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    if (!cpu) {
        return nullptr;
    }
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(ggml_backend_get_device(cpu));
    auto set = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(reg, "ggml_backend_set_n_threads");
    if (set) {
        set(cpu, threads);
    }
    return cpu;
}

// What each of some rounds reaches of `amount` a second, a round being one product of a float32 matrix of these rows
// and columns with so many vectors. A first one warms up and is not told.
static std::vector<double> rates(ggml_backend_t cpu, int64_t columns, int64_t rows, int64_t vectors, int rounds,
                                 double amount) {
    ggml_context * ctx = ggml_init({ ggml_tensor_overhead() * 8 + ggml_graph_overhead(), nullptr, true });
    ggml_tensor *  a   = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, columns, rows);
    ggml_tensor *  b   = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, columns, vectors);
    ggml_cgraph *  graph = ggml_new_graph(ctx);
    ggml_build_forward_expand(graph, ggml_mul_mat(ctx, a, b));
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, cpu);
    if (!buffer) {
        fail("there is no memory to measure with", std::to_string(ggml_nbytes(a)) + " bytes", "close programs", 5);
    }
    ggml_backend_buffer_clear(buffer, 0); // every page is touched
    std::vector<double> found;
    for (int round = 0; round <= rounds; round++) {
        const double began = now();
        ggml_backend_graph_compute(cpu, graph);
        if (round) {
            found.push_back(amount / (now() - began));
        }
    }
    ggml_backend_buffer_free(buffer);
    ggml_free(ctx);
    return found;
}

static std::string listed(const std::vector<double> & values) {
    std::string out;
    for (const double value : values) {
        out += (out.empty() ? "" : ", ") + std::to_string(value);
    }
    return "[" + out + "]";
}

static std::string best(const std::vector<double> & values) {
    return std::to_string(*std::max_element(values.begin(), values.end()));
}

int capability(const request & asked) {
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    const int      threads = asked.whole("threads"), mib = asked.whole("mib") * threads;
    ggml_backend_t cpu = cpu_backend(threads);
    if (!cpu) {
        fail("this machine cannot be measured", "the engine has no kernels for its CPU", "build the engine again", 4);
    }
    const int64_t             rows  = ((int64_t) mib << 20) / (COLUMNS * sizeof(float));
    const double              bytes = (double) rows * COLUMNS * sizeof(float), flops = 2.0 * SIZE * SIZE * SIZE;
    const std::vector<double> read = rates(cpu, COLUMNS, rows, 1, READ_ROUNDS, bytes);
    const std::vector<double> done = rates(cpu, SIZE, SIZE, SIZE, ROUNDS, flops);
    ggml_backend_free(cpu);
    say("capability",
        "\"threads\": " + std::to_string(threads) + ", \"read_bytes_s\": " + best(read) + ", \"read_samples\": " +
            listed(read) + ", \"read_how\": \"the engine's float32 product of " + std::to_string(mib) +
            " MiB with a vector, " + std::to_string(threads) + " threads, best round\", \"flops\": " + best(done) +
            ", \"flops_samples\": " + listed(done) + ", \"flops_how\": \"ggml's float32 product of " +
            std::to_string(SIZE) + " x " + std::to_string(SIZE) + " matrices, best round\"");
    return 0;
}
