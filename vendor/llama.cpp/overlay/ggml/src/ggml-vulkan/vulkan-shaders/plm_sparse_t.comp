#version 450

// MUL_MAT_SPARSE_T (plm-ops/mul-mat-sparse-t.h): y = W^T f(x) over the rows of W that any of TOKENS tokens selects.
//
// A workgroup takes 256 columns, two an invocation, and a share of the rows. It lists the selected rows of 128 at a time, in
// ascending order, by a sum over shared memory: subgroups may have any size. The workgroups' sums are added in their order
// by mul_mat_split_k_reduce.comp. No float is added atomically: the same call has the same bits.

#extension GL_EXT_control_flow_attributes : enable

#include "types.glsl"

layout(constant_id = 0) const uint TOKENS = 1;

const uint SIZE = 128;
layout(local_size_x = 128, local_size_y = 1, local_size_z = 1) in;

layout(push_constant) uniform parameter {
    uint n_in;
    uint n_out;
    uint n_tokens;
    uint n_slices;  // heads times batches
    uint n_heads;
    uint n_groups;  // of TOKENS tokens
    uint w_heads;   // 1: all share it
    uint w_batches;
    uint w_row;     // strides of W are in blocks
    uint w_head;
    uint w_batch;
    uint w_offset;
    uint x_token;   // and those of x in floats
    uint x_head;
    uint x_batch;
    uint x_offset;
    uint share;     // rows of a workgroup
    uint relu_sqr;
} p;

layout(binding = 0) readonly buffer A { A_TYPE data_a[]; };
#if defined(A_TYPE_PACKED16)
layout(binding = 0) readonly buffer A_PACKED16 { A_TYPE_PACKED16 data_a_packed16[]; };
#endif
#if defined(A_TYPE_PACKED32)
layout(binding = 0) readonly buffer A_PACKED32 { A_TYPE_PACKED32 data_a_packed32[]; };
#endif
#if defined(A_TYPE_PACKED64)
layout(binding = 0) readonly buffer A_PACKED64 { A_TYPE_PACKED64 data_a_packed64[]; };
#endif
layout(binding = 1) readonly buffer X { float data_x[]; };
layout(binding = 2) writeonly buffer D { float data_d[]; };

#include "dequant_funcs.glsl"

shared uint selected[SIZE];
shared uint listed[SIZE];
shared float factors[TOKENS * SIZE];

// by bits: a driver may take it that no float is a NaN
bool is_nan(float x) { return (floatBitsToUint(x) & 0x7FFFFFFFu) > 0x7F800000u; }
bool is_zero(float x) { return (floatBitsToUint(x) & 0x7FFFFFFFu) == 0u; }

float activation(float x) {
    if (p.relu_sqr == 0 || is_nan(x)) {
        return x;
    }
    return x <= 0.0 ? 0.0 : x * x;
}

void main() {
    const uint id = gl_LocalInvocationIndex;
    const uint slice = gl_WorkGroupID.z / p.n_groups;
    const uint head = slice % p.n_heads, batch = slice / p.n_heads;
    const uint first_token = gl_WorkGroupID.z % p.n_groups * TOKENS;
    const uint w_base = p.w_offset + batch % p.w_batches * p.w_batch + head % p.w_heads * p.w_head;
    const uint x_base = p.x_offset + batch * p.x_batch + head * p.x_head + first_token * p.x_token;

    const uint column = gl_WorkGroupID.x * 256 + 2 * id;
    const bool inside = column < p.n_out;
    const uint block = column / QUANT_K, at = column % QUANT_K / QUANT_R;

    vec2 sum[TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        sum[t] = vec2(0.0);
    }
    const uint end = min(p.n_in, (gl_WorkGroupID.y + 1) * p.share);
    for (uint base = gl_WorkGroupID.y * p.share; base < end; base += SIZE) {
        const uint row = base + id;
        float f[TOKENS];
        bool any_selects = false;
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            f[t] = row < end && first_token + t < p.n_tokens ? activation(data_x[x_base + t * p.x_token + row]) : 0.0;
            any_selects = any_selects || !is_zero(f[t]);
        }
        uint upto = any_selects ? 1 : 0;
        selected[id] = upto;
        barrier();
        for (uint d = 1; d < SIZE; d *= 2) {
            const uint other = id >= d ? selected[id - d] : 0;
            barrier();
            upto += other;
            selected[id] = upto;
            barrier();
        }
        const uint n = selected[SIZE - 1];
        if (any_selects) {
            listed[upto - 1] = row;
            [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                factors[t * SIZE + upto - 1] = f[t];
            }
        }
        barrier();
        if (inside) {
            for (uint k = 0; k < n; k++) {
                const uint ib = w_base + listed[k] * p.w_row + block;
                vec2 w = dequantize(ib, at, 0);
#if QUANT_K > 1
                const vec2 dm = get_dm(ib, 0);
                w = w * dm.x + dm.y;
#endif
                [[unroll]] for (uint t = 0; t < TOKENS; t++) {
                    const float factor = factors[t * SIZE + k];
                    if (!is_zero(factor)) { // else a W that is not finite would count
                        sum[t] += factor * w;
                    }
                }
            }
        }
        barrier();
    }
    if (inside) {
        const uint c = QUANT_R == 1 ? column : column - column % QUANT_K + at;
        const uint next = QUANT_R == 1 ? 1 : QUANT_K / 2;
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            if (first_token + t < p.n_tokens) {
                const uint y = ((gl_WorkGroupID.y * p.n_slices + slice) * p.n_tokens + first_token + t) * p.n_out + c;
                data_d[y] = sum[t].x;
                data_d[y + next] = sum[t].y;
            }
        }
    }
}
