// Image → network input: resize (bilinear), pad with one colour, HWC → CHW, / 255, in one pass.
//
// upload   images and ResizeTap tables of the whole batch, see Place
// places   (batch)
// blob     (batch, 3, height, width) float32 or float16, RGB in [0, 1]
// border   the colour round the image, as a value of the blob; that of a row past the group is 0
// grid     (width / 32, height / 8, batch), rounded up; block (32, 8): one thread for each pixel of the input.
// Twin: runtime/stages/letterbox.py letterbox(). Equal to the last bit where cv2.resize is OpenCV's own code: the same
// fixed-point arithmetic on tables that the host makes, a true division. float16 is the float32 value, rounded.
#include "layout.cuh"
#include "number.cuh"

__device__ inline int mix_columns(const unsigned char* row, const ResizeTap& column, int channel) {
    return row[column.near * 3ll + channel] * column.near_share + row[column.far * 3ll + channel] * column.far_share;
}

// Each product is cut before they are added, as in OpenCV, which works in 16 bits here.
__device__ inline int mix_rows(int near, int far, const ResizeTap& row) {
    return (((row.near_share * (near >> 4)) >> 16) + ((row.far_share * (far >> 4)) >> 16) + 2) >> 2;
}

template <class T>
__device__ void letterbox(const unsigned char* upload, const Place* places, T* blob, int height, int width,
                          float border) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const Place& place = places[blockIdx.z];
    const long long plane = (long long)height * width;
    T* pixel = blob + blockIdx.z * 3 * plane + (long long)y * width + x;
    const int column = x - place.drawn_x, row = y - place.drawn_y;
    if (place.image_h == 0 || column < 0 || row < 0 || column >= place.drawn_w || row >= place.drawn_h) {
        const float value = place.image_h == 0 ? 0.0f : border;
        for (int channel = 0; channel < 3; ++channel) store(pixel + channel * plane, value);
        return;
    }
    const ResizeTap across = reinterpret_cast<const ResizeTap*>(upload + place.resize_columns_at)[column];
    const ResizeTap down = reinterpret_cast<const ResizeTap*>(upload + place.resize_rows_at)[row];
    const unsigned char* image = upload + place.image_at;
    const unsigned char* near = image + (long long)down.near * place.image_w * 3;
    const unsigned char* far = image + (long long)down.far * place.image_w * 3;
    for (int channel = 0; channel < 3; ++channel) {
        const int value = mix_rows(mix_columns(near, across, channel), mix_columns(far, across, channel), down);
        store(pixel + channel * plane, (float)value / 255.0f);
    }
}

extern "C" __global__ void letterbox_f32(
    const unsigned char* upload, const Place* places, float* blob, int height, int width, float border) {
    letterbox(upload, places, blob, height, width, border);
}

extern "C" __global__ void letterbox_f16(
    const unsigned char* upload, const Place* places, Half* blob, int height, int width, float border) {
    letterbox(upload, places, blob, height, width, border);
}
