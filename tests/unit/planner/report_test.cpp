#include "planner/report.hpp"

#include <algorithm>
#include <string>

#include "clusters.hpp"
#include "longspan/spi/registry.hpp"
#include "planner/text.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::testing;
using planner::Explanation;
using planner::Planner;

namespace {

Explanation explain(Planner& planner, Collective kind, std::size_t bytes) {
  CollectiveShape shape;
  shape.kind = kind;
  auto made = planner.explain(shape, bytes);
  INFO(made.status().to_string());
  REQUIRE(made.ok());
  return std::move(made).value();
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Quantities read as people write them") {
  CHECK(planner::rate_text(125e6) == "1 Gbit/s");
  CHECK(planner::bytes_text(64 * kMi) == "64 MiB");
  CHECK(planner::bytes_text(0) == "0 B");
  CHECK(planner::time_text(0.0205) == "20.5 ms");
}

TEST_CASE("The page names the plan, its time, the bound with its cut, every link across, and who lost") {
  Planner planner(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02), spi::all_algorithms(), {});
  const Explanation explanation = explain(planner, Collective::kAllReduce, static_cast<std::size_t>(64 * kMi));
  const std::string page = planner::describe(explanation, planner.cluster());
  CHECK(has(page, "allreduce of 64 MiB over 4 ranks on 4 hosts in 2 regions"));
  CHECK(has(page, explanation.decision.full_name()));
  CHECK(has(page, "region a out: 1 Gbit/s"));
  CHECK(has(page, "wan a->b"));
  CHECK(has(page, "wan b->a"));
  CHECK(has(page, "x the chosen time"));
  CHECK(std::count(page.begin(), page.end(), '\n') < 60);
}

TEST_CASE("JSON is balanced and escapes names") {
  ClusterBuilder builder;
  builder.region(1, kGbit);
  builder.region(1, kGbit);
  builder.mesh(kGbit, 0.02);
  builder.topology().regions[0].name = "a\"\\\n";
  Planner planner(builder.cluster(), spi::all_algorithms(), {});
  const std::string json = planner::to_json(explain(planner, Collective::kBroadcast, 1000), planner.cluster());
  CHECK(std::count(json.begin(), json.end(), '{') == std::count(json.begin(), json.end(), '}'));
  CHECK(std::count(json.begin(), json.end(), '[') == std::count(json.begin(), json.end(), ']'));
  CHECK(has(json, "wan a\\\"\\\\\\u000a->b"));
  CHECK(has(json, "\"root\": 0"));
}

TEST_CASE("Sizes are those of the larger buffer of one rank") {
  CollectiveShape shape;
  shape.kind = Collective::kAllGather;
  CHECK(planner::block_bytes_of(shape, 4, 4096) == 1024);
  CHECK(planner::buffer_bytes(shape, 4, 1024) == 4096);
  shape.kind = Collective::kAllReduce;
  CHECK(planner::block_bytes_of(shape, 4, 4096) == 4096);
  shape.kind = Collective::kGather;
  shape.root = 3;
  CHECK(planner::block_bytes_of(shape, 4, 4096) == 1024);
}

TEST_CASE("The picture shows every region and the bytes of every link that carries some") {
  for (int regions = 1; regions <= 6; ++regions) {
    Planner planner(regions_of(std::vector<int>(static_cast<std::size_t>(regions), 2), 5 * kGbit, kGbit, 0.02),
                    spi::all_algorithms(), {});
    const Explanation explanation = explain(planner, Collective::kAllReduce, static_cast<std::size_t>(64 * kMi));
    const std::string svg = planner::topology_svg(planner.cluster(), explanation);
    CHECK(has(svg, "<svg xmlns"));
    CHECK(has(svg, "</svg>"));
    CHECK(has(svg, ">a-1</text>"));
    CHECK(has(svg, regions > 1 ? "% busy" : "out "));
    CHECK_FALSE(has(svg, "nan"));
    CHECK_FALSE(has(svg, "inf"));
  }
}

TEST_CASE("Connections are told for every link that the plan uses, with what the transport makes of them and why") {
  Planner planner(regions_of({2, 2}, 5 * kGbit, kGbit, 0.02), spi::all_algorithms(), {});
  Explanation explanation = explain(planner, Collective::kAllReduce, static_cast<std::size_t>(64 * kMi));
  REQUIRE(explanation.connections.size() == 2);
  std::size_t flows = 0;
  for (planner::LinkConnections& group : explanation.connections) {
    flows += group.flows;
    CHECK(group.channel.rate_bytes_per_second > 0);
    REQUIRE(group.reasons.size() == 2);
    CHECK(has(group.reasons[1], "bandwidth-delay product"));
    group.transport = "tcp";
    group.congestion_control = "bbr";
    group.lanes = group.repair_lanes = 4;
    group.reasons.emplace_back("4 lanes: because");
  }
  CHECK(flows == explanation.flow_count);
  const std::string page = planner::describe(explanation, planner.cluster());
  CHECK(has(page, "wan a->b  2 flows, tcp bbr: 4 for data + 4 for repeats, rate "));
  CHECK(has(page, "    - 4 lanes: because\n"));
  const std::string json = planner::to_json(explanation, planner.cluster());
  CHECK(has(json, R"("transport": "tcp", "congestion_control": "bbr", "lanes": 4, "repair_lanes": 4)"));
  CHECK(has(json, R"("4 lanes: because"])"));
}
