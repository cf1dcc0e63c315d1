// Network output → candidates: score above the threshold, best class, sorted.
//
// output   (batch, 4 + class_count + mask_dim, anchors) float32 or float16: cx, cy, w, h in input pixels, scores,
//          coefficients; `channels` is the size of its second axis. Where `bins` is not 0, the layout "distributions":
//          4 * bins values in place of cx, cy, w, h.
// summaries (batch): candidates and flags are set; kept is set to 0.
// keys     (batch, anchors) scratch, one for each candidate in any order.
// sorted   (batch, capacity): best score first, equal scores by anchor; the first `capacity` of them (30 000 at most).
// Twins: runtime/stages/decode.py _candidates() and _xyxy_from_cxcywh(), equal to the last bit; distributions.py
// boxes_of(), equal but for the last bits of exp.
//
// Sorting is counting: the place of a candidate is the number of better ones. n² comparisons, spread over the whole
// device without any order among blocks, cost less than a sort for the hundreds of candidates of a photograph, and
// about 10 ms for the 86 016 that a 2048 x 2048 input has at most.
#include "layout.cuh"
#include "number.cuh"

// block (256), grid (batch / 256)
extern "C" __global__ void reset_summaries(Summary* summaries, int batch) {
    const int image = blockIdx.x * blockDim.x + threadIdx.x;
    if (image < batch) summaries[image] = Summary{0, 0, 0, 0};
}

// Values of an anchor before its scores.
__device__ inline int box_values(int bins) { return bins == 0 ? 4 : 4 * bins; }

// The best score of an anchor, NaN where any of its scores is, and the first class that has it.
template <class T>
__device__ inline float best_score(const T* scores, int anchors, int class_count, int* class_id) {
    float best = as_float(scores[0]);
    *class_id = 0;
    for (int i = 1; i < class_count; ++i) {
        const float score = as_float(scores[(long long)i * anchors]);
        if (score > best || score != score) {
            best = score;
            *class_id = i;
        }
        if (best != best) break;
    }
    return best;
}

// block (256), grid (anchors / 256, batch): one thread for each anchor.
template <class T>
__device__ void candidates(const T* output, const Place* places, Summary* summaries, unsigned long long* keys,
                           int anchors, int class_count, int channels, int bins) {
    const int anchor = blockIdx.x * blockDim.x + threadIdx.x;
    const int image = blockIdx.y;
    if (anchor >= anchors || places[image].image_h == 0) return;
    int class_id;
    const T* scores = output + ((long long)image * channels + box_values(bins)) * anchors + anchor;
    const float score = best_score(scores, anchors, class_count, &class_id);
    if (!is_finite(score)) {
        atomicOr(&summaries[image].flags, NONFINITE_SCORES);
    } else if (score > places[image].conf) {
        // Positive floats are in the order of their bits. Turned round: ascending keys are descending scores.
        const unsigned long long turned = ~__float_as_uint(score);
        keys[(long long)image * anchors + atomicAdd(&summaries[image].candidates, 1)] = turned << 32 | (unsigned)anchor;
    }
}

// The mean of a distribution of `bins` logits, `anchors` values apart: a distance in cells.
template <class T>
__device__ inline float mean_distance(const T* logits, int anchors, int bins) {
    if (bins == 1) return as_float(logits[0]);
    float most = as_float(logits[0]);
    for (int i = 1; i < bins; ++i) most = fmaxf(most, as_float(logits[(long long)i * anchors]));
    float sum = 0.0f, mean = 0.0f;
    for (int i = 0; i < bins; ++i) {
        const float share = __expf(as_float(logits[(long long)i * anchors]) - most);
        sum += share;
        mean += share * (float)i;
    }
    return mean / sum;
}

// Feature maps, the finest first; strides past the last are 0.
struct Maps {
    int height, width, strides[4];
};

// cx, cy, w, h of an anchor in input pixels, from the distributions of its four sides.
template <class T>
__device__ inline void box_from_distributions(const T* output, int anchor, int anchors, int bins, Maps maps,
                                              float* box) {
    int first = 0, stride = 0, columns = 1;
    for (int i = 0; i < 4; ++i) {
        if (maps.strides[i] == 0) break;
        stride = maps.strides[i];
        columns = maps.width / stride;
        const int cells = columns * (maps.height / stride);
        if (anchor < first + cells) break;
        first += cells;
    }
    const float at[2] = {(float)((anchor - first) % columns) + 0.5f, (float)((anchor - first) / columns) + 0.5f};
    const long long side = (long long)bins * anchors;
    for (int axis = 0; axis < 2; ++axis) {
        const float low = at[axis] - mean_distance(output + axis * side + anchor, anchors, bins);
        const float high = at[axis] + mean_distance(output + (axis + 2) * side + anchor, anchors, bins);
        box[axis] = (low + high) / 2.0f * (float)stride;
        box[axis + 2] = (high - low) * (float)stride;
    }
}

