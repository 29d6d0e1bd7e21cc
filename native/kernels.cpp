// Seconds of ggml's CPU kernels: plm_edge/bench/kernels.py makes rates of them.

#include "commands.h"
#include "engine.h"
#include "handles.h"

namespace {

struct cpu {
    ggml_backend_dev_t device;
    ggml_backend_reg_t registry;
    backend kernels;
    std::vector<ggml_backend_buffer_type_t> places; // where weights may lie, the loader's first choice first

    explicit cpu(int threads) {
        start_engine();
        device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        if (!device) {
            throw failure("this machine cannot be measured", "the engine has no kernels for its CPU",
                          "build the engine again", ENVIRONMENT);
        }
        kernels.reset(ggml_backend_dev_init(device, nullptr));
        registry = ggml_backend_dev_backend_reg(device);
        if (const auto set = find<ggml_backend_set_n_threads_t>("ggml_backend_set_n_threads")) {
            set(kernels.get(), threads);
        }
        const auto extra = find<ggml_backend_dev_get_extra_bufts_t>("ggml_backend_dev_get_extra_bufts");
        for (auto * listed = extra ? extra(device) : nullptr; listed && *listed; listed++) {
            places.push_back(*listed);
        }
        places.push_back(ggml_backend_dev_buffer_type(device));
    }

    template <typename F> F find(const char * name) const {
        return (F) ggml_backend_reg_get_proc_address(registry, name);
    }

    std::vector<double> times(ggml_cgraph * graph, int rounds) const {
        std::vector<double> found;
        for (int round = 0; round <= rounds; round++) { // the first warms up
            const double began = now();
            ggml_backend_graph_compute(kernels.get(), graph);
            if (round) {
                found.push_back(now() - began);
            }
        }
        return found;
    }
};

} // namespace

// A graph of `nodes` products of one matrix [rows, columns] of zeros with the same vectors. The matrix lies where the
// loader would put it: repacked where a kernel takes it so.
void products(const json & request) {
    const cpu on(request.at("threads"));
    const ggml_type type = type_of(request.at("type"));
    const int64_t columns = request.at("columns"), rows = request.at("rows"), vectors = request.value("vectors", 1);
    const int nodes = request.value("nodes", 1);

    for (const ggml_backend_buffer_type_t place : on.places) {
        const context matrices = make_context(64);
        ggml_tensor * const matrix = ggml_new_tensor_2d(matrices.get(), type, columns, rows);
        const buffer weights = kept(ggml_backend_alloc_ctx_tensors_from_buft(matrices.get(), place));
        const context rest = make_context(nodes + 8, nodes + 8);
        ggml_tensor * const vector = ggml_new_tensor_2d(rest.get(), GGML_TYPE_F32, columns, vectors);
        ggml_cgraph * const graph = ggml_new_graph_custom(rest.get(), nodes + 8, false);
        for (int i = 0; i < nodes; i++) {
            ggml_build_forward_expand(graph, ggml_mul_mat(rest.get(), matrix, vector));
        }
        const bool last = place == on.places.back();
        if (!last && !ggml_backend_dev_supports_op(on.device, ggml_graph_node(graph, 0))) {
            continue;
        }
        const buffer values = kept(ggml_backend_alloc_ctx_tensors(rest.get(), on.kernels.get()));
        ggml_backend_buffer_clear(values.get(), 0);
        if (last) {
            ggml_backend_buffer_clear(weights.get(), 0); // every page is touched
        } else {
            const std::vector<char> zeros(ggml_nbytes(matrix));
            ggml_backend_tensor_set(matrix, zeros.data(), 0, zeros.size());
        }
        const std::vector<double> seconds = on.times(graph, request.at("rounds"));
        say("products", { { "bytes", ggml_nbytes(matrix) }, { "seconds", seconds } });
        return;
    }
}

// A graph of `nodes` latent attentions of one token over `cached` rows of `row` values of a type, whose first `latent`
// are the values.
void attention(const json & request) {
    const cpu on(request.at("threads"));
    const ggml_type type = type_of(request.at("type"));
    const int64_t row = request.at("row"), latent = request.at("latent"), heads = request.at("heads");
    const int64_t cached = request.at("cached");
    const int nodes = request.value("nodes", 1);

    const context all = make_context(2 * nodes + 8, 2 * nodes + 8);
    ggml_tensor * const query = ggml_new_tensor_4d(all.get(), GGML_TYPE_F32, row, 1, heads, 1);
    ggml_tensor * const keys = ggml_new_tensor_4d(all.get(), type, row, cached, 1, 1);
    const size_t stride = ggml_row_size(type, row);
    ggml_tensor * const values = ggml_view_4d(all.get(), keys, latent, cached, 1, 1, stride, stride * cached,
                                              stride * cached, 0);
    ggml_cgraph * const graph = ggml_new_graph_custom(all.get(), 2 * nodes + 8, false);
    for (int i = 0; i < nodes; i++) {
        ggml_build_forward_expand(graph, ggml_flash_attn_ext(all.get(), query, keys, values, nullptr, 0.05f, 0, 0));
    }
    const buffer held = kept(ggml_backend_alloc_ctx_tensors(all.get(), on.kernels.get()));
    ggml_backend_buffer_clear(held.get(), 0);
    say("attention", { { "seconds", on.times(graph, request.at("rounds")) } });
}
