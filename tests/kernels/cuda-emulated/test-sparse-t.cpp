// MUL_MAT_SPARSE_T's CUDA kernels, executed by the emulator, against the scalar reference.

#include "common.cuh"

#include "ggml-cuda/plm/sparse-t.cuh"
#include "plm-ops/mul-mat-sparse-t.h"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <string>

namespace {

constexpr double BOUND = 1e-10; // NMSE: both sum in f32, in other orders
int failures = 0;

struct setting {
    ggml_type type;
    int64_t n_out, n_in, n_tokens, n_head, w_head;
    double zeros;
    bool relu_sqr;
    bool strided; // heads are parts of longer rows, tokens lie apart
    int n_sm;
    float special; // one x of the last token, if not 0
};

std::string name_of(const setting & s) {
    char text[200];
    snprintf(text, sizeof(text), "%s, %ld outputs of %ld rows, %ld tokens, %ld heads (%ld of W), %.0f %% zeros%s%s, %d SMs, special %g",
             ggml_type_name(s.type), long(s.n_out), long(s.n_in), long(s.n_tokens), long(s.n_head), long(s.w_head), 100 * s.zeros,
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
    ggml_tensor * rows = ggml_new_tensor_2d(ctx, s.type, s.n_out, apart * s.w_head);
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
    ggml_tensor * w = ggml_view_3d(ctx, rows, s.n_out, s.n_in, s.w_head, rows->nb[1], rows->nb[1] * apart, 0);

    // heads within a token's row, as the graph's queries are
    ggml_tensor * all = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, s.n_in + space, s.n_head, s.n_tokens);
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
    ggml_tensor * x = ggml_view_3d(ctx, all, s.n_in, s.n_tokens, s.n_head, all->nb[2], all->nb[1], 0);
    ggml_tensor * dst = s.relu_sqr ? ggml_mul_mat_sparse_t_relu_sqr(ctx, w, x) : ggml_mul_mat_sparse_t(ctx, w, x);
    return std::unique_ptr<made>(new made{ ctx, dst });
}

// rows by a kernel that selects them, or as the product before marked them; or all, as for many tokens
enum class form { selected,
                  marked,
                  dense };

// what the product before notes as it writes x, token after token; the bytes beyond are what a pool gives
std::vector<uint8_t> marks_of(const float * x, const plm_sparse_t_shape & s) {
    std::vector<uint8_t> marks((s.n_in + 31) / 32 * 32, 0xFF);
    for (int row = 0; row < s.n_in; row++) {
        for (int t = 0; t < s.n_tokens; t++) {
            plm_mark(&marks[row], x[t * s.x_token + row], t == 0);
        }
    }
    return marks;
}

template <ggml_type type, int most, bool relu_sqr>
void execute(ggml_tensor * dst, int n_sm, float * y, bool marked) {
    const plm_sparse_t_shape s = plm_sparse_t_shape_of(dst);
    const plm_sparse_t_plan plan = plm_sparse_t_plan_of(s, relu_sqr, n_sm);
    const char * w = (const char *) dst->src[0]->data;
    const float * x = (const float *) dst->src[1]->data;
    const unsigned slices = unsigned(s.n_slices);
    const int n = s.n_out * s.n_tokens * s.n_slices;
    // what a pool gives is not zero
    std::vector<uint32_t> mask((s.n_in + 31) / 32 * s.n_slices, 0xAAAAAAAA);
    std::vector<float> part(size_t(n) * plan.parts, NAN);
    std::vector<uint8_t> marks;
    if (marked) {
        marks = marks_of(x, s);
    } else if (relu_sqr) {
        emulator::launch({ unsigned(s.n_in + 255) / 256, slices, 1 }, { PLM_THREADS, 1, 1 }, [&] { plm_select<true>(x, mask.data(), s); });
    }
    emulator::launch({ unsigned(plan.splits), unsigned(plan.tiles), slices }, { PLM_THREADS, 1, 1 },
                     [&] { plm_sum<type, most, relu_sqr>(w, x, marked ? (const void *) marks.data() : relu_sqr ? mask.data()
                                                                                                               : nullptr,
                                                         marked, part.data(), s, plan.across); });
    emulator::launch({ unsigned(n + 31) / 32, 1, 1 }, { 32, PLM_WARPS, 1 }, [&] { plm_add(part.data(), y, n, plan.parts); });
}

template <ggml_type type, bool relu_sqr>
void by_tokens(ggml_tensor * dst, int n_sm, float * y, bool marked) {
    const int64_t n_tokens = dst->ne[1];
    n_tokens == 1   ? execute<type, 1, relu_sqr>(dst, n_sm, y, marked)
    : n_tokens == 2 ? execute<type, 2, relu_sqr>(dst, n_sm, y, marked)
    : n_tokens <= 4 ? execute<type, 4, relu_sqr>(dst, n_sm, y, marked)
                    : execute<type, 8, relu_sqr>(dst, n_sm, y, marked);
}

// the dense form: both matrices in f32, multiplied here as cuBLAS would
template <ggml_type type, bool relu_sqr>
void dense(ggml_tensor * dst, float * y) {
    const plm_sparse_t_shape s = plm_sparse_t_shape_of(dst);
    const int w_slices = s.w_heads * s.w_batches;
    std::vector<float> w(size_t(s.n_out) * s.n_in * w_slices, NAN), x(size_t(s.n_in) * s.n_tokens * s.n_slices, NAN);
    const unsigned warps = unsigned(s.n_in) * unsigned((s.n_out + 255) / 256);
    emulator::launch({ (warps + PLM_WARPS - 1) / PLM_WARPS, unsigned(w_slices), 1 }, { PLM_THREADS, 1, 1 },
                     [&] { plm_unpack<type, float>((const char *) dst->src[0]->data, w.data(), s); });
    // more tokens than blocks, as where there are more than a grid may have
    emulator::launch({ unsigned(s.n_in + 255) / 256, std::min(unsigned(s.n_tokens), 3u), unsigned(s.n_slices) }, { PLM_THREADS, 1, 1 },
                     [&] { plm_activate<relu_sqr, float>((const float *) dst->src[1]->data, x.data(), s); });
    for (int slice = 0; slice < s.n_slices; slice++) {
        const float * ws = w.data() + size_t(slice % s.w_heads) * s.n_in * s.n_out;
        for (int t = 0; t < s.n_tokens; t++) {
            const float * xs = x.data() + (size_t(slice) * s.n_tokens + t) * s.n_in;
            for (int c = 0; c < s.n_out; c++) {
                double sum = 0;
                for (int i = 0; i < s.n_in; i++) {
                    sum += double(xs[i]) * ws[size_t(i) * s.n_out + c];
                }
                y[(size_t(slice) * s.n_tokens + t) * s.n_out + c] = float(sum);
            }
        }
    }
}

template <bool relu_sqr>
void by_type(ggml_tensor * dst, int n_sm, float * y, form how) {
#define CASE(type) \
    case type: return how == form::dense ? dense<type, relu_sqr>(dst, y) : by_tokens<type, relu_sqr>(dst, n_sm, y, how == form::marked);
    switch (dst->src[0]->type) {
        CASE(GGML_TYPE_F32)
        CASE(GGML_TYPE_F16)
        CASE(GGML_TYPE_Q8_0)
        CASE(GGML_TYPE_Q4_0)
        CASE(GGML_TYPE_Q4_K)
        CASE(GGML_TYPE_Q5_K)
        CASE(GGML_TYPE_Q6_K)
        default: abort();
    }
#undef CASE
}

std::vector<float> compute(ggml_tensor * dst, const setting & s, form how) {
    std::vector<float> y(ggml_nelements(dst), NAN);
    s.relu_sqr ? by_type<true>(dst, s.n_sm, y.data(), how) : by_type<false>(dst, s.n_sm, y.data(), how);
    return y;
}

void expect(bool good, const setting & s, const char * what, double value = 0) {
    if (!good) {
        printf("WRONG: %s: %s %g\n", name_of(s).c_str(), what, value);
        failures++;
    }
}

void compare(const std::vector<float> & y, const float * expected, const setting & s, const char * what) {
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
    expect(error <= BOUND * size, s, what, size > 0 ? error / size : error);
}

void check(const setting & s) {
    const auto op = make(s);
    ggml_mul_mat_sparse_t_reference(op->dst);
    const float * expected = (const float *) op->dst->data;
    expect(plm_sparse_t_takes(op->dst), s, "is declined");

    const std::vector<float> y = compute(op->dst, s, form::selected);
    compare(y, expected, s, "NMSE");
    emulator::backwards = true;
    const std::vector<float> again = compute(op->dst, s, form::selected);
    emulator::backwards = false;
    expect(memcmp(y.data(), again.data(), y.size() * sizeof(float)) == 0, s, "other bits when threads take turns backwards");
    if (s.relu_sqr && s.n_head == 1) {
        const std::vector<float> marked = compute(op->dst, s, form::marked);
        expect(memcmp(y.data(), marked.data(), y.size() * sizeof(float)) == 0, s, "other bits where the product before marks the rows");
    }
    if (s.special == 0.0f) { // of an infinity times zero a dense product makes NaN
        compare(compute(op->dst, s, form::dense), expected, s, "NMSE of the dense form");
    }
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
        // what is not finite; each token's own
        for (float special : { NAN, INFINITY, -INFINITY, 70000.0f }) {
            check({ type, 512, 100, 3, 1, 1, 0.9, true, false, 2, special });
        }
    }
    // more rows than are listed at a time
    check({ GGML_TYPE_Q4_K, 256, 3 * PLM_LISTED + 50, 1, 1, 1, 0.95, true, false, 5, 0 });
    check({ GGML_TYPE_F16, 512, PLM_LISTED, 2, 1, 1, 0.98, true, false, 5, 0 });
    printf(failures ? "%d wrong\n" : "all good\n", failures);
    return failures ? 1 : 0;
}
