// The likeliest tokens after some, by their numbers: what shows that one engine answers as another does.

#include "commands.h"
#include "engine.h"

#include <algorithm>

void greedy(const json & request) {
    std::vector<llama_token> tokens = request.at("tokens");
    const int count = request.at("count");

    json how = request;
    how["n_ctx"] = tokens.size() + count;
    how["n_batch"] = tokens.size();
    engine with(how);
    const int size = llama_vocab_n_tokens(with.vocab());
    for (const llama_token token : tokens) {
        if (token < 0 || token >= size) {
            throw failure("token " + std::to_string(token) + " is none of the model's",
                          "it has " + std::to_string(size), "give others", USAGE);
        }
    }
    std::vector<llama_token> found;
    while ((int) found.size() < count) {
        with.compute(found.empty() ? llama_batch_get_one(tokens.data(), tokens.size())
                                   : llama_batch_get_one(&found.back(), 1));
        const float * logits = llama_get_logits_ith(with.ctx, -1);
        found.push_back(std::max_element(logits, logits + size) - logits);
        if (llama_vocab_is_eog(with.vocab(), found.back())) {
            break;
        }
    }
    say("greedy", { { "tokens", found } });
}
