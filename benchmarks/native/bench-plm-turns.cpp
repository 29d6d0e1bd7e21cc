// One engine held ready, told on stdin what to do: so that two engines are timed in turns, and a cache of 4096
// tokens is filled once and not for each sample. The libraries are whatever LD_LIBRARY_PATH names: ours, or
// upstream's of the same pin, which has the same ABI.
//
//   fill N      N tokens in batches of n_batch        trim N      forget all but the first N
//   gen W N     W + N tokens one at a time, N timed   save FILE   write the cache's content
//   counts      rows the sparse product saw, left     load FILE   read it back (0 bytes: it does not fit)
//   memory      of this process                       quit
//
// Each command is answered by one line of JSON; the first line tells what was loaded.

#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

static std::string engine_log;

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

static std::string quoted(const std::string & text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
        }
        out += c == '\n' ? "\\n" : (unsigned char) c < 32 ? " " : std::string(1, c);
    }
    return out + "\"";
}

[[noreturn]] static void fail(const std::string & what) {
    // what the engine printed last says why
    const size_t from = engine_log.size() > 1500 ? engine_log.size() - 1500 : 0;
    fprintf(stderr, "%s%s\n", engine_log.c_str() + from, what.c_str());
    exit(1);
}

static ggml_type type_of(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * known = ggml_type_name((ggml_type) i);
        if (known && name == known) {
            return (ggml_type) i;
        }
    }
    fail("no such type: " + name);
}

struct session {
    llama_model *        model = nullptr;
    llama_context *      ctx   = nullptr;
    int                  n_vocab = 0, n_batch = 0;
    uint32_t             state = 1; // of the tokens' generator: every engine is given the same ones

    llama_token next() {
        state = state * 1664525u + 1013904223u;
        return (llama_token) ((uint64_t) state * n_vocab >> 32);
    }
    void decode(std::vector<llama_token> & tokens) {
        if (llama_decode(ctx, llama_batch_get_one(tokens.data(), (int32_t) tokens.size())) != 0) {
            fail("llama_decode failed");
        }
        llama_synchronize(ctx);
    }
    double fill(int n) {
        const double start = now();
        for (int done = 0; done < n;) {
            std::vector<llama_token> tokens(std::min(n_batch, n - done));
            for (auto & token : tokens) {
                token = next();
            }
            decode(tokens);
            done += (int) tokens.size();
        }
        return now() - start;
    }
    double generate(int n) {
        const double start = now();
        for (int i = 0; i < n; i++) {
            std::vector<llama_token> token = { next() };
            decode(token);
        }
        return now() - start;
    }
};

static std::string memory() {
    std::ifstream file("/proc/self/status");
    std::string   line, out = "{";
    for (; std::getline(file, line);) {
        for (const char * key : { "VmHWM:", "VmRSS:", "RssAnon:", "RssFile:" }) {
            if (line.rfind(key, 0) == 0) {
                const long long kib = atoll(line.c_str() + strlen(key));
                out += (out.size() > 1 ? ", \"" : "\"") + std::string(key, strlen(key) - 1) + "\": " +
                       std::to_string(kib * 1024);
            }
        }
    }
    return out + "}";
}

// rows there were and rows that were not zero, by layer, since the last call; upstream's library has no counters
static std::string counts() {
    auto layers = (int (*)()) dlsym(RTLD_DEFAULT, "plm_edge_sparsity_layers");
    auto get    = (bool (*)(int, uint64_t *, uint64_t *)) dlsym(RTLD_DEFAULT, "plm_edge_sparsity_get");
    auto reset  = (void (*)()) dlsym(RTLD_DEFAULT, "plm_edge_sparsity_reset");
    std::string out = "{\"layers\": [";
    if (layers && get && reset) {
        for (int i = 0; i < layers(); i++) {
            uint64_t total = 0, active = 0;
            if (get(i, &total, &active) && total > 0) {
                out += (out.back() == '[' ? "[" : ", [") + std::to_string(total) + ", " + std::to_string(active) + "]";
            }
        }
        reset();
    }
    return out + "]}";
}

