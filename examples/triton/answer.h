// The tensors of a Triton server's answer in binary: JSON that announces them, then their bytes, in its order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "json.h"

class Answer {
 public:
  // `json_size` is the header Inference-Header-Content-Length. `body` must outlive this.
  Answer(std::string_view body, std::size_t json_size) {
    if (json_size > body.size()) throw std::runtime_error("the answer is shorter than its JSON is said to be");
    std::string_view rest = body.substr(json_size);
    const Json json = JsonReader(body.substr(0, json_size)).read();
    for (const Json& output : json.at("outputs").items) {
      const std::string& name = output.at("name").text;
      const std::size_t size = output.at("parameters").at("binary_data_size").size();
      if (size > rest.size()) {
        throw std::runtime_error(name + " has " + std::to_string(size) + " bytes, the answer " +
                                 std::to_string(rest.size()) + " for it");
      }
      tensors_[name] = {output.at("datatype").text, rest.substr(0, size)};
      rest.remove_prefix(size);
    }
    if (!rest.empty()) throw std::runtime_error("the answer has bytes that belong to no tensor");
  }

  // `count` values of an INT32 or FP32 tensor. They are low byte first, as are x86 and ARM.
  template <typename T>
  std::vector<T> values(const std::string& name, std::size_t count) const {
    static_assert(std::is_same_v<T, std::int32_t> || std::is_same_v<T, float>);
    const std::string_view bytes = tensor(name, std::is_same_v<T, float> ? "FP32" : "INT32");
    if (bytes.size() != count * sizeof(T)) {
      throw std::runtime_error(name + " has " + std::to_string(bytes.size()) + " bytes, expected " +
                               std::to_string(count * sizeof(T)));
    }
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  // The `count` elements of a BYTES tensor: each its length in four bytes, then itself.
  std::vector<std::string_view> elements(const std::string& name, std::size_t count) const {
    std::string_view rest = tensor(name, "BYTES");
    std::vector<std::string_view> elements;
    while (!rest.empty()) {
      std::uint32_t size = 0;
      if (rest.size() >= sizeof size) std::memcpy(&size, rest.data(), sizeof size);
      if (rest.size() < sizeof size || size > rest.size() - sizeof size) {
        throw std::runtime_error(name + ": element " + std::to_string(elements.size()) + " is longer than the tensor");
      }
      elements.push_back(rest.substr(sizeof size, size));
      rest.remove_prefix(sizeof size + size);
    }
    if (elements.size() != count) {
      throw std::runtime_error(name + " has " + std::to_string(elements.size()) + " elements, expected " +
                               std::to_string(count));
    }
    return elements;
  }

 private:
  struct Tensor {
    std::string datatype;
    std::string_view bytes;
  };

  std::string_view tensor(const std::string& name, const std::string& datatype) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) throw std::runtime_error("the answer has no " + name + "; is it this model?");
    if (found->second.datatype != datatype) {
      throw std::runtime_error(name + " is " + found->second.datatype + ", expected " + datatype);
    }
    return found->second.bytes;
  }

  std::map<std::string, Tensor> tensors_;
};
