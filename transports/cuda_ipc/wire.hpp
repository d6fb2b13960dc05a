#pragma once

#include <cstdint>

#include "device/cuda/sharing.hpp"
#include "longspan/spi/transport.hpp"

namespace longspan::cuda_ipc {

/// What goes beside the messages themselves through the transport below, named by them: chunks never come to these.
inline constexpr std::uint32_t kOfferBit = 1U << 31;   ///< "my bytes are there in device memory": an Offer
inline constexpr std::uint32_t kAnswerBit = 1U << 30;  ///< what the receiver says to it: an Answer

struct Offer {
  std::uint64_t digest = 0;
  std::uint64_t bytes = 0;
  device::cuda::PieceName piece;
};

enum class Answer : std::uint32_t {
  kRead = 1,       ///< its memory may be used again
  kAsHost = 2,     ///< send the bytes: they are wanted in host memory
  kCannotMap = 3,  ///< send the bytes, and always: this device cannot read that one's memory
};

inline spi::MessageId with(spi::MessageId id, std::uint32_t bit) {
  id.chunk |= bit;
  return id;
}
inline spi::MessageId without(spi::MessageId id) {
  id.chunk &= ~(kOfferBit | kAnswerBit);
  return id;
}

}  // namespace longspan::cuda_ipc
