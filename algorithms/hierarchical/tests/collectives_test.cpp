#include "clusters.hpp"
#include "schedule/checker.hpp"
#include "support/catch.hpp"

namespace longspan::spi {
const Algorithm& algorithm_hierarchical();
}

using namespace longspan;
using namespace longspan::hierarchical;

namespace {

const std::vector<std::vector<std::string>> kClusters{
    {"1"}, {"2"}, {"8"}, {"1 1"}, {"1 1 1"}, {"4 4"}, {"1 2 3"}, {"5 1 1 7"},
    {"1", "1"}, {"1 1", "1 1"}, {"2 2", "2 2"}, {"4 4", "4 4"}, {"1 1 1", "1"}, {"1", "3"}, {"8", "8"},
    {"1 1 1 1", "1 1 1"}, {"1:5 1:1", "1:2 1:2"}, {"2:10 3:1 1:4", "1 4"}, {"1 2", "3 1"},
    {"1 1!", "1 1"}, {"2! 2", "2"}, {"3! 1! 2 1", "1! 2 3"}, {"4 2!", "1! 4", "1"},
    {"1", "1", "1"}, {"1 1", "1 1", "1 1"}, {"2 2", "2 2", "2 2"}, {"1 1 1", "1", "2 1"}, {"2:1 2:3", "1:7", "4:2 1:9 1:1"},
    {"1 1", "1 1", "1 1", "1 1"}, {"1", "2", "3", "4"}, {"1", "1", "1", "1", "1"}, {"3 2", "1", "2 2! 1", "5", "1 1"},
    {"1", "1", "1", "1", "1", "1", "1", "2"}};

void holds_everywhere(Collective kind) {
  const spi::Algorithm& algorithm = spi::algorithm_hierarchical();
  for (const auto& regions : kClusters) {
    const Cluster cluster = cluster_of(regions);
    for (int root = 0; root < (has_root(kind) ? cluster.size() : 1); ++root) {
      const CollectiveShape shape{kind, root, false, false};
      const auto variants = algorithm.variants(shape, cluster);
      REQUIRE_FALSE(variants.empty());
      for (const std::string& variant : variants) {
        INFO(name_of(kind) << " " << variant << " root " << root << " on " << text_of(regions));
        const std::vector<Schedule> schedules = build_all(algorithm, shape, cluster, variant);
        CHECK(check(schedules, cluster).to_string() == "ok");
        CHECK(check_stages(schedules, algorithm.stages(shape, cluster, variant)).to_string() == "ok");
        CHECK(misbehaved(schedules, cluster) == "");
      }
    }
  }
}

}  // namespace

TEST_CASE("allreduce gives every rank the same sum of everyone") { holds_everywhere(Collective::kAllReduce); }
TEST_CASE("broadcast gives every rank the root's data") { holds_everywhere(Collective::kBroadcast); }
TEST_CASE("reduce gives the root the sum of everyone") { holds_everywhere(Collective::kReduce); }
TEST_CASE("allgather gives every rank everyone's block") { holds_everywhere(Collective::kAllGather); }
TEST_CASE("reduce-scatter gives every rank the sum of its block") { holds_everywhere(Collective::kReduceScatter); }
TEST_CASE("gather gives the root everyone's block") { holds_everywhere(Collective::kGather); }
TEST_CASE("scatter gives every rank its block of the root") { holds_everywhere(Collective::kScatter); }
TEST_CASE("alltoall gives every rank everyone's block for it") { holds_everywhere(Collective::kAllToAll); }
TEST_CASE("barrier ends on every rank") { holds_everywhere(Collective::kBarrier); }

TEST_CASE("two regions of two hosts: one message each way per tier and nothing else") {
  const Cluster cluster = cluster_of({"1 1", "1 1"});
  const CollectiveShape shape{Collective::kAllReduce, 0, false, false};
  const auto schedules = build_all(spi::algorithm_hierarchical(), shape, cluster, "one-shot");
  CHECK(most_steps(schedules) == 8);
  CHECK(sent(schedules, Tier::kWan) == Approx(2));
}

TEST_CASE("each region's sum crosses each link once") {
  const CollectiveShape shape{Collective::kAllReduce, 0, false, false};
  for (const auto& regions : kClusters) {
    const double count = static_cast<double>(regions.size());
    if (regions.size() < 2) continue;
    INFO(text_of(regions));
    const Cluster cluster = cluster_of(regions);
    CHECK(sent(build_all(spi::algorithm_hierarchical(), shape, cluster, "one-shot"), Tier::kWan) == Approx(count * (count - 1)));
    if (regions.size() < 3) continue;
    CHECK(sent(build_all(spi::algorithm_hierarchical(), shape, cluster, "rs-ag"), Tier::kWan) == Approx(2 * (count - 1)));
  }
}
