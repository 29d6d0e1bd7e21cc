// One operation of the engine's, once, between two marks at which an emulator's plugin begins and ends to record
// (plm_edge/bench/worker/count.c): plm_edge/bench/cycles/ makes cycles of what was executed.
//
//   bench-plm-cycles product TYPE COLUMNS ROWS          a matrix where the loader would put it, times one vector
//   bench-plm-cycles plain TYPE COLUMNS ROWS            a matrix in rows, as the loader leaves those that are read by rows
//   bench-plm-cycles sparse TYPE COLUMNS ROWS           W_down of the edge layout, of whose rows one in ten is used
//   bench-plm-cycles transposed TYPE COLUMNS ROWS       W^T x by rows of W, all of which are used: the query into the latent
//   bench-plm-cycles planes none|some|all COLUMNS ROWS  W_up in planes; how many rows' lower bits are read: some where one
//                                                       value in ten is above zero
//   bench-plm-cycles codes TYPE COLUMNS ROWS            logits in two stages, none but the likeliest made exact
//   bench-plm-cycles attention TYPE CACHED              16 heads over a latent cache of 576 values, 512 of them V
//   bench-plm-cycles attention-upstream TYPE CACHED     the same by ggml's own kernel: V is a tensor of its own
//
// Prints the bytes of weights or of cache that the operation reads. Values are random, the same each time.

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include "ggml-cpu/plm/counts.h"
#include "plm-head/plm-head.h"
#include "plm-planes/plm-planes.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

constexpr int64_t ROW = 576, LATENT = 512, HEADS = 16, USED = 10;
constexpr double ABOVE = -1.2816; // a tenth of normal values lie this far, and further, above their mean

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

template <typename T> void set(ggml_tensor * t, const std::vector<T> & x) { ggml_backend_tensor_set(t, x.data(), 0, ggml_nbytes(t)); }

std::vector<char> quantized(ggml_type type, const std::vector<float> & x, int64_t columns) {
    const int64_t rows = int64_t(x.size()) / columns;
    std::vector<char> bytes(rows * ggml_row_size(type, columns));
    if (type == GGML_TYPE_F32) {
        memcpy(bytes.data(), x.data(), bytes.size());
    } else {
        ggml_quantize_chunk(type, x.data(), bytes.data(), 0, rows, columns, nullptr);
    }
    return bytes;
}

void fill(ggml_tensor * t) { set(t, quantized(t->type, values(ggml_nelements(t)), t->ne[0])); }

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

size_t product(const cpu & on, ggml_type type, int64_t columns, int64_t rows, const std::vector<ggml_backend_buffer_type_t> & places) {
    for (const ggml_backend_buffer_type_t place : places) {
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
    std::vector<float> some = values(rows);
    for (size_t i = 0; i < some.size(); i++) { some[i] = i % USED ? -1.0f : 1.0f + some[i] * some[i]; }
    set(x, some);
    on.run(ctx, y);
    return (rows + USED - 1) / USED * ggml_row_size(type, columns);
}

size_t transposed(const cpu & on, ggml_type type, int64_t columns, int64_t rows) {
    ggml_context * const ctx = context();
    ggml_tensor * const w = ggml_new_tensor_2d(ctx, type, columns, rows);
    ggml_tensor * const x = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, rows);
    ggml_tensor * const y = ggml_mul_mat_sparse_t(ctx, w, x);
    ggml_backend_alloc_ctx_tensors(ctx, on.kernels);
    fill(w);
    fill(x);
    on.run(ctx, y);
    return ggml_nbytes(w);
}

// rows of q4_K whose products with x lie about `mean` standard deviations above zero, in planes
std::vector<char> in_planes(const std::vector<float> & x, int64_t rows, double mean) {
    const int64_t columns = int64_t(x.size()), n_blocks = columns / ggml_blck_size(GGML_TYPE_Q4_K);
    double squares = 0;
    for (const float v : x) { squares += double(v) * v; }
    std::vector<float> w = values(columns * rows);
    for (size_t i = 0; i < w.size(); i++) { w[i] += float(mean * x[i % columns] / sqrt(squares)); }
    const std::vector<char> plain = quantized(GGML_TYPE_Q4_K, w, columns);
    std::vector<char> planes(plain.size());
    plm_planes_pack(plain.data(), planes.data(), planes.data() + rows / PLM_PLANES_ROWS * n_blocks * sizeof(plm_planes_block), columns, rows);
    return planes;
}

