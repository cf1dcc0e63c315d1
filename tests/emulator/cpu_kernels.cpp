// All kernels of runtime/cuda/kernels in one library for the host. build.py compiles it.
#include "cuda_cpu.h"

#include "candidates.cu"
#include "letterbox.cu"
#include "masks.cu"
#include "nms.cu"
#include "prompts.cu"

extern "C" {
extern const CpuKernel cpu_kernels[] = {
    CPU_KERNEL(letterbox_f32),
    CPU_KERNEL(letterbox_f16),
    CPU_KERNEL(reset_summaries),
    CPU_KERNEL(candidates_f32),
    CPU_KERNEL(candidates_f16),
    CPU_KERNEL_WITH_BARRIERS(rank_candidates_f32),
    CPU_KERNEL_WITH_BARRIERS(rank_candidates_f16),
    CPU_KERNEL_WITH_BARRIERS(suppress),
    CPU_KERNEL_WITH_BARRIERS(accept_f32),
    CPU_KERNEL_WITH_BARRIERS(accept_f16),
    CPU_KERNEL(join_rows_f32),
    CPU_KERNEL(join_rows_f16),
    CPU_KERNEL(gather_f32),
    CPU_KERNEL(gather_f16),
    CPU_KERNEL_WITH_BARRIERS(layout_masks),
    CPU_KERNEL(check_prototypes_f32),
    CPU_KERNEL(check_prototypes_f16),
    CPU_KERNEL_WITH_BARRIERS(masks_f32),
    CPU_KERNEL_WITH_BARRIERS(masks_f16),
    CPU_KERNEL(contain),
    CPU_KERNEL_WITH_BARRIERS(box_overlap),
    CPU_KERNEL(join_masks),
    CPU_KERNEL(morph),
};
extern const std::uint32_t cpu_kernel_count = sizeof(cpu_kernels) / sizeof(cpu_kernels[0]);

void cpu_set_order(int order) { cpu::order_of_turns = order; }

// Sizes and offsets of the records, to be compared with the NumPy types: name, field, offset; field "" has the size.
struct CpuField {
    const char* record;
    const char* field;
    std::uint32_t offset;
};
#define FIELD(record, field) {#record, #field, offsetof(record, field)}
#define SIZE(record) {#record, "", sizeof(record)}
extern const CpuField cpu_fields[] = {
    SIZE(Place), FIELD(Place, image_at), FIELD(Place, resize_rows_at), FIELD(Place, resize_columns_at),
    FIELD(Place, mask_rows_at), FIELD(Place, mask_columns_at), FIELD(Place, image_h), FIELD(Place, image_w),
    FIELD(Place, drawn_h), FIELD(Place, drawn_w), FIELD(Place, drawn_y), FIELD(Place, drawn_x), FIELD(Place, pad_x),
    FIELD(Place, pad_y), FIELD(Place, scale_x), FIELD(Place, scale_y), FIELD(Place, conf), FIELD(Place, iou),
    FIELD(Place, max_det), FIELD(Place, reserved),
    SIZE(ResizeTap), FIELD(ResizeTap, near), FIELD(ResizeTap, far), FIELD(ResizeTap, near_share),
    FIELD(ResizeTap, far_share),
    SIZE(MaskTap), FIELD(MaskTap, first), FIELD(MaskTap, share),
    SIZE(Candidate), FIELD(Candidate, x1), FIELD(Candidate, y1), FIELD(Candidate, x2), FIELD(Candidate, y2),
    FIELD(Candidate, score), FIELD(Candidate, class_id), FIELD(Candidate, anchor), FIELD(Candidate, reserved),
    SIZE(Summary), FIELD(Summary, candidates), FIELD(Summary, kept), FIELD(Summary, flags), FIELD(Summary, reserved),
    SIZE(Detection), FIELD(Detection, x1), FIELD(Detection, y1), FIELD(Detection, x2), FIELD(Detection, y2),
    FIELD(Detection, score), FIELD(Detection, class_id), FIELD(Detection, anchor), FIELD(Detection, area),
    FIELD(Detection, left), FIELD(Detection, top), FIELD(Detection, width), FIELD(Detection, height),
    FIELD(Detection, first_word), FIELD(Detection, pitch), FIELD(Detection, image),
};
extern const std::uint32_t cpu_field_count = sizeof(cpu_fields) / sizeof(cpu_fields[0]);

// Constants of layout.cuh that Python has as well.
struct CpuConstant {
    const char* name;
    std::int64_t value;
};
#define CONSTANT(name) {#name, name}
extern const CpuConstant cpu_constants[] = {
    CONSTANT(BLOCK), CONSTANT(TILE_WORDS), CONSTANT(OVERLAP_BLOCK), CONSTANT(MAX_MASK_DIM), CONSTANT(TAPS),
    CONSTANT(WORD_BITS), CONSTANT(NONFINITE_SCORES), CONSTANT(NONFINITE_BOXES), CONSTANT(NONFINITE_COEFFICIENTS),
    CONSTANT(NONFINITE_PROTOTYPES),
};
extern const std::uint32_t cpu_constant_count = sizeof(cpu_constants) / sizeof(cpu_constants[0]);
}
