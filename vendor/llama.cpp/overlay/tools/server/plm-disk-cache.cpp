#include "plm-disk-cache.h"

#include "log.h"

#include <cstdlib>

namespace {

// why a server with these settings has no such cache, or null
const char * refusal(const common_params & p, const llama_context * draft) {
    if (draft || p.speculative.has_dft()) {
        return "a draft model has a cache of its own";
    }
    if (!p.mmproj.path.empty()) {
        return "prompts may hold images";
    }
    if (!p.lora_adapters.empty() || !p.control_vectors.empty() || !p.kv_overrides.empty()) {
        return "adapters, control vectors or overridden keys change the model";
    }
    if (p.ctx_shift || p.n_cache_reuse > 0) {
        return "shifted contexts are not what their tokens alone give";
    }
    return nullptr;
}

} // namespace

void plm_disk_cache::open(const common_params & params, llama_context * target, llama_context * draft) {
    close();
    spoiled = false;
    const char * folder = std::getenv("PLM_EDGE_PROMPT_CACHE_DIR");
    if (!folder || !*folder) {
        return;
    }
    const char * why = refusal(params, draft);
    if (!why) {
        const char * size = std::getenv("PLM_EDGE_PROMPT_CACHE_SIZE");
        cache.reset(plm_prompt_cache_open(target, params.model.path.c_str(), folder, size ? std::strtoull(size, nullptr, 10) : 0));
        why = plm_prompt_cache_reason();
    }
    if (cache) {
        LOG_INF("prompts are kept on disk, in %s\n", folder);
    } else {
        LOG_WRN("no prompts are kept on disk: %s\n", why);
    }
}

int32_t plm_disk_cache::restore(llama_seq_id slot, const llama_tokens & prompt, int32_t n_have) {
    if (!cache) {
        return n_have;
    }
    const int64_t start = ggml_time_us();
    const int32_t n = plm_prompt_cache_restore(cache.get(), slot, prompt.data(), (int32_t) prompt.size(), n_have);
    if (n != n_have) {
        LOG_INF("slot %d: %d tokens of the prompt from disk in %.1f ms\n", slot, n, (ggml_time_us() - start) / 1000.0);
    }
    return n;
}

void plm_disk_cache::store(llama_seq_id slot, const llama_tokens & tokens) {
    if (cache && !spoiled) {
        plm_prompt_cache_store(cache.get(), slot, tokens.data(), (int32_t) tokens.size());
    }
}

void plm_disk_cache::spoil(const char * why) {
    if (cache && !spoiled) {
        LOG_WRN("prompts are kept on disk no more: %s\n", why);
        spoiled = true;
    }
}