int main(int argc, char ** argv) {
    std::map<std::string, std::string> option = { { "model", "" }, { "ctx", "4096" }, { "threads", "1" },
        { "fa", "0" }, { "ctk", "f16" }, { "ctv", "f16" }, { "load-mode", "mmap" }, { "batch", "2048" }, { "ubatch", "512" } };
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strncmp(argv[i], "--", 2) != 0 || !option.count(argv[i] + 2)) {
            fail("unknown option " + std::string(argv[i]));
        }
        option[argv[i] + 2] = argv[i + 1];
    }
    llama_log_set([](ggml_log_level, const char * text, void *) { engine_log += text; }, nullptr);
    ggml_backend_load_all();
    llama_backend_init();

    session    s;
    const double start   = now();
    auto         mparams = llama_model_default_params();
    mparams.load_mode    = llama_load_mode_from_str(option["load-mode"].c_str());
    s.model = llama_model_load_from_file(option["model"].c_str(), mparams);
    if (!s.model) {
        fail("the model was not loaded");
    }
    auto cparams            = llama_context_default_params();
    cparams.n_ctx           = std::stoi(option["ctx"]);
    cparams.n_batch         = s.n_batch = std::stoi(option["batch"]);
    cparams.n_ubatch        = std::stoi(option["ubatch"]);
    cparams.n_threads       = cparams.n_threads_batch = std::stoi(option["threads"]);
    cparams.type_k          = type_of(option["ctk"]);
    cparams.type_v          = type_of(option["ctv"]);
    cparams.flash_attn_type = option["fa"] == "1" ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    s.ctx = llama_init_from_model(s.model, cparams);
    if (!s.ctx) {
        fail("no context was made");
    }
    s.n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(s.model));

    // as llama-bench does: threads that stay, where the build has no OpenMP
    auto * reg = ggml_backend_dev_backend_reg(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU));
    auto   pool_new  = (decltype(ggml_threadpool_new) *) ggml_backend_reg_get_proc_address(reg, "ggml_threadpool_new");
    auto   pool      = ggml_threadpool_params_default(cparams.n_threads);
    llama_attach_threadpool(s.ctx, pool_new(&pool), nullptr);

    // only what the engine says of its cache and buffers
    std::string        said, line;
    std::istringstream lines(engine_log);
    while (std::getline(lines, line)) {
        if (line.find("kv_cache: size") != std::string::npos || line.find("buffer size") != std::string::npos) {
            said += line + "\n";
        }
    }
    printf("{\"load_s\": %.3f, \"system\": %s, \"log\": %s}\n", now() - start,
           quoted(llama_print_system_info()).c_str(), quoted(said).c_str());
    fflush(stdout);

    while (std::getline(std::cin, line)) {
        std::istringstream words(line);
        std::string        word;
        std::string        file;
        int                a = 0, b = 0;
        words >> word;
        if (word == "save" || word == "load") {
            std::getline(words >> std::ws, file);
        } else {
            words >> a >> b;
        }
        auto * cache = llama_get_memory(s.ctx);
        if (word == "fill") {
            printf("{\"seconds\": %.6f}\n", s.fill(a));
        } else if (word == "gen") {
            s.generate(a);
            printf("{\"seconds\": %.6f}\n", s.generate(b));
        } else if (word == "trim") {
            printf("{\"ok\": %s}\n", llama_memory_seq_rm(cache, 0, a, -1) ? "true" : "false");
        } else if (word == "save") {
            printf("{\"bytes\": %zu}\n", llama_state_seq_save_file(s.ctx, file.c_str(), 0, nullptr, 0));
        } else if (word == "load") {
            llama_memory_clear(cache, false);
            llama_token none; // without room for tokens it loads no state
            size_t      count = 0;
            printf("{\"bytes\": %zu}\n", llama_state_seq_load_file(s.ctx, file.c_str(), 0, &none, 1, &count));
        } else if (word == "counts") {
            printf("%s\n", counts().c_str());
        } else if (word == "memory") {
            printf("%s\n", memory().c_str());
        } else if (word == "quit") {
            break;
        } else {
            fail("unknown command " + line);
        }
        fflush(stdout);
    }
    llama_free(s.ctx);
    llama_model_free(s.model);
    return 0;
}
