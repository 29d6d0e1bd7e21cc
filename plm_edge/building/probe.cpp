// Greedy tokens of a model, by their numbers: what shows that an engine on a device answers as here.
//
//   plm-edge-probe MODEL COUNT THREADS TOKEN...   prints COUNT numbers, one a line, or fewer at an end
//   plm-edge-probe --system                       what the CPU kernels were compiled for

#include "ggml-backend.h"
#include "llama.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

static void quiet(ggml_log_level level, const char * text, void *) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

int main(int argc, char ** argv) {
    llama_log_set(quiet, nullptr);
    ggml_backend_load_all();
    llama_backend_init();
    if (argc == 2 && strcmp(argv[1], "--system") == 0) {
        puts(llama_print_system_info());
        return 0;
    }
    if (argc < 5) {
        fputs("usage: plm-edge-probe MODEL COUNT THREADS TOKEN...\n", stderr);
        return 2;
    }
    const int count = atoi(argv[2]);
    std::vector<llama_token> tokens;
    for (int i = 4; i < argc; i++) {
        tokens.push_back(atoi(argv[i]));
    }

    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        return 3;
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx     = tokens.size() + count;
    params.n_batch   = tokens.size();
    params.n_threads = params.n_threads_batch = atoi(argv[3]);
    llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        return 5;
    }
    const llama_vocab * vocab = llama_model_get_vocab(model);
    const int size = llama_vocab_n_tokens(vocab);
    for (const llama_token token : tokens) {
        if (token < 0 || token >= size) {
            fprintf(stderr, "token %d is not of the model's %d\n", token, size);
            return 2;
        }
    }
    llama_token next = 0;
    for (int i = 0; i < count; i++) {
        const llama_batch batch = i == 0 ? llama_batch_get_one(tokens.data(), tokens.size())
                                         : llama_batch_get_one(&next, 1);
        if (llama_decode(context, batch) != 0) {
            return 1;
        }
        const float * logits = llama_get_logits_ith(context, -1);
        next = std::max_element(logits, logits + size) - logits;
        printf("%d\n", next);
        fflush(stdout);
        if (llama_vocab_is_eog(vocab, next)) {
            break;
        }
    }
    llama_free(context);
    llama_model_free(model);
    return 0;
}
