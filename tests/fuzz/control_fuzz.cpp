// Feeds bytes as the bootstrap reads them: frames of the rendezvous and of the control plane, and what they do to the
// hub that decides for all ranks. Whatever comes must be refused or kept within bounds.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.hpp"
#include "bootstrap/hub.hpp"
#include "bootstrap/meeting.hpp"
#include "bootstrap/messages.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "bootstrap/wire.hpp"

namespace {

using namespace longspan;
using namespace longspan::bootstrap;

constexpr int kRanks = 4;

struct Nobody final : Hub::Outlet {
  void send(int rank, const ControlMessage&) override {
    if (rank <= 0 || rank >= kRanks) __builtin_trap();
  }
  void decided(const Verdict& verdict) override {
    if (verdict.text.size() > 4 * kMaxFaultText) __builtin_trap();
  }
  WaitReport own_report(std::uint64_t comm, std::uint64_t seq) override {
    WaitReport report;
    report.comm = comm;
    report.seq = seq;
    report.member = true;
    report.call = CallDescriptor{};
    return report;
  }
};

void act(Hub& hub, int from, const ControlMessage& m, TimePoint now) {
  hub.heard(from, now);
  switch (m.type) {
    case ControlType::kFault: return hub.fault(from, m.fault, now);
    case ControlType::kReport: return hub.report(from, m.inquiry % 8, m.report, now);
    case ControlType::kGoodbye: return hub.left(from);
    case ControlType::kWitness: return hub.witnessed(m.rank, now);
    case ControlType::kVerdict: return hub.announced(m.verdict.root);
    case ControlType::kHeartbeat: return hub.lost(from, now);  // stands for the end of its connection
    default: return;
  }
}

void read_frames(std::string_view bytes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0) return;
  Stream in{Fd(ends[0])};
  Fd out(ends[1]);
  if (::send(out.get(), bytes.data(), bytes.size(), 0) < 0) return;
  out.reset();
  Nobody nobody;
  TimePoint now{};
  Hub hub(0, kRanks, true, true, HubOptions{}, nobody, now);
  FrameReader reader(kMaxControlBody);
  for (int from = 1; reader.read(in) == FrameReader::State::kFrame; from = from % (kRanks - 1) + 1) {
    const Frame frame = reader.take();
    now += std::chrono::milliseconds(frame.body.size());
    const auto message = decode_control(frame);
    if (message.ok()) act(hub, from, *message, now);
    (void)decode_hello(frame);
    hub.tick(now);
  }
  hub.tick(now + std::chrono::seconds(1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0: (void)decode_failure(bytes); break;
    case 1: {
      Rendezvous r;
      r.size = kRanks;
      (void)decode_joined(bytes, r);
      break;
    }
    case 2: (void)parse_published(bytes); break;
    default: read_frames(bytes); break;
  }
  return 0;
}
