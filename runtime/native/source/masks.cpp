// Coefficients × prototypes → masks as bits, each on its own box. Twin: `runtime/stages/assemble.py`.
//
// Prototypes are read row by row, once for all masks. A pixel of the image is a mean of 3 × 3 logits, so a mask needs
// the last three rows of its logits only. Where all logits around 32 pixels are on one side of the threshold, these
// pixels are decided without a calculation: shares are never negative, so a mean of positive numbers is positive. What
// remains, the words on a mask's outline, is calculated with the same operations in the same order as in the twin.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <vector>

#include "bits.h"
#include "levels.h"

namespace fastsam {
namespace {

constexpr int TILE = 32;  // columns of prototypes that are multiplied at once; also bits of a word
constexpr int TAPS = 3;
constexpr int PADDING = 64;  // values after a row that vector loads may touch
constexpr int64_t LINE = 64 / sizeof(float);  // values of a line of the cache

struct Threshold {
    float value, surely_above, surely_not;
};

// The horizontal axis, with a margin on the right for whole words.
struct Columns {
    const int32_t* first;
    const float* shares[TAPS];
};

struct Kernels {
    bool (*pack_row)(const float*, int64_t, int64_t, int64_t, float*);
    void (*multiply_tiles)(const float*, int64_t, const float* const*, float* const*, int64_t);
    void (*classify)(const float*, int64_t, const Threshold&, uint32_t*, uint32_t*);
    int64_t (*mix_word)(const float* const[TAPS], const Columns&, int64_t, int32_t, const float*, int64_t, int64_t,
                        float, uint32_t, uint32_t*, int64_t);
};

inline void prefetch(const float* from) {
#if defined(__GNUC__) || defined(__clang__)
    __builtin_prefetch(from);
#elif defined(FASTSAM_X86)
    _mm_prefetch(reinterpret_cast<const char*>(from), _MM_HINT_T0);
#else
    static_cast<void>(from);
#endif
}

#define FASTSAM_KERNELS "mask_kernels.h"
#include "kernels_by_level.h"

// A mask, in pixels of the image and in prototypes.
struct Mask {
    int64_t left, top, right, bottom;
    int64_t first_row, last_row;    // of the groups: image rows that begin with the same prototype row
    int64_t first_tile, tile_count;
    int64_t pitch;                  // words of a row
    int64_t ring;                   // where its rows of logits begin in the memory of the call
    int64_t flags;                  // where its bits begin there
    uint32_t* words;

    int64_t stride() const { return tile_count * TILE + PADDING; }
    int32_t base() const { return static_cast<int32_t>(first_tile * TILE); }
};

struct Job {
    const float* coefficients;
    const float* prototypes;
    int64_t depth, rows, columns;
    const int32_t* first_vertical;
    const float* shares_vertical;
    Threshold threshold;
    const Kernels* kernels;
    Columns horizontal;
    std::vector<Mask> masks;
    std::vector<int64_t> groups;  // (rows + 1,): the first image row that begins with this prototype row or a later one
    int64_t ring_values = 0, flag_words = 0, widest = 0;
};

// The memory of a call, and its work.
class Worker {
  public:
    explicit Worker(const Job& job)
        : job_(job), tile_count_((job.columns + TILE - 1) / TILE),
          storage_(static_cast<size_t>(tile_count_ * TILE * job.depth + job.ring_values + LINE), 0.0F),
          flags_(static_cast<size_t>(job.flag_words), 0), template_(static_cast<size_t>(job.widest), 0) {
        const auto address = reinterpret_cast<uintptr_t>(storage_.data());
        tiles_ = storage_.data() + (64 - address % 64) % 64 / sizeof(float);
        ring_ = tiles_ + tile_count_ * TILE * job.depth;
        mixed_.resize(template_.size() + 1);
        active_.reserve(job.masks.size());
        coefficients_.resize(job.masks.size());
        logits_.resize(job.masks.size());
        solid_.resize(2 * static_cast<size_t>(tile_count_ + 4));
    }

    // False: a prototype is NaN or infinite.
    bool run(int64_t* areas) {
        for (int64_t row = 0; row < job_.rows; row++) {
            const float* prototypes = job_.prototypes + row * job_.columns;
            if (!job_.kernels->pack_row(prototypes, job_.rows * job_.columns, job_.columns, job_.depth, tiles_)) {
                return false;
            }
            select(row);
            multiply(row);
            for (const int64_t i : active_) {
                const Mask& mask = job_.masks[static_cast<size_t>(i)];
                uint32_t* flags = flags_of(mask, row);
                job_.kernels->classify(logits_of(mask, row), mask.tile_count, job_.threshold, flags,
                                       flags + mask.tile_count);
                const int64_t group = row - (TAPS - 1);
                if (group >= mask.first_row) areas[i] += write(mask, group);
            }
        }
        return true;
    }

  private:
    float* logits_of(const Mask& mask, int64_t row) { return ring_ + mask.ring + row % TAPS * mask.stride(); }
    uint32_t* flags_of(const Mask& mask, int64_t row) {
        return flags_.data() + mask.flags + row % TAPS * 2 * mask.tile_count;
    }

