#pragma once

// Flash attention's tiles (fattn-mma-f16.cuh) of a cache of quantised rows: what is loaded of them becomes f16 on its way to
// shared memory, by the one rounding that a conversion of the whole cache would do, so that attention has the same bits.
//
// An overload of the loader of f16 rows, by what the rows are made of. The includer brings ggml's types and swizzle_bytes
// (mma.cuh), or the emulator of tests/kernels does. There is no inline assembler here.

// from column 2 * n of the rows on
static __device__ __forceinline__ const half2 * plm_from_column(const half2 * rows, int n) { return rows + n; }

template <typename block_t>
static __device__ __forceinline__ const block_t * plm_from_column(const block_t * rows, int n) { return rows + n / 16; }

// Four bytes u as f16: two halves of 1024 + u, less `zero`, times d. All but the product is exact.
static __device__ __forceinline__ void plm_scaled(uint32_t bytes, half zero, half d, half2 * to) {
    const uint32_t low = __byte_perm(bytes, 0x64646464, 0x4140), high = __byte_perm(bytes, 0x64646464, 0x4342);
    const half2 zeros = __halves2half2(zero, zero), scale = __halves2half2(d, d);
    half2 pair;
    memcpy(&pair, &low, sizeof(pair));
    to[0] = __hmul2(__hsub2(pair, zeros), scale);
    memcpy(&pair, &high, sizeof(pair));
    to[1] = __hmul2(__hsub2(pair, zeros), scale);
}

// `n` words from an address that is aligned to 2. Rows begin and end at multiples of 4 (plm_fattn_reads_quantised), so
// that words which hold a part of these are the row's.
template <int n> static __device__ __forceinline__ void plm_words(const uint8_t * from, uint32_t (&words)[n]) {
    const bool apart = uintptr_t(from) & 2;
    const uint32_t * aligned = (const uint32_t *) (from - 2 * apart);
    uint32_t word = aligned[0];
#pragma unroll
    for (int i = 0; i < n; i++) {
        const uint32_t next = i + 1 < n || apart ? aligned[i + 1] : 0;
        words[i] = __funnelshift_r(word, next, 16 * apart);
        word = next;
    }
}

// How a thread reads 16 of a block's 32 values, `which` of two, as eight and eight that follow one another: columns(which, 0)
// and columns(which, 1) on.
static __device__ __forceinline__ int plm_columns(const block_q8_0 *, int which, int eight) { return 16 * which + 8 * eight; }

static __device__ __forceinline__ void plm_read(const block_q8_0 * b, int which, half2 (&v)[2][4]) {
    uint32_t q[4];
    plm_words((const uint8_t *) b->qs + 16 * which, q);
    const half d = b->d;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        plm_scaled(q[i] ^ 0x80808080, __float2half(1024.0f + 128.0f), d, v[i / 2] + 2 * (i % 2));
    }
}

// a byte holds the values j and j + 16
static __device__ __forceinline__ int plm_columns(const block_q4_0 *, int which, int eight) { return 8 * which + 16 * eight; }

static __device__ __forceinline__ void plm_read(const block_q4_0 * b, int which, half2 (&v)[2][4]) {
    uint32_t q[2];
    plm_words(b->qs + 8 * which, q);
    const half d = b->d;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        plm_scaled(q[i] & 0x0F0F0F0F, __float2half(1024.0f + 8.0f), d, v[0] + 2 * i);
        plm_scaled(q[i] >> 4 & 0x0F0F0F0F, __float2half(1024.0f + 8.0f), d, v[1] + 2 * i);
    }
}

// Sixteens whose loads a thread has in flight: what the tile leaves of registers. A tile of many warps has many threads' loads.
static constexpr __device__ int plm_in_flight([[maybe_unused]] int nwarps) {
#if defined(AMPERE_MMA_AVAILABLE)
    return nwarps < 8 ? 2 : 1;
#else
    return 1;
#endif
}

// nbatch_fa rows from row k_VKQ_0 on, of each 2 * D2 columns; stride_KV in blocks
template <int stride_tile, bool swz, int nwarps, int nbatch_fa, bool use_cp_async, bool oob_check, bool use_sparse, typename block_t>
static __device__ __forceinline__ void flash_attn_ext_f16_load_tile(
    const block_t * const __restrict__ KV, half2 * const __restrict__ tile_KV, const int D2, const int stride_KV,
    const int k_VKQ_0, const int, const int32_t * const __restrict__) {
    static_assert(!oob_check && !use_sparse, "whole tiles of neighbouring rows alone");
    constexpr int threads = 32 * nwarps;
    [[maybe_unused]] constexpr int in_flight = plm_in_flight(nwarps);
    const int per_row = D2 / 8; // sixteens of a row
#pragma unroll in_flight
    for (int u = 32 * threadIdx.y + threadIdx.x; u < nbatch_fa * per_row; u += threads) {
        const int i = u / per_row, at = u % per_row, which = at % 2;
        const block_t * b = KV + int64_t(k_VKQ_0 + i) * stride_KV + at / 2;
        __align__(16) half2 v[2][4];
        plm_read(b, which, v);
#pragma unroll
        for (int eight = 0; eight < 2; eight++) {
            const int column = 32 * (at / 2) + plm_columns(b, which, eight);
            ggml_cuda_memcpy_1<16>((char *) tile_KV + swizzle_bytes<swz, half2>(i, column / 2, stride_tile), v[eight]);
        }
    }
}
