#pragma once

#include <cstddef>
#include <vector>

#include "longspan/communicator.hpp"

namespace longspan::perf {

/// A rank's buffer: of the communicator's alloc(), which peers on the host read in place, or ordinary heap memory.
class Buffer {
 public:
  Buffer(Communicator& comm, bool from_heap) : comm_(comm), from_heap_(from_heap) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { release(); }

  /// At least `bytes`; what was in it may be lost.
  Status reserve(std::size_t bytes);
  std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return bytes_; }

 private:
  void release();

  Communicator& comm_;
  bool from_heap_;
  std::vector<std::byte> heap_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace longspan::perf
