// The down projection of a PLM on one device, standalone: the sparse product of rows of neurons against the dense one of
// rows of outputs. benchmarks/gpu_check.py makes a table of it.

#include "commands.h"
#include "engine.h"
#include "handles.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#if !defined(__APPLE__)
#pragma weak ggml_mul_mat_sparse_t_relu_sqr // stock llama.cpp's libraries lack it: null
#endif

namespace {

using product = ggml_tensor * (*) (ggml_context *, ggml_tensor *, ggml_tensor *);

// values of a normal distribution, a share of them below zero, which squared ReLU makes zero
std::vector<float> inputs(int64_t count, double zeros, std::mt19937 & random) {
    std::normal_distribution<float> normal;
    std::vector<float> made(count);
    for (int64_t i = 0; i < count; i++) {
        made[i] = std::fabs(normal(random)) * (i < std::llround(count * zeros) ? -1 : 1);
    }
    std::shuffle(made.begin(), made.end(), random);
    return made;
}

// the bytes of a matrix of random weights; the same rows again and again, for quantising takes seconds
std::vector<char> weights(ggml_type type, int64_t columns, int64_t rows, std::mt19937 & random) {
    const int64_t different = std::min<int64_t>(rows, 64);
    std::normal_distribution<float> normal(0, 0.02f);
    std::vector<float> from(columns * different);
    std::generate(from.begin(), from.end(), [&] { return normal(random); });
    const size_t size = ggml_row_size(type, columns);
    std::vector<char> made(size * rows);
    ggml_quantize_chunk(type, from.data(), made.data(), 0, different, columns, nullptr);
    for (int64_t row = different; row < rows; row++) {
        memcpy(made.data() + row * size, made.data() + row % different * size, size);
    }
    return made;
}

struct bench {
    ggml_backend_dev_t device;
    backend runs;
    ggml_type type;
    int64_t n_ff, n_embd, n_tokens;
    int n_matrices, rounds;

    // Seconds of a product of one matrix, a value for each round: all matrices one after the other, so that none is still in a
    // cache. Whether each round gave the bits of the first. Empty where the device lacks the operation.
    json times(const std::vector<char> & bytes, const std::vector<float> & x, product sparse) const {
        const context matrices = make_context(n_matrices), rest = make_context(4 * n_matrices + 8, 4 * n_matrices + 8);
        ggml_tensor * const input = ggml_new_tensor_2d(rest.get(), GGML_TYPE_F32, n_ff, n_tokens);
        ggml_cgraph * const graph = ggml_new_graph_custom(rest.get(), 4 * n_matrices + 8, false);
        std::vector<ggml_tensor *> all;
        ggml_tensor * out = nullptr;
        for (int i = 0; i < n_matrices; i++) {
            ggml_tensor * w = sparse ? ggml_new_tensor_2d(matrices.get(), type, n_embd, n_ff) : ggml_new_tensor_2d(matrices.get(), type, n_ff, n_embd);
            all.push_back(w);
            out = sparse ? sparse(rest.get(), w, input) : ggml_mul_mat(rest.get(), w, ggml_sqr(rest.get(), ggml_relu(rest.get(), input)));
            ggml_build_forward_expand(graph, out);
        }
        for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
            if (!ggml_backend_dev_supports_op(device, ggml_graph_node(graph, i))) {
                return json();
            }
        }
        const buffer there = kept(ggml_backend_alloc_ctx_tensors(matrices.get(), runs.get()));
        const buffer values = kept(ggml_backend_alloc_ctx_tensors(rest.get(), runs.get()));
        for (ggml_tensor * w : all) {
            ggml_backend_tensor_set(w, bytes.data(), 0, bytes.size());
        }
        ggml_backend_tensor_set(input, x.data(), 0, x.size() * sizeof(float));
        std::vector<double> seconds;
        std::vector<float> first(n_embd * n_tokens), now_(first.size());
        bool same = true, finite = true;
        for (int round = 0; round <= rounds; round++) { // the first warms up
            const double began = now();
            ggml_backend_graph_compute(runs.get(), graph);
            ggml_backend_synchronize(runs.get());
            const double ended = now();
            ggml_backend_tensor_get(out, now_.data(), 0, now_.size() * sizeof(float));
            if (round == 0) {
                first = now_;
                finite = std::all_of(first.begin(), first.end(), [](float v) { return std::isfinite(v); });
            } else {
                seconds.push_back((ended - began) / n_matrices);
                same = same && memcmp(first.data(), now_.data(), first.size() * sizeof(float)) == 0;
            }
        }
        return { { "seconds", seconds }, { "same", same }, { "finite", finite } };
    }
};

} // namespace

//   device ("CUDA0"), type ("q4_K"), n_ff, n_embd, tokens; zeros: shares; matrices, rounds; scale (1): of the inputs
void sparse(const json & request) {
    start_engine();
    const std::string name = request.at("device");
    ggml_backend_dev_t device = ggml_backend_dev_by_name(name.c_str());
    const product multiply = ggml_mul_mat_sparse_t_relu_sqr;
    if (!device || !multiply) {
        throw failure("the sparse product cannot be measured on " + name,
                      device ? "this engine is not plm-edge's" : "the engine finds no device of that name",
                      "plm-edge doctor says which GPUs there are", ENVIRONMENT);
    }
    const bench on{ device, backend(ggml_backend_dev_init(device, nullptr)), type_of(request.at("type")), request.at("n_ff"), request.at("n_embd"),
                    request.at("tokens"), request.at("matrices"), request.at("rounds") };
    std::mt19937 random(1);
    const std::vector<char> rows = weights(on.type, on.n_embd, on.n_ff, random), columns = weights(on.type, on.n_ff, on.n_embd, random);
    json found = json::array();
    for (double zeros : request.at("zeros").get<std::vector<double>>()) {
        std::vector<float> x;
        for (int64_t i = 0; i < on.n_tokens; i++) {
            const std::vector<float> token = inputs(on.n_ff, zeros, random);
            x.insert(x.end(), token.begin(), token.end());
        }
        for (float & value : x) {
            value *= request.value("scale", 1.0f);
        }
        found.push_back({ { "zeros", zeros }, { "sparse", on.times(rows, x, multiply) }, { "dense", on.times(columns, x, nullptr) } });
    }
    say("sparse", { { "bytes", rows.size() }, { "found", found } });
}
