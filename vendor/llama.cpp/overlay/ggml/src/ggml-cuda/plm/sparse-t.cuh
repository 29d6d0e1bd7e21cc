#pragma once

// The kernels of MUL_MAT_SPARSE_T (plm-ops/mul-mat-sparse-t.h) for CUDA: up to 8 tokens, in three steps.
//
//   select   a bit for each row that any token selects; or the product before has marked them (marks.cuh)
//   sum      each block takes its share of the selected rows, in ascending order, and sums them over its columns
//   add      the blocks' sums, in their order
//
// No step adds floats atomically, and who adds what depends on the data alone: the same call has the same bits. No step
// asks the host anything: a captured graph may be replayed with other data, with no row selected as well.
// For larger batches `unpack` and `activate` make two dense matrices, whose product is cuBLAS's.
//
// There is no launch syntax here, nor inline assembler, so that the emulator of tests/kernels can execute these.

#include "marks.cuh"
#include "rows.cuh"
#include "sparse-t-plan.h"

constexpr int PLM_WARPS = 8, PLM_THREADS = 32 * PLM_WARPS;
constexpr int PLM_LISTED = 32 * PLM_THREADS; // rows that are listed at a time: a word of bits a thread

// max(0, x)^2 or x; a NaN stays one
template <bool relu_sqr> static __device__ __forceinline__ float plm_activation(float x) {
    return !relu_sqr ? x : x <= 0.0f ? 0.0f
                                     : x * x;
}

static __device__ __forceinline__ const float * plm_slice_of_x(const float * x, const plm_sparse_t_shape & s, int slice) {
    return x + slice % s.n_heads * s.x_head + slice / s.n_heads * s.x_batch;
}

static __device__ __forceinline__ const char * plm_slice_of_w(const char * w, const plm_sparse_t_shape & s, int slice) {
    return w + slice % s.n_heads % s.w_heads * s.w_head + slice / s.n_heads % s.w_batches * s.w_batch;
}

// mask {ceil(n_in / 32), n_slices}; grid {ceil(n_in / 256), n_slices}
template <bool relu_sqr>
static __global__ void plm_select(const float * x, uint32_t * mask, plm_sparse_t_shape s) {
    ggml_cuda_pdl_sync();
    x = plm_slice_of_x(x, s, blockIdx.y);
    const int i = blockIdx.x * PLM_THREADS + threadIdx.x;
    bool selected = false;
    if (i < s.n_in) {
        for (int t = 0; t < s.n_tokens; t++) {
            selected |= plm_activation<relu_sqr>(x[t * s.x_token + i]) != 0.0f;
        }
    }
    const uint32_t bits = __ballot_sync(0xFFFFFFFF, selected);
    if (threadIdx.x % 32 == 0 && i < s.n_in) {
        mask[blockIdx.y * ((s.n_in + 31) / 32) + i / 32] = bits;
    }
}

// the sum of `mine` over the threads before this one, and of all of them in `total`; `sums` is shared by the block
static __device__ __forceinline__ int plm_sum_before(int mine, int (&sums)[PLM_WARPS], int & total) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int upto = mine;
    for (int d = 1; d < 32; d *= 2) {
        const int other = __shfl_up_sync(0xFFFFFFFF, upto, d);
        upto += lane >= d ? other : 0;
    }
    if (lane == 31) {
        sums[warp] = upto;
    }
    __syncthreads();
    int before = upto - mine;
    total = 0;
    for (int w = 0; w < PLM_WARPS; w++) {
        before += w < warp ? sums[w] : 0;
        total += sums[w];
    }
    __syncthreads(); // sums may be written again
    return before;
}

// One warp's part of the sum: 256 columns, of n rows those at k = first, first + step, ...
// There is code for 1, 2, 4 and 8 tokens (`most`), of which s.n_tokens are there.
template <ggml_type type, int most, bool relu_sqr>
struct plm_sum_of_rows {
    const char * w;
    const float * x;
    const plm_sparse_t_shape & s;
    int block, lane;
    float sum[most][8];