template <class T>
__device__ Candidate candidate_at(const T* output, int anchor, int anchors, int class_count, int bins, Maps maps) {
    Candidate candidate;
    float box[4];
    if (bins == 0) {
        for (int i = 0; i < 4; ++i) box[i] = as_float(output[(long long)i * anchors + anchor]);
    } else {
        box_from_distributions(output, anchor, anchors, bins, maps, box);
    }
    const float half_w = box[2] / 2.0f, half_h = box[3] / 2.0f;
    candidate.x1 = box[0] - half_w;
    candidate.y1 = box[1] - half_h;
    candidate.x2 = box[0] + half_w;
    candidate.y2 = box[1] + half_h;
    const T* scores = output + (long long)box_values(bins) * anchors + anchor;
    candidate.score = best_score(scores, anchors, class_count, &candidate.class_id);
    candidate.anchor = anchor;
    candidate.reserved = 0;
    return candidate;
}

// block (256), grid (anchors / 256, batch): one thread for each candidate.
template <class T>
__device__ void rank_candidates(const T* output, const unsigned long long* keys, Summary* summaries, Candidate* sorted,
                                int anchors, int class_count, int channels, int bins, Maps maps, int capacity) {
    __shared__ unsigned long long others[BLOCK];
    const int image = blockIdx.y;
    const int count = summaries[image].candidates;
    const int first = blockIdx.x * BLOCK;
    if (first >= count) return;  // the whole block: no barrier is missed
    keys += (long long)image * anchors;
    const int index = first + threadIdx.x;
    const unsigned long long key = index < count ? keys[index] : 0;
    int rank = 0;
    for (int start = 0; start < count; start += BLOCK) {
        const int other = start + threadIdx.x;
        others[threadIdx.x] = other < count ? keys[other] : ~0ull;  // after all: counted by none
        __syncthreads();
        for (int i = 0; i < BLOCK; ++i) rank += others[i] < key;
        __syncthreads();
    }
    if (index >= count || rank >= capacity) return;
    const T* image_output = output + (long long)image * channels * anchors;
    const Candidate candidate = candidate_at(image_output, (int)(key & 0xffffffffu), anchors, class_count, bins, maps);
    if (!is_finite(candidate.x1) || !is_finite(candidate.y1) || !is_finite(candidate.x2) || !is_finite(candidate.y2)) {
        atomicOr(&summaries[image].flags, NONFINITE_BOXES);
    }
    sorted[(long long)image * capacity + rank] = candidate;
}

extern "C" __global__ void candidates_f32(const float* output, const Place* places, Summary* summaries,
                                          unsigned long long* keys, int anchors, int class_count, int channels,
                                          int bins) {
    candidates(output, places, summaries, keys, anchors, class_count, channels, bins);
}

extern "C" __global__ void candidates_f16(const Half* output, const Place* places, Summary* summaries,
                                          unsigned long long* keys, int anchors, int class_count, int channels,
                                          int bins) {
    candidates(output, places, summaries, keys, anchors, class_count, channels, bins);
}

extern "C" __global__ void rank_candidates_f32(const float* output, const unsigned long long* keys, Summary* summaries,
                                               Candidate* sorted, int anchors, int class_count, int channels, int bins,
                                               int height, int width, int stride0, int stride1, int stride2,
                                               int stride3, int capacity) {
    const Maps maps = {height, width, {stride0, stride1, stride2, stride3}};
    rank_candidates(output, keys, summaries, sorted, anchors, class_count, channels, bins, maps, capacity);
}

extern "C" __global__ void rank_candidates_f16(const Half* output, const unsigned long long* keys, Summary* summaries,
                                               Candidate* sorted, int anchors, int class_count, int channels, int bins,
                                               int height, int width, int stride0, int stride1, int stride2,
                                               int stride3, int capacity) {
    const Maps maps = {height, width, {stride0, stride1, stride2, stride3}};
    rank_candidates(output, keys, summaries, sorted, anchors, class_count, channels, bins, maps, capacity);
}
