#pragma once

#include <cstdint>

namespace longspan::tcp {

/// Whoever an epoll watch points to. Must live until the batch of events that it closed its socket in is over.
class EventSink {
 public:
  virtual void on_events(std::uint32_t events) = 0;

 protected:
  ~EventSink() = default;
};

}  // namespace longspan::tcp
