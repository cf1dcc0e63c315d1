// COCO run-length encoding from the bits of a crop. Twin: `runtime/masks/rle.py`.

#include <algorithm>
#include <cstring>
#include <memory>
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

// Edges of one crop. Memory is not set to 0 first: rough masks have tens of thousands of edges.
struct Edges {
    std::unique_ptr<Edge[]> list;
    size_t count = 0, room = 0;

    void make_room(size_t more) {
        if (count + more <= room) return;
        room = 2 * (count + more) + 4096;
        std::unique_ptr<Edge[]> larger(new Edge[room]);
        std::copy_n(list.get(), count, larger.get());
        list = std::move(larger);
    }
};

constexpr int LIKELY = 4;                     // edges of a word, in rough masks
constexpr uint64_t LAST = uint64_t{1} << 63;  // so that there is a lowest bit

// The edges of 64 columns of a row from `first` on.
inline Edge* add_edges(uint64_t change, int64_t first, int64_t y, Edge* next) {
    if (!change) return next;
    const auto column = static_cast<uint32_t>(first), row = static_cast<uint32_t>(y);
    // How many there are cannot be predicted: the first few are written in any case, and count if they are some.
    for (int k = 0; k < LIKELY; k++) {
        *next = {column + static_cast<uint32_t>(lowest_bit(change | LAST)), row};
        next += change != 0;
        change &= change - 1;
    }
    for (; change; change &= change - 1) *next++ = {column + static_cast<uint32_t>(lowest_bit(change)), row};
    return next;
}

// Where pixels differ from those above them, row by row; beyond the first and the last row is background.
void find_edges(const uint32_t* words, int64_t rows, int64_t pitch, Edges& edges) {
    const std::vector<uint32_t> background(static_cast<size_t>(pitch), 0);
    const uint32_t* above = background.data();
    for (int64_t y = 0; y <= rows; y++) {
        const uint32_t* row = y < rows ? words + y * pitch : background.data();
        edges.make_room(static_cast<size_t>(pitch * WORD_BITS) + LIKELY);
        Edge* next = edges.list.get() + edges.count;
        for (int64_t j = 0; j + 1 < pitch; j += 2) {
            uint64_t here, there;
            std::memcpy(&here, row + j, sizeof here);
            std::memcpy(&there, above + j, sizeof there);
            next = add_edges(here ^ there, j * WORD_BITS, y, next);
        }
        if (pitch % 2) next = add_edges(row[pitch - 1] ^ above[pitch - 1], (pitch - 1) * WORD_BITS, y, next);
        edges.count = static_cast<size_t>(next - edges.list.get());
        above = row;
    }
}

// Places of the edges, counted down the columns of the image from the first of the crop, ascending. Edges come row by
// row: counting those of each column sorts them. COCO counts in 32 bits.
std::unique_ptr<uint32_t[]> sorted_places(const Edges& edges, int64_t columns, int64_t height) {
    std::vector<uint32_t> next(static_cast<size_t>(columns) + 1, 0);
    for (size_t i = 0; i < edges.count; i++) next[edges.list[i].column + 1]++;
    for (size_t c = 1; c < next.size(); c++) next[c] += next[c - 1];
    std::unique_ptr<uint32_t[]> places(new uint32_t[edges.count + 1]);
    for (size_t i = 0; i < edges.count; i++) {
        const Edge edge = edges.list[i];
        places[next[edge.column]++] = edge.column * static_cast<uint32_t>(height) + edge.row;
    }
    return places;
}

constexpr int64_t LONGEST = 7;  // characters of a run: 5 bits each, of 32 bits and a sign
constexpr int64_t WRITTEN = 8;  // bytes that are written for one, whatever its length

// Bits that a value takes without its sign.
inline int width_of(uint64_t value) {
#if defined(__GNUC__) || defined(__clang__)
    return value ? 64 - __builtin_clzll(value) : 0;
#else
    int width = 0;
    for (; value; value >>= 1) width++;
    return width;
#endif
}

// COCO writes 5 bits a character, low first, and from the fourth run on the difference to two before. How many
// characters a run takes cannot be predicted, so there is no branch for it.
class Text {
  public:
    explicit Text(uint8_t* text) : text_(text), end_(text) {}

    void run(int64_t length) {
        const int64_t value = count_ > 2 ? length - before_[count_ % 2] : length;
        before_[count_ % 2] = length;
        count_++;
        const auto bits = static_cast<uint64_t>(value);
        const int characters = width_of(value < 0 ? ~bits : bits) / 5 + 1;
        const uint64_t more = 0x0020202020202020u & ((uint64_t{1} << (8 * (characters - 1))) - 1);
        uint64_t spread = 0;
        for (int i = 0; i < LONGEST; i++) spread |= ((bits >> (5 * i)) & 0x1f) << (8 * i);
        put((spread | more) + 0x3030303030303030u);
        end_ += characters;
    }
    int64_t size() const { return end_ - text_; }
    bool is_empty() const { return count_ == 0; }

  private:
    void put(uint64_t characters) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        characters = __builtin_bswap64(characters);
#endif
        std::memcpy(end_, &characters, WRITTEN);
    }

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
        Edges edges;
        find_edges(words, rows, pitch, edges);
        const auto most = static_cast<int64_t>(edges.count) * LONGEST + 2 * WRITTEN;
        if (most > capacity) return most;
        const std::unique_ptr<uint32_t[]> places = sorted_places(edges, pitch * WORD_BITS, height);
        const int64_t start = x * height + y;
        Text out(text);
        int64_t end = 0;
        for (size_t i = 0; i < edges.count; i++) {
            // A run that reaches the bottom and goes on at the top of the next column is one run.
            if (i + 1 < edges.count && places[i + 1] == places[i]) {
                i++;
                continue;
            }
            const int64_t place = start + places[i];
            out.run(place - end);
            end = place;
        }
        // COCO writes no empty run after a mask that ends in the last corner.
        if (end < height * width || out.is_empty()) out.run(height * width - end);
        return out.size();
    } catch (const std::bad_alloc&) {
        return -1;
    }
}