size_t planes(const cpu & on, const std::string & how_many, int64_t columns, int64_t rows) {
    ggml_context * const ctx = context();
    ggml_tensor * const w = ggml_new_tensor_2d(ctx, GGML_TYPE_Q4_K, columns, rows);
    w->flags |= GGML_TENSOR_FLAG_PLANES;
    ggml_set_name(w, "blk.0.ffn_up.weight"); // whose rows are counted
    ggml_tensor * const x = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, columns);
    ggml_tensor * const y = ggml_mul_mat(ctx, w, x);
    ggml_mul_mat_set_hint(y, GGML_HINT_POSITIVE);
    ggml_backend_alloc_ctx_tensors(ctx, on.kernels);
    const std::vector<float> token = values(columns + 1); // other values than the rows begin with
    const std::vector<float> last(token.begin() + 1, token.end());
    set(x, last);
    set(w, in_planes(last, rows, how_many == "none" ? -30 : how_many == "all" ? 30
                                                                              : ABOVE));
    on.run(ctx, y);
    uint64_t total = 0, read = 0;
    plm_edge_planes_get(0, &total, &read);
    const int64_t n_blocks = columns / ggml_blck_size(GGML_TYPE_Q4_K);
    return rows / PLM_PLANES_ROWS * n_blocks * sizeof(plm_planes_block) + rows * read / total * n_blocks * PLM_PLANES_LOW;
}

// the codes have half as many columns as the matrix, as the converter makes them
size_t codes(const cpu & on, ggml_type type, int64_t columns, int64_t rows) {
    const int64_t n_columns = columns / 2, n_groups = (rows + PLM_HEAD_ROWS - 1) / PLM_HEAD_ROWS;
    ggml_context * const ctx = context();
    ggml_tensor * const w = ggml_new_tensor_2d(ctx, type, columns, rows);
    ggml_tensor * const h = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, columns);
    ggml_tensor * const y = ggml_mul_mat(ctx, w, h);
    ggml_mul_mat_set_hint(y, GGML_HINT_TWO_STAGES);
    ggml_tensor * const z = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, columns);
    ggml_tensor * const coded = ggml_new_tensor_2d(ctx, GGML_TYPE_I8, n_columns / PLM_HEAD_COLUMNS * sizeof(plm_head_block), n_groups);
    ggml_tensor * const bias = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, rows);
    ggml_tensor * const which = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, n_columns, 2);
    ggml_tensor * const moments = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, columns, 3);
    y->src[2] = z, y->src[3] = coded, y->src[4] = bias, y->src[5] = which, y->src[6] = moments;
    ggml_backend_alloc_ctx_tensors(ctx, on.kernels);
    fill(w);
    fill(h);
    fill(z);
    fill(bias);
    std::mt19937 random(1);
    std::vector<plm_head_block> blocks(n_groups * n_columns / PLM_HEAD_COLUMNS);
    for (plm_head_block & b : blocks) {
        for (ggml_fp16_t & scale : b.scale) { scale = ggml_fp32_to_fp16(1e-3f); }
        for (uint8_t * c = &b.codes[0][0][0]; c < (uint8_t *) (&b + 1); c++) { *c = uint8_t(random()); }
    }
    set(coded, blocks);
    std::vector<float> columns_of(2 * n_columns, 1.0f);
    for (int64_t k = 0; k < n_columns; k++) { columns_of[k] = float(2 * k); }
    set(which, columns_of);
    set(moments, std::vector<float>(3 * columns, 0.0f)); // of which the last are how far off a coarse logit may be: not at all
    on.run(ctx, y);
    uint64_t total = 0, read = 0;
    plm_edge_head_get(&total, &read);
    return ggml_nbytes(coded) + ggml_nbytes(bias) + rows * read / total * ggml_row_size(type, columns);
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
    const std::vector<std::string> args(argv + 1, argv + argc);
    const std::string what = args.empty() ? "" : args[0];
    const size_t n = args.size();
    const auto number = [&](size_t i) { return atoll(args[i].c_str()); };
    const cpu on;
    ggml_backend_cpu_set_n_threads(on.kernels, 1);

    size_t bytes = 0;
    if (n == 4 && what == "product") {
        bytes = product(on, type_of(args[1]), number(2), number(3), on.places());
    } else if (n == 4 && what == "plain") {
        bytes = product(on, type_of(args[1]), number(2), number(3), { on.places().back() });
    } else if (n == 4 && what == "sparse") {
        bytes = sparse(on, type_of(args[1]), number(2), number(3));
    } else if (n == 4 && what == "transposed") {
        bytes = transposed(on, type_of(args[1]), number(2), number(3));
    } else if (n == 4 && what == "planes") {
        bytes = planes(on, args[1], number(2), number(3));
    } else if (n == 4 && what == "codes") {
        bytes = codes(on, type_of(args[1]), number(2), number(3));
    } else if (n == 3 && (what == "attention" || what == "attention-upstream")) {
        bytes = attention(on, type_of(args[1]), number(2), what == "attention");
    } else {
        fprintf(stderr, "error: these arguments fit no operation: the first lines of bench-plm-cycles.cpp name them\n");
        return 2;
    }
    printf("%zu\n", bytes);
}
