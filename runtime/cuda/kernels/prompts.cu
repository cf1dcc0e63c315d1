// Prompts on the packed crops of one image: which masks hold a point, and how many of their pixels a box holds.
//
// detections  (rows) of one image, from nms.cu; words: from masks.cu
// Twins: runtime/masks/packed.py PackedCrops.contain() and overlap(), equal.
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
