// MUL_MAT_SPARSE_T of CUDA, executed by the emulator, against the scalar reference: the kernels, and the host's code that
// cuts them into blocks and gives them memory (ggml-cuda/plm-sparse-t.cu).

#include "host.h"

#include "ggml-cuda/plm-sparse-t.cu"
#include "plm-ops/mul-mat-sparse-t.h"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>

namespace {

constexpr double BOUND = 1e-10;     // NMSE: both sum in f32, in other orders
constexpr double BOUND_BF16 = 1e-4; // many tokens: both factors have 8 bits
constexpr int AMPERE = 800, TURING = 750;
int failures = 0;
ggml_backend_cuda_context context;

struct setting {
    ggml_type type;
    int64_t n_out, n_in, n_tokens, n_head, w_head;
    double zeros;
    bool relu_sqr;
    bool strided; // heads are parts of longer rows, tokens lie apart
    int n_sm;
    float special; // one x of the last token, if not 0
    int64_t n_batch = 1, w_batch = 1;
};

std::string name_of(const setting & s) {
    char text[200];
    snprintf(text, sizeof(text), "%s, %ld outputs of %ld rows, %ld tokens, %ld x %ld heads (%ld x %ld of W), %.0f %% zeros%s%s, %d SMs, special %g",
             ggml_type_name(s.type), long(s.n_out), long(s.n_in), long(s.n_tokens), long(s.n_batch), long(s.n_head), long(s.w_batch), long(s.w_head), 100 * s.zeros,
             s.relu_sqr ? ", squared ReLU" : "", s.strided ? ", strided" : "", s.n_sm, s.special);
    return text;
}

// an op with its data; rows between the heads' own and tokens between the tokens are of NaN, if strided
struct made {
    ggml_context * ctx;
    ggml_tensor * dst;
    ~made() { ggml_free(ctx); }
};

std::unique_ptr<made> make(const setting & s) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::uniform_real_distribution<double> share;
    ggml_context * ctx = ggml_init({ size_t(64) << 20, nullptr, false });

    const int64_t apart = s.strided ? s.n_in + 3 : s.n_in, space = s.strided ? 5 : 0;
    ggml_tensor * rows = ggml_new_tensor_2d(ctx, s.type, s.n_out, apart * s.w_head * s.w_batch);
    std::vector<float> values(ggml_nelements(rows));
    for (float & v : values) {
        v = normal(random);
    }
    ggml_quantize_chunk(s.type, values.data(), rows->data, 0, rows->ne[1], s.n_out, nullptr);
    for (int64_t i = 0; s.strided && i < rows->ne[1]; i++) {
        if (i % apart >= s.n_in) {
            memset((char *) rows->data + i * rows->nb[1], 0xFF, rows->nb[1]);
        }
    }
    ggml_tensor * w = ggml_view_4d(ctx, rows, s.n_out, s.n_in, s.w_head, s.w_batch, rows->nb[1], rows->nb[1] * apart, rows->nb[1] * apart * s.w_head, 0);

    // heads within a token's row, as the graph's queries are
    ggml_tensor * all = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, s.n_in + space, s.n_head, s.n_tokens, s.n_batch);
    for (int64_t i = 0; i < ggml_nelements(all); i++) {
        const bool zero = share(random) < s.zeros;
        const float v = normal(random);
        ((float *) all->data)[i] = zero ? (s.relu_sqr ? -std::fabs(v) : 0.0f) : s.relu_sqr ? std::fabs(v)
                                                                                           : v;
        if (i % (s.n_in + space) >= s.n_in) {
            ((float *) all->data)[i] = NAN;
        }
    }
    if (s.special != 0.0f) {
        ((float *) all->data)[(s.n_tokens - 1) * s.n_head * (s.n_in + space) + 5] = s.special;
    }
    ggml_tensor * x = ggml_view_4d(ctx, all, s.n_in, s.n_tokens, s.n_head, s.n_batch, all->nb[2], all->nb[1], all->nb[3], 0);
    ggml_tensor * dst = s.relu_sqr ? ggml_mul_mat_sparse_t_relu_sqr(ctx, w, x) : ggml_mul_mat_sparse_t(ctx, w, x);
    return std::unique_ptr<made>(new made{ ctx, dst });
}

