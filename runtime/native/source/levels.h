// Which code paths there are, and how the compiler is told about their instructions.
//
// FASTSAM_BEGIN_… and FASTSAM_END stand around code for instructions that the rest of the library must not use. The
// standard headers are included before them: an inline function of theirs, compiled for AVX-512, would otherwise be
// shared with the portable code.
#pragma once

#include "api.h"

#if defined(__x86_64__) || defined(_M_X64)
#define FASTSAM_X86 1
#include <immintrin.h>
#elif defined(__aarch64__) || defined(_M_ARM64)
#define FASTSAM_ARM 1
#include <arm_neon.h>
#endif

#if defined(__clang__)
#define FASTSAM_BEGIN_AVX2 \
    _Pragma("clang attribute push(__attribute__((target(\"avx2,fma,popcnt\"))), apply_to = function)")
#define FASTSAM_BEGIN_AVX512 \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt\"))), apply_to = function)")
#define FASTSAM_END _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define FASTSAM_BEGIN_AVX2 _Pragma("GCC push_options") _Pragma("GCC target(\"avx2,fma,popcnt\")")
#define FASTSAM_BEGIN_AVX512 \
    _Pragma("GCC push_options") _Pragma("GCC target(\"avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,popcnt\")")
#define FASTSAM_END _Pragma("GCC pop_options")
#else
#define FASTSAM_BEGIN_AVX2
#define FASTSAM_BEGIN_AVX512
#define FASTSAM_END
#endif

namespace fastsam {

// The fastest level, or `level` itself where this processor has it; -1 where it has not.
int32_t resolved_level(int32_t level);

}  // namespace fastsam
