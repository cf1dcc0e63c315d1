// Bits of words, on every compiler.
#pragma once

#include <cstdint>

namespace fastsam {
namespace {

constexpr int64_t WORD_BITS = 32;

// Without an instruction for it: GCC calls a function there, which the portable path can live with.
inline int64_t count_bits(uint32_t bits) {
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_popcount(bits);
#else
    bits -= bits >> 1 & 0x55555555U;
    bits = (bits & 0x33333333U) + (bits >> 2 & 0x33333333U);
    return ((bits + (bits >> 4)) & 0x0f0f0f0fU) * 0x01010101U >> 24;
#endif
}

}  // namespace
}  // namespace fastsam
