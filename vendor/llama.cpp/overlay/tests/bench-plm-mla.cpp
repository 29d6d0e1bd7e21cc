// Times absorbed MLA attention (16 heads, 576/512) against upstream's CPU flash attention on the same input.
//
//   bench-plm-mla [--json] [--ms N] [--types f16,q8_0] [--kv 512,2048,4096] [--q 1,4,16,32] [--threads 1,2]
//
// The op is the same; upstream's code is reached by a V that is a copy of K's rows instead of a view, so that the support
// check declines. The two run in turns; the least time of each counts, so that a busy machine disturbs little. MAC per
// cycle is per thread, with the clock measured beside each case by a chain of additions (shared machines change it).

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <sstream>
#include <string>
#include <vector>

using clock_type = std::chrono::steady_clock;

static double seconds_since(clock_type::time_point t) { return std::chrono::duration<double>(clock_type::now() - t).count(); }

static double clock_hz() {
    double best = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t x = 1;
        const auto t = clock_type::now();
        for (int n = 0; n < 400000; n++) {
#if defined(__x86_64__)
            asm volatile("add $1, %0\n\tadd $1, %0\n\tadd $1, %0\n\tadd $1, %0" : "+r"(x));
#elif defined(__aarch64__)
            asm volatile("add %0, %0, #1\n\tadd %0, %0, #1\n\tadd %0, %0, #1\n\tadd %0, %0, #1" : "+r"(x));
#else
            x++;
#endif
        }
        best = std::max(best, 4.0 * 400000 / seconds_since(t));
    }
    return best;
}

