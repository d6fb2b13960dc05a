#include <nlohmann/json.hpp>

#include "property/clusters.hpp"
#include "schedule/export.hpp"
#include "support/catch.hpp"

namespace longspan::test {
namespace {

Schedule allreduce_of_three(int rank) {
  return algorithm_named("direct").build(CollectiveShape{}, one_region(3, 3), "", rank);
}

TEST_CASE("the text form has a line per channel and step, with what each waits for") {
  CHECK(to_text(allreduce_of_three(1)) ==
        "allreduce direct: rank 1 of 3, 9 steps\n"
        "channel to rank 2 (host): sends 0.666667 blocks, receives 0.666667\n"
        "channel to rank 0 (host): sends 0.666667 blocks, receives 0.666667\n"
        "phase reduce-scatter\n"
        "    0  send in[0] 2/3..1 to rank 2 stream 0\n"
        "    1  send in[0] 0..1/3 to rank 0 stream 0\n"
        "    2  recv scratch0(in[0] 1/3..2/3) from rank 0 stream 0\n"
        "    3  recv scratch1(in[0] 1/3..2/3) from rank 2 stream 0\n"
        "    4  reduce out[0] 1/3..2/3 = scratch0(in[0] 1/3..2/3) (of step 2) + in[0] 1/3..2/3 + "
        "scratch1(in[0] 1/3..2/3) (of step 3) [final]  after 2,3\n"
        "phase allgather\n"
        "    5  send out[0] 1/3..2/3 to rank 2 stream 1  after 4\n"
        "    6  send out[0] 1/3..2/3 to rank 0 stream 1  after 4\n"
        "    7  recv out[0] 0..1/3 from rank 0 stream 1  after 1r\n"
        "    8  recv out[0] 2/3..1 from rank 2 stream 1  after 0r\n");
}

TEST_CASE("the JSON holds the whole schedule") {
  const Schedule schedule = allreduce_of_three(1);
  const auto json = nlohmann::json::parse(to_json(schedule));
  CHECK(json["collective"] == "allreduce");
  CHECK(json["algorithm"] == "direct");
  CHECK(json["rank"] == 1);
  CHECK(json["chunkable"] == true);
  CHECK(json["phases"].size() == 2);
  CHECK(json["channels"].size() == 2);
  CHECK(json["scratch"].size() == 2);
  REQUIRE(json["steps"].size() == schedule.steps.size());
  const auto& reduce = json["steps"][4];
  CHECK(reduce["kind"] == "reduce");
  CHECK(reduce["final"] == true);
  CHECK(reduce["dst"]["begin"] == nlohmann::json({1, 3}));
  CHECK(reduce["reads"].size() == 3);
  CHECK(reduce["reads"][0]["from_recv"] == 2);
  CHECK(reduce["after"].size() == 2);
  CHECK(json["steps"][7]["after"][0]["kind"] == "reuse");
}

TEST_CASE("a broken schedule can still be shown") {
  Schedule schedule = allreduce_of_three(0);
  schedule.steps[4].operands_begin = 1000;
  schedule.steps[2].dst.area = 77;
  CHECK_FALSE(to_text(schedule).empty());
  CHECK_FALSE(to_json(schedule).empty());
  CHECK(describe_step(schedule, 99) == "step 99 (no such step)");
}

}  // namespace
}  // namespace longspan::test
