#include "key.h"

#include "llama-context.h"
#include "llama-kv-cache.h"
#include "llama-model.h"

#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <vector>

#if !defined(_WIN32)
#include <sys/stat.h>
#endif

extern "C" const char * plm_edge_build_info(void); // src/models/plm-edge.cpp

namespace plm_prompt_cache_impl {

namespace {

constexpr int64_t PIECES = 256, PIECE = 4096;

#if defined(_WIN32)
void add_times(sha256 & hash, const std::filesystem::path & file) {
    hash.add_value((int64_t) std::filesystem::last_write_time(file).time_since_epoch().count());
}
#else
void add_times(sha256 & hash, const std::filesystem::path & file) {
    struct stat s;
    if (stat(file.c_str(), &s) != 0) {
        throw std::runtime_error("the model's file cannot be read");
    }
#if defined(__APPLE__)
    const timespec modified = s.st_mtimespec, changed = s.st_ctimespec;
#else
    const timespec modified = s.st_mtim, changed = s.st_ctim;
#endif
    for (const timespec & t : { modified, changed }) {
        hash.add_value((int64_t) t.tv_sec).add_value((int64_t) t.tv_nsec);
    }
}
#endif

// the lines of what the build says of itself that name the source
std::string source() {
    const std::string all = std::string("\n") + plm_edge_build_info();
    std::string found;
    for (const char * name : { "\npin=", "\ntree=" }) {
        const size_t at = all.find(name);
        if (at != std::string::npos) {
            found += all.substr(at, all.find('\n', at + 1) - at);
        }
    }
    return found;
}

} // namespace

digest model_identity(const std::filesystem::path & file) {
    std::ifstream in(file, std::ios::binary | std::ios::ate);
    const int64_t size = in ? (int64_t) in.tellg() : -1;
    if (size < 0) {
        throw std::runtime_error("the model's file cannot be read");
    }
    sha256 hash;
    hash.add_value(size);
    add_times(hash, file);
    std::vector<char> piece(PIECE);
    const int64_t step = std::max<int64_t>(PIECE, (size - PIECE) / (PIECES - 1) / PIECE * PIECE);
    for (int64_t at = 0; at < size; at += step) {
        in.seekg(at);
        in.read(piece.data(), PIECE);
        hash.add(piece.data(), in.gcount());
        in.clear();
    }
    return hash.finish();
}

digest context_key(const llama_context & ctx, const digest & model) {
    const llama_cparams & c = ctx.get_cparams();
    const llama_hparams & h = ctx.get_model().hparams;
    const auto * cache = dynamic_cast<const llama_kv_cache *>(ctx.get_memory());

    sha256 hash;
    const std::string engine = "plm prompt cache 1" + source();
    hash.add(engine.data(), engine.size()).add(model.data(), model.size());
    for (int64_t value : {
             (int64_t) cache->type_k(), (int64_t) (h.is_mla() ? -1 : cache->type_v()), (int64_t) c.flash_attn,
             (int64_t) h.n_layer(), (int64_t) h.rope_type, (int64_t) c.rope_scaling_type, (int64_t) c.n_ctx_orig_yarn,
             (int64_t) c.causal_attn, (int64_t) (getenv("LLAMA_ATTN_ROT_DISABLE") != nullptr) }) {
        hash.add_value(value);
    }
    for (float value : { c.rope_freq_base, c.rope_freq_scale, c.yarn_ext_factor, c.yarn_attn_factor, c.yarn_beta_fast, c.yarn_beta_slow }) {
        hash.add_value(value);
    }
    return hash.finish();
}

} // namespace plm_prompt_cache_impl
