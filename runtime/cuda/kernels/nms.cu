// Candidates → detections: greedy suppression, coefficients, boxes of the image.
//
// sorted        (batch, candidate_capacity), from candidates.cu
// summaries     (batch): kept and flags are set
// kept          (batch, max_det), pixels of the network's input
// coefficients  (batch, max_det, mask_dim) float32
// detections    (batch, max_det): box, score, class, anchor and crop; masks.cu sets the rest
// Twins: runtime/stages/decode.py nms() and the layout "nms" of decode(); runtime/stages/letterbox.py
// Letterbox.boxes_to_image(); the corners are those of runtime/stages/assemble.py assemble(). Equal to the last bit:
// compiled without contraction to fused operations.
#include "layout.cuh"
#include "number.cuh"

enum { CHUNK = BLOCK, WORDS = CHUNK / 32 };  // candidates that a block looks at together, a bit for each

struct Box {
    float x1, y1, x2, y2, area;
};

// Boxes of different classes are moved apart, so that one pass serves all classes, rounding included.
__device__ inline Box moved_apart(const Candidate& candidate, float class_offset) {
    const float offset = (float)candidate.class_id * class_offset;
    Box box = {candidate.x1 + offset, candidate.y1 + offset, candidate.x2 + offset, candidate.y2 + offset, 0.0f};
    box.area = (box.x2 - box.x1) * (box.y2 - box.y1);
    return box;
}

__device__ inline bool overlap_above(const Box& better, const Box& other, float iou) {
    const float width = fmaxf(fminf(other.x2, better.x2) - fmaxf(other.x1, better.x1), 0.0f);
    const float height = fmaxf(fminf(other.y2, better.y2) - fmaxf(other.y1, better.y1), 0.0f);
    const float inter = width * height;
    return inter > 0.0f && inter / (better.area + other.area - inter) > iou;  // 0 is above no threshold
}

__device__ inline int bits_before(const unsigned* words, int index) {
    int count = 0;
    for (int word = 0; word < index / 32; ++word) count += __popc(words[word]);
    return count + __popc(words[index / 32] & ((1u << index % 32) - 1u));
}

// One block for each image; block (256), grid (batch). `class_offset` is CLASS_OFFSET_PX of the twin.
//
// Candidates come in chunks of 256, best first. Each is compared with all that are kept so far; then the chunk settles
// within itself: one whose better overlapping ones are all dropped is kept, one that a kept one overlaps is dropped,
// and so on until none is open, which takes as many rounds as the longest chain of overlaps (two or three). Neither
// memory nor barriers grow with the square of the candidates; the work ends with the last detection that is wanted.
extern "C" __global__ void suppress(const Candidate* sorted, const Place* places, Summary* summaries, Candidate* kept,
                                    int candidate_capacity, int max_det, float class_offset) {
    __shared__ Box chunk[CHUNK];
    __shared__ Box better[CHUNK];
    __shared__ unsigned overlaps[WORDS][CHUNK];  // bit j: an earlier one of the chunk, j, overlaps this one
    __shared__ unsigned open[WORDS], accepted[WORDS];
    const int image = blockIdx.x, self = threadIdx.x, own_word = self / 32;
    const unsigned own_bit = 1u << self % 32;
    const int count = min(summaries[image].candidates, candidate_capacity);
    const int limit = min(places[image].max_det, max_det);
    const float iou = places[image].iou;
    sorted += (long long)image * candidate_capacity;
    kept += (long long)image * max_det;
    int kept_count = 0;
    for (int start = 0; start < count && kept_count < limit; start += CHUNK) {
        const bool real = start + self < count;
        const Candidate candidate = sorted[real ? start + self : 0];
        const Box box = moved_apart(candidate, class_offset);
        bool alive = real;
        for (int first = 0; first < kept_count; first += CHUNK) {
            if (first + self < kept_count) better[self] = moved_apart(kept[first + self], class_offset);
            __syncthreads();
            const int end = min(CHUNK, kept_count - first);
            for (int i = 0; i < end && alive; ++i) alive = !overlap_above(better[i], box, iou);
            __syncthreads();
        }
        chunk[self] = box;
        if (self < WORDS) open[self] = accepted[self] = 0;
        __syncthreads();
        if (alive) atomicOr(&open[own_word], own_bit);
        __syncthreads();
        for (int word = 0; word < WORDS; ++word) {
            unsigned bits = 0;
            if (alive) {
                for (int i = word * 32; i < min(word * 32 + 32, self); ++i) {
                    if (open[word] >> i % 32 & 1u && overlap_above(chunk[i], box, iou)) bits |= 1u << i % 32;
                }
            }
            overlaps[word][self] = bits;
        }
        bool undecided = alive;
        for (;;) {
            __syncthreads();
            bool keep = undecided, drop = false;
            unsigned any_open = 0;
            for (int word = 0; word < WORDS; ++word) {
                any_open |= open[word];
                drop |= (overlaps[word][self] & accepted[word]) != 0;
                keep &= (overlaps[word][self] & open[word]) == 0;
            }
            __syncthreads();
            if (any_open == 0) break;  // the same for all: nobody writes between the barriers
            if (undecided && (drop || keep)) {
                undecided = false;
                atomicAnd(&open[own_word], ~own_bit);
                if (!drop) atomicOr(&accepted[own_word], own_bit);
            }
        }
        const int place = kept_count + bits_before(accepted, self);
        if (accepted[own_word] & own_bit && place < limit) kept[place] = candidate;
        kept_count += bits_before(accepted, CHUNK - 1) + (int)(accepted[WORDS - 1] >> 31);
        __syncthreads();
    }
    if (self == 0) summaries[image].kept = min(kept_count, limit);
}

