#pragma once

// One way to compute a tile of cached rows against a block of query rows. The driver (mla-attention.cpp)
// knows masks, softmax, threads and merging; an engine knows how a tile and a block are laid out.

#include "tile.h"
#include "../weights-ahead.h"

// keeps the compiler from making pointers of its own, one for each row: there are not so many registers
#if defined(__GNUC__)
#define MLA_IN_REGISTER(p) asm volatile("" : "+r"(p))
#else
#define MLA_IN_REGISTER(p) (void) (p)
#endif

namespace mla {

// What is read next, asked for a line at a time while a tile is computed: the next tile's cached rows, then weights.
// Reading it all at once would leave the memory idle in between.
struct lookahead {
    const char * at = nullptr;
    const char * end = nullptr;
    weights_ahead * weights = nullptr; // null: no more

    void step() {
#if defined(__GNUC__)
        if (at < end) {
            __builtin_prefetch(at, 0, 2);
            at += 64;
        } else if (weights && !weights->next(at, end)) {
            weights = nullptr;
        }
#endif
    }
};

struct engine {
    size_t (*query_bytes)(const shape & a); // of one packed block
    size_t (*tile_bytes)(const shape & a);  // of one converted tile

    // one query row into lane `lane` of a packed block, times scale; q null: a lane that pads the block
    void (*pack)(const shape & a, int lane, const float * q, float scale, char * block);

    // n <= TILE cached rows into a tile; false if one holds a NaN or an infinity (the tile is then unusable)
    bool (*load)(const shape & a, const char * rows, size_t stride, int64_t n, char * tile);

    // s[j][lane] for the rows of the tile; those from n on are left undefined
    void (*scores)(const shape & a, const char * block, const char * tile, int64_t n, float * s, lookahead & next);

    // out[lane] = out[lane] * decay[lane] + sum_j p[j][lane] V_j; p [TILE][BLOCK] is 0 from n on; without decay,
    // out is set
    void (*accumulate)(const shape & a, const float * p, const float * decay, char * tile, int64_t n, float * out, lookahead & next);
};

extern const engine engine_f32;    // everywhere, every type
extern const engine engine_i16;    // x86 from AVX2 on, every type but f32
extern const engine engine_u8;     // x86 with AVX-512 VNNI and VBMI, ARM with dotprod: q8_0 and q4_0
extern const engine engine_digits; // ARM with dotprod: f16

#if defined(PLM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#define PLM_MLA_DIGITS
#endif

#if defined(PLM_AVX512_VBMI) || defined(PLM_MLA_DIGITS)
#define PLM_MLA_U8
#endif

static inline const engine & engine_for(ggml_type type) {
#if defined(PLM_MLA_U8)
    if (ggml_is_quantized(type)) {
        return engine_u8;
    }
#endif
#if defined(PLM_AVX512) || defined(PLM_AVX2)
    return type == GGML_TYPE_F32 ? engine_f32 : engine_i16;
#elif defined(PLM_MLA_DIGITS)
    return type == GGML_TYPE_F16 ? engine_digits : engine_f32;
#else
    (void) type;
    return engine_f32;
#endif
}

} // namespace mla
