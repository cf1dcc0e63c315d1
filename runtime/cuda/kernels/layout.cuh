// What lies in device memory between the stages. The same layouts in NumPy: runtime/cuda/records.py; a test holds that
// sizes and offsets agree.
//
// The kernels' constants, each stated here once; Python has those it needs under its own names, and a test holds that
// both agree. What a user may want to change, as the letterbox colour and the mask threshold, is an argument instead,
// stated in the twin.
//
// A CUDA graph is captured once per shape of the network's input and replayed for images of any size. Arguments of a
// launch are frozen in it, so whatever depends on an image lies in these records.
#pragma once

enum {
    BLOCK = 256,          // threads of a block, where nothing else is said
    TILE_WORDS = 128,     // words of a tile and threads of its block, see below
    OVERLAP_BLOCK = 128,  // threads that count one mask in one box
    MAX_MASK_DIM = 256,   // a detection's coefficients lie in a block's shared memory
    TAPS = 3,             // prototypes along an axis that a pixel of the image depends on
    WORD_BITS = 32,       // pixels of a word of a mask (runtime/masks/bits.py)
};

// Numbers that are NaN or infinite: the host raises, as the twin does.
enum { NONFINITE_SCORES = 1, NONFINITE_BOXES = 2, NONFINITE_COEFFICIENTS = 4, NONFINITE_PROTOTYPES = 8 };

// Where one image of the batch lies, and what is asked of it. A row past the group has image_h = 0: no work, blob 0.
struct Place {
    long long image_at;           // bytes from the start of the upload: RGB uint8 (rows, image_w, 3), no gaps; the rows
                                  // that ResizeTap names, which may be fewer than image_h
    long long resize_rows_at;     // ResizeTap[drawn_h], bytes from the start of the upload
    long long resize_columns_at;  // ResizeTap[drawn_w]
    long long mask_rows_at;       // MaskTap[image_h]
    long long mask_columns_at;    // MaskTap[image_w]
    int image_h, image_w;         // the original image, pixels
    int drawn_h, drawn_w;         // the resized image inside the network's input, input pixels
    int drawn_y, drawn_x;         // its left top corner
    float pad_x, pad_y;           // way back of boxes: image = (input - pad) / scale
    float scale_x, scale_y;
    float conf;                   // scores must be above it
    float iou;                    // a box goes when its IoU with a better one is above it
    int max_det;                  // at most this many are kept
    int reserved;
};

// One row or column of the resized image: two pixels of the original and their shares in 1/2048 (cv2.resize, uint8).
struct ResizeTap {
    int near, far;
    short near_share, far_share;
};

// One row or column of the original image: three neighbouring prototypes and their shares (letterbox.Resampling). One load
// of 16 bytes.
struct alignas(16) MaskTap {
    int first;
    float share[TAPS];
};

// A box above the confidence threshold, pixels of the network's input.
struct Candidate {
    float x1, y1, x2, y2;
    float score;
    int class_id;
    int anchor;  // its column ("raw") or row ("nms") in the network's output
    int reserved;
};

// Counts and flags of one image.
struct Summary {
    int candidates;  // scores above the threshold, before any limit
    int kept;        // detections
    int flags;       // NONFINITE_…
    int reserved;
};

// One detection of the answer. Its mask is a crop of bits: row r, column c is bit c % WORD_BITS of
// words[first_word + r * pitch + c / WORD_BITS]; bits past the width are 0. runtime/masks/bits.py says why.
struct Detection {
    float x1, y1, x2, y2;  // pixels of the image, clipped to it
    float score;
    int class_id;
    int anchor;
    int area;                      // pixels of the mask
    int left, top, width, height;  // the crop, pixels of the image
    long long first_word;
    int pitch;  // words of a row
    int image;  // row of the batch
};

// Words of a row of pixels.
__device__ inline int pitch_of(int width) { return (width + WORD_BITS - 1) / WORD_BITS; }

// A detection's crop in tiles of TILE_WORDS, each the work of one block. Every thread makes one word, so narrow crops
// get narrow, high tiles.
__device__ inline int tile_columns(int pitch) { return pitch >= 3 ? 4 : pitch; }  // words

__device__ inline int tiles_across(int pitch) { return (pitch + tile_columns(pitch) - 1) / tile_columns(pitch); }

__device__ inline int tiles_down(int pitch, int height) {
    const int rows = TILE_WORDS / tile_columns(pitch);
    return (height + rows - 1) / rows;
}
