#pragma once

// How a warp reads 256 neighbouring values of a quantised row: each lane gets eight of them.
//
//   plm_rows<type>::read(row, block, n, lane, v)   v[j] = value 256 * block + column(lane, j) of the row, or 0 beyond n
//
// Lanes beside each other read bytes beside each other, in words as wide as the type's alignment allows.
// The includer brings ggml's types and `ggml_half`, which converts to float: common.cuh, or the emulator of tests/kernels.

template <ggml_type type> struct plm_rows;

template <> struct plm_rows<GGML_TYPE_F32> {
    static constexpr bool exact = true; // not quantised: of many tokens the product is of f32, not bf16
    static __device__ __forceinline__ int column(int lane, int j) { return lane + 32 * j; }
    static __device__ __forceinline__ void read(const char * row, int block, int n, int lane, float (&v)[8]) {
        for (int j = 0; j < 8; j++) {
            const int c = 256 * block + column(lane, j);
            v[j] = c < n ? ((const float *) row)[c] : 0.0f;
        }
    }
};

template <> struct plm_rows<GGML_TYPE_F16> {
    static constexpr bool exact = true;
    static __device__ __forceinline__ int column(int lane, int j) { return lane + 32 * j; }
    static __device__ __forceinline__ void read(const char * row, int block, int n, int lane, float (&v)[8]) {
        for (int j = 0; j < 8; j++) {
            const int c = 256 * block + column(lane, j);
            v[j] = c < n ? float(((const ggml_half *) row)[c]) : 0.0f;
        }
    }
};

// four lanes a block of 32
template <> struct plm_rows<GGML_TYPE_Q8_0> {
    static constexpr bool exact = false;
    static __device__ __forceinline__ int column(int lane, int j) { return 8 * lane + j; }
    static __device__ __forceinline__ void read(const char * row, int block, int n, int lane, float (&v)[8]) {
        const int ib = 8 * block + lane / 4;
        if (32 * ib >= n) {
            for (int j = 0; j < 8; j++) {
                v[j] = 0.0f;
            }
            return;
        }
        const block_q8_0 * b = (const block_q8_0 *) row + ib;
        const uint16_t * q = (const uint16_t *) (b->qs + 8 * (lane % 4)); // blocks of 34 bytes are aligned to 2
        const float d = b->d;
        for (int j = 0; j < 4; j++) {
            v[2 * j + 0] = d * int8_t(q[j] & 0xFF);
            v[2 * j + 1] = d * int8_t(q[j] >> 8);
        }
    }
};

// four lanes a block of 32; a byte holds the values j and j + 16
template <> struct plm_rows<GGML_TYPE_Q4_0> {
    static constexpr bool exact = false;
    static __device__ __forceinline__ int column(int lane, int j) { return 32 * (lane / 4) + 4 * (lane % 4) + (j & 3) + 16 * (j >> 2); }
    static __device__ __forceinline__ void read(const char * row, int block, int n, int lane, float (&v)[8]) {
        const int ib = 8 * block + lane / 4;
        if (32 * ib >= n) {
            for (int j = 0; j < 8; j++) {
                v[j] = 0.0f;
            }
            return;
        }
        const block_q4_0 * b = (const block_q4_0 *) row + ib;
        const uint16_t * q = (const uint16_t *) (b->qs + 4 * (lane % 4));
        const uint32_t four = q[0] | uint32_t(q[1]) << 16;
        const float d = b->d;
        for (int j = 0; j < 4; j++) {
            v[j + 0] = d * (int(four >> (8 * j) & 0xF) - 8);
            v[j + 4] = d * (int(four >> (8 * j + 4) & 0xF) - 8);
        }
    }
};

// scale and minimum of sub-block i of q4_K and q5_K, six bits each
static __device__ __forceinline__ void plm_scale_min(const uint8_t * scales, int i, float & scale, float & minimum) {
    if (i < 4) {
        scale = scales[i] & 63;
        minimum = scales[i + 4] & 63;
    } else {
        scale = (scales[i + 4] & 0xF) | (scales[i - 4] >> 6) << 4;
        minimum = (scales[i + 4] >> 4) | (scales[i] >> 6) << 4;
    }
}

