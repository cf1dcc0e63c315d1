// The kernels of one source, compiled once for each set of instructions, and the choice among them. No include guard:
// a source defines its `Kernels`, names the file of its kernels in FASTSAM_KERNELS, and includes this.

namespace portable {
#include "vectors_portable.h"
#include FASTSAM_KERNELS
}  // namespace portable

#if defined(FASTSAM_ARM)
namespace neon {
#include "vectors_neon.h"
#include FASTSAM_KERNELS
}  // namespace neon
#endif

#if defined(FASTSAM_X86)
FASTSAM_BEGIN_AVX2
namespace avx2 {
#include "vectors_avx2.h"
#include FASTSAM_KERNELS
}  // namespace avx2
FASTSAM_END

FASTSAM_BEGIN_AVX512
namespace avx512 {
#include "vectors_avx512.h"
#include FASTSAM_KERNELS
}  // namespace avx512
FASTSAM_END
#endif

const Kernels& kernels_of(int32_t level) {
    switch (level) {
#if defined(FASTSAM_X86)
        case FASTSAM_AVX512:
            return avx512::KERNELS;
        case FASTSAM_AVX2:
            return avx2::KERNELS;
#endif
#if defined(FASTSAM_ARM)
        case FASTSAM_NEON:
            return neon::KERNELS;
#endif
        default:
            return portable::KERNELS;
    }
}
