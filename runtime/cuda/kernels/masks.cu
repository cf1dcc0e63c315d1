// Coefficients x prototypes → binary masks on the crops of the detections, bit-packed.
//
// detections    (batch, max_det): from nms.cu; area, first_word and pitch are set here
// coefficients  (batch, max_det, mask_dim) float32, mask_dim at most 256
// prototypes    (batch, mask_dim, proto_h, proto_w) float32 or float16
// words         (capacity): the crops one after the other, see Detection. A crop that would end past the capacity is
//               not written: *total_words says what all of them need, and the stage can be run again with more.
// threshold     a pixel is in the mask if its logit is above
// Twin: runtime/stages/assemble.py assemble(). The order of the sums differs, so a pixel whose logit is as good as the
// threshold may.
#include "layout.cuh"
#include "number.cuh"

// Logits that a block keeps in its shared memory: few, so that shared memory is not what limits the blocks of a
// multiprocessor, and as many as a whole tile needs where the image has 1.8 times the prototypes' sides or more.
enum { REGION = 1760 };

__device__ inline int detection_tiles(const Detection& detection) {
    const int pitch = pitch_of(detection.width);
    if (pitch == 0 || detection.height == 0) return 0;
    return tiles_across(pitch) * tiles_down(pitch, detection.height);
}

// Where the crops lie: pitch, first_word, area = 0, the end of each detection's tiles among all tiles, and the total.
// One block for the whole batch; block (256), grid (1). Each thread adds up a run of rows, then the runs are added up.
extern "C" __global__ void layout_masks(Detection* detections, const Summary* summaries, long long* total_words,
                                        int* tile_ends, int batch, int max_det) {
    __shared__ long long word_sums[BLOCK];
    __shared__ int tile_sums[BLOCK];
    const int self = threadIdx.x, rows = batch * max_det;
    const int run = (rows + BLOCK - 1) / BLOCK;
    const int first = min(self * run, rows), end = min(first + run, rows);
    long long words = 0;
    int tiles = 0;
    for (int row = first; row < end; ++row) {
        if (row % max_det >= summaries[row / max_det].kept) continue;
        const Detection& detection = detections[row];
        words += (long long)pitch_of(detection.width) * detection.height;
        tiles += detection_tiles(detection);
    }
    word_sums[self] = words;
    tile_sums[self] = tiles;
    for (int step = 1; step < BLOCK; step *= 2) {
        __syncthreads();
        const long long more_words = self >= step ? word_sums[self - step] : 0;
        const int more_tiles = self >= step ? tile_sums[self - step] : 0;
        __syncthreads();
        word_sums[self] += more_words;
        tile_sums[self] += more_tiles;
    }
    long long next_word = word_sums[self] - words;  // of itself: no barrier needed
    int next_tile = tile_sums[self] - tiles;
    for (int row = first; row < end; ++row) {
        if (row % max_det < summaries[row / max_det].kept) {
            Detection& detection = detections[row];
            detection.pitch = pitch_of(detection.width);
            detection.first_word = next_word;
            detection.area = 0;
            next_word += (long long)detection.pitch * detection.height;
            next_tile += detection_tiles(detection);
        }
        tile_ends[row] = next_tile;
    }
    if (self == BLOCK - 1) *total_words = word_sums[self];
}

// The numbers that a NaN would hide in: every prototype of an image, block (256), grid (any, batch).
template <class T>
__device__ void check_prototypes(const T* prototypes, const Place* places, Summary* summaries, long long values) {
    const int image = blockIdx.y;
    if (places[image].image_h == 0) return;
    prototypes += image * values;
    bool finite = true;
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < values;
         i += (long long)gridDim.x * blockDim.x) {
        finite &= is_finite(as_float(prototypes[i]));
    }
    if (!finite) atomicOr(&summaries[image].flags, NONFINITE_PROTOTYPES);
}

extern "C" __global__ void check_prototypes_f32(const float* prototypes, const Place* places, Summary* summaries,
                                                long long values) {
    check_prototypes(prototypes, places, summaries, values);
}

extern "C" __global__ void check_prototypes_f16(const Half* prototypes, const Place* places, Summary* summaries,
                                                long long values) {
    check_prototypes(prototypes, places, summaries, values);
}

// Logits of a detection at the prototypes, made on the spot.
template <class T>
struct Source {
    const T* prototypes;        // of the image
    const float* coefficients;  // of the detection
    int mask_dim, plane, proto_w;

    __device__ inline float logit(int row, int column) const {
        const T* value = prototypes + (row * proto_w + column);
        float sum = 0.0f;
#pragma unroll 8
        for (int i = 0; i < mask_dim; ++i) sum = fmaf(coefficients[i], as_float(value[(long long)i * plane]), sum);
        return sum;
    }
    // Not unrolled: it is rare, and its registers would be lacking elsewhere.
    __device__ inline float operator()(int row, int column) const {
        const T* value = prototypes + (row * proto_w + column);
        float sum = 0.0f;
#pragma unroll 1
        for (int i = 0; i < mask_dim; ++i) sum = fmaf(coefficients[i], as_float(value[(long long)i * plane]), sum);
        return sum;
    }
};

// The same logits, made before by the whole block.
struct Region {
    const float* logits;  // of rows from `top` and columns from `left` on
    int top, left, width;

    __device__ inline float operator()(int row, int column) const {
        return logits[(row - top) * width + column - left];
    }
};

