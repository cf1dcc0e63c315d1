// What happens around the network beside the masks: pixels to planes, and the suppression of boxes.

#include <algorithm>
#include <cmath>
#include <cstring>
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

// One axis of OpenCV's bilinear `resize` of bytes: two neighbours for each of `count` pixels, with shares of 2048.
struct Stretch {
    int64_t count, inside = 0;    // `inside`: so many pixels from the first on may be read as 8 bytes
    std::vector<int32_t> offsets;  // of the first neighbour: its number × step
    std::vector<int16_t> shares;   // (count, 2)
    std::vector<int32_t> pairs;    // the same, two in one number

    // Without `clamps`, neighbours may lie outside by one, as rows do there.
    Stretch(int64_t source, int64_t target, int64_t step, bool clamps) : count(target) {
        const double scale = 1.0 / (static_cast<double>(target) / static_cast<double>(source));
        offsets.reserve(static_cast<size_t>(target));
        shares.reserve(static_cast<size_t>(2 * target));
        for (int64_t i = 0; i < target; i++) {
            float share = static_cast<float>((static_cast<double>(i) + 0.5) * scale - 0.5);
            auto first = static_cast<int64_t>(std::floor(share));
            share -= static_cast<float>(first);
            if (clamps && (first < 0 || first >= source - 1)) {
                first = first < 0 ? 0 : source - 1;
                share = 0.0F;
            }
            offsets.push_back(static_cast<int32_t>(first * step));
            for (const float each : {1.0F - share, share}) shares.push_back(static_cast<int16_t>(std::lrint(each * 2048.0F)));
            if (first * step + 8 <= source * step) inside = i + 1;
        }
        pairs.resize(static_cast<size_t>(target));
        std::memcpy(pairs.data(), shares.data(), 2 * sizeof(int16_t) * static_cast<size_t>(target));
    }
};

struct Kernels {
    void (*split_row)(const uint8_t*, int64_t, float* const[3]);
    void (*stretch_row)(const uint8_t*, const Stretch&, int16_t*);
    void (*mix_rows)(const int16_t*, const int16_t*, int32_t, int32_t, int64_t, float* const[3]);
    void (*suppress)(const Box&, const Boxes&, int64_t, int64_t, float, uint8_t*);
};

#define FASTSAM_KERNELS "image_kernels.h"
#include "kernels_by_level.h"

// The boxes that are kept, of n, best score first; see fastsam_nms.
int64_t kept_boxes(const float* boxes, int64_t n, float threshold, int64_t most, int64_t* kept, const Kernels& kernels) {
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
}

}  // namespace
}  // namespace fastsam

int64_t fastsam_nms(const float* boxes, int64_t n, float threshold, int64_t most, int64_t* kept, int32_t level) {
    using namespace fastsam;
    try {
        return kept_boxes(boxes, n, threshold, most, kept, kernels_of(resolved_level(level)));
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

int32_t fastsam_resized(const uint8_t* pixels, int64_t height, int64_t width, int64_t pitch, int64_t out_height,
                        int64_t out_width, float* planes, int64_t row, int64_t plane, int32_t level) {
    using namespace fastsam;
    level = resolved_level(level);
    if (level < 0) return FASTSAM_NO_SUCH_LEVEL;
    const Kernels& kernels = kernels_of(level);
    try {
        const Stretch across(width, out_width, 3, true), down(height, out_height, 1, false);
        std::vector<int16_t> memory(static_cast<size_t>(8 * out_width));
        int16_t* stretched[2] = {memory.data(), memory.data() + 4 * out_width};
        int64_t numbers[2] = {-1, -1};
        // Each row of the image is stretched once, as rows that follow use the same ones or later ones.
        const auto stretched_row = [&](int64_t number) {
            number = std::min(std::max(number, int64_t{0}), height - 1);
            const int64_t slot = number & 1;
            if (numbers[slot] != number) kernels.stretch_row(pixels + number * pitch, across, stretched[slot]);
            numbers[slot] = number;
            return stretched[slot];
        };
        for (int64_t y = 0; y < out_height; y++) {
            const auto i = static_cast<size_t>(y);
            const int16_t* near = stretched_row(down.offsets[i]);
            const int16_t* far = stretched_row(int64_t{down.offsets[i]} + 1);
            float* first = planes + y * row;
            float* const rows[3] = {first, first + plane, first + 2 * plane};
            kernels.mix_rows(near, far, down.shares[2 * i], down.shares[2 * i + 1], out_width, rows);
        }
        return FASTSAM_OK;
    } catch (const std::bad_alloc&) {
        return FASTSAM_NO_MEMORY;
    }
}

int64_t fastsam_decode(const float* output, int64_t anchors, int64_t pitch, int64_t depth, float conf, float rounding,
                       float threshold, int64_t limit, int64_t most, float* boxes, float* scores, float* coefficients,
                       int32_t level) {
    using namespace fastsam;
    const float* all = output + 4 * pitch;
    const float low = -rounding, high = 1.0F + rounding;
    int64_t right = 0, count = 0;
    for (int64_t i = 0; i < anchors; i++) {
        right += (all[i] >= low) & (all[i] <= high);  // NaN is neither
        count += all[i] > conf;
    }
    if (right != anchors || count > limit) return -2;
    try {
        std::vector<int64_t> order, kept(static_cast<size_t>(count));
        order.reserve(static_cast<size_t>(count));
        for (int64_t i = 0; i < anchors; i++) {
            if (all[i] > conf) order.push_back(i);
        }
        std::stable_sort(order.begin(), order.end(), [all](int64_t a, int64_t b) { return all[a] > all[b]; });
        std::vector<float> sorted(static_cast<size_t>(4 * count));
        float check = 0.0F;  // stays 0: a number that is not finite gives NaN × 0
        float* box = sorted.data();
        for (const int64_t i : order) {
            const float *x = output + i, *y = x + pitch, *w = y + pitch, *h = w + pitch;
            const float across = *w / 2.0F, down = *h / 2.0F;
            for (const float side : {*x - across, *y - down, *x + across, *y + down}) {
                *box++ = side;
                check += side * 0.0F;
            }
        }
        const Kernels& kernels = kernels_of(resolved_level(level));
        const int64_t n = kept_boxes(sorted.data(), count, threshold, most, kept.data(), kernels);
        for (int64_t k = 0; k < n; k++, boxes += 4, coefficients += depth) {
            const int64_t place = kept[static_cast<size_t>(k)], i = order[static_cast<size_t>(place)];
            std::copy_n(sorted.data() + 4 * place, 4, boxes);
            scores[k] = all[i];
            for (int64_t q = 0; q < depth; q++) {
                coefficients[q] = all[(q + 1) * pitch + i];
                check += coefficients[q] * 0.0F;
            }
        }
        return check == 0.0F ? n : -2;
    } catch (const std::bad_alloc&) {
        return -1;
    }
}
