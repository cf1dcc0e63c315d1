// The inner loops of image.cpp on the vectors of one level. Included inside a namespace, once for each level.

constexpr int BLOCK = 32;  // pixels

// `count` pixels of a row, of RGB bytes.
inline void split_row(const uint8_t* pixels, int64_t count, float* const planes[3]) {
    int64_t x = 0;
    for (; FUSED && x + BLOCK <= count; x += BLOCK, pixels += 3 * BLOCK) {
        float values[3][BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            for (int c = 0; c < 3; c++) values[c][i] = pixels[3 * i + c];
        }
        // value / 255, rounded as a division rounds it: 1 / 255 in two parts, and one rounding at the end.
        const Vector high = broadcast(INVERSE), low = broadcast(INVERSE_REST);
        for (int c = 0; c < 3; c++) {
            for (int i = 0; i < BLOCK; i += LANES) {
                const Vector value = load(values[c] + i);
                store(planes[c] + x + i, multiply_add(value, high, multiply(value, low)));
            }
        }
    }
    for (; x < count; x++, pixels += 3) {
        for (int c = 0; c < 3; c++) planes[c][x] = static_cast<float>(pixels[c]) / 255.0F;
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

const Kernels KERNELS = {split_row, suppress};