    // The masks that need this row of logits.
    void select(int64_t row) {
        active_.clear();
        for (size_t i = 0; i < job_.masks.size(); i++) {
            const Mask& mask = job_.masks[i];
            if (row >= mask.first_row && row < mask.last_row + TAPS) active_.push_back(static_cast<int64_t>(i));
        }
    }

    void multiply(int64_t row) {
        for (int64_t tile = 0; tile < tile_count_; tile++) {
            size_t count = 0;
            for (const int64_t i : active_) {
                const Mask& mask = job_.masks[static_cast<size_t>(i)];
                const int64_t place = tile - mask.first_tile;
                if (place < 0 || place >= mask.tile_count) continue;
                coefficients_[count] = job_.coefficients + i * job_.depth;
                logits_[count++] = logits_of(mask, row) + place * TILE;
            }
            job_.kernels->multiply_tiles(tiles_ + tile * TILE * job_.depth, job_.depth, coefficients_.data(),
                                         logits_.data(), static_cast<int64_t>(count));
        }
    }

    // The image rows of a mask that begin with prototype row `group`; returns how many of their pixels are in it.
    int64_t write(const Mask& mask, int64_t group) {
        const int64_t top = std::max(mask.top, job_.groups[static_cast<size_t>(group)]);
        const int64_t bottom = std::min(mask.bottom, job_.groups[static_cast<size_t>(group + 1)]);
        if (top >= bottom) return 0;
        uint32_t* inside = solid_.data();
        uint32_t* outside = inside + mask.tile_count + 4;
        if (!unite(mask, group, inside, outside)) return 0;
        const int64_t full = sort_words(mask, inside, outside);
        uint32_t* words = mask.words + (top - mask.top) * mask.pitch;
        int64_t area = full * (bottom - top);
        if (full) {
            for (int64_t y = 0; y < bottom - top; y++) {
                std::memcpy(words + y * mask.pitch, template_.data(), static_cast<size_t>(mask.pitch) * sizeof(uint32_t));
            }
        }
        const float* const rows[TAPS] = {logits_of(mask, group), logits_of(mask, group + 1), logits_of(mask, group + 2)};
        for (size_t m = 0; m < mixed_count_; m++) {
            const int64_t j = mixed_[m];
            area += job_.kernels->mix_word(rows, job_.horizontal, mask.left + j * TILE, mask.base(),
                                           job_.shares_vertical, top, bottom, job_.threshold.value, valid(mask, j),
                                           words + j, mask.pitch);
        }
        return area;
    }

    // Bit c: all of the 3 × 3 logits from column c on are surely inside, or surely outside. False: nothing is inside.
    bool unite(const Mask& mask, int64_t group, uint32_t* inside, uint32_t* outside) {
        const uint32_t* flags[TAPS];
        for (int t = 0; t < TAPS; t++) flags[t] = flags_of(mask, group + t);
        const int64_t count = mask.tile_count;
        for (int64_t b = 0; b < count; b++) {
            inside[b] = flags[0][b] & flags[1][b] & flags[2][b];
            outside[b] = flags[0][count + b] & flags[1][count + b] & flags[2][count + b];
        }
        for (int64_t b = count; b < count + 4; b++) inside[b] = outside[b] = 0;
        for (int64_t b = 0; b < count; b++) {
            inside[b] = three_in_a_row(inside + b);
            outside[b] = three_in_a_row(outside + b);
        }
        const int32_t from = job_.horizontal.first[mask.left] - mask.base();
        const int32_t to = job_.horizontal.first[mask.right - 1] - mask.base();
        for (int32_t c = from / TILE; c <= to / TILE; c++) {
            const uint32_t begin = c == from / TILE ? ~0U << from % TILE : ~0U;
            const uint32_t end = c == to / TILE ? ~0U >> (TILE - 1 - to % TILE) : ~0U;
            if (~outside[c] & begin & end) return true;
        }
        return false;
    }

    static uint32_t three_in_a_row(const uint32_t* bits) {
        const uint64_t two = bits[0] | static_cast<uint64_t>(bits[1]) << 32;
        return static_cast<uint32_t>(two & two >> 1 & two >> 2);
    }

    // Fills `template_`, a row of a mask whose mixed words are 0, and `mixed_`; returns the pixels in the template.
    int64_t sort_words(const Mask& mask, const uint32_t* inside, const uint32_t* outside) {
        const int32_t* first = job_.horizontal.first + mask.left;
        const int64_t last = mask.pitch - 1;
        int64_t solid = 0;
        size_t mixed = 0;
        // Without branches, which would be guessed wrong at every outline.
        for (int64_t j = 0; j <= last; j++) {
            const int32_t from = first[j * TILE] - mask.base();
            const int32_t to = first[j == last ? mask.right - mask.left - 1 : j * TILE + TILE - 1] - mask.base();
            const bool in = are_set(inside, from, to), out = are_set(outside, from, to);
            template_[static_cast<size_t>(j)] = in ? ~0U : 0U;
            solid += in;
            mixed_[mixed] = j;
            mixed += !(in | out);
        }
        mixed_count_ = mixed;
        uint32_t& end = template_[static_cast<size_t>(last)];
        const int64_t beyond = end ? TILE - count_bits(valid(mask, last)) : 0;
        end &= valid(mask, last);
        return solid * TILE - beyond;
    }

