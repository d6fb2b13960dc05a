#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/containers.hpp"
#include "verbs/device.hpp"
#include "verbs/wire.hpp"

namespace longspan::verbs {

struct Bounce;

/// What a posted send request was for; they complete in order.
struct SendWork {
  enum class Kind : std::uint8_t { kFrame, kOffer, kWrite } kind = Kind::kFrame;
  void* message = nullptr;      ///< kOffer, kWrite
  Bounce* bounce = nullptr;  ///< to be given back
  std::uint32_t bytes = 0;
};

/// How a request failed, in words: the completion's status, the device, the port.
std::string describe(ibv_wc_status status, const Device& device);

/// One reliable connection. Every request is signalled. Its owner counts what fits: posting never fails for want of
/// room.
class QueuePair {
 public:
  struct Sizes {
    std::uint32_t sends = 64;
    std::uint32_t receives = 64;
    std::uint32_t inline_bytes = 0;  ///< wanted
  };

  QueuePair() noexcept = default;
  /// Makes it, ready to have receives posted.
  static Result<QueuePair> create(const Device& device, ibv_cq* queue, const Sizes& sizes);
  Status connect(const Device& device, const wire::Greeting& peer, const wire::QueueName& name);
  /// Nothing more arrives by it, and what it was to send ends with an error.
  void stop() noexcept;

  bool valid() const noexcept { return handle_ != nullptr; }
  std::uint32_t number() const noexcept { return handle_->qp_num; }
  wire::QueueName name() const noexcept { return {number(), first_packet_}; }
  std::uint32_t inline_bytes() const noexcept { return inline_bytes_; }
  bool has_room() const noexcept { return works_.size() < sends_; }
  bool idle() const noexcept { return works_.empty(); }

  bool post_receive(std::uint64_t slot, std::span<std::byte> buffer, std::uint32_t key) noexcept;
  bool send(std::span<ibv_sge> pieces, bool inlined, const SendWork& work);
  bool write(std::span<const std::byte> data, std::uint32_t key, std::uint64_t address, std::uint32_t remote_key,
             std::uint32_t token, const SendWork& work);
  /// Of the oldest request that has not completed.
  SendWork take_work() { return works_.pop_front(); }

  /// In a completion's wr_id: the rest is the slot.
  static constexpr std::uint64_t kIsReceive = std::uint64_t{1} << 63;

 private:
  QueuePairHandle handle_;
  std::uint32_t first_packet_ = 0;
  std::uint32_t sends_ = 0;
  std::uint32_t inline_bytes_ = 0;
  Queue<SendWork> works_;
};

}  // namespace longspan::verbs
