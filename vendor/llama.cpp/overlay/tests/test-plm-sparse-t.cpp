// MUL_MAT_SPARSE_T: the kernels that this translation's flags choose, against the scalar reference.
//
// Compiled together with the kernels' own files and ggml-base's, without the CPU library, so that each
// instruction set can be tested by compiling this small program for it (tests/kernels does that).
// Prints a line for each group of cases; ends with 1 when a case failed.

#include "ggml-cpu/plm/sparse/mul-mat-sparse-t.h"
#include "ggml-cpu/plm/counts.h"
#include "ggml-cpu/plm/sparse/dense.h"
#include "ggml-cpu/plm/sparse/kernels.h"
#include "ggml-cpu/plm/sixteen.h"

#include "ggml.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

// --- what the kernels need of the CPU library: threads that wait for each other ------------------

struct ggml_threadpool {
    explicit ggml_threadpool(int n) : n(n) {}
    const int n;
    std::atomic<int> waiting{ 0 };
    std::atomic<int> round{ 0 };
};

void ggml_barrier(ggml_threadpool * tp) {
    const int round = tp->round;
    if (++tp->waiting == tp->n) {
        tp->waiting = 0;
        tp->round++;
    } else {
        while (tp->round == round) {
            std::this_thread::yield();
        }
    }
}

#ifdef PLM_EDGE_WITHOUT_BACKENDS
// ggml.c names these; a cross build of this program does without the files that have them
#include "ggml-backend.h"
void ggml_backend_tensor_set(ggml_tensor *, const void *, size_t, size_t) { abort(); }
void ggml_backend_tensor_memset(ggml_tensor *, uint8_t, size_t, size_t) { abort(); }
enum ggml_backend_buffer_usage ggml_backend_buffer_get_usage(ggml_backend_buffer_t) { abort(); }
#endif

namespace {

using floats = std::vector<float>;

const ggml_type TYPES[] = {
    GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
    GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS,
    GGML_TYPE_TQ2_0, // no kernel of its own: by ggml's to_float
};

const float NOT_A_NUMBER = std::numeric_limits<float>::quiet_NaN();
const float INFINITE = std::numeric_limits<float>::infinity();

// One product. Sizes in values; `gap` widens the strides of W, x and y beyond what is used.
struct shape {
    int64_t n_out, n_in, n_tokens, n_head = 1, n_batch = 1;
    bool one_w = false; // all heads use the same W
    int gap = 0;
};

struct product {
    ggml_context * ctx;
    ggml_tensor * w;
    ggml_tensor * x;
    ggml_tensor * y;

    product(ggml_type type, const shape & s, bool relu_sqr, double zeros, unsigned seed) {
        const int64_t w_heads = s.one_w ? 1 : s.n_head, w_batch = s.one_w ? 1 : s.n_batch;
        const int64_t w_cols = s.n_out + s.gap * ggml_blck_size(type);
        const size_t bytes = ggml_row_size(type, w_cols) * (s.n_in + 1) * w_heads * w_batch + sizeof(float) * (s.n_in + s.n_out + 8) * s.n_tokens * s.n_head * s.n_batch * 2 + (1 << 20);
        ctx = ggml_init({ bytes, nullptr, false });
        w = ggml_new_tensor_4d(ctx, type, w_cols, s.n_in, w_heads, w_batch);
        x = ggml_new_tensor_4d(ctx, GGML_TYPE_F32, s.n_in + s.gap, s.n_tokens, s.n_head, s.n_batch);

        std::mt19937 random(seed);
        std::normal_distribution<float> normal;
        std::uniform_real_distribution<double> uniform;

        floats values(ggml_nelements(w));
        for (float & v : values) {
            v = normal(random);
        }
        if (type == GGML_TYPE_F32) {
            std::copy(values.begin(), values.end(), (float *) w->data);
        } else {
            ggml_quantize_chunk(type, values.data(), w->data, 0, ggml_nrows(w), w_cols, nullptr);
        }
        for (int64_t i = 0; i < ggml_nelements(x); i++) {
            const float v = normal(random);
            const bool zero = uniform(random) < zeros;
            ((float *) x->data)[i] = !relu_sqr ? (zero ? 0.0f : v) : zero ? -std::fabs(v)
                                                                          : std::fabs(v);
        }
        if (s.gap) {
            w = ggml_view_4d(ctx, w, s.n_out, s.n_in, w_heads, w_batch, w->nb[1], w->nb[2], w->nb[3], ggml_row_size(type, s.gap / 2 * ggml_blck_size(type)));
            x = ggml_view_4d(ctx, x, s.n_in, s.n_tokens, s.n_head, s.n_batch, x->nb[1], x->nb[2], x->nb[3], s.gap / 2 * sizeof(float));
        }
        y = relu_sqr ? ggml_mul_mat_sparse_t_relu_sqr(ctx, w, x) : ggml_mul_mat_sparse_t(ctx, w, x);
    }
    product(const product &) = delete;
    ~product() { ggml_free(ctx); }

