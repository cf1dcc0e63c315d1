// The inner loops of image.cpp on the vectors of one level. Included inside a namespace, once for each level.

constexpr int BLOCK = 32;  // pixels

// A block of one plane, of whole numbers up to 255: divided by 255, rounded as a division rounds: 1 / 255 in two parts,
// and one rounding at the end.
inline void scale_block(const float* values, float* plane) {
    const Vector high = broadcast(INVERSE), low = broadcast(INVERSE_REST);
    for (int i = 0; i < BLOCK; i += LANES) {
        const Vector value = load(values + i);
        store(plane + i, multiply_add(value, high, multiply(value, low)));
    }
}

// `count` pixels of a row, of RGB bytes.
inline void split_row(const uint8_t* pixels, int64_t count, float* const planes[3]) {
    int64_t x = 0;
    for (; FUSED && x + BLOCK <= count; x += BLOCK, pixels += 3 * BLOCK) {
        float values[3][BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            for (int c = 0; c < 3; c++) values[c][i] = pixels[3 * i + c];
        }
        for (int c = 0; c < 3; c++) scale_block(values[c], planes[c] + x);
    }
    for (; x < count; x++, pixels += 3) {
        for (int c = 0; c < 3; c++) planes[c][x] = static_cast<float>(pixels[c]) / 255.0F;
    }
}

// Pixels of a row of RGB bytes, each a mean of two neighbours: 4 words a pixel, of which the last has no meaning.
inline void stretch_row(const uint8_t* row, const Stretch& across, int16_t* words) {
    int64_t x = stretch_pixels(row, across.offsets.data(), across.pairs.data(), across.inside, words);
    for (; x < across.count; x++) {
        const uint8_t* near = row + across.offsets[static_cast<size_t>(x)];
        const int32_t first = across.shares[static_cast<size_t>(2 * x)];
        const int32_t second = across.shares[static_cast<size_t>(2 * x + 1)];
        const uint8_t* far = second ? near + 3 : near;  // the last pixel has none after it
        for (int c = 0; c < 3; c++) words[4 * x + c] = static_cast<int16_t>((near[c] * first + far[c] * second) >> 4);
        words[4 * x + 3] = 0;
    }
}

inline int32_t mixed(int16_t near, int16_t far, int32_t first, int32_t second) {
    return ((near * first >> 16) + (far * second >> 16) + 2) >> 2;
}

// A row of planes from two stretched rows.
inline void mix_rows(const int16_t* near, const int16_t* far, int32_t first, int32_t second, int64_t count,
                     float* const planes[3]) {
    int64_t x = 0;
    for (; FUSED && x + BLOCK <= count; x += BLOCK, near += 4 * BLOCK, far += 4 * BLOCK) {
        uint8_t bytes[4 * BLOCK];
        for (int i = 0; i < 4 * BLOCK; i++) bytes[i] = static_cast<uint8_t>(mixed(near[i], far[i], first, second));
        uint32_t pixels[BLOCK];  // the first byte is the lowest: so it is on every processor with fused multiply-add
        std::memcpy(pixels, bytes, sizeof(pixels));
        for (int c = 0; c < 3; c++) {
            float values[BLOCK];
            for (int i = 0; i < BLOCK; i++) values[i] = static_cast<float>(static_cast<int32_t>(pixels[i] >> 8 * c & 255));
            scale_block(values, planes[c] + x);
        }
    }
    for (; x < count; x++, near += 4, far += 4) {
        for (int c = 0; c < 3; c++) {
            planes[c][x] = static_cast<float>(mixed(near[c], far[c], first, second)) / 255.0F;
        }
    }
}

// Clears the `alive` of boxes whose IoU with `box` is above the threshold. The operations are those of the twin, in its
// order; compilers make vectors of them.
inline void suppress(const Box& box, const Boxes& boxes, int64_t begin, int64_t end, float threshold, uint8_t* alive) {
    const float *x1 = boxes.x1, *y1 = boxes.y1, *x2 = boxes.x2, *y2 = boxes.y2, *areas = boxes.areas;
    for (int64_t i = begin; i < end; i++) {
        const float right = x2[i] < box.x2 ? x2[i] : box.x2, left = x1[i] > box.x1 ? x1[i] : box.x1;
        const float bottom = y2[i] < box.y2 ? y2[i] : box.y2, top = y1[i] > box.y1 ? y1[i] : box.y1;
        float across = right - left, down = bottom - top;
        across = across > 0.0F ? across : 0.0F;
        down = down > 0.0F ? down : 0.0F;
        const float both = across * down;
        // Two boxes without area: 0 / 0 is not above.
        alive[i] &= static_cast<uint8_t>(!(both / (box.area + areas[i] - both) > threshold));
    }
}

const Kernels KERNELS = {split_row, stretch_row, mix_rows, suppress};
