#pragma once

// What the rows of a cache depend on besides the tokens.

#include "sha256.h"

#include <filesystem>

struct llama_context;

namespace plm_prompt_cache_impl {

// A hash of which file a model is: of its size, of when it and its entry in the folder were changed last, and of a MiB
// of it, in pieces from all over it. Hashing all of it would take a Pi half a minute a start, and a sample alone would
// miss a file that was edited in one place; but any change sets these times, and a person cannot set the second. A copy
// or a renamed file counts as another one, which costs a prefill.
//
// Throws std::runtime_error if the file cannot be read.
digest model_identity(const std::filesystem::path & file);

// the model, the engine's source, and each setting of the context that changes the rows or how they are laid out
digest context_key(const llama_context & ctx, const digest & model);

} // namespace plm_prompt_cache_impl