// eight lanes a pair of sub-blocks, whose values share bytes
template <> struct plm_rows<GGML_TYPE_Q4_K> {
    static constexpr bool exact = false;
    static __device__ __forceinline__ int column(int lane, int j) { return 64 * (lane / 8) + 4 * (lane % 8) + (j & 3) + 32 * (j >> 2); }
    static __device__ __forceinline__ void read(const char * row, int block, int, int lane, float (&v)[8]) {
        const block_q4_K * b = (const block_q4_K *) row + block;
        const int pair = lane / 8;
        const uint32_t q = *(const uint32_t *) (b->qs + 32 * pair + 4 * (lane % 8));
        const float d = b->data.d, dmin = b->data.dmin;
        float s0, m0, s1, m1;
        plm_scale_min(b->scales, 2 * pair, s0, m0);
        plm_scale_min(b->scales, 2 * pair + 1, s1, m1);
        for (int j = 0; j < 4; j++) {
            v[j + 0] = d * s0 * float(q >> (8 * j) & 0xF) - dmin * m0;
            v[j + 4] = d * s1 * float(q >> (8 * j + 4) & 0xF) - dmin * m1;
        }
    }
};

// as q4_K; bit 2 * pair of qh's byte is the fifth of the first sub-block's value, the next one the second's
template <> struct plm_rows<GGML_TYPE_Q5_K> {
    static constexpr bool exact = false;
    static __device__ __forceinline__ int column(int lane, int j) { return plm_rows<GGML_TYPE_Q4_K>::column(lane, j); }
    static __device__ __forceinline__ void read(const char * row, int block, int, int lane, float (&v)[8]) {
        const block_q5_K * b = (const block_q5_K *) row + block;
        const int pair = lane / 8;
        const uint32_t q = *(const uint32_t *) (b->qs + 32 * pair + 4 * (lane % 8));
        const uint32_t h = *(const uint32_t *) (b->qh + 4 * (lane % 8)) >> (2 * pair);
        const float d = b->data.d, dmin = b->data.dmin;
        float s0, m0, s1, m1;
        plm_scale_min(b->scales, 2 * pair, s0, m0);
        plm_scale_min(b->scales, 2 * pair + 1, s1, m1);
        for (int j = 0; j < 4; j++) {
            v[j + 0] = d * s0 * float((q >> (8 * j) & 0xF) | (h >> (8 * j) & 1) << 4) - dmin * m0;
            v[j + 4] = d * s1 * float((q >> (8 * j + 4) & 0xF) | (h >> (8 * j + 1) & 1) << 4) - dmin * m1;
        }
    }
};

// sixteen lanes a half of 128 values; blocks of 210 bytes are aligned to 2
template <> struct plm_rows<GGML_TYPE_Q6_K> {
    static constexpr bool exact = false;
    static __device__ __forceinline__ int column(int lane, int j) { return 128 * (lane / 16) + 2 * (lane % 16) + (j & 1) + 32 * (j >> 1); }
    static __device__ __forceinline__ void read(const char * row, int block, int, int lane, float (&v)[8]) {
        const block_q6_K * b = (const block_q6_K *) row + block;
        const int half = lane / 16, at = 2 * (lane % 16);
        const uint32_t low = *(const uint16_t *) (b->ql + 64 * half + at);
        const uint32_t next = *(const uint16_t *) (b->ql + 64 * half + at + 32);
        const uint32_t high = *(const uint16_t *) (b->qh + 32 * half + at);
        const int8_t * scales = b->scales + 8 * half + at / 16;
        const float d = b->d;
        for (int j = 0; j < 8; j++) {
            const int of = j >> 1, shift = 8 * (j & 1); // a quarter of the half; which of two bytes
            const uint32_t four = (of & 1 ? next : low) >> (shift + 4 * (of >> 1)) & 0xF;
            v[j] = d * scales[2 * of] * float(int(four | (high >> (shift + 2 * of) & 3) << 4) - 32);
        }
    }
};