    __device__ __forceinline__ void add(int i, const float (&v)[8]) {
#pragma unroll
        for (int t = 0; t < most; t++) {
            const float f = t < s.n_tokens ? plm_activation<relu_sqr>(x[t * s.x_token + i]) : 0.0f;
            if (f != 0.0f) { // else a W that is not finite would count
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    sum[t][j] += f * v[j];
                }
            }
        }
    }

    template <typename row_of>
    __device__ __forceinline__ void run(int first, int n, int step, const row_of & row) {
        // rows whose loads are in flight; sums of more tokens leave fewer registers for them
        constexpr int AT_ONCE = most > 4 ? 1 : most > 2 ? 2
                                                        : 4;
        int k = first;
        for (; k + (AT_ONCE - 1) * step < n; k += AT_ONCE * step) {
            float v[AT_ONCE][8];
#pragma unroll
            for (int r = 0; r < AT_ONCE; r++) {
                plm_rows<type>::read(w + row(k + r * step) * s.w_row, block, s.n_out, lane, v[r]);
            }
#pragma unroll
            for (int r = 0; r < AT_ONCE; r++) {
                add(row(k + r * step), v[r]);
            }
        }
        for (; k < n; k += step) {
            float v[8];
            plm_rows<type>::read(w + row(k) * s.w_row, block, s.n_out, lane, v);
            add(row(k), v);
        }
    }
};

// 32 rows' bits, from a mask of bits or from marks
static __device__ __forceinline__ uint32_t plm_selected(const void * mask, bool marks, int word, int n_in) {
    return marks ? plm_marked((const uint8_t *) mask, word, n_in) : ((const uint32_t *) mask)[word];
}

// part {n_out, s.n_tokens, n_slices, plan.parts}; grid {plan.splits, plan.tiles, n_slices}.
// mask null: every row is taken. `marks`: it is of bytes, of one slice.
template <ggml_type type, int most, bool relu_sqr>
__launch_bounds__(PLM_THREADS, 2) static __global__ void plm_sum(const char * w, const float * x, const void * mask, bool marks, float * part, plm_sparse_t_shape s, int across) {
    __shared__ uint16_t list[PLM_LISTED];
    __shared__ int sums[PLM_WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int groups = PLM_WARPS / across, group = warp / across;
    const int block = blockIdx.y * across + warp % across;
    const bool idle = 256 * block >= s.n_out;
    ggml_cuda_pdl_sync();

    plm_sum_of_rows<type, most, relu_sqr> rows{ plm_slice_of_w(w, s, blockIdx.z), plm_slice_of_x(x, s, blockIdx.z), s, block, lane, {} };
    if (!mask) {
        const int lo = int(int64_t(s.n_in) * blockIdx.x / gridDim.x), hi = int(int64_t(s.n_in) * (blockIdx.x + 1) / gridDim.x);
        if (!idle) {
            rows.run(group, hi - lo, groups, [lo](int k) { return int64_t(lo + k); });
        }
    } else {
        const int words = (s.n_in + 31) / 32;
        mask = (const uint32_t *) mask + int64_t(blockIdx.z) * words;
        int mine = 0, total;
        for (int i = threadIdx.x; i < words; i += PLM_THREADS) {
            mine += __popc(plm_selected(mask, marks, i, s.n_in));
        }
        plm_sum_before(mine, sums, total);
        const int lo = int(int64_t(total) * blockIdx.x / gridDim.x), hi = int(int64_t(total) * (blockIdx.x + 1) / gridDim.x);

        int listed = 0; // selected rows before this piece of the mask
        for (int first = 0; first < words; first += PLM_THREADS) {
            const int i = first + threadIdx.x;
            uint32_t bits = i < words ? plm_selected(mask, marks, i, s.n_in) : 0;
            int here;
            int rank = listed + plm_sum_before(__popc(bits), sums, here);
            const int from = max(lo, listed), to = min(hi, listed + here);
            for (; bits; bits &= bits - 1, rank++) {
                if (rank >= from && rank < to) {
                    list[rank - from] = uint16_t(32 * threadIdx.x + __ffs(bits) - 1);
                }
            }
            __syncthreads();
            if (!idle) {
                const int64_t row = int64_t(32) * first;
                rows.run(group, to - from, groups, [row](int k) { return row + list[k]; });
            }
            listed += here;
            __syncthreads(); // list may be written again
        }
    }
    if (!idle) {
        part += ((int64_t(blockIdx.x) * groups + group) * s.n_slices + blockIdx.z) * s.n_tokens * s.n_out;
#pragma unroll
        for (int t = 0; t < most; t++) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const int c = 256 * block + plm_rows<type>::column(lane, j);
                if (t < s.n_tokens && c < s.n_out) {
                    part[int64_t(t) * s.n_out + c] = rows.sum[t][j];
                }
            }
        }
    }
    ggml_cuda_pdl_lc();
}

