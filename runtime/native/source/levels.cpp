// What this processor can run.

#include "levels.h"

#if defined(_MSC_VER) && !defined(__clang__) && defined(FASTSAM_X86)
#include <intrin.h>
#endif

namespace fastsam {
namespace {

#if defined(FASTSAM_X86)
#if defined(_MSC_VER) && !defined(__clang__)
// The operating system must save the registers too: XGETBV says whether it does.
bool has(bool wide) {
    int leaf1[4], leaf7[4];
    __cpuidex(leaf1, 1, 0);
    const bool fma = leaf1[2] & (1 << 12), osxsave = leaf1[2] & (1 << 27), popcnt = leaf1[2] & (1 << 23);
    if (!fma || !osxsave || !popcnt) return false;
    const unsigned long long saved = _xgetbv(0);
    __cpuidex(leaf7, 7, 0);
    const unsigned features = static_cast<unsigned>(leaf7[1]);
    if (!wide) return (saved & 0x6) == 0x6 && (features & (1U << 5));
    const unsigned needed = 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31;  // F, DQ, BW, VL
    return (saved & 0xe6) == 0xe6 && (features & needed) == needed;
}
bool has_avx2() { return has(false); }
bool has_avx512() { return has(false) && has(true); }
#else
bool has_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif
#endif

bool has_level(int32_t level) {
    switch (level) {
        case FASTSAM_PORTABLE:
            return true;
#if defined(FASTSAM_ARM)
        case FASTSAM_NEON:
            return true;
#endif
#if defined(FASTSAM_X86)
        case FASTSAM_AVX2:
            return has_avx2();
        case FASTSAM_AVX512:
            return has_avx512();
#endif
        default:
            return false;
    }
}

}  // namespace

int32_t resolved_level(int32_t level) {
    if (level >= 0) return has_level(level) ? level : -1;
    for (int32_t best = FASTSAM_AVX512; best > FASTSAM_PORTABLE; best--) {
        if (has_level(best)) return best;
    }
    return FASTSAM_PORTABLE;
}

}  // namespace fastsam

int32_t fastsam_abi() { return FASTSAM_ABI; }
int32_t fastsam_best_level() { return fastsam::resolved_level(-1); }
int32_t fastsam_has_level(int32_t level) { return level >= 0 && fastsam::resolved_level(level) == level; }
