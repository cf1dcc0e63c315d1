// Prompts on the packed crops of one image: which masks hold a point, how many of their pixels a box holds, and several
// masks as one, without gaps and specks.
//
// detections  (rows) of one image, from nms.cu; words: from masks.cu
// Twins: runtime/masks/packed.py PackedCrops.contain() and overlap(), runtime/masks/store.py Masks.union(), and
// OpenCV's erode() and dilate(); equal.
#include "layout.cuh"

// points (count) int x, y in pixels of the image; held (rows, count): 1 where mask i holds point j.
// block (256), grid (rows * count / 256)
extern "C" __global__ void contain(const Detection* detections, const unsigned* words, const int* points,
                                   unsigned char* held, int rows, int count) {
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index >= (long long)rows * count) return;
    const Detection& mask = detections[index / count];
    const int* point = points + index % count * 2;
    const int x = point[0] - mask.left, y = point[1] - mask.top;
    unsigned char hit = 0;
    if (x >= 0 && y >= 0 && x < mask.width && y < mask.height) {
        hit = words[mask.first_word + (long long)y * mask.pitch + x / WORD_BITS] >> x % WORD_BITS & 1u;
    }
    held[index] = hit;
}

// Bits of word `word` that lie in columns [left, right) of the crop.
__device__ inline unsigned columns_inside(int word, int left, int right) {
    const int first = max(left - word * WORD_BITS, 0);
    const int end = min(right - word * WORD_BITS, (int)WORD_BITS);
    if (first >= end) return 0;
    return (end == WORD_BITS ? ~0u : (1u << end) - 1u) & ~((1u << first) - 1u);
}

// boxes (count) int left, top, right, bottom, pixels of the image, right and bottom exclusive; pixels (rows, count).
// block (128), grid (any): a block takes one pair of mask and box after the other.
extern "C" __global__ void box_overlap(const Detection* detections, const unsigned* words, const int* boxes,
                                       int* pixels, int rows, int count) {
    __shared__ int sum;
    for (long long pair = blockIdx.x; pair < (long long)rows * count; pair += gridDim.x) {
        const Detection& mask = detections[pair / count];
        const int* box = boxes + pair % count * 4;
        const int left = max(box[0] - mask.left, 0), right = min(box[2] - mask.left, mask.width);
        const int top = max(box[1] - mask.top, 0), bottom = min(box[3] - mask.top, mask.height);
        if (threadIdx.x == 0) sum = 0;
        __syncthreads();
        if (left < right && top < bottom) {
            const int first = left / WORD_BITS, across = (right - 1) / WORD_BITS + 1 - first;
            const long long inside = (long long)across * (bottom - top);
            int bits = 0;
            for (long long i = threadIdx.x; i < inside; i += OVERLAP_BLOCK) {
                const int word = first + (int)(i % across);
                const long long at = mask.first_word + (top + i / across) * mask.pitch + word;
                bits += __popc(words[at] & columns_inside(word, left, right));
            }
            if (bits > 0) atomicAdd(&sum, bits);
        }
        __syncthreads();
        if (threadIdx.x == 0) pixels[pair] = sum;  // the same thread clears it for the next pair
    }
}

// 32 pixels of a row of words from pixel `first` on, which may lie before its begin or past its end: those are `outside`.
__device__ inline unsigned pixels_from(const unsigned* row, int pitch, int first, unsigned outside) {
    const int word = first >= 0 ? first / WORD_BITS : (first - WORD_BITS + 1) / WORD_BITS;
    const int shift = first - word * WORD_BITS;
    const unsigned low = word >= 0 && word < pitch ? row[word] : outside;
    if (shift == 0) return low;
    const unsigned high = word + 1 >= 0 && word + 1 < pitch ? row[word + 1] : outside;
    return low >> shift | high << (WORD_BITS - shift);
}

// chosen (count) rows of detections; joined (height, pitch_of(width)) the pixels of any of them, in a crop of the image
// that holds them all; *area: how many, is added to.
// block (256), grid (words / 256): one thread makes one word.
extern "C" __global__ void join_masks(const Detection* detections, const unsigned* words, const int* chosen,
                                      unsigned* joined, int* area, int count, int left, int top, int width,
                                      int height) {
    const int pitch = pitch_of(width);
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index >= (long long)pitch * height) return;
    const int x = left + (int)(index % pitch) * WORD_BITS, y = top + (int)(index / pitch);
    unsigned bits = 0;
    for (int i = 0; i < count; ++i) {
        const Detection& mask = detections[chosen[i]];
        const int row = y - mask.top;
        if (row < 0 || row >= mask.height || x >= mask.left + mask.width || x + WORD_BITS <= mask.left) continue;
        bits |= pixels_from(words + mask.first_word + (long long)row * mask.pitch, mask.pitch, x - mask.left, 0u);
    }
    joined[index] = bits;
    if (bits != 0) atomicAdd(area, __popc(bits));
}

// target: each pixel is any (grows) or all (else) of the source's pixels in a square around it, from `before` pixels left
// of it and above to `after` pixels right of it and below. What lies outside of the crop is not looked at.
// before, after at most 31; *area: pixels of the target, is added to. block and grid as above.
extern "C" __global__ void morph(const unsigned* source, unsigned* target, int* area, int width, int height, int before,
                                 int after, int grows) {
    const int pitch = pitch_of(width);
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index >= (long long)pitch * height) return;
    const int word = (int)(index % pitch), y = (int)(index / pitch);
    const int rest = width - (pitch - 1) * WORD_BITS;
    const unsigned last = rest == WORD_BITS ? ~0u : (1u << rest) - 1u;  // pixels of the last word of a row
    // Shrinking is growing of what is not there: outside is 0 in both.
    unsigned columns[3] = {0u, 0u, 0u};  // the words left of it, itself, right of it, of all rows
    for (int row = max(y - before, 0); row <= min(y + after, height - 1); ++row) {
        for (int i = 0; i < 3; ++i) {
            const int at = word + i - 1;
            if (at < 0 || at >= pitch) continue;
            const unsigned bits = source[(long long)row * pitch + at];
            columns[i] |= grows ? bits : ~bits & (at == pitch - 1 ? last : ~0u);
        }
    }
    unsigned bits = 0;
    for (int shift = -before; shift <= after; ++shift) bits |= pixels_from(columns, 3, WORD_BITS + shift, 0u);
    if (!grows) bits = ~bits;
    if (word == pitch - 1) bits &= last;
    target[index] = bits;
    if (bits != 0) atomicAdd(area, __popc(bits));
}
