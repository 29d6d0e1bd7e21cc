#pragma once

// What of AVX-512 the kernels may use in this translation unit.
//
//   PLM_AVX512        512 bits: F, BW, DQ and VL
//   PLM_AVX512_VNNI   and products of bytes and words
//   PLM_AVX512_VBMI   and bytes in any order
//
// Tests set PLM_NARROW: 256 bits also where there are 512, for AVX-VNNI's code on a CPU that has it in AVX-512 alone. They
// set PLM_AVX512_EMULATED to 1, 2 or 3 for the three of the list, by functions in place of instructions, for CPUs without.

#if defined(PLM_AVX512_EMULATED)
#define PLM_AVX512
#if PLM_AVX512_EMULATED > 1
#define PLM_AVX512_VNNI
#endif
#if PLM_AVX512_EMULATED > 2
#define PLM_AVX512_VBMI
#endif
#elif defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__) && !defined(PLM_NARROW)
#define PLM_AVX512
#if defined(__AVX512VNNI__)
#define PLM_AVX512_VNNI
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#define PLM_AVX512_VBMI
#endif
#endif
