// One operation of the engine's, once, between two marks at which an emulator's plugin begins and ends to record
// (plm_edge/bench/worker/count.c): plm_edge/bench/cycles/ makes cycles of what was executed.
//
//   bench-plm-cycles product TYPE COLUMNS ROWS          a matrix where the loader would put it, times one vector
//   bench-plm-cycles sparse TYPE COLUMNS ROWS           W_down of the edge layout, of whose rows one in ten is used
//   bench-plm-cycles attention TYPE CACHED              16 heads over a latent cache of 576 values, 512 of them V
//   bench-plm-cycles attention-upstream TYPE CACHED     the same by ggml's own kernel: V is a tensor of its own
//
// Prints the bytes of weights or of cache that the operation reads. Values are random, the same each time.

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

constexpr int64_t ROW = 576, LATENT = 512, HEADS = 16, USED = 10;

ggml_type type_of(const std::string & name) {
    for (int t = 0; t < GGML_TYPE_COUNT; t++) {
        const char * known = ggml_type_name((ggml_type) t);
        if (known && name == known) {
            return (ggml_type) t;
        }
    }
    fprintf(stderr, "error: no type %s\n", name.c_str());
    exit(2);
}

std::vector<float> values(size_t n) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> found(n);
    for (float & x : found) { x = normal(random); }
    return found;
}

void fill(ggml_tensor * t) {
    const int64_t columns = t->ne[0], rows = ggml_nrows(t);
    const std::vector<float> x = values(columns * rows);
    std::vector<char> bytes(ggml_nbytes(t));
    if (t->type == GGML_TYPE_F32) {
        memcpy(bytes.data(), x.data(), bytes.size());
    } else {
        ggml_quantize_chunk(t->type, x.data(), bytes.data(), 0, rows, columns, nullptr);
    }
    ggml_backend_tensor_set(t, bytes.data(), 0, bytes.size());
}

struct cpu {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    ggml_backend_t kernels = ggml_backend_dev_init(device, nullptr);

    void run(ggml_context * ctx, ggml_tensor * result) const {
        ggml_cgraph * graph = ggml_new_graph(ctx);
        ggml_build_forward_expand(graph, result);
        for (int round = 0; round < 2; round++) { // the first allocates
            if (round) {
                (void) getppid();
            }
            ggml_backend_graph_compute(kernels, graph);
            if (round) {
                (void) getppid();
            }
        }
    }

    // where a matrix lies for an op: the loader's first choice that has a kernel for it
    std::vector<ggml_backend_buffer_type_t> places() const {
        const auto extra = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
        std::vector<ggml_backend_buffer_type_t> found;
        for (auto * listed = extra ? extra(device) : nullptr; listed && *listed; listed++) { found.push_back(*listed); }
        found.push_back(ggml_backend_dev_buffer_type(device));
        return found;
    }
};

ggml_context * context() { return ggml_init({ 16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true }); }

size_t product(const cpu & on, ggml_type type, int64_t columns, int64_t rows) {
    for (const ggml_backend_buffer_type_t place : on.places()) {
        ggml_context * const weights = context();
        ggml_context * const rest = context();
        ggml_tensor * const w = ggml_new_tensor_2d(weights, type, columns, rows);
        ggml_backend_alloc_ctx_tensors_from_buft(weights, place);
        ggml_tensor * const x = ggml_new_tensor_1d(rest, GGML_TYPE_F32, columns);
        ggml_tensor * const y = ggml_mul_mat(rest, w, x);
        if (!ggml_backend_dev_supports_op(on.device, y)) {
            continue;
        }
        ggml_backend_alloc_ctx_tensors(rest, on.kernels);
        fill(w);
        fill(x);
        on.run(rest, y);
        return ggml_nbytes(w);
    }
    return 0;
}

size_t sparse(const cpu & on, ggml_type type, int64_t columns, int64_t rows) {
    ggml_context * const ctx = context();
    ggml_tensor * const w = ggml_new_tensor_2d(ctx, type, columns, rows);
    ggml_tensor * const x = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, rows);
    ggml_tensor * const y = ggml_mul_mat_sparse_t_relu_sqr(ctx, w, x);
    ggml_backend_alloc_ctx_tensors(ctx, on.kernels);
    fill(w);
    fill(x);
    std::vector<float> some = values(rows);
    for (size_t i = 0; i < some.size(); i++) { some[i] = i % USED ? -1.0f : 1.0f + some[i] * some[i]; }
    ggml_backend_tensor_set(x, some.data(), 0, ggml_nbytes(x));
    on.run(ctx, y);
    return (rows + USED - 1) / USED * ggml_row_size(type, columns);
}

size_t attention(const cpu & on, ggml_type type, int64_t cached, bool ours) {
    ggml_context * const ctx = context();
    ggml_tensor * const q = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, ROW, 1, HEADS, 1);
    ggml_tensor * const k = ggml_new_tensor_4d(ctx, type, ROW, cached, 1, 1);
    ggml_tensor * const own = ggml_new_tensor_4d(ctx, type, ROW, cached, 1, 1);
    const size_t stride = ggml_row_size(type, ROW);
    ggml_tensor * const v = ggml_view_4d(ctx, ours ? k : own, LATENT, cached, 1, 1, stride, stride * cached, stride * cached, 0);
    ggml_tensor * const y = ggml_flash_attn_ext(ctx, q, k, v, nullptr, 0.05f, 0, 0);
    ggml_backend_alloc_ctx_tensors(ctx, on.kernels);
    fill(q);
    fill(k);
    fill(own);
    on.run(ctx, y);
    return stride * cached;
}

} // namespace

int main(int argc, char ** argv) {
    const std::string what = argc > 1 ? argv[1] : "";
    const bool attending = what == "attention" || what == "attention-upstream";
    if (argc != (attending ? 4 : 5) || (!attending && what != "product" && what != "sparse")) {
        fprintf(stderr, "usage: %s product|sparse TYPE COLUMNS ROWS, or %s attention|attention-upstream TYPE CACHED\n", argv[0], argv[0]);
        return 2;
    }
    const cpu on;
    ggml_backend_cpu_set_n_threads(on.kernels, 1);
    const ggml_type type = type_of(argv[2]);
    const size_t bytes = attending          ? attention(on, type, atoll(argv[3]), what == "attention")
                         : what == "sparse" ? sparse(on, type, atoll(argv[3]), atoll(argv[4]))
                                            : product(on, type, atoll(argv[3]), atoll(argv[4]));
    printf("%zu\n", bytes);
}