    float & x_at(int64_t i, int64_t t, int64_t h = 0) { return *(float *) ((char *) x->data + i * x->nb[0] + t * x->nb[1] + h * x->nb[2]); }

    floats result() const { return floats((float *) y->data, (float *) y->data + ggml_nelements(y)); }

    floats reference() {
        ggml_mul_mat_sparse_t_reference(y);
        return result();
    }

    floats compute(int n_threads) {
        std::fill_n((float *) y->data, ggml_nelements(y), NOT_A_NUMBER); // what is not written is seen
        std::vector<char> work(ggml_mul_mat_sparse_t_work_size(y, n_threads) + 64, 0x7f);
        const size_t size = work.size() - 64;
        ggml_threadpool pool(n_threads);
        std::vector<std::thread> threads;
        for (int i = 0; i < n_threads; i++) {
            threads.emplace_back([&, i] {
                const ggml_compute_params params = { i, n_threads, size, work.data(), &pool, false };
                ggml_compute_forward_mul_mat_sparse_t(&params, y);
            });
        }
        for (std::thread & thread : threads) {
            thread.join();
        }
        for (size_t i = size; i < work.size(); i++) {
            if (work[i] != 0x7f) {
                printf("wrote past the scratch memory\n");
                exit(1);
            }
        }
        return result();
    }

