#pragma once

// gcc's own header of AVX-512 intrinsics sets these off: https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#if defined(PLM_AVX512_EMULATED)
#include "avx512-emulated.h" // of the tests
#else
#include <immintrin.h>
#endif
