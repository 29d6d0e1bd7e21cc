// MUL_MAT_SPARSE_T against ggml's dense product of the same values, in one process, in turns.
//
//   bench-plm-sparse-t [TYPE [ZEROS [TOKENS [REPEATS [THREADS]]]]]      e.g. q4_K 0.9 1 21 2
//
// The dense side is what the stock layout computes: relu, square, and a product with W {n_in, n_out} in the
// buffer that the loader would choose (repacked where the CPU has kernels for it). Sizes are PLM-1.8B's down
// projection. Each repetition uses another one of LAYERS matrices, so that weights come from memory as in a
// model. Prints medians and their ratio: of time, and of the processor time that the program used, which
// other programs on the machine disturb less.

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <vector>

namespace {

constexpr int64_t N_IN = 8192, N_OUT = 2048;

struct sample {
    double wall, cpu;
};

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

sample now() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return { std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(), t.tv_sec + 1e-9 * t.tv_nsec };
}

ggml_backend_buffer_type_t repack_buffer(ggml_backend_dev_t cpu) {
    const auto get = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts");
    for (ggml_backend_buffer_type_t * found = get ? get(cpu) : nullptr; found && *found; found++) {
        if (strstr(ggml_backend_buft_name(*found), "REPACK")) {
            return *found;
        }
    }
    return nullptr;
}

} // namespace

int main(int argc, char ** argv) {
    const char * type_name = argc > 1 ? argv[1] : "q4_K";
    const double zeros = argc > 2 ? atof(argv[2]) : 0.9;
    const int n_tokens = argc > 3 ? atoi(argv[3]) : 1;
    const int repeats = argc > 4 ? atoi(argv[4]) : 21;
    const int n_threads = argc > 5 ? atoi(argv[5]) : 2;
    const int layers = getenv("LAYERS") ? atoi(getenv("LAYERS")) : n_tokens > 8 ? 1
                                                                                : 8;

    ggml_type type = GGML_TYPE_COUNT;
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        if (ggml_type_name((ggml_type) t) && strcmp(ggml_type_name((ggml_type) t), type_name) == 0) {
            type = (ggml_type) t;
        }
    }
    if (type == GGML_TYPE_COUNT) {
        fprintf(stderr, "no type %s\n", type_name);
        return 1;
    }

    ggml_backend_t backend = ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
    ggml_backend_dev_t cpu = ggml_backend_get_device(backend);
    ggml_backend_cpu_set_n_threads(backend, n_threads);

    const size_t overhead = ggml_tensor_overhead() * (8 * layers + 8) + 4 * layers * ggml_graph_overhead();
    ggml_context * weights_rows = ggml_init({ overhead, nullptr, true });
    ggml_context * weights_packed = ggml_init({ overhead, nullptr, true });
    ggml_context * rest = ggml_init({ overhead, nullptr, true });

    ggml_tensor * x = ggml_new_tensor_2d(rest, GGML_TYPE_F32, N_IN, n_tokens);
    std::vector<ggml_tensor *> rows(layers), packed(layers);
    std::vector<ggml_cgraph *> sparse(layers), dense(layers);
    for (int l = 0; l < layers; l++) {
        rows[l] = ggml_new_tensor_2d(weights_rows, type, N_OUT, N_IN);
        packed[l] = ggml_new_tensor_2d(weights_packed, type, N_IN, N_OUT);
        sparse[l] = ggml_new_graph(rest);
        dense[l] = ggml_new_graph(rest);
        ggml_build_forward_expand(sparse[l], ggml_mul_mat_sparse_t_relu_sqr(rest, rows[l], x));
        ggml_build_forward_expand(dense[l], ggml_mul_mat(rest, packed[l], ggml_sqr(rest, ggml_relu(rest, x))));
    }
    ggml_backend_alloc_ctx_tensors(weights_rows, backend);
    ggml_backend_buffer_type_t repack = repack_buffer(cpu);
    ggml_backend_buffer_t packed_buffer = repack ? ggml_backend_alloc_ctx_tensors_from_buft(weights_packed, repack) : nullptr;
    if (packed_buffer && !packed[0]->extra) { // not a type that this CPU repacks
        ggml_backend_buffer_free(packed_buffer);
        for (ggml_tensor * t : packed) {
            t->buffer = nullptr;
            t->data = nullptr;
        }
        packed_buffer = nullptr;
    }
    if (!packed_buffer) {
        ggml_backend_alloc_ctx_tensors(weights_packed, backend);
    }
    ggml_backend_alloc_ctx_tensors(rest, backend);

    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<double> uniform;
    {
        std::vector<float> w(N_IN * N_OUT), w_t(N_IN * N_OUT);
        for (int64_t i = 0; i < N_IN; i++) {
            for (int64_t c = 0; c < N_OUT; c++) {
                w[i * N_OUT + c] = w_t[c * N_IN + i] = normal(random);
            }
        }
        std::vector<char> q(ggml_row_size(type, N_OUT) * N_IN);
        ggml_quantize_chunk(type, w.data(), q.data(), 0, N_IN, N_OUT, nullptr);
        for (ggml_tensor * t : rows) {
            ggml_backend_tensor_set(t, q.data(), 0, q.size());
        }
        ggml_quantize_chunk(type, w_t.data(), q.data(), 0, N_OUT, N_IN, nullptr);
        for (ggml_tensor * t : packed) {
            ggml_backend_tensor_set(t, q.data(), 0, q.size());
        }
        std::vector<float> xs(N_IN * n_tokens);
        for (float & v : xs) {
            v = std::fabs(normal(random)) * (uniform(random) < zeros ? -1 : 1);
        }
        ggml_backend_tensor_set(x, xs.data(), 0, xs.size() * sizeof(float));
    }

    const auto time = [&](ggml_cgraph * graph) {
        const sample a = now();
        ggml_backend_graph_compute(backend, graph);
        const sample b = now();
        return sample{ b.wall - a.wall, b.cpu - a.cpu };
    };
    std::vector<double> wall[2], used[2];
    for (int r = -1; r < repeats; r++) {
        for (int side = 0; side < 2; side++) {
            const int l = (r + layers) % layers;
            const sample s = time(side ? dense[l] : sparse[l]);
            if (r >= 0) {
                wall[side].push_back(s.wall);
                used[side].push_back(s.cpu);
            }
        }
    }

    std::vector<float> ys(N_OUT * n_tokens), yd(N_OUT * n_tokens);
    ggml_backend_tensor_get(ggml_graph_node(sparse[0], -1), ys.data(), 0, ys.size() * sizeof(float));
    ggml_backend_tensor_get(ggml_graph_node(dense[0], -1), yd.data(), 0, yd.size() * sizeof(float));
    double d2 = 0, y2 = 0;
    for (size_t i = 0; i < ys.size(); i++) {
        d2 += (ys[i] - yd[i]) * (ys[i] - yd[i]);
        y2 += yd[i] * yd[i];
    }
    printf("%s zeros %.2f tokens %4d threads %d | sparse %9.1f us dense %9.1f us: dense/sparse %6.2f | processor time %9.1f %9.1f: %6.2f | NMSE between the two %.1e\n",
           type_name, zeros, n_tokens, n_threads, 1e6 * median(wall[0]), 1e6 * median(wall[1]), median(wall[1]) / median(wall[0]),
           1e6 * median(used[0]), 1e6 * median(used[1]), median(used[1]) / median(used[0]), d2 / y2);
}
