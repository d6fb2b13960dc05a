// A call's result, and what its rank still sends when the result is there.
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "clusters.hpp"
#include "executor/execution.hpp"
#include "longspan/spi/registry.hpp"
#include "planner/planner.hpp"
#include "support/catch.hpp"

namespace longspan::executor {
namespace {

constexpr std::size_t kCount = std::size_t{1} << 20;

/// Takes operations and completes none: that is the test's to do.
class HeldChannel final : public spi::Channel {
 public:
  spi::PeerId peer() const noexcept override { return 0; }
  void send(const spi::SendRequest& request) override { sends.push_back(request); }
  void post_recv(const spi::RecvRequest& request) override { recvs.push_back(request); }
  void release_view(std::uint64_t) override {}
  void set_rate(double) override {}
  spi::ChannelStats stats() const override { return {}; }

  std::vector<spi::SendRequest> sends;
  std::vector<spi::RecvRequest> recvs;
};

/// Rank 0 of two regions of `hosts` hosts, in an allreduce of kCount floats.
struct Run {
  explicit Run(int hosts) {
    const Cluster cluster = testing::regions_of({hosts, hosts}, 5e9, 1e9, 0.02);
    planner::Planner planner(cluster, spi::all_algorithms(), {});
    CollectiveShape shape;
    shape.kind = Collective::kAllReduce;
    auto decision = planner.decide(shape, kCount * sizeof(float));
    REQUIRE(decision.ok());
    auto made = planner.plan(*decision, 0);
    REQUIRE(made.ok());
    plan = std::make_shared<const CompiledPlan>(std::make_shared<const Plan>(std::move(*made)));
    execution = std::make_unique<Execution>(plan);
    held.resize(plan->schedule().channels.size());
    for (HeldChannel& each : held) channels.push_back(&each);
    Call call;
    call.in.base = call.out.base = reinterpret_cast<std::byte*>(data.data());
    call.in.uniform = call.out.uniform = kCount;
    REQUIRE(execution->start(call, channels, pool).ok());
  }

  static void complete(Execution& execution, void* context, spi::CompletionKind kind) {
    spi::Completion completion;
    completion.kind = kind;
    completion.context = context;
    execution.completed(completion);
  }

  /// Completes what can be completed, but for sends to the other region where `wan_sends` is false.
  void complete_all(bool wan_sends) {
    for (bool any = true; any;) {
      any = false;
      for (std::size_t c = 0; c < held.size(); ++c) {
        for (const auto& recv : std::exchange(held[c].recvs, {})) {
          complete(*execution, recv.context, spi::CompletionKind::kRecv);
          any = true;
        }
        if (!wan_sends && plan->schedule().channels[c].tier == Tier::kWan) continue;
        for (const auto& send : std::exchange(held[c].sends, {})) {
          complete(*execution, send.context, spi::CompletionKind::kSend);
          any = true;
        }
      }
    }
  }

  bool sends_from(std::span<const float> memory) const {
    const auto bytes = std::as_bytes(memory);
    for (const HeldChannel& each : held) {
      for (const auto& send : each.sends) {
        if (send.data.data() >= bytes.data() && send.data.data() < bytes.data() + bytes.size()) return true;
      }
    }
    return false;
  }

  std::vector<float> data = std::vector<float>(kCount, 1.0F);
  ScratchPool pool;
  std::shared_ptr<const CompiledPlan> plan;
  std::unique_ptr<Execution> execution;
  std::vector<HeldChannel> held;
  std::vector<spi::Channel*> channels;
};

TEST_CASE("a call is answered when its result is there, though a region's sum still goes out to another region") {
  Run run(2);
  CHECK_FALSE(run.execution->answered());
  // A window of chunks goes out; the next ones need its memory.
  for (int round = 0; round < 10'000 && !run.execution->answered(); ++round) {
    run.complete_all(false);
    if (run.execution->answered()) break;
    for (HeldChannel& each : run.held) {
      if (each.sends.empty()) continue;
      Run::complete(*run.execution, each.sends.front().context, spi::CompletionKind::kSend);
      each.sends.erase(each.sends.begin());
    }
  }
  REQUIRE(run.execution->answered());
  CHECK_FALSE(run.execution->done());
  CHECK_FALSE(run.sends_from(run.data));  // the caller's buffer is his again
  run.complete_all(true);
  CHECK(run.execution->done());
}

TEST_CASE("a call is not answered while the caller's own buffer is still being sent") {
  Run run(1);  // nothing to sum in the region: what is sent is the input itself
  REQUIRE(run.sends_from(run.data));
  for (int round = 0; round < 10'000 && !run.execution->done(); ++round) {
    run.complete_all(false);
    CHECK_FALSE(run.execution->answered());
    for (HeldChannel& each : run.held) {
      for (const auto& send : std::exchange(each.sends, {})) {
        Run::complete(*run.execution, send.context, spi::CompletionKind::kSend);
      }
    }
  }
  CHECK(run.execution->answered());
  CHECK(run.execution->done());
}

}  // namespace
}  // namespace longspan::executor