// The layout "nms": (batch, rows, columns) with x1, y1, x2, y2, score, class, coefficients; suppressed in the network.
// One block for each image; block (256), grid (batch).
template <class T>
__device__ void accept(const T* output, const Place* places, Summary* summaries, Candidate* kept, int rows, int columns,
                       int max_det) {
    __shared__ unsigned accepted[WORDS];
    const int image = blockIdx.x, self = threadIdx.x;
    const int limit = min(places[image].max_det, max_det);
    output += (long long)image * rows * columns;
    kept += (long long)image * max_det;
    int count = 0;
    for (int start = 0; start < rows && places[image].image_h != 0; start += CHUNK) {
        const int row = start + self;
        const T* values = output + (long long)(row < rows ? row : 0) * columns;
        const float score = as_float(values[4]);
        const bool above = row < rows && score > places[image].conf;
        if (self < WORDS) accepted[self] = 0;
        __syncthreads();
        if (above) atomicOr(&accepted[self / 32], 1u << self % 32);
        if (row < rows && !is_finite(score)) atomicOr(&summaries[image].flags, NONFINITE_SCORES);
        __syncthreads();
        const int place = count + bits_before(accepted, self);
        if (above && place < limit) {
            Candidate candidate = {as_float(values[0]), as_float(values[1]), as_float(values[2]), as_float(values[3]),
                                   score, 0, row, 0};
            const float class_id = as_float(values[5]);
            if (!is_finite(candidate.x1) || !is_finite(candidate.y1) || !is_finite(candidate.x2) ||
                !is_finite(candidate.y2) || !is_finite(class_id)) {
                atomicOr(&summaries[image].flags, NONFINITE_BOXES);
            }
            // A float outside of int is undefined in C++: cut before the cast, which is towards 0 as in NumPy.
            candidate.class_id = (int)fminf(fmaxf(class_id, -2147483648.0f), 2147483520.0f);
            kept[place] = candidate;
        }
        count += bits_before(accepted, CHUNK - 1) + (int)(accepted[WORDS - 1] >> 31);
        __syncthreads();
    }
    if (self == 0) {
        summaries[image].candidates = count;
        summaries[image].kept = min(count, limit);
    }
}

// The layout "split", as TensorRT's suppression gives it: boxes (batch, rows, 4), scores (batch, rows), classes (batch,
// rows) int, coefficients (batch, rows, mask_dim) → joined (batch, rows, 6 + mask_dim) float32, the layout "nms".
// block (256), grid (elements / 256): one thread for each value of `joined`.
template <class T>
__device__ void join_rows(const T* boxes, const T* scores, const int* classes, const T* coefficients, float* joined,
                          int rows, int mask_dim) {
    const long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    const long long row = index / (6 + mask_dim);
    const int column = (int)(index % (6 + mask_dim));
    if (row >= rows) return;
    if (column < 4) {
        joined[index] = as_float(boxes[row * 4 + column]);
    } else if (column == 4) {
        joined[index] = as_float(scores[row]);
    } else if (column == 5) {
        joined[index] = (float)classes[row];
    } else {
        joined[index] = as_float(coefficients[row * mask_dim + column - 6]);
    }
}

