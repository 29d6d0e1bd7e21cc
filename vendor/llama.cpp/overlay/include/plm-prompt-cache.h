#pragma once

// A cache of prompts on disk: what a KV cache holds of the tokens of a prompt, kept over restarts of the program.
//
// A prompt is kept in blocks of PLM_PROMPT_CACHE_BLOCK tokens, a file each, named after all tokens up to its end; its
// last block may be shorter. Prompts that begin alike share files, and one that grows adds files. Rows of the cache come
// back as they were, bit by bit.

#include "llama.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLM_PROMPT_CACHE_BLOCK 128

// prompts of fewer tokens are not kept, and as many must be gained for a read
#define PLM_PROMPT_CACHE_LEAST 64

struct plm_prompt_cache;

// Opens the cache of a context in a folder, which is made if need be, for its owner alone.
//
// model: the file that the context's model was loaded from, alone and as it is: no adapters, no overridden keys.
// limit: most bytes of all files in the folder, those of other models as well; 0: 2 GiB, and at most a twentieth of
//        what is free on the disk.
//
// Returns NULL if there can be none: a cache that holds more than rows of tokens (recurrent, windowed), a model of
// several files, a folder that cannot be used. plm_prompt_cache_reason says which, until the thread's next call.
LLAMA_API struct plm_prompt_cache * plm_prompt_cache_open(struct llama_context * ctx, const char * model, const char * folder, uint64_t limit);
LLAMA_API const char * plm_prompt_cache_reason(void);

// Waits until all is written, and frees the cache; the context must still be there.
LLAMA_API void plm_prompt_cache_close(struct plm_prompt_cache * cache);

// Makes a sequence hold as many of the first tokens as the files have, if that is PLM_PROMPT_CACHE_LEAST more than the
// n_have that it holds. What it held is replaced. Damaged and foreign files are named in the log, and removed.
//
// Returns how many of the tokens the sequence holds now, which may be all of them: n_have where it was left as it was, 0
// where the rows found no room; it is then empty.
LLAMA_API int32_t plm_prompt_cache_restore(struct plm_prompt_cache * cache, llama_seq_id seq, const llama_token * tokens, int32_t n, int32_t n_have);

// Keeps the first n positions of a sequence, which hold these tokens and were computed from nothing else. Copies the
// rows that no file has yet; a thread writes them. Returns of how many tokens that is.
LLAMA_API int32_t plm_prompt_cache_store(struct plm_prompt_cache * cache, llama_seq_id seq, const llama_token * tokens, int32_t n);

#ifdef __cplusplus
}
#endif
