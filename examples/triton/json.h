// A small reader for the JSON that a server sends before its tensors. Throws std::runtime_error for what is no JSON.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

struct Json {
  std::string text;               // of a text, escapes as written (no name of a tensor has any); of a number, a word
  std::vector<std::string> keys;  // of an object, one for each item
  std::vector<Json> items;        // of a list or an object

  const Json& at(std::string_view key) const {
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (keys[i] == key) return items[i];
    }
    throw std::runtime_error("the answer's JSON has no '" + std::string(key) + "'; is it a Triton server?");
  }

  std::size_t size() const {
    std::size_t value = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc() || stop != end) throw std::runtime_error("'" + text + "' in the answer is no size");
    return value;
  }
};

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : rest_(text) {}

  Json read() {
    Json value = read_value(0);
    skip_space();
    if (!rest_.empty()) fail("nothing more");
    return value;
  }

 private:
  static constexpr int kDeepest = 64;  // deeper ones would use up the stack

  [[noreturn]] void fail(const std::string& expected) const {
    const std::string found = rest_.empty() ? "it ends" : "it has '" + std::string(rest_.substr(0, 20)) + "'";
    throw std::runtime_error("the answer is no JSON: " + found + " where " + expected + " is expected");
  }

  void skip_space() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size())); }

  bool take_if(char wanted) {
    skip_space();
    if (rest_.empty() || rest_.front() != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  void require(char wanted) {
    if (!take_if(wanted)) fail(std::string(1, wanted));
  }

  Json read_value(int depth) {
    if (depth > kDeepest) fail("less depth");
    Json value;
    if (take_if('{')) {
      value = read_items('}', depth);
    } else if (take_if('[')) {
      value = read_items(']', depth);
    } else if (take_if('"')) {
      value.text = read_text();
    } else {
      value.text = rest_.substr(0, rest_.find_first_of(" \t\r\n,]}"));
      if (value.text.empty()) fail("a value");
      rest_.remove_prefix(value.text.size());
    }
    return value;
  }

  // After the bracket that opens.
  Json read_items(char end, int depth) {
    Json value;
    if (take_if(end)) return value;
    do {
      if (end == '}') {
        require('"');
        value.keys.push_back(read_text());
        require(':');
      }
      value.items.push_back(read_value(depth + 1));
    } while (take_if(','));
    require(end);
    return value;
  }

  // After the quote that opens.
  std::string read_text() {
    std::size_t end = 0;
    while (end < rest_.size() && rest_[end] != '"') end += rest_[end] == '\\' ? 2 : 1;
    if (end >= rest_.size()) fail("a closing quote after it");
    const std::string text(rest_.substr(0, end));
    rest_.remove_prefix(end + 1);
    return text;
  }

  std::string_view rest_;
};