// The first tile of a detection that ends after `tile`.
__device__ inline int detection_of_tile(const int* tile_ends, int rows, int tile) {
    int low = 0, high = rows - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (tile_ends[middle] > tile) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// `count` pixels of a row of the image as bits, the first of which is across[0].
template <class Logits>
__device__ inline unsigned word_of(const Logits& logit_at, const MaskTap& down, const MaskTap* across, int count,
                                   float threshold) {
    unsigned bits = 0;
    int at = -1;
    float mixed[TAPS] = {};  // three prototype columns at this row of the image
    for (int i = 0; i < count; ++i) {
        const MaskTap tap = across[i];
        if (tap.first != at) {  // neighbouring pixels share their prototypes
            at = tap.first;
            for (int k = 0; k < TAPS; ++k) {
                mixed[k] = 0.0f;
                for (int j = 0; j < TAPS; ++j) {
                    mixed[k] = fmaf(down.share[j], logit_at(down.first + j, at + k), mixed[k]);
                }
            }
        }
        float logit = 0.0f;
        for (int k = 0; k < TAPS; ++k) logit = fmaf(tap.share[k], mixed[k], logit);
        if (logit > threshold) bits |= 1u << i;
    }
    return bits;
}

// block (128), grid (any): a block takes one tile after the other, one thread makes one word of it.
//
// The logits of the tile's prototypes are made once, in shared memory. Where they do not fit, the tile is done in strips of
// rows. Where not even those of one row fit, in an image with a fraction of the prototypes' pixels, each pixel makes its
// own nine. All ways give the same bits. No memory is needed that grows with detections x prototypes.
template <class T>
__device__ void masks(const unsigned char* upload, const Place* places, Detection* detections,
                      const float* coefficients, const T* prototypes, const int* tile_ends, unsigned* words,
                      long long capacity, int rows, int max_det, int mask_dim, int proto_h, int proto_w,
                      float threshold) {
    __shared__ float region[REGION];
    __shared__ float own_coefficients[MAX_MASK_DIM];
    __shared__ int area;
    const int self = threadIdx.x;
    const int tiles = tile_ends[rows - 1];
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int row = detection_of_tile(tile_ends, rows, tile);
        Detection& detection = detections[row];
        const int pitch = detection.pitch, columns = tile_columns(pitch), across_count = tiles_across(pitch);
        if (detection.first_word + (long long)pitch * detection.height > capacity) continue;  // the same for all
        const int number = tile - (row > 0 ? tile_ends[row - 1] : 0);
        const int first_column = number % across_count * columns, tile_rows = TILE_WORDS / columns;
        const int first_row = number / across_count * tile_rows;
        const int end_row = min(first_row + tile_rows, detection.height);
        const int end_x = min((first_column + columns) * WORD_BITS, detection.width);
        const Place& place = places[row / max_det];
        const MaskTap* down = reinterpret_cast<const MaskTap*>(upload + place.mask_rows_at) + detection.top;
        const MaskTap* across = reinterpret_cast<const MaskTap*>(upload + place.mask_columns_at) + detection.left;
        const int left = across[first_column * WORD_BITS].first, right = across[end_x - 1].first + TAPS;
        const int region_w = right - left;
        for (int i = self; i < mask_dim; i += TILE_WORDS) {
            own_coefficients[i] = coefficients[(long long)row * mask_dim + i];
        }
        if (self == 0) area = 0;
        __syncthreads();
        const int plane = proto_h * proto_w;
        const Source<T> source = {prototypes + row / max_det * (long long)mask_dim * plane, own_coefficients, mask_dim,
                                  plane, proto_w};
        const int y = first_row + self / columns, column = first_column + self % columns;
        for (int strip = first_row, end = end_row; strip < end_row; strip = end, end = end_row) {
            const int top = down[strip].first;
            int values = region_w * (down[end - 1].first + TAPS - top);
            while (values > REGION && end > strip + 1) {
                end = strip + (end - strip) / 2;
                values = region_w * (down[end - 1].first + TAPS - top);
            }
            const bool fits = values <= REGION;
            for (int i = self; fits && i < values; i += TILE_WORDS) {
                region[i] = source.logit(top + i / region_w, left + i % region_w);
            }
            __syncthreads();
            if (y >= strip && y < end && column < pitch) {
                const int count = min((int)WORD_BITS, detection.width - column * WORD_BITS);
                const MaskTap* first = across + column * WORD_BITS;
                const unsigned bits = fits ? word_of(Region{region, top, left, region_w}, down[y], first, count, threshold)
                                           : word_of(source, down[y], first, count, threshold);
                words[detection.first_word + (long long)y * pitch + column] = bits;
                if (bits != 0) atomicAdd(&area, __popc(bits));
            }
            __syncthreads();
        }
        if (self == 0 && area > 0) atomicAdd(&detection.area, area);
    }
}

extern "C" __global__ void masks_f32(const unsigned char* upload, const Place* places, Detection* detections,
                                     const float* coefficients, const float* prototypes, const int* tile_ends,
                                     unsigned* words, long long capacity, int rows, int max_det, int mask_dim,
                                     int proto_h, int proto_w, float threshold) {
    masks(upload, places, detections, coefficients, prototypes, tile_ends, words, capacity, rows, max_det, mask_dim,
          proto_h, proto_w, threshold);
}

extern "C" __global__ void masks_f16(const unsigned char* upload, const Place* places, Detection* detections,
                                     const float* coefficients, const Half* prototypes, const int* tile_ends,
                                     unsigned* words, long long capacity, int rows, int max_det, int mask_dim,
                                     int proto_h, int proto_w, float threshold) {
    masks(upload, places, detections, coefficients, prototypes, tile_ends, words, capacity, rows, max_det, mask_dim,
          proto_h, proto_w, threshold);
}
