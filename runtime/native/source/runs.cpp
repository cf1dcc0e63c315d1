// COCO run-length encoding from the bits of a crop. Twin: `runtime/masks/rle.py`.

#include <cstring>
#include <new>
#include <vector>

#include "bits.h"
#include "levels.h"

namespace fastsam {
namespace {

struct Edge {
    uint32_t column, row;  // of the crop: the pixel differs from the one above it
};

inline int lowest_bit(uint64_t bits) {
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctzll(bits);
#else
    int place = 0;
    while (!(bits & 1)) {
        bits >>= 1;
        place++;
    }
    return place;
#endif
}

// Where pixels differ from those above them, row by row; beyond the first and the last row is background.
void find_edges(const uint32_t* words, int64_t rows, int64_t pitch, std::vector<Edge>& edges) {
    const std::vector<uint32_t> background(static_cast<size_t>(pitch), 0);
    const uint32_t* above = background.data();
    size_t count = 0;
    for (int64_t y = 0; y <= rows; y++) {
        const uint32_t* row = y < rows ? words + y * pitch : background.data();
        for (int64_t j = 0; j < pitch; j += 2) {
            const size_t bytes = j + 1 < pitch ? 8 : 4;
            uint64_t here = 0, there = 0;
            std::memcpy(&here, row + j, bytes);
            std::memcpy(&there, above + j, bytes);
            uint64_t change = here ^ there;
            if (!change) continue;
            if (count + 64 > edges.size()) edges.resize(2 * edges.size() + 64);
            for (; change; change &= change - 1) {
                const auto column = static_cast<uint32_t>(j * WORD_BITS + lowest_bit(change));
                edges[count++] = {column, static_cast<uint32_t>(y)};
            }
        }
        above = row;
    }
    edges.resize(count);
}

// Places of the edges, counted down the columns of the image, ascending. Edges come row by row: counting those of each
// column sorts them.
std::vector<int64_t> sorted_places(const std::vector<Edge>& edges, int64_t columns, int64_t start, int64_t height) {
    std::vector<size_t> next(static_cast<size_t>(columns) + 1, 0);
    for (const Edge& edge : edges) next[edge.column + 1]++;
    for (size_t c = 1; c < next.size(); c++) next[c] += next[c - 1];
    std::vector<int64_t> places(edges.size());
    for (const Edge& edge : edges) places[next[edge.column]++] = start + edge.column * height + edge.row;
    return places;
}

constexpr int64_t LONGEST = 7;  // characters of a run: 5 bits each, of 32 bits and a sign

// COCO writes 5 bits a character, and from the fourth run on the difference to two before.
class Text {
  public:
    explicit Text(uint8_t* text) : text_(text), end_(text) {}

    void run(int64_t length) {
        int64_t value = count_ > 2 ? length - before_[count_ % 2] : length;
        before_[count_ % 2] = length;
        count_++;
        while (value < -16 || value > 15) {
            *end_++ = static_cast<uint8_t>(((value & 0x1f) | 0x20) + 48);
            value >>= 5;
        }
        *end_++ = static_cast<uint8_t>((value & 0x1f) + 48);
    }
    int64_t size() const { return end_ - text_; }
    bool is_empty() const { return count_ == 0; }

  private:
    uint8_t *text_, *end_;
    int64_t count_ = 0;
    int64_t before_[2] = {0, 0};
};

}  // namespace
}  // namespace fastsam

int64_t fastsam_rle(const uint32_t* words, int64_t rows, int64_t pitch, int64_t x, int64_t y, int64_t height,
                    int64_t width, uint8_t* text, int64_t capacity) {
    using namespace fastsam;
    try {
        std::vector<Edge> edges;
        find_edges(words, rows, pitch, edges);
        const std::vector<int64_t> places = sorted_places(edges, pitch * WORD_BITS, x * height + y, height);
        const auto most = static_cast<int64_t>(places.size() + 1) * LONGEST;
        if (most > capacity) return most;
        Text out(text);
        int64_t end = 0;
        for (size_t i = 0; i < places.size(); i++) {
            // A run that reaches the bottom and goes on at the top of the next column is one run.
            if (i + 1 < places.size() && places[i + 1] == places[i]) {
                i++;
                continue;
            }
            out.run(places[i] - end);
            end = places[i];
        }
        // COCO writes no empty run after a mask that ends in the last corner.
        if (end < height * width || out.is_empty()) out.run(height * width - end);
        return out.size();
    } catch (const std::bad_alloc&) {
        return -1;
    }
}
