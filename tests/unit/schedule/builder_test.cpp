#include <rapidcheck.h>

#include "longspan/spi/placement.hpp"
#include "property/clusters.hpp"
#include "support/catch.hpp"

namespace longspan::test {
namespace {

using spi::ScheduleBuilder;

CollectiveShape shape_of(Collective kind) {
  CollectiveShape shape;
  shape.kind = kind;
  return shape;
}

std::vector<std::uint32_t> after(const Schedule& schedule, std::size_t step) {
  std::vector<std::uint32_t> ids;
  const Step& s = schedule.steps[step];
  for (std::uint32_t d = 0; d < s.dependencies_count; ++d) {
    ids.push_back(schedule.dependencies[s.dependencies_begin + d].step);
  }
  return ids;
}

TEST_CASE("dependencies follow from what steps read and write") {
  const Cluster cluster = one_region(2, 2);
  ScheduleBuilder b(shape_of(Collective::kAllReduce), cluster, 0, "test");
  const Slice low = b.out(0, kZero, Fraction{1, 2});
  const Slice high = b.out(0, Fraction{2, 4}, kOne);
  b.recv(1, 0, low);          // 0
  b.recv(1, 1, high);         // 1
  b.send(1, 0, b.out());      // 2 reads both
  b.recv(1, 2, low);          // 3 overwrites what 2 reads and 0 wrote
  b.send(1, 1, high);         // 4 reads what 1 wrote
  const Schedule s = b.finish();
  CHECK(after(s, 1).empty());
  CHECK(after(s, 2) == std::vector<std::uint32_t>{0, 1});
  CHECK(after(s, 3) == std::vector<std::uint32_t>{0, 2});
  CHECK(after(s, 4) == std::vector<std::uint32_t>{1});
  CHECK(s.dependencies[s.steps[3].dependencies_begin + 1].kind == DependencyKind::kReuse);
}

TEST_CASE("an output waits for the readers of the input that it replaces in place") {
  const Cluster cluster = one_region(3, 3);
  ScheduleBuilder b(shape_of(Collective::kReduceScatter), cluster, 1, "test");
  b.send(0, 0, b.in(0));
  b.send(0, 1, b.in(1));
  b.recv(2, 0, b.out());
  const Schedule s = b.finish();
  CHECK(after(s, 2) == std::vector<std::uint32_t>{1});
}

TEST_CASE("thousands of parts give the same dependencies as few") {
  const Cluster cluster = one_region(2, 2);
  const std::uint64_t parts = 1000;
  ScheduleBuilder b(shape_of(Collective::kAllReduce), cluster, 0, "test");
  for (std::uint64_t i = 0; i < parts; ++i) {
    b.recv(1, static_cast<std::uint32_t>(i), b.out(0, Fraction{i, parts}, Fraction{i + 1, parts}));
  }
  for (std::uint64_t i = 0; i < parts; ++i) {
    b.send(1, static_cast<std::uint32_t>(i), b.out(0, Fraction{i, parts}, Fraction{i + 1, parts}));
  }
  b.send(1, parts, b.out());
  const Schedule s = b.finish();
  for (std::uint32_t i = 0; i < parts; ++i) CHECK(after(s, parts + i) == std::vector<std::uint32_t>{i});
  CHECK(after(s, 2 * parts).size() == parts);
}

TEST_CASE("only what is reduced or copied where it came, inside a host, may stay with its sender") {
  const auto first_recv_viewed = [](const Cluster& cluster, bool forwards, bool copied) {
    ScheduleBuilder b(shape_of(Collective::kAllReduce), cluster, 0, "test");
    const Slice got = b.scratch(b.in());
    copied ? b.recv_copied(1, 0, got) : b.recv(1, 0, got);
    b.reduce(b.out(), {b.in(), got}, true);
    if (forwards) b.send(1, 0, got);
    const Schedule s = b.finish();
    CHECK(s.operands[s.steps[1].operands_begin + 1].from_recv == 0);
    return s.steps[0].view_ok;
  };
  CHECK(first_recv_viewed(one_region(2, 2), false, false));
  CHECK_FALSE(first_recv_viewed(one_region(2, 2), true, false));
  CHECK_FALSE(first_recv_viewed(one_region(2, 2), false, true));
  CHECK_FALSE(first_recv_viewed(one_region(2, 1), false, false));
}

TEST_CASE("ranks by place keep regions, racks and hosts together") {
  Cluster cluster = cluster_of({{2, 2}, {2, 2}, {1}});
  cluster.host_of_rank = {0, 2, 1, 3, 4, 0, 3, 2, 1};
  CHECK(spi::ranks_by_place(cluster) == std::vector<int>{0, 5, 2, 8, 1, 7, 3, 6, 4});
}

TEST_CASE("parts of a block cover it exactly, on 64-byte edges, for any count, chunks and element size") {
  const bool held = rc::check("checked", [] {
    const auto count = *rc::gen::inRange<std::size_t>(0, 100'000);
    const auto chunks = *rc::gen::inRange<std::uint32_t>(1, 20);
    const auto parts = *rc::gen::inRange<std::uint64_t>(1, 70);
    const std::size_t size = *rc::gen::element<std::size_t>(1, 2, 4, 8);
    std::size_t at = 0;
    for (std::uint32_t c = 0; c < chunks; ++c) {
      for (std::uint64_t i = 0; i < parts; ++i) {
        const ElementRange range = elements_of({i, parts}, {i + 1, parts}, count, c, chunks, size);
        RC_ASSERT(range.offset == at);
        at += range.length;
        RC_ASSERT(at == count || at * size % 64 == 0);
        // The same position written with another denominator is the same element.
        RC_ASSERT(elements_of({3 * i, 3 * parts}, {i + 1, parts}, count, c, chunks, size).offset == range.offset);
      }
    }
    RC_ASSERT(at == count);
  });
  CHECK(held);
}

TEST_CASE("a part keeps its elements in a block of 2^60") {
  const std::size_t huge = std::size_t{1} << 60;
  CHECK(elements_of({1, 3}, {2, 3}, huge, 0, 1, 1).offset == huge / 3 / 64 * 64);
}

}  // namespace
}  // namespace longspan::test