// one thread: its CPU time, which other programs' turns on the core do not lengthen
static double now(int n_threads) {
    timespec t;
    clock_gettime(n_threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

struct op {
    ggml_cgraph * graph;
    std::vector<double> times;
};

int main(int argc, char ** argv) {
    std::vector<std::string> types = { "f16", "bf16", "q8_0", "q4_0" };
    std::vector<int> kvs = { 512, 2048, 4096 }, qs = { 1, 4, 16, 32 }, threads = { 1, 2 };
    double ms = 300;
    bool json = false;

    const auto list = [](const char * text) {
        std::vector<std::string> out;
        std::stringstream in(text);
        for (std::string part; std::getline(in, part, ',');) { out.push_back(part); }
        return out;
    };
    const auto numbers = [&](const char * text) {
        std::vector<int> out;
        for (const auto & part : list(text)) { out.push_back(std::stoi(part)); }
        return out;
    };
    for (int i = 1; i < argc; i++) {
        const std::string a = argv[i];
        const char * value = i + 1 < argc ? argv[i + 1] : "";
        if (a == "--json") {
            json = true;
        } else if (a == "--types") {
            types = list(value);
            i++;
        } else if (a == "--kv") {
            kvs = numbers(value);
            i++;
        } else if (a == "--q") {
            qs = numbers(value);
            i++;
        } else if (a == "--threads") {
            threads = numbers(value);
            i++;
        } else if (a == "--ms") {
            ms = std::stod(value);
            i++;
        } else {
            fprintf(stderr, "unknown option %s\n", argv[i]);
            return 2;
        }
    }
    if (!json) {
        printf("type   n_kv  n_q  thr   ours us  upstream us  ratio  MAC/cycle  GB/s (ours)\n");
    }
    const int64_t n_k = 576, n_v = 512, n_head = 16;

    for (const auto & type_name : types) {
        ggml_type type = GGML_TYPE_COUNT;
        for (int t = 0; t < GGML_TYPE_COUNT; t++) {
            if (ggml_type_name(ggml_type(t)) && type_name == ggml_type_name(ggml_type(t))) {
                type = ggml_type(t);
            }
        }
        for (int n_kv : kvs)
            for (int n_q : qs)
                for (int n_threads : threads) {
                    ggml_context * ctx = ggml_init({ size_t(96) << 20, nullptr, false });
                    std::mt19937 rng(1);
                    std::normal_distribution<float> normal;

                    ggml_tensor * q = ggml_permute(ctx, ggml_new_tensor_4d(ctx, GGML_TYPE_F32, n_k, n_head, n_q, 1), 0, 2, 1, 3);
                    ggml_tensor * k = ggml_new_tensor_4d(ctx, type, n_k, n_kv, 1, 1);
                    ggml_tensor * copy = ggml_new_tensor_4d(ctx, type, n_k, n_kv, 1, 1);
                    ggml_tensor * mask = ggml_new_tensor_4d(ctx, GGML_TYPE_F16, n_kv, n_q, 1, 1);
                    for (int64_t i = 0; i < ggml_nelements(q); i++) { ((float *) q->data)[i] = normal(rng); }
                    std::vector<float> row(n_k);
                    for (int64_t j = 0; j < n_kv; j++) {
                        for (float & x : row) { x = normal(rng); }
                        char * out = (char *) k->data + j * k->nb[1];
                        if (type == GGML_TYPE_F32) {
                            memcpy(out, row.data(), n_k * 4);
                        } else {
                            ggml_quantize_chunk(type, row.data(), out, 0, 1, n_k, nullptr);
                        }
                    }
                    memcpy(copy->data, k->data, ggml_nbytes(k));
                    for (int64_t t = 0; t < n_q; t++)
                        for (int64_t j = 0; j < n_kv; j++) {
                            ((ggml_fp16_t *) mask->data)[t * n_kv + j] = ggml_fp32_to_fp16(j <= n_kv - n_q + t ? 0.0f : -INFINITY);
                        }
                    op ops[2];
                    for (int i = 0; i < 2; i++) {
                        ggml_tensor * of = i ? copy : k;
                        ggml_tensor * v = ggml_view_4d(ctx, of, n_v, n_kv, 1, 1, of->nb[1], of->nb[2], of->nb[3], 0);
                        ops[i].graph = ggml_new_graph(ctx);
                        ggml_build_forward_expand(ops[i].graph, ggml_flash_attn_ext(ctx, q, k, v, mask, 1.0f / 24, 0.0f, 0.0f));
                    }
                    ggml_backend_t backend = ggml_backend_cpu_init();
                    ggml_backend_cpu_set_n_threads(backend, n_threads);

                    const double hz = clock_hz();
                    const auto start = clock_type::now();
                    for (int round = 0; round < 3 || (seconds_since(start) < ms / 1000 && round < 2000); round++) {
                        for (op & o : ops) {
                            const double t = now(n_threads);
                            ggml_backend_graph_compute(backend, o.graph);
                            o.times.push_back(now(n_threads) - t);
                        }
                    }
                    ggml_backend_free(backend);

                    const double ours = *std::min_element(ops[0].times.begin(), ops[0].times.end()), theirs = *std::min_element(ops[1].times.begin(), ops[1].times.end());
                    const double mac = double(n_kv) * n_q * n_head * (n_k + n_v);
                    const double per_cycle = mac / ours / hz / n_threads, rate = double(ggml_nbytes(k)) / ours / 1e9;
                    printf(json ? "{\"type\":\"%s\",\"n_kv\":%d,\"n_q\":%d,\"threads\":%d,\"ours_us\":%.1f,\"upstream_us\":%.1f,\"ratio\":%.3f,\"mac_per_cycle\":%.2f,\"gb_per_s\":%.3f,\"hz\":%.0f}\n"
                                : "%-5s %5d  %3d  %3d  %8.1f  %11.1f  %5.2f  %9.2f  %6.2f   (%.2e Hz)\n",
                           type_name.c_str(), n_kv, n_q, n_threads, ours * 1e6, theirs * 1e6, theirs / ours, per_cycle, rate, hz);
                    fflush(stdout);
                    ggml_free(ctx);
                }
    }
}