// by the operation alone, or with the product before, which marks the rows
std::vector<float> compute(ggml_tensor * dst, const setting & s, bool marked) {
    the_device.devices[0].nsm = s.n_sm;
    float * y = (float *) dst->data;
    std::fill(y, y + ggml_nelements(dst), NAN);
    if (marked) {
        ggml_cuda_mul_mat_and_sparse_t(context, dst->src[1], dst);
    } else {
        ggml_cuda_mul_mat_sparse_t(context, dst);
    }
    return { y, y + ggml_nelements(dst) };
}

void expect(bool good, const setting & s, const char * what, double value = 0) {
    if (!good) {
        printf("WRONG: %s: %s %g\n", name_of(s).c_str(), what, value);
        failures++;
    }
}

void compare(const std::vector<float> & y, const std::vector<float> & expected, const setting & s, double bound) {
    double error = 0, size = 0;
    for (size_t i = 0; i < y.size(); i++) {
        if (!std::isfinite(expected[i])) {
            expect(std::isnan(expected[i]) ? std::isnan(y[i]) : y[i] == expected[i] || std::isnan(y[i]), s, "is finite at", i);
            continue;
        }
        expect(std::isfinite(y[i]), s, "is not finite at", i);
        error += (double(y[i]) - expected[i]) * (double(y[i]) - expected[i]);
        size += double(expected[i]) * expected[i];
    }
    expect(error <= bound * size, s, "NMSE", size > 0 ? error / size : error);
}

void check(const setting & s) {
    const auto op = make(s);
    ggml_mul_mat_sparse_t_reference(op->dst);
    const std::vector<float> expected((const float *) op->dst->data, (const float *) op->dst->data + ggml_nelements(op->dst));
    expect(ggml_cuda_mul_mat_sparse_t_supported(op->dst), s, "is declined");

    if (s.n_tokens > PLM_SPARSE_T_TOKENS) {
        the_device.devices[0].cc = TURING;
        compare(compute(op->dst, s, false), expected, s, BOUND);
        the_device.devices[0].cc = AMPERE;
        compare(compute(op->dst, s, false), expected, s, ggml_is_quantized(s.type) ? BOUND_BF16 : BOUND);
        return;
    }
    const std::vector<float> y = compute(op->dst, s, false);
    compare(y, expected, s, BOUND);
    emulator::backwards = true;
    const std::vector<float> again = compute(op->dst, s, false);
    emulator::backwards = false;
    expect(memcmp(y.data(), again.data(), y.size() * sizeof(float)) == 0, s, "other bits when threads take turns backwards");
    if (s.relu_sqr && s.n_head == 1 && s.n_batch == 1) {
        const std::vector<float> marked = compute(op->dst, s, true);
        expect(memcmp(y.data(), marked.data(), y.size() * sizeof(float)) == 0, s, "other bits where the product before marks the rows");
    }
}

// more tokens than blocks, as where there are more than a grid may have
void check_activations() {
    const setting s{ GGML_TYPE_F32, 32, 300, 7, 2, 1, 0.5, true, true, 1, 0 };
    const auto op = make(s);
    const plm_sparse_t_shape shape = plm_sparse_t_shape_of(op->dst);
    std::vector<float> y(size_t(shape.n_in) * shape.n_tokens * shape.n_slices, NAN);
    const float * x = (const float *) op->dst->src[1]->data;
    emulator::launch({ 2, 3, 2 }, { PLM_THREADS, 1, 1 }, [&] { plm_activate<true, float>(x, y.data(), shape); });
    for (size_t i = 0; i < y.size(); i++) {
        const size_t row = i % shape.n_in, token = i / shape.n_in % shape.n_tokens, slice = i / shape.n_in / shape.n_tokens;
        const float value = std::max(0.0f, x[slice * shape.x_head + token * shape.x_token + row]);
        expect(y[i] == value * value, s, "activation", double(i));
    }
}

