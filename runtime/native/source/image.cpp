// What happens around the network beside the masks: pixels to planes, and the suppression of boxes.

#include <new>
#include <vector>

#include "levels.h"

namespace fastsam {
namespace {

constexpr float INVERSE = static_cast<float>(1.0 / 255.0);
constexpr float INVERSE_REST = static_cast<float>(1.0 / 255.0 - static_cast<double>(INVERSE));

struct Box {
    float x1, y1, x2, y2, area;
};

struct Boxes {
    const float *x1, *y1, *x2, *y2, *areas;
};

struct Kernels {
    void (*split_row)(const uint8_t*, int64_t, float* const[3]);
    void (*suppress)(const Box&, const Boxes&, int64_t, int64_t, float, uint8_t*);
};

#define FASTSAM_KERNELS "image_kernels.h"
#include "kernels_by_level.h"

}  // namespace
}  // namespace fastsam

int64_t fastsam_nms(const float* boxes, int64_t n, float threshold, int64_t most, int64_t* kept, int32_t level) {
    using namespace fastsam;
    const Kernels& kernels = kernels_of(resolved_level(level));
    try {
        const auto count = static_cast<size_t>(n);
        std::vector<float> sides(5 * count);
        std::vector<uint8_t> alive(count, 1);
        float *x1 = sides.data(), *y1 = x1 + n, *x2 = y1 + n, *y2 = x2 + n, *areas = y2 + n;
        for (int64_t i = 0; i < n; i++, boxes += 4) {
            x1[i] = boxes[0];
            y1[i] = boxes[1];
            x2[i] = boxes[2];
            y2[i] = boxes[3];
            areas[i] = (x2[i] - x1[i]) * (y2[i] - y1[i]);
        }
        const Boxes columns{x1, y1, x2, y2, areas};
        int64_t found = 0;
        for (int64_t i = 0; i < n && found < most; i++) {
            if (!alive[static_cast<size_t>(i)]) continue;
            kept[found++] = i;
            kernels.suppress({x1[i], y1[i], x2[i], y2[i], areas[i]}, columns, i + 1, n, threshold, alive.data());
        }
        return found;
    } catch (const std::bad_alloc&) {
        return -1;
    }
}

int32_t fastsam_planes(const uint8_t* pixels, int64_t height, int64_t width, int64_t pitch, float* planes, int64_t row,
                       int64_t plane, int32_t level) {
    using namespace fastsam;
    level = resolved_level(level);
    if (level < 0) return FASTSAM_NO_SUCH_LEVEL;
    const Kernels& kernels = kernels_of(level);
    for (int64_t y = 0; y < height; y++) {
        float* first = planes + y * row;
        float* const rows[3] = {first, first + plane, first + 2 * plane};
        kernels.split_row(pixels + y * pitch, width, rows);
    }
    return FASTSAM_OK;
}