    // Bits [from, to]; false if they are too many to see at once, which costs time and changes no answer.
    static bool are_set(const uint32_t* bits, int32_t from, int32_t to) {
        const uint32_t* word = bits + from / TILE;
        const uint64_t two = (word[0] | static_cast<uint64_t>(word[1]) << 32) >> from % TILE;
        const uint64_t wanted = (uint64_t{2} << ((to - from) & (TILE - 1))) - 1;
        return ((two & wanted) == wanted) & (to - from < TILE);
    }

    // The bits of word j of a row that are pixels of the crop.
    static uint32_t valid(const Mask& mask, int64_t j) {
        const int64_t left = mask.right - mask.left - j * TILE;
        return left >= TILE ? ~0U : ~(~0U << left);
    }

    const Job& job_;
    const int64_t tile_count_;
    std::vector<float> storage_;
    std::vector<uint32_t> flags_, template_, solid_;
    std::vector<int64_t> mixed_, active_;
    std::vector<const float*> coefficients_;
    std::vector<float*> logits_;
    size_t mixed_count_ = 0;
    float *tiles_, *ring_;
};

// Where masks lie, in pixels, prototypes, and the memory of the call.
void plan_masks(Job& job, int64_t n, const int64_t* corners, uint32_t* words, const int64_t* starts) {
    job.masks.resize(static_cast<size_t>(n));
    const int32_t* across = job.horizontal.first;
    for (int64_t i = 0; i < n; i++) {
        Mask& mask = job.masks[static_cast<size_t>(i)];
        const int64_t* corner = corners + 4 * i;
        mask = {corner[0], corner[1], corner[2], corner[3], 0, -TAPS, 0, 0, 0, 0, 0, words + starts[i]};
        if (mask.left >= mask.right || mask.top >= mask.bottom) continue;  // no row is one of its rows
        mask.first_row = job.first_vertical[mask.top];
        mask.last_row = job.first_vertical[mask.bottom - 1];
        mask.first_tile = across[mask.left] / TILE;
        mask.tile_count = (across[mask.right - 1] + TAPS - 1) / TILE + 1 - mask.first_tile;
        mask.pitch = (mask.right - mask.left + TILE - 1) / TILE;
        mask.ring = job.ring_values;
        mask.flags = job.flag_words;
        job.ring_values += TAPS * mask.stride();
        job.flag_words += TAPS * 2 * mask.tile_count;
        job.widest = std::max(job.widest, mask.pitch);
    }
}

}  // namespace
}  // namespace fastsam

int32_t fastsam_masks(const float* coefficients, int64_t n, int64_t depth, const float* prototypes, int64_t rows,
                      int64_t columns, const int64_t* corners, const int32_t* first_vertical,
                      const float* shares_vertical, int64_t height, const int32_t* first_horizontal,
                      const float* shares_horizontal, int64_t width, float threshold, uint32_t* words,
                      const int64_t* starts, int64_t* areas, int32_t level) {
    using namespace fastsam;
    level = resolved_level(level);
    if (level < 0) return FASTSAM_NO_SUCH_LEVEL;
    try {
        // Rounding can move a mean of three by less than this beyond the smallest and the largest of them. At 0 nothing
        // is lost but where a product would be too small for a float.
        const float margin = std::fabs(threshold) * 1e-5F;
        Job job{coefficients, prototypes, depth, rows, columns, first_vertical, shares_vertical,
                {threshold, threshold + margin + 1e-30F, threshold - margin}, &kernels_of(level), {}, {}, {}};
        const auto padded = static_cast<size_t>(width + TILE);
        std::vector<int32_t> first(padded, first_horizontal[width - 1]);
        std::copy(first_horizontal, first_horizontal + width, first.begin());
        std::vector<float> shares(TAPS * padded, 0.0F);
        for (int64_t x = 0; x < width; x++) {
            for (int t = 0; t < TAPS; t++) {
                shares[static_cast<size_t>(t) * padded + static_cast<size_t>(x)] = shares_horizontal[TAPS * x + t];
            }
        }
        job.horizontal = {first.data(), {shares.data(), shares.data() + padded, shares.data() + 2 * padded}};
        job.groups.resize(static_cast<size_t>(rows + 1));
        for (int64_t row = 0, y = 0; row <= rows; row++) {
            while (y < height && first_vertical[y] < row) y++;
            job.groups[static_cast<size_t>(row)] = y;
        }
        plan_masks(job, n, corners, words, starts);
        return Worker(job).run(areas) ? FASTSAM_OK : FASTSAM_NOT_FINITE;
    } catch (const std::bad_alloc&) {
        return FASTSAM_NO_MEMORY;
    }
}
