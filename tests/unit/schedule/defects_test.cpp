// Good schedules broken on purpose: the checker must say what is wrong, and where.

#include <array>
#include <functional>

#include <algorithm>

#include "property/clusters.hpp"
#include "schedule/checker.hpp"
#include "support/catch.hpp"

namespace longspan::test {
namespace {

using Catch::Matchers::Contains;
using spi::ScheduleBuilder;

const spi::Algorithm& direct() { return algorithm_named("direct"); }

CollectiveShape shape_of(Collective kind) {
  CollectiveShape shape;
  shape.kind = kind;
  return shape;
}

const Cluster& four_ranks() {
  static const Cluster cluster = cluster_of({{1, 1}, {1, 1}});
  return cluster;
}

/// A proved schedule of four ranks in two regions, to be broken.
std::vector<Schedule> good(Collective kind, std::string_view variant = "") {
  auto all = build_all(direct(), shape_of(kind), four_ranks(), variant);
  REQUIRE(check(all, four_ranks()).to_string() == "ok");
  return all;
}

std::string defect_of(const std::vector<Schedule>& all, const CheckOptions& options = {}) {
  return check(all, Cluster(four_ranks()), options).to_string();
}

/// The n-th step of a kind.
Step& nth(Schedule& schedule, StepKind kind, int n = 0) {
  for (Step& step : schedule.steps) {
    if (step.kind == kind && n-- == 0) return step;
  }
  throw std::logic_error("no such step");
}

/// Takes away the dependencies of a step that `which` selects.
void forget(Schedule& schedule, Step& step, const std::function<bool(const Dependency&)>& which) {
  std::vector<Dependency> kept;
  for (std::uint32_t d = 0; d < step.dependencies_count; ++d) {
    const Dependency& dependency = schedule.dependencies[step.dependencies_begin + d];
    if (!which(dependency)) kept.push_back(dependency);
  }
  step.dependencies_begin = static_cast<std::uint32_t>(schedule.dependencies.size());
  step.dependencies_count = static_cast<std::uint32_t>(kept.size());
  schedule.dependencies.insert(schedule.dependencies.end(), kept.begin(), kept.end());
}

void add_dependency(Schedule& schedule, Step& step, std::uint32_t on) {
  forget(schedule, step, [](const Dependency&) { return false; });
  schedule.dependencies.push_back(Dependency{on, DependencyKind::kData});
  ++step.dependencies_count;
}

TEST_CASE("a lost send is a message that never comes") {
  auto all = good(Collective::kAllGather);
  all[1].steps.pop_back();  // a recv: its sender talks to nobody
  CHECK_THAT(defect_of(all), Contains("receives no such message") && Contains("to rank 1"));
  all = good(Collective::kScatter);
  all[0].steps.pop_back();
  CHECK_THAT(defect_of(all),
             Contains("sends no such message") && Contains("rank 3 (host h3, region r1) step 0 (recv out[0]"));
}

TEST_CASE("a lost message leaves an output unwritten") {
  auto all = good(Collective::kScatter);
  all[0].steps.pop_back();
  all[3].steps.pop_back();
  CHECK_THAT(defect_of(all), Contains("rank 3") && Contains("out[0] was never written"));
}

TEST_CASE("a lost operand is a missing contribution") {
  auto all = good(Collective::kAllReduce);
  --nth(all[2], StepKind::kReduce).operands_count;
  CHECK_THAT(defect_of(all), Contains("lacks the contribution of rank 3") && Contains("out[0] 2/4..3/4"));
}

TEST_CASE("an operand reduced twice is caught where it happens") {
  auto all = good(Collective::kAllReduce);
  const std::uint32_t first = nth(all[2], StepKind::kReduce).operands_begin;
  all[2].operands[first + 1] = all[2].operands[first];
  CHECK_THAT(defect_of(all), Contains("rank 2") && Contains("reduces the contribution of rank 0 twice"));
}

TEST_CASE("operands in another order than the canonical one are caught") {
  auto all = good(Collective::kReduceScatter);
  const std::uint32_t first = nth(all[1], StepKind::kReduce).operands_begin;
  std::swap(all[1].operands[first], all[1].operands[first + 2]);
  CHECK_THAT(defect_of(all), Contains("rank 1") && Contains("operands out of order"));
}

TEST_CASE("ranks that reduce in different orders would differ in bits") {
  std::vector<Schedule> all;
  const Cluster cluster = one_region(3, 1);
  for (int rank = 0; rank < 3; ++rank) {
    ScheduleBuilder b(shape_of(Collective::kAllReduce), cluster, rank, "test");
    b.phase("all");
    std::array<Slice, 3> operands{b.in(), b.in(), b.in()};
    for (const int peer : {(rank + 1) % 3, (rank + 2) % 3}) {
      b.send(peer, 0, b.in());
      b.recv_copied(peer, 0, operands[static_cast<std::size_t>(peer)] = b.scratch(b.in()));
    }
    if (rank == 1) {
      const Slice sum = b.scratch(b.in());
      b.reduce(sum, {operands[0], operands[1]}, false);
      b.reduce(b.out(), {sum, operands[2]}, true);
    } else {
      b.reduce(b.out(), operands, true);
    }
    all.push_back(b.finish());
  }
  CHECK_THAT(check(all, cluster).to_string(),
             Contains("rank 1") && Contains("another order") && Contains("final((0+1)+2) here, final(0+1+2) there"));
}

TEST_CASE("a value is made final exactly once") {
  auto all = good(Collective::kReduce);
  nth(all[0], StepKind::kReduce).post_scale = false;
  CHECK_THAT(defect_of(all), Contains("was not made final"));

  all.clear();
  const Cluster cluster = one_region(1, 1);
  ScheduleBuilder b(shape_of(Collective::kAllReduce), cluster, 0, "test");
  const Slice once = b.scratch(b.in());
  b.reduce(once, {b.in()}, true);
  b.reduce(b.out(), {once}, true);
  all.push_back(b.finish());
  CHECK_THAT(check(all, cluster).to_string(), Contains("step 1") && Contains("final (scaled) value again"));
}

TEST_CASE("a cycle in one rank's dependencies is named") {
  auto all = good(Collective::kAllReduce);
  Step& recv = nth(all[1], StepKind::kRecv);
  const auto reduce = static_cast<std::uint32_t>(&nth(all[1], StepKind::kReduce) - all[1].steps.data());
  add_dependency(all[1], recv, reduce);
  CHECK_THAT(defect_of(all), Contains("rank 1") && Contains("a cycle"));
}

TEST_CASE("a cycle through several ranks is named") {
  std::vector<Schedule> all;
  const Cluster cluster = one_region(3, 1);
  for (int rank = 0; rank < 3; ++rank) {
    ScheduleBuilder b(shape_of(Collective::kBarrier), cluster, rank, "test");
    const std::uint32_t heard = b.recv_signal((rank + 2) % 3, 0);
    b.send_signal((rank + 1) % 3, 0, std::span(&heard, 1));
    all.push_back(b.finish());
  }
  CHECK_THAT(check(all, cluster).to_string(), Contains("a cycle of 6 steps") && Contains("recv signal from rank 2"));
}

TEST_CASE("a lost data dependency is a read before the write") {
  auto all = good(Collective::kAllReduce);
  forget(all[3], nth(all[3], StepKind::kReduce), [](const Dependency& d) { return d.kind == DependencyKind::kData; });
  CHECK_THAT(defect_of(all), Contains("rank 3") && Contains("reads what") && Contains("no dependency orders them"));
}

TEST_CASE("reading what nobody wrote is caught") {
  auto all = good(Collective::kAllReduce);
  const Step& reduce = nth(all[1], StepKind::kReduce);
  const Slice extent = all[1].scratch[0].extent;
  all[1].scratch.push_back(ScratchArea{extent});
  Operand& operand = all[1].operands[reduce.operands_begin];
  operand.slice.area = static_cast<std::uint32_t>(all[1].scratch.size() - 1);
  operand.from_recv = -1;
  CHECK_THAT(defect_of(all), Contains("rank 1") && Contains("which was not written"));
}

TEST_CASE("a lost reuse dependency is a race in an in-place call") {
  auto all = good(Collective::kAllReduce);
  const auto lands_in_output = [](const Step& step) {
    return step.kind == StepKind::kRecv && step.dst.buffer == BufferKind::kOut;
  };
  forget(all[2], *std::find_if(all[2].steps.begin(), all[2].steps.end(), lands_in_output),
         [](const Dependency& d) { return d.kind == DependencyKind::kReuse; });
  CHECK_THAT(defect_of(all), Contains("rank 2") && Contains("overwrites what") && Contains("in place"));
}

TEST_CASE("reading the input after an in-place output took its place is caught") {
  std::vector<Schedule> all;
  const Cluster cluster = one_region(2, 1);
  for (int rank = 0; rank < 2; ++rank) {
    ScheduleBuilder b(shape_of(Collective::kAllReduce), cluster, rank, "test");
    const Slice landing = b.scratch(b.in());
    b.recv(1 - rank, 0, landing);
    b.reduce(b.out(), {rank == 0 ? b.in() : landing, rank == 0 ? landing : b.in()}, true);
    b.send(1 - rank, 0, b.in());
    all.push_back(b.finish());
  }
  CHECK_THAT(check(all, cluster).to_string(), Contains("in place") && Contains("send in["));
}

TEST_CASE("a message in another stream meets nobody") {
  auto all = good(Collective::kBroadcast);
  nth(all[0], StepKind::kSend).stream = 9;
  CHECK_THAT(defect_of(all), Contains("rank 0 sends no such message") && Contains("stream 0"));
}

TEST_CASE("two messages with one name are caught") {
  auto all = good(Collective::kAllReduce);
  nth(all[0], StepKind::kSend, 3).stream = 0;
  CHECK_THAT(defect_of(all), Contains("another message to this rank has the same stream"));
}

TEST_CASE("ends that disagree on the elements are caught") {
  auto all = good(Collective::kAllReduce);
  all[0].operands[nth(all[0], StepKind::kSend).operands_begin].slice.end = kOne;
  CHECK_THAT(defect_of(all), Contains("other elements at the other end"));

  CollectiveShape shape = shape_of(Collective::kAllGather);
  shape.uneven = true;
  all = build_all(direct(), shape, four_ranks(), "");
  REQUIRE(defect_of(all) == "ok");
  std::swap(nth(all[0], StepKind::kRecv, 0).dst, nth(all[0], StepKind::kRecv, 1).dst);
  CHECK_THAT(defect_of(all), Contains("a block of another length at the other end"));
}

TEST_CASE("a block that lands in another's place is caught") {
  auto all = good(Collective::kAllGather);
  std::swap(nth(all[0], StepKind::kRecv, 0).dst, nth(all[0], StepKind::kRecv, 1).dst);
  CHECK_THAT(defect_of(all), Contains("rank 0") && Contains("expected rank"));
}

TEST_CASE("a rank cannot hold blocks whose length it does not know") {
  std::vector<Schedule> all;
  const Cluster cluster = one_region(3, 1);
  CollectiveShape shape = shape_of(Collective::kGather);
  shape.private_lengths = true;
  for (int rank = 0; rank < 3; ++rank) {
    ScheduleBuilder b(shape, cluster, rank, "test");
    if (rank == 2) b.send(1, 0, b.in());
    if (rank == 1) {
      const Slice passing = b.scratch(b.out(2));
      b.recv(2, 0, passing);
      b.send(0, 1, passing);
      b.send(0, 0, b.in());
    }
    if (rank == 0) {
      b.copy(b.out(0), b.in());
      b.recv(1, 0, b.out(1));
      b.recv(1, 1, b.out(2));
    }
    all.push_back(b.finish());
  }
  CHECK_THAT(check(all, cluster).to_string(), Contains("rank 1") && Contains("only ranks 2 and 0 know"));
}

TEST_CASE("leaving a barrier early is caught") {
  auto all = good(Collective::kBarrier);
  forget(all[0], nth(all[0], StepKind::kSend), [](const Dependency& d) { return d.step == 0; });
  CHECK_THAT(defect_of(all), Contains("leaves the barrier without knowing that rank 3 came"));
}

TEST_CASE("ranks that wait until all others have read what they overwrite are a deadlock") {
  auto all = good(Collective::kAllReduce, "one-shot");
  for (Schedule& schedule : all) {
    for (Step& step : schedule.steps) step.view_ok = step.kind == StepKind::kRecv;
  }
  CHECK_THAT(defect_of(all), Contains("deadlock") && Contains("peer views"));
}

TEST_CASE("a view that is read as something else is caught") {
  auto all = good(Collective::kAllReduce);
  const Step& reduce = nth(all[1], StepKind::kReduce);
  for (Step& step : all[1].steps) step.view_ok = step.kind == StepKind::kRecv;
  all[1].operands[reduce.operands_begin].from_recv = -1;
  CHECK_THAT(defect_of(all), Contains("rank 1") && Contains("as if step -1 had written it"));
}

TEST_CASE("ranks that would cut messages differently are caught") {
  auto all = good(Collective::kAllGather);
  all[2].chunkable = false;
  CHECK_THAT(defect_of(all), Contains("rank 2") && Contains("cut messages differently"));
}

TEST_CASE("slices outside the buffers are caught") {
  auto all = good(Collective::kAllGather);
  nth(all[1], StepKind::kRecv).dst.block = 4;
  CHECK_THAT(defect_of(all), Contains("outside the buffer, which has 4 blocks"));
  all = good(Collective::kAllReduce);
  nth(all[1], StepKind::kRecv).dst.begin = kZero;
  CHECK_THAT(defect_of(all), Contains("reaches outside its area"));
  all = good(Collective::kAllReduce);
  nth(all[1], StepKind::kReduce).dst.buffer = BufferKind::kIn;
  CHECK_THAT(defect_of(all), Contains("writes the caller's input"));
}

TEST_CASE("stages that do not say what the schedules do are caught") {
  const CollectiveShape shape = shape_of(Collective::kAllReduce);
  const auto all = good(Collective::kAllReduce);
  const auto true_stages = direct().stages(shape, four_ranks(), "");
  REQUIRE(check_stages(all, true_stages).to_string() == "ok");
  auto stages = true_stages;
  stages[0].flows[2].share *= 2;
  CHECK_THAT(check_stages(all, stages).to_string(), Contains("reduce-scatter") && Contains("stated are 0.5"));
  stages = true_stages;
  stages[1].flows.pop_back();
  CHECK_THAT(check_stages(all, stages).to_string(), Contains("allgather") && Contains("stated are 0"));
  stages = true_stages;
  stages[0].rounds = 3;
  CHECK_THAT(check_stages(all, stages).to_string(), Contains("stated are 3 rounds"));
  stages = true_stages;
  stages[0].reduce_share = 2;
  CHECK_THAT(check_stages(all, stages).to_string(), Contains("reduces 1 blocks, stated are 2"));
}

}  // namespace
}  // namespace longspan::test
