// What the library offers to Python, through ctypes. `runtime/native/library.py` declares the same functions.
//
// Python checks shapes, types and ranges before a call. No function keeps a pointer, starts a thread, holds a
// lock, or throws. Bits of masks lie as `runtime/masks/bits.py` describes: rows of 32-bit words, the leftmost
// pixel in the lowest bit.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define FASTSAM_API extern "C" __declspec(dllexport)
#else
#define FASTSAM_API extern "C" __attribute__((visibility("default")))
#endif

// Raised whenever a function below changes: a library of other sources is then refused.
#define FASTSAM_ABI 4

enum FastsamResult : int32_t {
    FASTSAM_OK = 0,
    FASTSAM_NOT_FINITE = 1,
    FASTSAM_NO_MEMORY = 2,
    FASTSAM_NO_SUCH_LEVEL = 3,
};

// Code paths. A higher number is faster where the processor has it.
enum FastsamLevel : int32_t {
    FASTSAM_PORTABLE = 0,
    FASTSAM_NEON = 1,
    FASTSAM_AVX2 = 2,
    FASTSAM_AVX512 = 3,
};

FASTSAM_API int32_t fastsam_abi();

// The fastest level of this processor and operating system.
FASTSAM_API int32_t fastsam_best_level();

// 1 if this library and this processor can run `level`.
FASTSAM_API int32_t fastsam_has_level(int32_t level);

// Masks of n detections as bits, and their areas. Twin: `stages/assemble.py`.
//
// coefficients  (n, depth)
// prototypes    (depth, rows, columns), C-contiguous
// corners       (n, 4): x1, y1, x2, y2 of each crop, pixels of the image, inside it
// first_…       (height,) and (width,): the first of three prototypes of an image pixel, ascending, at most side - 3
// shares_…      (height, 3) and (width, 3): the share of each of the three, none negative
// words         all 0; crop i begins at starts[i]
// areas         (n,), all 0
FASTSAM_API int32_t fastsam_masks(const float* coefficients, int64_t n, int64_t depth, const float* prototypes,
                                  int64_t rows, int64_t columns, const int64_t* corners, const int32_t* first_vertical,
                                  const float* shares_vertical, int64_t height, const int32_t* first_horizontal,
                                  const float* shares_horizontal, int64_t width, float threshold, uint32_t* words,
                                  const int64_t* starts, int64_t* areas, int32_t level);

// The rows of `nms` that are kept, best first, written to kept (n,); returns their number, or -1 without memory.
// Twin: `nms` of `stages/decode.py`.
//
// boxes         (n, 4): x1, y1, x2, y2, best score first
FASTSAM_API int64_t fastsam_nms(const float* boxes, int64_t n, float threshold, int64_t most, int64_t* kept,
                                int32_t level);

// Detections of one image of one class, best score first: candidates, boxes, NMS, coefficients. Returns their number; -1
// without memory, -2 where the twin, `decode` of `stages/decode.py`, has something to say: a number that is not finite or a
// score that is none, or too many candidates.
//
// output        (5 + depth, anchors): cx, cy, w, h, score, coefficients; rows `pitch` values apart
// conf          a score is above it; `rounding`: scores may be as far outside [0, 1]
// limit         candidates at most
// most          rows of boxes (most, 4) x1, y1, x2, y2, scores (most,) and coefficients (most, depth), written
FASTSAM_API int64_t fastsam_decode(const float* output, int64_t anchors, int64_t pitch, int64_t depth, float conf,
                                   float rounding, float threshold, int64_t limit, int64_t most, float* boxes,
                                   float* scores, float* coefficients, int32_t level);

// RGB pixels as three planes of value / 255. Twin: `write_input` of `stages/resize.py`.
//
// pixels        (height, width, 3), rows `pitch` bytes apart
// planes        the first value of the first plane; rows and planes lie `row` and `plane` values apart
FASTSAM_API int32_t fastsam_planes(const uint8_t* pixels, int64_t height, int64_t width, int64_t pitch, float* planes,
                                   int64_t row, int64_t plane, int32_t level);

// RGB pixels at another size, bilinear as OpenCV's `resize` computes bytes, as three planes of value / 255.
// Twin: `write_input` of `stages/resize.py`, with OpenCV. Not for both sides halved, where OpenCV takes means
// of four.
//
// pixels, …     as in fastsam_planes; planes of out_height × out_width
FASTSAM_API int32_t fastsam_resized(const uint8_t* pixels, int64_t height, int64_t width, int64_t pitch,
                                    int64_t out_height, int64_t out_width, float* planes, int64_t row, int64_t plane,
                                    int32_t level);

// COCO RLE of one mask as text; returns its length, or -1 without memory. A number above `capacity` says that nothing was
// written, and which capacity is enough.
// Twin: `masks/rle.py`.
//
// words         (rows, pitch): a crop whose left top pixel is (x, y) of the image
FASTSAM_API int64_t fastsam_rle(const uint32_t* words, int64_t rows, int64_t pitch, int64_t x, int64_t y,
                                int64_t height, int64_t width, uint8_t* text, int64_t capacity);

// Pixels of each of n masks inside each of m boxes. Twin: `overlap` of `masks/packed.py`.
//
// words         the rows of the crops; crop i begins at starts[i]
// places        (n, 4): x1, y1, x2, y2 of each crop, pixels of the image; right and bottom exclusive
// boxes         (m, 4): the same of each box
// pixels        (n, m), written
FASTSAM_API int32_t fastsam_inside(const uint32_t* words, const int64_t* starts, const int64_t* places, int64_t n,
                                   const int64_t* boxes, int64_t m, int64_t* pixels, int32_t level);

// Pixels inside a box that two masks share, for m pairs of them. Twin: `shared_pixels` of `masks/overlap.py`.
//
// words, …      the crops of one side and of the other, as in fastsam_inside
// pairs         (m, 2): a crop of the one, a crop of the other
// box           (4,): x1, y1, x2, y2
// pixels        (m,), written
FASTSAM_API int32_t fastsam_shared(const uint32_t* words, const int64_t* starts, const int64_t* places,
                                   const uint32_t* other_words, const int64_t* other_starts,
                                   const int64_t* other_places, const int64_t* pairs, int64_t m, const int64_t* box,
                                   int64_t* pixels, int32_t level);