    // What each output would be if no products cancelled, and at least the mean of that over its token: the
    // measure of its rounding. (The mean, because scale * quant and offset may cancel within a weight.)
    floats magnitude() {
        const auto to_float = ggml_get_type_traits(w->type)->to_float;
        const bool relu_sqr = ((const int32_t *) y->op_params)[0] == GGML_SPARSE_T_RELU_SQR;
        floats sums(ggml_nelements(y)), row(w->ne[0]);
        for (int64_t r = 0; r < ggml_nrows(y); r++) {
            const int64_t t = r % y->ne[1], h = r / y->ne[1] % y->ne[2], b = r / (y->ne[1] * y->ne[2]);
            for (int64_t i = 0; i < w->ne[1]; i++) {
                float v = *(float *) ((char *) x->data + i * x->nb[0] + t * x->nb[1] + h * x->nb[2] + b * x->nb[3]);
                v = !relu_sqr ? v : (v <= 0 ? 0 : v * v);
                if (v == 0) {
                    continue;
                }
                const char * packed = (const char *) w->data + i * w->nb[1] + h % w->ne[2] * w->nb[2] + b % w->ne[3] * w->nb[3];
                if (w->type == GGML_TYPE_F32) {
                    std::copy_n((const float *) packed, row.size(), row.data());
                } else {
                    to_float(packed, row.data(), w->ne[0]);
                }
                for (int64_t c = 0; c < w->ne[0]; c++) {
                    sums[r * w->ne[0] + c] += std::fabs(v * row[c]);
                }
            }
            double mean = 0;
            for (int64_t c = 0; c < w->ne[0]; c++) {
                mean += sums[r * w->ne[0] + c] / w->ne[0];
            }
            for (int64_t c = 0; c < w->ne[0]; c++) {
                sums[r * w->ne[0] + c] = std::max(sums[r * w->ne[0] + c], (float) mean);
            }
        }
        return sums;
    }
};

int failures = 0;
bool quick = false;

void expect(bool good, const std::string & what) {
    if (!good && failures++ < 20) {
        printf("FAILED %s\n", what.c_str());
    }
}

bool same_bits(const floats & a, const floats & b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// the largest difference, as a share of the magnitude; infinite where only one is finite
double error(const floats & got, const floats & expected, const floats & magnitude) {
    double worst = 0;
    for (size_t i = 0; i < got.size(); i++) {
        const double d = std::fabs((double) got[i] - expected[i]);
        worst = std::max(worst, d == 0 ? 0 : std::isfinite(d) ? d / magnitude[i]
                                                              : INFINITE);
    }
    return worst;
}

double nmse(const floats & got, const floats & expected) {
    double d = 0, e = 0;
    for (size_t i = 0; i < got.size(); i++) {
        d += ((double) got[i] - expected[i]) * ((double) got[i] - expected[i]);
        e += (double) expected[i] * expected[i];
    }
    return d / e;
}

// Rounding of sums of up to some thousand products in f32, each in its own order or fused: far above what
// they differ by, far below a wrong bit in a weight.
constexpr double ROUNDING = 8e-6;

// With coefficients of 15 bits (sparse/sum-int.h). A unit is the largest of 64 rows / 2^14, some 5 rms with relu²;
// a quant's mean is 0.9 times its rms where offsets are apart, and cancels elsewhere: (5 / 2^14)² / 12 * 5 = 4e-8.
// The worst column is far from that where few rows have most of the sum.
constexpr double ROUNDING_15_BIT = 1e-3, ROUNDING_15_BIT_NMSE = 2e-7;

// Where many tokens share a dense product it may be one of 8-bit integers, as ggml's dense products are. Steps
// are 1/127 of the largest of 256 values, some 3 rms in W, 2.2² rms in relu² (and 256 rows are few where the
// offsets of W cancel): (3 / 127)² / 12 = 5e-5 and (5 / 127)² / 12 = 1.3e-4.
constexpr double ROUNDING_8_BIT = 3e-4;
int n_dense = 0, n_shared = 0; // cases in which it was, and of a few tokens

// whether batches of so many tokens may be computed so, all tokens of a group together
bool may_dense(ggml_type type, int64_t n_tokens) {
    return sparse_t::has_dense() && ggml_is_quantized(type) && n_tokens > (sparse_t::find_kernels(type).sum_shared ? 8 : 4);
}

// whether a few tokens of few zeros may be rounded so, each by itself
bool may_share(ggml_type type, int64_t n_tokens) { return sparse_t::find_kernels(type).sum_shared && n_tokens <= 8; }

std::string name(ggml_type type, const shape & s, bool relu_sqr, double zeros) {
    char text[200];
    snprintf(text, sizeof(text), "%s %lldx%lld tokens %lld heads %lld batches %lld%s gap %d zeros %.0f %%%s", ggml_type_name(type),
             (long long) s.n_out, (long long) s.n_in, (long long) s.n_tokens, (long long) s.n_head, (long long) s.n_batch,
             s.one_w ? " one W" : "", s.gap, 100 * zeros, relu_sqr ? " relu²" : "");
    return text;
}

void check(ggml_type type, shape s, bool relu_sqr, double zeros) {
    const int64_t block = ggml_blck_size(type);
    s.n_out = (s.n_out + block - 1) / block * block;
    product p(type, s, relu_sqr, zeros, (unsigned) (s.n_out * 31 + s.n_in));
    const std::string what = name(type, s, relu_sqr, zeros);
    expect(ggml_mul_mat_sparse_t_supported(p.y), what + ": supported");
    const floats expected = p.reference(), one = p.compute(1);
    const double e = error(one, expected, p.magnitude());
    // many tokens, few zeros, a quantised W: the kernels may take 8-bit integers
    const bool dense = may_dense(type, s.n_tokens) && zeros < 0.95, share = may_share(type, s.n_tokens) && zeros < 0.8;
    if (e > ROUNDING && (dense || share)) {
        const double m = nmse(one, expected);
        expect(m <= ROUNDING_8_BIT, what + ": NMSE against the reference " + std::to_string(m));
        (dense ? n_dense : n_shared)++;
    } else if (e > ROUNDING && sparse_t::find_kernels(type).rounded) {
        const double m = nmse(one, expected);
        expect(e <= ROUNDING_15_BIT && m <= ROUNDING_15_BIT_NMSE,
               what + ": differs from the reference by " + std::to_string(e) + ", NMSE " + std::to_string(1e9 * m) + "e-9");
    } else {
        expect(e <= ROUNDING, what + ": differs from the reference by " + std::to_string(e));
    }
    for (int threads = quick ? 4 : 2; threads <= 4; threads++) {
        expect(same_bits(p.compute(threads), one), what + ": other bits with " + std::to_string(threads) + " threads");
    }
}

void check_not_finite(ggml_type type, int64_t n_tokens, bool relu_sqr) {
    const std::string what = std::string(ggml_type_name(type)) + " tokens " + std::to_string(n_tokens);
    const int64_t n_out = 256, n_in = 100;
    {
        product p(type, { n_out, n_in, n_tokens }, relu_sqr, 0.5, 3);
        const floats before = p.compute(1);
        double squares = 0;
        for (float v : before) {
            squares += (double) v * v / before.size();
        }
        const double rounding = may_dense(type, n_tokens) ? 0.1 * std::sqrt(squares) : 0;
        p.x_at(41, n_tokens - 1) = NOT_A_NUMBER;
        floats after = p.compute(2);
        for (int64_t i = 0; i < n_out * n_tokens; i++) {
            const bool hit = i >= n_out * (n_tokens - 1);
            // the others' may be rounded otherwise: integers hold no NaN
            expect(hit ? std::isnan(after[i]) : std::fabs(after[i] - before[i]) <= rounding, what + ": a NaN in x reaches its token's outputs, and no other's");
        }
        p.x_at(41, n_tokens - 1) = INFINITE;
        const floats expected = p.reference();
        after = p.compute(2);
        for (int64_t i = 0; i < n_out * n_tokens; i++) {
            const bool both_nan = std::isnan(after[i]) && std::isnan(expected[i]);
            expect(both_nan || std::isfinite(after[i]) == std::isfinite(expected[i]), what + ": infinity in x, as the reference");
        }
        p.x_at(41, n_tokens - 1) = relu_sqr ? -INFINITE : 0.0f;
        after = p.compute(2);
        for (float v : after) {
            expect(std::isfinite(v), what + ": -infinity is a zero of the squared ReLU");
        }
    }
    if (type == GGML_TYPE_F32) {
        product p(type, { n_out, n_in, n_tokens }, relu_sqr, 0.5, 4);
        for (int64_t t = 0; t < n_tokens; t++) {
            p.x_at(7, t) = t == 0 ? 1.0f : 0.0f;
        }
        ((float *) p.w->data)[7 * n_out + 5] = NOT_A_NUMBER;
        const floats got = p.compute(2);
        for (int64_t i = 0; i < n_out * n_tokens; i++) {
            expect(std::isnan(got[i]) == (i == 5), what + ": a NaN in W counts where a value selects its row");
        }
    }
}

void check_counts() {
    product p(GGML_TYPE_Q4_0, { 64, 500, 3 }, true, 0.0, 1);
    ggml_set_name(p.w, "blk.7.ffn_down.weight");
    for (int64_t t = 0; t < 3; t++) {
        for (int64_t i = 0; i < 500; i++) {
            p.x_at(i, t) = i < 10 * (t + 1) ? 1.0f : -1.0f;
        }
    }
    plm_edge_sparsity_reset();
    p.compute(1);
    p.compute(3);
    uint64_t total = 0, active = 0;
    expect(plm_edge_sparsity_get(7, &total, &active) && total == 3000 && active == 120, "rows are counted in their layer");
    expect(plm_edge_sparsity_get(6, &total, &active) && total == 0 && active == 0, "and in no other");
    expect(!plm_edge_sparsity_get(-1, &total, &active) && !plm_edge_sparsity_get(plm_edge_sparsity_layers(), &total, &active), "layers have bounds");
    plm_edge_sparsity_reset();
    expect(plm_edge_sparsity_get(7, &total, &active) && total == 0 && active == 0, "counts can be reset");
}

// With nothing skipped the sums are the same but for rounding, bit for bit in plain floats, and all rows count as read.
void check_all_rows() {
    for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q4_K, GGML_TYPE_Q8_0, GGML_TYPE_IQ3_S }) {
        for (int64_t n_tokens : { 1, 3, 40 }) {
            product p(type, { 512, 300, n_tokens }, true, 0.5, 1);
            ggml_set_name(p.w, "blk.3.ffn_down.weight");
            const floats skipped = p.compute(2);
            plm_edge_sparsity_reset();
            plm_edge_sparsity_skip(false);
            const floats all = p.compute(2);
            plm_edge_sparsity_skip(true);
            const std::string what = std::string(ggml_type_name(type)) + ", all rows of " + std::to_string(n_tokens) + " tokens";
            double error = 0, size = 0;
            bool same = true;
            for (size_t i = 0; i < all.size(); i++) {
                error += (all[i] - skipped[i]) * (all[i] - skipped[i]);
                size += skipped[i] * skipped[i];
                same = same && all[i] == skipped[i];
            }
            // with all rows batches may take 8-bit integers
            expect(size > 0 && error < (may_dense(type, n_tokens) ? ROUNDING_8_BIT : 1e-4) * size, what + ": differ by rounding only");
            expect(same || ggml_is_quantized(type), what + ": are the same floats");
            uint64_t total = 0, active = 0;
            expect(plm_edge_sparsity_get(3, &total, &active) && total > 0 && total == active, what + ": count as read");
        }
    }
    plm_edge_sparsity_reset();
}

