#include "engine.h"

#include "ggml-backend.h"

#include <cstdio>
#include <cstdlib>

#if defined(__APPLE__)
#include <dlfcn.h>
#else
#include <dlfcn.h>
#include <link.h>
#endif

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string quoted(const std::string & text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
        }
        out += (unsigned char) c < 32 ? ' ' : c;
    }
    return out + "\"";
}

void say(const std::string & event, const std::string & members) {
    // the reader tells from "now" where this clock's zero is on its own
    printf("{\"event\": %s, \"now\": %.9f%s%s}\n", quoted(event).c_str(), now(), members.empty() ? "" : ", ",
           members.c_str());
    fflush(stdout);
}

void fail(const std::string & what, const std::string & why, const std::string & fix, int code) {
    say("error", "\"what\": " + quoted(what) + ", \"why\": " + quoted(why) + ", \"fix\": " + quoted(fix) +
                     ", \"code\": " + std::to_string(code));
    exit(code);
}

std::string request::text(const char * name) const {
    const auto found = values.find(name);
    return found == values.end() ? "" : found->second;
}

double request::number(const char * name) const {
    const auto found = values.find(name);
    if (found == values.end()) {
        fail("plm-edge-bench was not told all", std::string("it needs ") + name, "run it by plm-edge bench", 2);
    }
    return atof(found->second.c_str());
}

static std::string first_error;

static void log(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR && first_error.empty()) {
        first_error = text;
    }
    if (level != GGML_LOG_LEVEL_DEBUG) {
        fputs(text, stderr); // sizes of buffers are told here alone: the caller reads them
    }
}

static ggml_type type_of(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * known = ggml_type_name((ggml_type) i);
        if (known && name == known) {
            return (ggml_type) i;
        }
    }
    fail("there is no type " + name, "ggml does not know it", "see plm-edge bench --help", 2);
}

static std::string why() {
    while (!first_error.empty() && (first_error.back() == '\n' || first_error.back() == ' ')) {
        first_error.pop_back();
    }
    return first_error.empty() ? "it gave no reason" : first_error;
}

engine::engine(const request & asked) {
    static const bool once = [] {
        llama_log_set(log, nullptr);
        ggml_backend_load_all();
        llama_backend_init();
        return true;
    }();
    (void) once;
    llama_model_params load = llama_model_default_params();
    load.load_mode          = LLAMA_LOAD_MODE_NONE;
    if (!asked.text("gpu_layers").empty()) {
        load.n_gpu_layers = asked.whole("gpu_layers");
    }
    model = llama_model_load_from_file(asked.text("model").c_str(), load);
    if (!model) {
        fail("the engine there cannot load the model", why(), "take a smaller type, or another model", 3);
    }
    llama_context_params how = llama_context_default_params();
    how.n_ctx                = asked.whole("n_ctx");
    how.n_batch = how.n_ubatch = std::min<uint32_t>(asked.whole("n_ubatch"), how.n_ctx);
    how.n_threads = how.n_threads_batch = asked.whole("threads");
    how.flash_attn_type                 = (llama_flash_attn_type) asked.whole("flash_attn");
    how.type_k = how.type_v = type_of(asked.text("kv"));
    how.n_outputs_max = how.n_seq_max = asked.whole("n_seq");
    ctx                               = llama_init_from_model(model, how);
    if (!ctx) {
        fail("the engine there cannot make a context", why(), "lower the depth, or use --kv q8_0", 5);
    }
}

engine::~engine() {
    llama_free(ctx);
    llama_model_free(model);
}

// --- rows of W_down: counted in ggml-cpu, which a program may hold, link, or load when it starts ---

typedef int (*layers_fn)();
typedef void (*reset_fn)();
typedef bool (*get_fn)(int, uint64_t *, uint64_t *);

#if !defined(__APPLE__)
extern "C" {
__attribute__((weak)) int  plm_edge_sparsity_layers();
__attribute__((weak)) void plm_edge_sparsity_reset();
__attribute__((weak)) bool plm_edge_sparsity_get(int, uint64_t *, uint64_t *);
}
#endif

static struct {
    layers_fn layers = nullptr;
    reset_fn  reset  = nullptr;
    get_fn    get    = nullptr;
    bool      asked  = false;
} counts;

#if !defined(__APPLE__)
// one that ggml has chosen for this CPU and opened is not among what this program links
static int look_into(dl_phdr_info * info, size_t, void *) {
    if (std::string(info->dlpi_name).find("ggml-cpu") == std::string::npos) {
        return 0;
    }
    void * library = dlopen(info->dlpi_name, RTLD_NOW | RTLD_NOLOAD);
    if (library) {
        counts.layers = (layers_fn) dlsym(library, "plm_edge_sparsity_layers");
        counts.reset  = (reset_fn) dlsym(library, "plm_edge_sparsity_reset");
        counts.get    = (get_fn) dlsym(library, "plm_edge_sparsity_get");
    }
    return counts.get != nullptr;
}
#endif

static bool find_counts() {
    if (!counts.asked) {
        counts.asked = true;
#if defined(__APPLE__)
        counts.layers = (layers_fn) dlsym(RTLD_DEFAULT, "plm_edge_sparsity_layers");
        counts.reset  = (reset_fn) dlsym(RTLD_DEFAULT, "plm_edge_sparsity_reset");
        counts.get    = (get_fn) dlsym(RTLD_DEFAULT, "plm_edge_sparsity_get");
#else
        if (plm_edge_sparsity_layers && plm_edge_sparsity_reset && plm_edge_sparsity_get) {
            counts.layers = plm_edge_sparsity_layers;
            counts.reset  = plm_edge_sparsity_reset;
            counts.get    = plm_edge_sparsity_get;
        } else {
            dl_iterate_phdr(look_into, nullptr);
        }
#endif
    }
    return counts.layers && counts.reset && counts.get;
}

void reset_rows() {
    if (find_counts()) {
        counts.reset();
    }
}

std::vector<layer_rows> read_rows() {
    std::vector<layer_rows> found;
    for (int i = 0; find_counts() && i < counts.layers(); i++) {
        uint64_t rows = 0, read = 0;
        if (counts.get(i, &rows, &read) && rows) {
            found.push_back({ i, rows, read });
        }
    }
    return found;
}