extern "C" __global__ void join_rows_f32(const float* boxes, const float* scores, const int* classes,
                                         const float* coefficients, float* joined, int rows, int mask_dim) {
    join_rows(boxes, scores, classes, coefficients, joined, rows, mask_dim);
}

extern "C" __global__ void join_rows_f16(const Half* boxes, const Half* scores, const int* classes,
                                         const Half* coefficients, float* joined, int rows, int mask_dim) {
    join_rows(boxes, scores, classes, coefficients, joined, rows, mask_dim);
}

extern "C" __global__ void accept_f32(const float* output, const Place* places, Summary* summaries, Candidate* kept,
                                      int rows, int columns, int max_det) {
    accept(output, places, summaries, kept, rows, columns, max_det);
}

extern "C" __global__ void accept_f16(const Half* output, const Place* places, Summary* summaries, Candidate* kept,
                                      int rows, int columns, int max_det) {
    accept(output, places, summaries, kept, rows, columns, max_det);
}

__device__ inline float to_image(float value, float pad, float scale, int side) {
    return fminf(fmaxf((value - pad) / scale, 0.0f), (float)side);  // NaN becomes 0: the flag tells, nothing is read
}

__device__ inline Detection detection_of(const Candidate& candidate, const Place& place, int image) {
    Detection detection;
    detection.x1 = to_image(candidate.x1, place.pad_x, place.scale_x, place.image_w);
    detection.y1 = to_image(candidate.y1, place.pad_y, place.scale_y, place.image_h);
    detection.x2 = to_image(candidate.x2, place.pad_x, place.scale_x, place.image_w);
    detection.y2 = to_image(candidate.y2, place.pad_y, place.scale_y, place.image_h);
    detection.score = candidate.score;
    detection.class_id = candidate.class_id;
    detection.anchor = candidate.anchor;
    detection.left = (int)ceilf(detection.x1);
    detection.top = (int)ceilf(detection.y1);
    detection.width = max((int)ceilf(detection.x2) - detection.left, 0);
    detection.height = max((int)ceilf(detection.y2) - detection.top, 0);
    detection.area = detection.pitch = 0;
    detection.first_word = 0;
    detection.image = image;
    return detection;
}

// block (256), grid (max_det * mask_dim / 256, batch): one thread for each coefficient.
//
// Coefficient c of an anchor is output[image * image_stride + first_value + anchor * anchor_stride + c * value_stride]:
// that is both layouts of the network's output.
template <class T>
__device__ void gather(const T* output, const Candidate* kept, const Place* places, Summary* summaries,
                       float* coefficients, Detection* detections, long long image_stride, int first_value,
                       int anchor_stride, int value_stride, int mask_dim, int max_det) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const int image = blockIdx.y, row = index / mask_dim, number = index % mask_dim;
    if (row >= summaries[image].kept) return;
    const Candidate candidate = kept[(long long)image * max_det + row];
    const long long within = (long long)candidate.anchor * anchor_stride + (long long)number * value_stride;
    const float value = as_float(output[image * image_stride + first_value + within]);
    if (!is_finite(value)) atomicOr(&summaries[image].flags, NONFINITE_COEFFICIENTS);
    coefficients[((long long)image * max_det + row) * mask_dim + number] = value;
    if (number == 0) detections[(long long)image * max_det + row] = detection_of(candidate, places[image], image);
}

extern "C" __global__ void gather_f32(const float* output, const Candidate* kept, const Place* places,
                                      Summary* summaries, float* coefficients, Detection* detections,
                                      long long image_stride, int first_value, int anchor_stride, int value_stride,
                                      int mask_dim, int max_det) {
    gather(output, kept, places, summaries, coefficients, detections, image_stride, first_value, anchor_stride,
           value_stride, mask_dim, max_det);
}

extern "C" __global__ void gather_f16(const Half* output, const Candidate* kept, const Place* places,
                                      Summary* summaries, float* coefficients, Detection* detections,
                                      long long image_stride, int first_value, int anchor_stride, int value_stride,
                                      int mask_dim, int max_det) {
    gather(output, kept, places, summaries, coefficients, detections, image_stride, first_value, anchor_stride,
           value_stride, mask_dim, max_det);
}
