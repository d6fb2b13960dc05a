#pragma once

#include <memory>
#include <span>

#include "cuda_ipc/wire.hpp"

namespace longspan::cuda_ipc {

class IpcChannel;

/// Something that was asked for and has not completed: what the contexts of the transport below, and the tokens of
/// devices, point to.
struct Operation {
  enum class Kind : std::uint8_t {
    kHostSend,    ///< passed on as it is
    kHostRecv,    ///< the same
    kOffer,       ///< a peer's offer that is being read
    kDeviceSend,  ///< of device memory
    kDeviceRecv,  ///< into device memory
  };
  Kind kind = Kind::kHostSend;
  IpcChannel* channel = nullptr;
  spi::MessageId id;
  void* context = nullptr;  ///< its caller's
};

/// Where a device operation stands.
enum class Stage : std::uint8_t {
  kWaits,    ///< a receive: for the message, or for its offer
  kOffered,  ///< a send: for the answer
  kReads,    ///< a receive: the device copies from the peer's memory
  kViewed,   ///< a receive that completed with a view, which is not released
  kMoves,    ///< between the device and page-locked memory
  kTravels,  ///< page-locked memory is sent, or received into
};

struct DeviceOperation : Operation {
  Stage stage = Stage::kWaits;
  bool moving = false;  ///< a device works for it, and will tell
  std::span<std::byte> data;
  std::uint64_t digest = 0;
  bool any_length = false;
  bool view_ok = false;
  int device = 0;
  std::size_t bytes = 0;  ///< of the message
  Offer offer;
  Answer answer = Answer::kRead;
  device::cuda::DeviceSharing::View view;
  std::span<std::byte> bounce;  ///< page-locked
};

}  // namespace longspan::cuda_ipc
