// Tensors of the network are float32 or float16; arithmetic is float32 in both.
#pragma once

struct Half {
    unsigned short bits;
};

__device__ inline float as_float(float value) { return value; }

__device__ inline float as_float(Half value) {
#ifdef FASTSAM_CPU_BUILD
    return cpu_float_from_half(value.bits);
#else
    float wide;  // as cuda_fp16.h does it: without the header, NVRTC needs no include path
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
#endif
}

__device__ inline void store(float* to, float value) { *to = value; }

__device__ inline void store(Half* to, float value) {
#ifdef FASTSAM_CPU_BUILD
    to->bits = cpu_half_from_float(value);
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to->bits) : "f"(value));
#endif
}

__device__ inline bool is_finite(float value) { return fabsf(value) <= 3.402823466e+38f; }  // false for NaN
