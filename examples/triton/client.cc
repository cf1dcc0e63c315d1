// Segments an image on a Triton server over HTTP; prints the segments and writes their masks as PGM pictures.
//
//   client http://localhost:8000 photo.jpg
//   client http://localhost:8000 photo.jpg '{"prompts": [{"points": [[285, 150]]}]}'
//
// MODEL=fastsam_device in the environment asks the other model. C++17 and Linux, no library.
// http.h is the transport, answer.h takes the answer apart, coco_rle.h makes a bitmap of a mask.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "answer.h"
#include "coco_rle.h"
#include "http.h"

namespace {

constexpr std::int64_t kMostPixels = 1 << 28;  // a wrong size must not take all memory

std::string read_file(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) throw std::runtime_error(path.string() + ": no such file");
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error(path.string() + ": cannot be read");
  return content;
}

// Adds one element of a BYTES tensor: its length in four bytes, low first, then itself.
void append_element(std::string& bytes, std::string_view content) {
  for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(content.size() >> shift & 0xFF);
  bytes += content;
}

// JSON that announces two tensors of shape (1, 1), one image and its prompt. Their bytes follow it in this order.
std::string request_json(std::size_t image_bytes, std::size_t prompt_bytes) {
  const auto input = [](const std::string& name, std::size_t bytes) {
    return R"({"name": ")" + name + R"(", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": )" +
           std::to_string(4 + bytes) + "}}";
  };
  std::string outputs;
  for (const char* const name : {"COUNT", "IMAGE_SIZE", "BOXES", "SCORES", "MASKS"}) {
    outputs += outputs.empty() ? "" : ", ";
    outputs += R"({"name": ")" + std::string(name) + R"(", "parameters": {"binary_data": true}})";
  }
  return R"({"inputs": [)" + input("IMAGE", image_bytes) + ", " + input("PROMPT", prompt_bytes) +
         R"(], "outputs": [)" + outputs + "]}";
}

HttpAnswer ask(const std::string& url, const std::string& image, const std::string& prompt) {
  const char* const model = std::getenv("MODEL");
  const std::string json = request_json(image.size(), prompt.size());
  std::string body = json;
  append_element(body, image);
  append_element(body, prompt);
  HttpAnswer answer = http_post(
      url, std::string("/v2/models/") + (model != nullptr ? model : "fastsam") + "/infer",
      "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: " + std::to_string(json.size()) +
          "\r\n",
      body);
  if (answer.status != 200) {
    throw std::runtime_error("the server answers " + std::to_string(answer.status) + ": " + answer.body);
  }
  return answer;
}

void write_pgm(const std::string& path, const std::vector<std::uint8_t>& bitmap, std::size_t height,
               std::size_t width) {
  std::ofstream file(path, std::ios::binary);
  file << "P5\n" << width << ' ' << height << "\n255\n";
  file.write(reinterpret_cast<const char*>(bitmap.data()), static_cast<std::streamsize>(bitmap.size()));
  if (!file.flush()) throw std::runtime_error(path + ": cannot be written");
}

// Prints the segments of the request's one image and writes their masks into the current folder.
void show(const Answer& answer, const std::filesystem::path& image) {
  const std::int32_t count = answer.values<std::int32_t>("COUNT", 1)[0];
  const std::vector<std::int32_t> size = answer.values<std::int32_t>("IMAGE_SIZE", 2);
  if (count < 0 || size[0] < 1 || size[1] < 1 || std::int64_t{size[0]} * size[1] > kMostPixels) {
    throw std::runtime_error("the answer has an impossible COUNT or IMAGE_SIZE");
  }
  const auto n = static_cast<std::size_t>(count);
  const auto height = static_cast<std::size_t>(size[0]), width = static_cast<std::size_t>(size[1]);
  const std::vector<float> boxes = answer.values<float>("BOXES", 4 * n);
  const std::vector<float> scores = answer.values<float>("SCORES", n);
  const std::vector<std::string_view> masks = answer.elements("MASKS", n);
  std::printf("%s %zux%zu: %zu segments\n", image.filename().c_str(), width, height, n);
  std::printf("  n  score       x1      y1      x2      y2    pixels  mask\n");
  for (std::size_t i = 0; i < n; ++i) {
    const std::vector<std::uint8_t> bitmap = bitmap_of(masks[i], height, width);
    const auto pixels = std::count(bitmap.begin(), bitmap.end(), 255);
    const std::string file = image.stem().string() + "_" + std::to_string(i) + ".pgm";
    write_pgm(file, bitmap, height, width);
    const float* const box = &boxes[4 * i];
    std::printf("%3zu  %.3f  %7.1f %7.1f %7.1f %7.1f  %8td  %s\n", i, static_cast<double>(scores[i]),
                static_cast<double>(box[0]), static_cast<double>(box[1]), static_cast<double>(box[2]),
                static_cast<double>(box[3]), pixels, file.c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) {
    std::fprintf(stderr, "usage: client URL IMAGE [PROMPT-JSON]\n");
    return 2;
  }
  try {
    const std::filesystem::path image = argv[2];
    const HttpAnswer answer = ask(argv[1], read_file(image), argc == 4 ? argv[3] : "{}");
    show(Answer(answer.body, answer.number("inference-header-content-length")), image);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "client: %s\n", error.what());
    return 2;
  }
  return 0;
}
