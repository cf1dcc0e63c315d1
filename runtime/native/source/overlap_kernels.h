// The inner loops of overlap.cpp with the instructions of one level. Included inside a namespace, once for each level.

inline int64_t count_inside(const Crop& crop, const Place& box) {
    const Place both = intersection(crop.place, box);
    if (both.is_empty()) return 0;
    const Span span(both.left - crop.place.left, both.right - crop.place.left);
    int64_t pixels = 0;
    for (int64_t y = both.top; y < both.bottom; y++) {
        const uint32_t* row = crop.row(y);
        pixels += count_bits(row[span.first] & span.begin);
        for (int64_t j = span.first + 1; j < span.last; j++) pixels += count_bits(row[j]);
        if (span.last > span.first) pixels += count_bits(row[span.last] & span.end);
    }
    return pixels;
}

// Word by word of `crop`; the words of `other` are shifted to lie as those do.
inline int64_t count_shared(const Crop& crop, const Crop& other, const Place& box) {
    const Place both = intersection(intersection(crop.place, other.place), box);
    if (both.is_empty()) return 0;
    const Span span(both.left - crop.place.left, both.right - crop.place.left);
    // Where the first word begins in a row of `other`: up to 31 bits before it.
    const int64_t start = crop.place.left + span.first * WORD_BITS - other.place.left;
    const int64_t offset = (start + WORD_BITS) / WORD_BITS - 1 - span.first;
    const int shift = static_cast<int>((start + WORD_BITS) % WORD_BITS);
    int64_t pixels = 0;
    for (int64_t y = both.top; y < both.bottom; y++) {
        const uint32_t* row = crop.row(y);
        const uint32_t* other_row = other.row(y);
        pixels += count_bits(row[span.first] & word_at(other_row, other.pitch, span.first + offset, shift) & span.begin);
        for (int64_t j = span.first + 1; j < span.last; j++) {
            const uint64_t two = other_row[j + offset] | static_cast<uint64_t>(other_row[j + offset + 1]) << WORD_BITS;
            pixels += count_bits(row[j] & static_cast<uint32_t>(two >> shift));
        }
        if (span.last > span.first) {
            pixels += count_bits(row[span.last] & word_at(other_row, other.pitch, span.last + offset, shift) & span.end);
        }
    }
    return pixels;
}

const Kernels KERNELS = {count_inside, count_shared};
