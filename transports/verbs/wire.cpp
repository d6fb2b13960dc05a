#include "verbs/wire.hpp"

namespace longspan::verbs::wire {

std::string_view describe(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::kWelcome: return "welcome";
    case Verdict::kOtherVersion: return "it speaks another version of the protocol";
    case Verdict::kOtherJob: return "it belongs to another job";
    case Verdict::kOtherPeer: return "the address belongs to another rank now";
    case Verdict::kAlreadyConnected: return "it has a connection from this peer already";
    case Verdict::kNoResources: return "it has no queue pairs or lockable memory left";
  }
  return "it gave an answer that makes no sense";
}

std::string_view check(const Greeting& greeting) noexcept {
  if (greeting.magic != Greeting{}.magic) return "it does not speak longspan";
  if (greeting.version != kVersion || greeting.verdict != Verdict::kWelcome) return {};  // judged by what it says
  if (greeting.lanes == 0 || greeting.lanes > kMaxLanes) return "a number of lanes that makes no sense";
  if (greeting.buffers < 8 || greeting.buffers > 65536 || greeting.segments < 2 || greeting.segments > 65536) {
    return "numbers of receives that make no sense";
  }
  if (greeting.mtu < 1 || greeting.mtu > 5) return "an MTU that makes no sense";
  return {};
}

std::string_view check(const Frame& frame, std::size_t arrived_bytes) noexcept {
  if (arrived_bytes < sizeof(Frame) || frame.payload != arrived_bytes - sizeof(Frame)) {
    return "a frame of another length than it says";
  }
  switch (frame.type) {
    case FrameType::kEager:
      if (frame.bytes > kMaxMessage || frame.address > frame.bytes || frame.payload > frame.bytes - frame.address) {
        return "a piece that lies outside its message";
      }
      return {};
    case FrameType::kOffer:
    case FrameType::kGrant: return frame.bytes > kMaxMessage ? "a message of absurd length" : "";
    case FrameType::kReset:
    case FrameType::kResetDone:
      return frame.payload % sizeof(QueueName) != 0 || frame.payload > kMaxLanes * sizeof(QueueName)
                 ? "a list of lanes that makes no sense"
                 : "";
    case FrameType::kReady:
    case FrameType::kClear:
    case FrameType::kDrop:
    case FrameType::kCredit:
    case FrameType::kSlots:
    case FrameType::kLaneDown:
    case FrameType::kGoodbye: return frame.payload != 0 ? "a payload where none belongs" : "";
  }
  return "a frame of unknown type";
}

}  // namespace longspan::verbs::wire
