// One layer's attention over an MLA cache in both forms (as overlay/src/models/plm.cpp builds them), PLM-1.8B's
// sizes, q4_K weights: CPU time of one thread, so that other programs on the machine matter little.
//   bench-plm-forms [n_kv,...] [n_q,...]
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <random>
#include <sstream>
#include <string>
#include <vector>
static double cpu_time() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}
static const int64_t N_LORA = 512, N_ROT = 64, N_NOPE = 128, N_V = 128, N_HEAD = 16, N_K = 192;
static std::vector<int> numbers(const char * text) {
    std::vector<int> out;
    std::stringstream in(text);
    for (std::string p; std::getline(in, p, ',');) out.push_back(std::stoi(p));
    return out;
}
struct layer {
    ggml_context * c;
    ggml_tensor *w, *cache, *mask, *q;
    int64_t n_kv, t;
    ggml_tensor * part_w(int64_t n, int64_t first) { return ggml_view_3d(c, w, N_LORA, n, N_HEAD, w->nb[1], w->nb[1] * (N_NOPE + N_V), w->nb[1] * first); }
    ggml_tensor * slice(ggml_tensor * x, int64_t i0, int64_t n) { return ggml_view_4d(c, x, n, x->ne[1], x->ne[2], x->ne[3], x->nb[1], x->nb[2], x->nb[3], ggml_row_size(x->type, i0)); }
    ggml_tensor * swap(ggml_tensor * x) { return ggml_permute(c, x, 0, 2, 1, 3); }
    ggml_tensor * q_nope() { return swap(slice(q, 0, N_NOPE)); }
    ggml_tensor * q_pe() { return swap(slice(q, N_NOPE, N_ROT)); }
    ggml_tensor * finish(ggml_tensor * o) { return ggml_cont_2d(c, swap(o), N_V * N_HEAD, t); }
    ggml_tensor * absorbed(bool fa) {
        ggml_tensor * x = ggml_concat(c, ggml_mul_mat_sparse_t(c, part_w(N_NOPE, 0), q_nope()), q_pe(), 0);
        ggml_tensor * o;
        if (fa)
            o = swap(ggml_flash_attn_ext(c, x, cache, slice(cache, 0, N_LORA), mask, 0.07f, 0, 0));
        else {
            ggml_tensor * kq = ggml_mul_mat(c, cache, ggml_reshape_4d(c, x, x->ne[0], t * N_HEAD, 1, 1));
            kq = ggml_soft_max_ext(c, ggml_reshape_4d(c, kq, n_kv, t, N_HEAD, 1), mask, 0.07f, 0);
            o = ggml_reshape_4d(c, ggml_mul_mat_sparse_t(c, slice(cache, 0, N_LORA), ggml_reshape_4d(c, kq, n_kv, t * N_HEAD, 1, 1)), N_LORA, t, N_HEAD, 1);
        }
        return finish(ggml_mul_mat(c, part_w(N_V, N_NOPE), o));
    }
    // how: 0 no flash attention, 1 as plm.cpp now, 2 less copying
    ggml_tensor * expanded(int how) {
        ggml_tensor * kv = ggml_mul_mat(c, w, ggml_cast(c, slice(cache, 0, N_LORA), GGML_TYPE_F32));
        auto part = [&](int64_t n, int64_t first) { return ggml_view_4d(c, kv, n, n_kv, N_HEAD, 1, kv->nb[1], 4 * (N_NOPE + N_V), kv->nb[3], 4 * first); };
        ggml_tensor * k_pe = slice(cache, N_LORA, N_ROT);
        if (how == 2) { // V stays where the product left it
            ggml_tensor * pe = ggml_repeat_4d(c, ggml_cast(c, k_pe, GGML_TYPE_F32), N_ROT, n_kv, N_HEAD, 1);
            ggml_tensor * k = ggml_concat(c, part(N_NOPE, 0), pe, 0);
            return finish(swap(ggml_flash_attn_ext(c, ggml_concat(c, q_nope(), q_pe(), 0), k, part(N_V, N_NOPE), mask, 0.07f, 0, 0)));
        }
        ggml_tensor * k_nope = ggml_cast(c, part(N_NOPE, 0), GGML_TYPE_F16);
        if (how == 1) {
            ggml_tensor * k = ggml_concat(c, k_nope, ggml_repeat_4d(c, k_pe, N_ROT, n_kv, N_HEAD, 1), 0);
            return finish(swap(ggml_flash_attn_ext(c, ggml_concat(c, q_nope(), q_pe(), 0), k, ggml_cast(c, part(N_V, N_NOPE), GGML_TYPE_F16), mask, 0.07f, 0, 0)));
        }
        ggml_tensor * kq = ggml_add(c, ggml_mul_mat(c, k_nope, q_nope()), ggml_mul_mat(c, k_pe, q_pe()));
        kq = ggml_soft_max_ext(c, kq, mask, 0.07f, 0);
        ggml_tensor * v_t = ggml_cpy(c, ggml_transpose(c, part(N_V, N_NOPE)), ggml_new_tensor_4d(c, GGML_TYPE_F16, n_kv, N_V, N_HEAD, 1));
        return finish(ggml_mul_mat(c, v_t, kq));
    }
};
int main(int argc, char ** argv) {
    const auto kvs = numbers(argc > 1 ? argv[1] : "512,2048,4096"), qs = numbers(argc > 2 ? argv[2] : "16,32,64,128,256,512");
    printf("n_kv  n_q   absorbed fa  absorbed     expanded fa  expanded  expand alone   ms of one thread\n");
    for (int n_kv : kvs)
        for (int t : qs) {
            if (t > n_kv)
                continue;
            ggml_context * c = ggml_init({ size_t(2600) << 20, nullptr, false });
            layer l = { c, ggml_new_tensor_2d(c, GGML_TYPE_Q4_K, N_LORA, N_HEAD * (N_NOPE + N_V)), ggml_new_tensor_4d(c, GGML_TYPE_F16, N_LORA + N_ROT, n_kv, 1, 1),
                        ggml_new_tensor_4d(c, GGML_TYPE_F16, n_kv, t, 1, 1), ggml_new_tensor_3d(c, GGML_TYPE_F32, N_K, N_HEAD, t), n_kv, t };
            std::mt19937 rng(1);
            std::normal_distribution<float> normal;
            auto fill = [&](ggml_tensor * x) { std::vector<float> row(x->ne[0]); for (int64_t r = 0; r < ggml_nrows(x); r++) { for (float & y : row) y = normal(rng);
            if (x->type == GGML_TYPE_F32) memcpy((char *) x->data + r * x->nb[1], row.data(), x->nb[1]); else ggml_quantize_chunk(x->type, row.data(), (char *) x->data + r * x->nb[1], 0, 1, x->ne[0], nullptr); } };
            fill(l.w);
            fill(l.cache);
            fill(l.q);
            for (int i = 0; i < t; i++)
                for (int j = 0; j < n_kv; j++) ((ggml_fp16_t *) l.mask->data)[i * n_kv + j] = ggml_fp32_to_fp16(j <= n_kv - t + i ? 0.0f : -INFINITY);
            ggml_backend_t backend = ggml_backend_cpu_init();
            ggml_backend_cpu_set_n_threads(backend, 1);
            ggml_tensor * forms[] = { l.absorbed(true), l.absorbed(false), l.expanded(1), l.expanded(0), l.expanded(2), ggml_mul_mat(c, l.w, ggml_cast(c, l.slice(l.cache, 0, N_LORA), GGML_TYPE_F32)) };
            printf("%4d  %3d ", n_kv, t);
            std::vector<float> first;
            for (ggml_tensor * f : forms) {
                ggml_cgraph * g = ggml_new_graph(c);
                ggml_build_forward_expand(g, f);
                double best = 1e9;
                for (int i = 0; i < 3; i++) {
                    const double s = cpu_time();
                    ggml_backend_graph_compute(backend, g);
                    best = std::min(best, cpu_time() - s);
                    if (best > 1.0)
                        break;
                }
                printf("  %11.2f", best * 1e3);
                const float * y = (const float *) f->data;
                if (first.empty())
                    first.assign(y, y + ggml_nelements(f));
                else if (f != forms[5]) {
                    double e = 0, p = 0;
                    for (size_t i = 0; i < first.size(); i++) {
                        e += (y[i] - first[i]) * (y[i] - first[i]);
                        p += first[i] * first[i];
                    }
                    if (!(e / p < 1e-3))
                        printf("(!%.1e)", e / p);
                }
                fflush(stdout);
            }
            printf("\n");
            ggml_backend_free(backend);
            ggml_free(c);
        }
}
