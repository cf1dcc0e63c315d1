// COCO's compressed run-length encoding of a mask: runs of background and mask in turn, down the columns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

// A run is written in characters of 5 bits each, low ones first, '0' added; bit 5 says that more follow. From the
// fourth run on it is the difference to the run two before, so the last character carries a sign in bit 4.
inline std::vector<std::int64_t> runs_of(std::string_view counts) {
  constexpr int kMostBits = 50;  // far more than any image needs, far from overflow
  std::vector<std::int64_t> runs;
  std::int64_t value = 0;
  int shift = 0;
  bool more = false;
  for (const char character : counts) {
    const int code = character - '0';
    if (code < 0 || code >= 64 || shift > kMostBits) throw std::runtime_error("a mask is no COCO RLE");
    value |= static_cast<std::int64_t>(code & 0x1F) << shift;
    shift += 5;
    more = (code & 0x20) != 0;
    if (more) continue;
    if ((code & 0x10) != 0) value -= std::int64_t{1} << shift;
    if (runs.size() > 2) value += runs[runs.size() - 2];
    if (value < 0 || value > INT32_MAX) throw std::runtime_error("a mask's RLE has a run that fits no image");
    runs.push_back(value);
    value = 0;
    shift = 0;
  }
  if (more) throw std::runtime_error("a mask's RLE ends within a run");
  return runs;
}

// Row by row, height x width: 255 is mask, 0 background.
inline std::vector<std::uint8_t> bitmap_of(std::string_view counts, std::size_t height, std::size_t width) {
  std::vector<std::uint8_t> bitmap(height * width);
  std::size_t pixel = 0;  // counted down the columns
  std::uint8_t colour = 0;
  for (const std::int64_t run : runs_of(counts)) {
    const auto length = static_cast<std::size_t>(run);
    if (length > bitmap.size() - pixel) throw std::runtime_error("a mask's RLE holds more pixels than the image");
    for (const std::size_t end = pixel + length; pixel < end; ++pixel) {
      bitmap[pixel % height * width + pixel / height] = colour;
    }
    colour ^= 255;
  }
  if (pixel != bitmap.size()) throw std::runtime_error("a mask's RLE holds fewer pixels than the image");
  return bitmap;
}