// y[i] = sum of part[i + n * p] over parts; block {32, 8}, grid {ceil(n / 32)}
static __global__ void plm_add(const float * part, float * y, int n, int parts) {
    __shared__ float sums[PLM_WARPS][32];
    const int i = blockIdx.x * 32 + threadIdx.x;
    ggml_cuda_pdl_sync();
    float sum = 0.0f;
    if (i < n) {
        for (int p = threadIdx.y; p < parts; p += PLM_WARPS) {
            sum += part[int64_t(p) * n + i];
        }
    }
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && i < n) {
        for (int p = 1; p < PLM_WARPS; p++) {
            sum += sums[p][threadIdx.x];
        }
        y[i] = sum;
    }
    ggml_cuda_pdl_lc();
}

// W's values {n_out, n_in, slices of W} of `out_t`; a warp takes 256 of them, a block eight times that
template <ggml_type type, typename out_t>
static __global__ void plm_unpack(const char * w, out_t * out, plm_sparse_t_shape s) {
    const int blocks = (s.n_out + 255) / 256, lane = threadIdx.x % 32;
    const int64_t at = int64_t(blockIdx.x) * PLM_WARPS + threadIdx.x / 32;
    const int block = int(at % blocks);
    const int64_t row = at / blocks;
    ggml_cuda_pdl_sync();
    if (row < s.n_in) {
        const int head = blockIdx.y % s.w_heads, batch = blockIdx.y / s.w_heads;
        float v[8];
        plm_rows<type>::read(w + batch * s.w_batch + head * s.w_head + row * s.w_row, block, s.n_out, lane, v);
        out += (int64_t(blockIdx.y) * s.n_in + row) * s.n_out;
        for (int j = 0; j < 8; j++) {
            const int c = 256 * block + plm_rows<type>::column(lane, j);
            if (c < s.n_out) {
                out[c] = ggml_cuda_cast<out_t>(v[j]);
            }
        }
    }
    ggml_cuda_pdl_lc();
}

// f(x) {n_in, n_tokens, n_slices} of `out_t`; grid {ceil(n_in / 256), n_tokens or fewer, n_slices}
template <bool relu_sqr, typename out_t>
static __global__ void plm_activate(const float * x, out_t * out, plm_sparse_t_shape s) {
    const int i = blockIdx.x * PLM_THREADS + threadIdx.x;
    ggml_cuda_pdl_sync();
    for (int t = blockIdx.y; i < s.n_in && t < s.n_tokens; t += gridDim.y) {
        const float value = plm_slice_of_x(x, s, blockIdx.z)[t * s.x_token + i];
        out[(int64_t(blockIdx.z) * s.n_tokens + t) * s.n_in + i] = ggml_cuda_cast<out_t>(plm_activation<relu_sqr>(value));
    }
    ggml_cuda_pdl_lc();
}
