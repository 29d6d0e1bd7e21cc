#pragma once

// Files of the cache: blocks of prompts, a file each, in a folder for each kind of context.
//
//   FOLDER/KEY/PARENT-OWN-POSITION-TOKENS.kv
//
// KEY is that of the context (prompt-cache.cpp). OWN is the hash of all tokens up to the block's end, PARENT that of the
// tokens before it: what continues a prompt is found by name. A file is written beside and renamed, and its last bytes
// are the SHA-256 of the others. Two processes that write the same block write the same tokens, and either is right.

#include "rows.h"
#include "sha256.h"

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace plm_prompt_cache_impl {

// one block that was read
struct block {
    int32_t position = 0; // of its first token
    std::vector<llama_token> tokens;
    layout of;
    std::vector<uint8_t> rows; // column by column
};

// hash of a prompt that goes on with these tokens
digest extended(const digest & parent, const llama_token * tokens, size_t n);

class files {
  public:
    using path = std::filesystem::path;

    // Makes the folders, for their owner alone. limit: most bytes of all below `folder`; 0: the default.
    // Throws std::runtime_error or std::filesystem::filesystem_error where they cannot be used.
    // about: lines for a person, in the key's folder: the model, the type of the cache
    files(const path & folder, const digest & key, uint64_t limit, const std::string & about);

    // names of blocks by the hash of what comes before them, as it stands in names
    using children = std::multimap<std::string, path>;
    children list() const;

    // The block that holds exactly these tokens after `parent`, or an empty path.
    path find(const children & known, const digest & parent, const llama_token * tokens, size_t n) const;

    // Reads a block's tokens alone; false if they cannot be read.
    static bool read_tokens(const path & file, std::vector<llama_token> & tokens);

    // Reads and checks a block. What is damaged or foreign is named in the log and removed: false.
    bool read(const path & file, const digest & parent, block & out) const;

    // Says that the blocks of a prompt were used, each after those that follow it: what was not used for longest is
    // removed first.
    static void touch(const std::vector<path> & chain);

    // Writes a block; an empty path if the disk refuses, which the log says.
    path write(const digest & parent, const block & b) const;

    // Removes what was not used for longest until the limit is kept.
    void prune() const;

    // bytes that the folder may have now
    uint64_t limit() const;

  private:
    path place(const digest & parent, const llama_token * tokens, size_t n, int32_t position) const;

    path folder, own;
    digest key;
    uint64_t wanted;
};

} // namespace plm_prompt_cache_impl
