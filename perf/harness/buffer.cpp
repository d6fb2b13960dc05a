#include "harness/buffer.hpp"

namespace longspan::perf {

Status Buffer::reserve(std::size_t bytes) {
  if (bytes <= bytes_) return {};
  release();
  if (from_heap_) {
    heap_.resize(bytes);
    data_ = heap_.data();
  } else {
    LONGSPAN_ASSIGN(void* memory, comm_.alloc(bytes));
    data_ = static_cast<std::byte*>(memory);
  }
  bytes_ = bytes;
  return {};
}

void Buffer::release() {
  // Fails only when the communicator has ended, and that took its memory along.
  if (!from_heap_ && data_ != nullptr) static_cast<void>(comm_.free(data_));
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace longspan::perf
