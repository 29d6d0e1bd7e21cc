#include "engine.h"

#include "ggml-cpu.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>

static std::vector<std::string> errors; // of the log since the last load began

// Two threads load: one of them makes the vocabulary.
static void log(ggml_log_level level, const char * text, void *) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> lock(mutex);
    static ggml_log_level last = GGML_LOG_LEVEL_NONE;
    if (level == GGML_LOG_LEVEL_CONT) {
        if (last == GGML_LOG_LEVEL_ERROR && !errors.empty()) {
            errors.back() += text;
        }
    } else {
        last = level;
        if (level == GGML_LOG_LEVEL_ERROR) {
            errors.push_back(text);
        }
    }
    if (last != GGML_LOG_LEVEL_DEBUG) {
        fputs(text, stderr);
    }
}

// why the last call failed, in llama.cpp's words: plm_edge/engine/log.py, reason
static std::string reason() {
    const auto without = [](const std::string & line, size_t from) {
        const size_t end = line.find_last_not_of(" \n");
        return end == std::string::npos || end < from ? "" : line.substr(from, end + 1 - from);
    };
    for (const std::string prefix : { "error loading model: ", "failed to initialize the context: " }) {
        for (const std::string & line : errors) {
            const size_t at = line.find(prefix);
            if (at != std::string::npos) {
                return without(line, at + prefix.size());
            }
        }
    }
    if (errors.empty()) {
        return "it gave no reason";
    }
    const std::string & first = errors.front();
    const size_t name = first.find(": "); // "function: reason"
    return without(first, name != std::string::npos && first.find(' ') > name ? name + 2 : 0);
}

static failure refused(const std::string & what, const std::string & model) {
    const std::string why = reason();
    const std::string name = model.substr(model.find_last_of('/') + 1);
    if (why.find("alloc") != std::string::npos || why.find("out of memory") != std::string::npos) {
        return failure("there is not enough memory for " + name, why, "take a smaller type, or close other programs",
                       RESOURCES);
    }
    return failure(what + " " + name, why,
                   "convert or get the model again; `plm-edge inspect FILE` shows what it holds", INPUT);
}

void start_engine() {
    static const bool once = [] {
        llama_log_set(log, nullptr);
        ggml_backend_load_all();
        llama_backend_init();
        return true;
    }();
    (void) once;
}

ggml_type type_of(const std::string & name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * known = ggml_type_name((ggml_type) i);
        if (known && name == known) {
            return (ggml_type) i;
        }
    }
    throw failure("there is no type " + name, "ggml does not know it", "see plm-edge bench --help", USAGE);
}

static llama_flash_attn_type flash_of(const std::string & name) {
    static const std::map<std::string, llama_flash_attn_type> known = {
        { "auto", LLAMA_FLASH_ATTN_TYPE_AUTO },
        { "on", LLAMA_FLASH_ATTN_TYPE_ENABLED },
        { "off", LLAMA_FLASH_ATTN_TYPE_DISABLED },
    };
    return known.at(name);
}

static bool observe(ggml_tensor * node, bool ask, void * data) {
    auto & seen = ((engine *) data)->observed;
    const double at = now();
    if (!ask) {
        seen.nodes.push_back({ ggml_op_desc(node), ggml_get_name(node), at - seen.began });
    }
    seen.began = now(); // later than `at`: what is done here is no part of the next node
    return true;
}

// A function of the CPU backend's, which may be a library of its own; null where the build has none.
template <typename F> static F of_cpu(const char * name) {
    ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    return cpu ? (F) ggml_backend_reg_get_proc_address(ggml_backend_dev_backend_reg(cpu), name) : nullptr;
}

double load_vocabulary(const std::string & path) {
    start_engine();
    errors.clear();
    llama_model_params load = llama_model_default_params();
    load.vocab_only = true;
    const double start = now();
    llama_model * model = llama_model_load_from_file(path.c_str(), load);
    const double seconds = now() - start;
    if (!model) {
        throw refused("the engine cannot load", path);
    }
    llama_model_free(model);
    return seconds;
}

engine::engine(const json & request) {
    start_engine();
    errors.clear();
    const std::string path = request.at("model");
    llama_model_params load = llama_model_default_params();
    load.load_mode = llama_load_mode_from_str(request.value("load_mode", "auto").c_str());
    load.use_extra_bufts = request.value("repack", true);
    if (request.contains("gpu_layers")) {
        load.n_gpu_layers = request["gpu_layers"];
    }
    static ggml_backend_dev_t no_device = nullptr; // ends a list of none: else long prompts would go to a GPU all the same
    if (load.n_gpu_layers == 0) {
        load.devices = &no_device;
    }
    const double start = now();
    model = llama_model_load_from_file(path.c_str(), load);
    model_s = now() - start;
    if (!model) {
        throw refused("the engine cannot load", path);
    }
    if (llama_model_has_encoder(model)) {
        throw failure(path + " is an encoder model", "its architecture does not continue a text",
                      "use a decoder model such as PLM", INPUT);
    }
    llama_context_params how = llama_context_default_params();
    how.n_ctx = request.at("n_ctx");
    how.n_ubatch = std::min(request.value("n_ubatch", 512u), how.n_ctx);
    how.n_batch = request.value("n_batch", how.n_ubatch);
    how.n_threads = how.n_threads_batch = request.at("threads");
    how.flash_attn_type = flash_of(request.value("flash_attn", "auto"));
    how.type_k = type_of(request.value("cache_k", "f16"));
    how.type_v = type_of(request.value("cache_v", "f16"));
    how.n_outputs_max = how.n_seq_max = request.value("n_seq", 1);
    if (request.value("observe", false)) {
        how.cb_eval = observe;
        how.cb_eval_user_data = this;
    }
    ctx = llama_init_from_model(model, how);
    if (!ctx) {
        throw refused("the engine cannot make a context for", path);
    }
    // threads that stay, as llama-bench has them: without OpenMP each graph would start its own
    if (const auto make = of_cpu<decltype(&ggml_threadpool_new)>("ggml_threadpool_new")) {
        ggml_threadpool_params pool = ggml_threadpool_params_default(how.n_threads);
        pool_ = make(&pool);
        llama_attach_threadpool(ctx, pool_, nullptr);
    }
}

engine::~engine() {
    llama_free(ctx);
    llama_model_free(model);
    if (pool_) {
        of_cpu<decltype(&ggml_threadpool_free)>("ggml_threadpool_free")(pool_);
    }
}

std::string engine::description() const {
    char text[256];
    llama_model_desc(model, text, sizeof text);
    return text;
}

void engine::compute(llama_batch batch) {
    errors.clear();
    const int status = llama_decode(ctx, batch);
    if (status != 0) {
        throw failure("the engine could not compute the next tokens",
                      errors.empty() ? "llama_decode returned " + std::to_string(status) : reason(),
                      "lower the depth or the number of sequences", RESOURCES);
    }
    llama_synchronize(ctx);
}
