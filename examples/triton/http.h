// One HTTP POST over a plain socket (POSIX), so that the example needs no library. In production use one: this has
// neither TLS nor connections that stay open, and no transfer encodings.
#pragma once

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

struct HttpAnswer {
  int status = 0;
  std::string head;  // status line and headers, names in lower case
  std::string body;

  // A header's value, empty where there is none. `name` in lower case.
  std::string_view header(const std::string& name) const {
    const std::size_t found = head.find("\r\n" + name + ":");
    if (found == std::string::npos) return {};
    const std::string_view line(head.data() + found + 2, head.find("\r\n", found + 2) - found - 2);
    const std::string_view value = line.substr(name.size() + 1);
    return value.substr(std::min(value.find_first_not_of(' '), value.size()));
  }

  // A header that is a number.
  std::size_t number(const std::string& name) const {
    const std::string_view text = header(name);
    std::size_t value = 0;
    const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || stop != text.data() + text.size()) {
      throw std::runtime_error("the answer's header " + name + " is '" + std::string(text) + "', expected a number");
    }
    return value;
  }
};

class Connection {
 public:
  // Throws std::runtime_error where nobody listens.
  Connection(const std::string& host, const std::string& port) {
    addrinfo wanted{};
    wanted.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host.c_str(), port.c_str(), &wanted, &found); error != 0) {
      throw std::runtime_error(host + ":" + port + ": " + gai_strerror(error) + "; check the URL");
    }
    for (const addrinfo* one = found; one != nullptr && socket_ < 0; one = one->ai_next) open(*one);
    const int error = errno;
    freeaddrinfo(found);
    if (socket_ < 0) {
      throw std::runtime_error(host + ":" + port + ": " + std::strerror(error) + "; expected a running server");
    }
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { ::close(socket_); }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) fail("sending");
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  // Adds what has come to `bytes`; false at the end.
  bool receive(std::string& bytes) {
    char buffer[1 << 16];
    const ssize_t received = ::recv(socket_, buffer, sizeof buffer, 0);
    if (received < 0) fail("receiving");
    bytes.append(buffer, static_cast<std::size_t>(received));
    return received > 0;
  }

 private:
  static constexpr timeval kPatience{120, 0};

  void open(const addrinfo& one) {
    socket_ = ::socket(one.ai_family, one.ai_socktype, one.ai_protocol);
    if (socket_ < 0) return;
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
    if (::connect(socket_, one.ai_addr, one.ai_addrlen) == 0) return;
    const int error = errno;
    ::close(socket_);
    errno = error;
    socket_ = -1;
  }

  [[noreturn]] static void fail(const std::string& doing) {
    throw std::runtime_error(doing + " failed: " + std::strerror(errno) + "; look into the server's log");
  }

  int socket_ = -1;
};

// `url` is http://HOST[:PORT], `headers` are whole lines. Throws std::runtime_error where no answer comes.
inline HttpAnswer http_post(const std::string& url, const std::string& path, const std::string& headers,
                            std::string_view body) {
  constexpr std::string_view scheme = "http://";
  constexpr std::size_t longest = std::size_t{1} << 30;
  std::string place = url.substr(0, url.find_last_not_of('/') + 1);
  if (place.compare(0, scheme.size(), scheme) != 0) {
    throw std::runtime_error("'" + url + "' is no URL that this client knows; expected http://HOST:PORT");
  }
  place.erase(0, scheme.size());
  const std::size_t colon = place.find(':');
  const std::string port = colon == std::string::npos ? "80" : place.substr(colon + 1);

  Connection connection(place.substr(0, colon), port);
  connection.send("POST " + path + " HTTP/1.1\r\nHost: " + place + "\r\nConnection: close\r\nContent-Length: " +
                  std::to_string(body.size()) + "\r\n" + headers + "\r\n");
  connection.send(body);

  std::string bytes;
  HttpAnswer answer;
  std::size_t end = std::string::npos;  // of the head
  while ((end = bytes.find("\r\n\r\n")) == std::string::npos) {
    if (bytes.size() > (1 << 16) || !connection.receive(bytes)) {
      throw std::runtime_error(url + ": what came is no HTTP answer; expected Triton's HTTP port");
    }
  }
  answer.head = bytes.substr(0, end + 2);
  std::transform(answer.head.begin(), answer.head.end(), answer.head.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::size_t space = std::min(answer.head.find(' ') + 1, answer.head.size());
  std::from_chars(answer.head.data() + space, answer.head.data() + answer.head.size(), answer.status);
  const std::size_t size = answer.number("content-length");
  if (size > longest) throw std::runtime_error("the answer is said to have " + std::to_string(size) + " bytes");
  bytes.erase(0, end + 4);
  while (bytes.size() < size && connection.receive(bytes)) continue;
  if (bytes.size() != size) {
    throw std::runtime_error("the answer has " + std::to_string(bytes.size()) + " bytes of " + std::to_string(size));
  }
  answer.body = std::move(bytes);
  return answer;
}
