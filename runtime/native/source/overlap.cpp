// Pixels that masks share with boxes and with each other, counted in their words. Twins: `overlap` of
// `runtime/masks/packed.py` and `shared_pixels` of `runtime/masks/overlap.py`.

#include <algorithm>

#include "bits.h"
#include "levels.h"

namespace fastsam {
namespace {

// Pixels of the image; right and bottom exclusive.
struct Place {
    int64_t left, top, right, bottom;

    bool is_empty() const { return left >= right || top >= bottom; }
};

inline Place intersection(const Place& place, const Place& other) {
    return {std::max(place.left, other.left), std::max(place.top, other.top), std::min(place.right, other.right),
            std::min(place.bottom, other.bottom)};
}

struct Crop {
    const uint32_t* words;
    Place place;
    int64_t pitch;  // words of a row

    const uint32_t* row(int64_t y) const { return words + (y - place.top) * pitch; }
};

inline Crop crop_of(const uint32_t* words, const int64_t* starts, const int64_t* places, int64_t i) {
    const int64_t* place = places + 4 * i;
    return {words + starts[i], {place[0], place[1], place[2], place[3]}, (place[2] - place[0] + WORD_BITS - 1) / WORD_BITS};
}

// The words of a row that hold its bits left ≤ x < right; `begin` and `end` are those of the first and of the last one.
// Where both are the same word, `begin` has the bits of both.
struct Span {
    int64_t first, last;
    uint32_t begin, end;

    Span(int64_t left, int64_t right)
        : first(left / WORD_BITS), last((right - 1) / WORD_BITS), begin(~0U << left % WORD_BITS),
          end(~0U >> (WORD_BITS - 1 - (right - 1) % WORD_BITS)) {
        if (first == last) begin &= end;
    }
};

// 32 bits of a row of `pitch` words, from bit `shift` of word j on; before and beyond the row they are 0.
inline uint32_t word_at(const uint32_t* row, int64_t pitch, int64_t j, int shift) {
    const uint64_t low = j >= 0 ? row[j] : 0, high = j + 1 < pitch ? row[j + 1] : 0;
    return static_cast<uint32_t>((low | high << WORD_BITS) >> shift);
}

struct Kernels {
    int64_t (*count_inside)(const Crop&, const Place&);
    int64_t (*count_shared)(const Crop&, const Crop&, const Place&);
};

#define FASTSAM_KERNELS "overlap_kernels.h"
#include "kernels_by_level.h"

}  // namespace
}  // namespace fastsam

int32_t fastsam_inside(const uint32_t* words, const int64_t* starts, const int64_t* places, int64_t n,
                       const int64_t* boxes, int64_t m, int64_t* pixels, int32_t level) {
    using namespace fastsam;
    level = resolved_level(level);
    if (level < 0) return FASTSAM_NO_SUCH_LEVEL;
    const Kernels& kernels = kernels_of(level);
    for (int64_t i = 0; i < n; i++) {
        const Crop crop = crop_of(words, starts, places, i);
        for (int64_t j = 0; j < m; j++) {
            const int64_t* box = boxes + 4 * j;
            *pixels++ = kernels.count_inside(crop, {box[0], box[1], box[2], box[3]});
        }
    }
    return FASTSAM_OK;
}

int32_t fastsam_shared(const uint32_t* words, const int64_t* starts, const int64_t* places, const uint32_t* other_words,
                       const int64_t* other_starts, const int64_t* other_places, const int64_t* pairs, int64_t m,
                       const int64_t* box, int64_t* pixels, int32_t level) {
    using namespace fastsam;
    level = resolved_level(level);
    if (level < 0) return FASTSAM_NO_SUCH_LEVEL;
    const Kernels& kernels = kernels_of(level);
    for (int64_t k = 0; k < m; k++) {
        pixels[k] = kernels.count_shared(crop_of(words, starts, places, pairs[2 * k]),
                                         crop_of(other_words, other_starts, other_places, pairs[2 * k + 1]),
                                         {box[0], box[1], box[2], box[3]});
    }
    return FASTSAM_OK;
}