void check_declined() {
    product p(GGML_TYPE_F32, { 64, 32, 2 }, false, 0, 1);
    ggml_tensor y = *p.y, w = *p.w, x = *p.x;
    y.src[0] = &w;
    y.src[1] = &x;
    expect(ggml_mul_mat_sparse_t_supported(&y), "plain");
    w.nb[0] *= 2;
    expect(!ggml_mul_mat_sparse_t_supported(&y), "W with a stride along the row is declined");
    w.nb[0] /= 2;
    x.nb[0] *= 2;
    expect(!ggml_mul_mat_sparse_t_supported(&y), "x with a stride along the row is declined");
    x.nb[0] /= 2;
    y.op_params[0] = 9;
    expect(!ggml_mul_mat_sparse_t_supported(&y), "an unknown activation is declined");
    y.op_params[0] = 0;
    w.type = GGML_TYPE_I32;
    expect(!ggml_mul_mat_sparse_t_supported(&y), "integers are declined");
}

void group(const char * what, const std::function<void()> & cases) {
    const int before = failures;
    cases();
    printf("%-40s %s\n", what, failures == before ? "ok" : "FAILED");
    fflush(stdout);
}

} // namespace

int main(int argc, char **) {
    quick = argc > 1; // any argument: fewer cases, for emulated CPUs
#if defined(PLM_AVX512)
    printf("kernels: AVX-512\n");
#elif defined(PLM_AVX2)
    printf("kernels: AVX2\n");
#elif defined(PLM_NEON)
    printf("kernels: NEON\n");
#else
    printf("kernels: plain C++\n");
#endif
    for (ggml_type type : TYPES) {
        group((std::string("type ") + ggml_type_name(type)).c_str(), [&] {
            for (double zeros : { 0.0, 0.5, 0.9, 1.0 }) {
                if (quick && zeros != 0.0 && zeros != 0.9) {
                    continue;
                }
                for (bool relu_sqr : { false, true }) {
                    for (int64_t tokens : { 1, 2, 5, 33 }) {
                        if (quick && tokens != 1 && tokens != 5) {
                            continue;
                        }
                        check(type, { 768, 333, tokens }, relu_sqr, zeros);
                    }
                }
                check(type, { 256, 64, 7, 3, 2 }, false, zeros); // heads and batches
                check(type, { 512, 40, 1, 5 }, false, zeros);
                check(type, { 256, 70, 9, 4, 1, true }, false, zeros);    // of one W
                check(type, { 256, 97, 3, 2, 1, false, 4 }, true, zeros); // views
                check(type, { 256, 31, 1, 1, 1, false, 4 }, true, zeros);
            }
            check(type, { 256, 1, 1 }, false, 0);
            check(type, { 2048, 1025, 1 }, true, 0.9);
            check_not_finite(type, 1, true);
            check_not_finite(type, 6, false);
            check_not_finite(type, 80, true);
        });
    }
    group("odd widths", [] {
        for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16 }) {
            for (int64_t n_out : { 1, 7, 15, 17, 63, 65, 127, 300 }) {
                for (int64_t tokens : { 1, 4 }) {
                    check(type, { n_out, 45, tokens }, false, 0.5);
                }
            }
        }
        for (int64_t n_out : { 32, 96, 160, 224, 288 }) {
            check(GGML_TYPE_Q8_0, { n_out, 45, 1 }, true, 0.5);
            check(GGML_TYPE_Q5_0, { n_out, 45, 6 }, true, 0.5);
        }
    });
    group("large batches", [] {
        for (double zeros : { 0.0, 0.5, 0.9 }) {
            if (quick && zeros < 0.9) {
                continue;
            }
            check(GGML_TYPE_F16, { 64, 500, 300 }, true, zeros); // more than one group of tokens
            check(GGML_TYPE_Q4_K, { 512, 600, 70 }, true, zeros);
            check(GGML_TYPE_Q6_K, { 256, 257, 64 }, true, zeros);
        }
    });
    expect(sparse_t::has_dense() == (n_dense > 0), "8-bit products are used where there are any");
    expect((sparse_t::find_kernels(GGML_TYPE_Q4_K).sum_shared != nullptr) == (n_shared > 0), "and for few tokens");
    printf("8-bit products in %d cases, and in %d of few tokens\n", n_dense, n_shared);
    group("counts", check_counts);
    group("all rows", check_all_rows);
    group("declined", check_declined);
    printf(failures ? "%d failures\n" : "all good\n", failures);
    return failures != 0;
}