// which products mark the rows: quantised weights by a vector, that squared ReLU of the whole result follows
void check_who_marks() {
    ggml_context * ctx = ggml_init({ size_t(1) << 20, nullptr, true });
    ggml_backend_buffer_t weights = ggml_backend_buft_alloc_buffer(ggml_backend_cpu_buffer_type(), 64);
    ggml_backend_buffer_set_usage(weights, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    const auto marks = [&](ggml_type type, int64_t n_tokens, bool relu_sqr, bool of_part, bool computed) {
        ggml_tensor * up = ggml_new_tensor_2d(ctx, type, 256, 64);
        ggml_tensor * down = ggml_new_tensor_2d(ctx, GGML_TYPE_Q4_K, 256, 64);
        up->buffer = weights;
        ggml_tensor * product = ggml_mul_mat(ctx, up, ggml_new_tensor_2d(ctx, GGML_TYPE_F32, 256, n_tokens));
        ggml_tensor * x = of_part ? ggml_view_2d(ctx, product, 64, n_tokens, product->nb[1], 0) : product;
        ggml_tensor * next = relu_sqr ? ggml_mul_mat_sparse_t_relu_sqr(ctx, down, x) : ggml_mul_mat_sparse_t(ctx, down, x);
        next->flags |= computed ? GGML_TENSOR_FLAG_COMPUTE : 0;
        return ggml_cuda_mul_mat_marks(product, next);
    };
    const setting s{ GGML_TYPE_Q4_K, 256, 64, 1, 1, 1, 0.0, true, false, 1, 0 };
    for (int64_t n_tokens : { 1, 8 }) {
        expect(marks(GGML_TYPE_Q4_K, n_tokens, true, false, true), s, "a product does not mark rows", double(n_tokens));
    }
    expect(!marks(GGML_TYPE_Q4_K, 9, true, false, true), s, "a product of many tokens marks rows");
    expect(!marks(GGML_TYPE_F16, 1, true, false, true), s, "a product of f16 marks rows");
    expect(!marks(GGML_TYPE_Q4_K, 1, false, false, true), s, "a product marks rows that are all taken");
    expect(!marks(GGML_TYPE_Q4_K, 1, true, true, true), s, "a product marks rows of a part");
    expect(!marks(GGML_TYPE_Q4_K, 1, true, false, false), s, "a product marks rows for what is not computed");
    ggml_backend_buffer_free(weights);
    ggml_free(ctx);
}

} // namespace

int main() {
    const ggml_type types[] = { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K };
    int n = 0;
    for (ggml_type type : types) {
        const int64_t block = ggml_blck_size(type);
        for (double zeros : { 0.0, 0.5, 0.9, 1.0 }) {
            const int64_t n_tokens = 1 + n++ % 8;
            check({ type, 512, 200, n_tokens, 1, 1, zeros, true, false, 4, 0 });
            check({ type, 256, 77, 1 + n_tokens % 8, 3, 3, zeros, false, true, 2, 0 });
        }
        for (int64_t n_tokens = 1; n_tokens <= 8; n_tokens++) {
            check({ type, 256, 70, n_tokens, 2, 1, 0.8, true, true, 1, 0 });
        }
        // sizes of no whole block of 256; more warps than columns, and more columns than warps
        check({ type, block == 1 ? 77 : block == 32 ? 96
                                                    : 768,
                33, 1, 1, 1, 0.5, true, false, 3, 0 });
        check({ type, block == 1 ? 2049 : block == 32 ? 2080
                                                      : 2304,
                40, 2, 1, 1, 0.5, true, false, 3, 0 });
        check({ type, 256, 1, 1, 1, 1, 0.0, false, false, 8, 0 });
        // many tokens, whose activations are above what f16 holds; heads of W's own, and shared
        check({ type, 512, 100, 9, 1, 1, 0.9, true, false, 2, 70000.0f });
        check({ type, 256, 77, 11, 3, 3, 0.5, false, true, 2, 0 });
        check({ type, 256, 33, 10, 2, 1, 0.5, true, true, 2, 0, 3, 1 });
        check({ type, 256, 33, 10, 2, 2, 0.5, true, false, 2, 0, 2, 2 });
        check({ type, 256, 40, 3, 2, 2, 0.5, true, true, 4, 0, 2, 2 });
        // what is not finite; each token's own
        for (float special : { NAN, INFINITY, -INFINITY, 70000.0f }) {
            check({ type, 512, 100, 3, 1, 1, 0.9, true, false, 2, special });
        }
    }
    // more rows than are listed at a time
    check({ GGML_TYPE_Q4_K, 256, 3 * PLM_LISTED + 50, 1, 1, 1, 0.95, true, false, 5, 0 });
    check({ GGML_TYPE_F16, 512, PLM_LISTED, 2, 1, 1, 0.98, true, false, 5, 0 });
    check_activations();
    check_who_marks();
    printf(failures ? "%d wrong\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
