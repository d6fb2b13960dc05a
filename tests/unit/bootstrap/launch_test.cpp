#include "bootstrap/launch.hpp"

#include <map>
#include <string>

#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;

namespace {

using Environment = std::map<std::string, std::string>;

Result<LaunchInfo> launch_in(const Environment& environment) {
  return launch_info_from([&](const char* name) -> std::optional<std::string> {
    const auto found = environment.find(name);
    if (found == environment.end()) return std::nullopt;
    return found->second;
  });
}

std::string summary(const Environment& environment) {
  const auto info = launch_in(environment);
  if (!info.ok()) return std::string(info.status().message());
  return info->launcher + " " + std::to_string(info->rank) + "/" + std::to_string(info->size) + " local " +
         std::to_string(info->local_rank) + "/" + std::to_string(info->local_size) + " at " + info->master_address;
}

Environment with(Environment base, const Environment& more) {
  for (const auto& [name, value] : more) base[name] = value;
  return base;
}

const Environment kTorchrun = {{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"LOCAL_WORLD_SIZE", "2"},
                               {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "1234"}};
const Environment kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_SIZE", "2"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                              {"PMIX_NAMESPACE", "211681281"}};
const Environment kHydra = {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "2"}};
const Environment kSlurm = {{"SLURM_PROCID", "5"},  {"SLURM_NTASKS", "7"},  {"SLURM_STEP_NUM_TASKS", "7"},
                            {"SLURM_LOCALID", "1"}, {"SLURM_NODEID", "2"},  {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                            {"SLURM_JOB_ID", "77"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NODELIST", "gnode[10,20-22]"}};

}  // namespace

TEST_CASE("each launcher's environment gives rank, size, place on the host, and where to meet") {
  CHECK(summary({}) == "none 0/1 local 0/1 at ");
  CHECK(summary(kTorchrun) == "environment 3/4 local 1/2 at 10.0.0.1");
  CHECK(summary(kSlurm) == "Slurm 5/7 local 1/2 at gnode10");
  CHECK(summary(with(kOpenMpi, {{"MASTER_ADDR", "a"}})) == "Open MPI 1/2 local 1/2 at a");
  CHECK(summary(with(kHydra, {{"MASTER_ADDR", "a"}})) == "MPICH/PMI 1/2 local 1/2 at a");
}

TEST_CASE("under torchrun the agent's store and the run are known") {
  const auto info = launch_in(with(kTorchrun, {{"TORCHELASTIC_RUN_ID", "abc"}, {"TORCHELASTIC_RESTART_COUNT", "2"},
                                               {"TORCHELASTIC_USE_AGENT_STORE", "True"}}));
  REQUIRE(info.ok());
  CHECK(info->launcher == "torchrun");
  CHECK(info->agent_store);
  CHECK(info->run_id == "abc/2");
  CHECK(info->master_port == 1234);
}

TEST_CASE("ranks on one host meet at a socket of their job, without MASTER_ADDR") {
  CHECK(summary(kOpenMpi).find("at unix:@longspan-") != std::string::npos);
  CHECK(summary(kOpenMpi).find("211681281") != std::string::npos);
  CHECK(summary(kHydra).find("at unix:@longspan-") != std::string::npos);
  CHECK(summary(with(kOpenMpi, {{"PMIX_NAMESPACE", "other"}})) != summary(kOpenMpi));
}

TEST_CASE("ranks on several hosts without MASTER_ADDR are told what to set") {
  CHECK(summary(with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}})) ==
        "Open MPI gives 2 ranks but no address of rank 0: set MASTER_ADDR to its host and MASTER_PORT to a free port "
        "there, on "
        "all ranks (mpirun -x MASTER_ADDR=... -x MASTER_PORT=...)");
  CHECK(summary({{"RANK", "0"}, {"WORLD_SIZE", "2"}}) ==
        "WORLD_SIZE=2 but MASTER_ADDR is not set: set it to the host of rank 0 (and MASTER_PORT to a free port there) "
        "on all "
        "ranks");
}

TEST_CASE("what does not fit is named with its value") {
  CHECK(summary(with(kTorchrun, {{"RANK", "7"}})) == "RANK=7 with WORLD_SIZE=4: expected 0 <= RANK < WORLD_SIZE");
  CHECK(summary(with(kTorchrun, {{"RANK", "-1"}})) == "RANK=-1: expected a whole number of at least 0");
  CHECK(summary(with(kTorchrun, {{"RANK", "3x"}})) == "RANK=3x: expected a whole number of at least 0");
  CHECK(summary(with(kTorchrun, {{"WORLD_SIZE", "99999999999"}})) ==
        "WORLD_SIZE=99999999999: expected a whole number of at least 1");
  CHECK(summary({{"RANK", "0"}}) == "WORLD_SIZE is not set, but RANK is");
  CHECK(summary({{"WORLD_SIZE", "2"}}) == "RANK is not set, but WORLD_SIZE is");
  CHECK(summary(with(kTorchrun, {{"LOCAL_RANK", "2"}})) ==
        "LOCAL_RANK=2 with LOCAL_WORLD_SIZE=2 and WORLD_SIZE=4: expected LOCAL_RANK < LOCAL_WORLD_SIZE <= WORLD_SIZE");
  CHECK(summary(with(kTorchrun, {{"MASTER_PORT", "70000"}})) == "MASTER_PORT=70000: expected a port from 1 to 65535");
  CHECK(
      summary(with(kOpenMpi, {{"OMPI_COMM_WORLD_SIZE", "1"}})) ==
      "OMPI_COMM_WORLD_RANK=1 with OMPI_COMM_WORLD_SIZE=1: expected 0 <= OMPI_COMM_WORLD_RANK < OMPI_COMM_WORLD_SIZE");
}

TEST_CASE("the nearest launcher wins") {
  CHECK(summary(with(kTorchrun, kOpenMpi)).starts_with("environment"));
  CHECK(summary(with(kSlurm, with(kOpenMpi, {{"MASTER_ADDR", "a"}}))).starts_with("Open MPI"));
  CHECK(summary(with(kSlurm, with(kHydra, {{"MASTER_ADDR", "a"}}))).starts_with("MPICH/PMI"));
  // srun --mpi=pmi2 sets these two alone.
  CHECK(summary(with(kSlurm, {{"PMI_RANK", "5"}, {"PMI_SIZE", "7"}})).starts_with("Slurm"));
  // A batch script is one process, whatever the number of tasks of its job.
  CHECK(summary({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "7"}}).starts_with("none"));
}

TEST_CASE("a job's ports lie where no outgoing connection takes them, and differ between jobs") {
  const auto one = launch_in(kSlurm);
  const auto other = launch_in(with(kSlurm, {{"SLURM_JOB_ID", "78"}}));
  REQUIRE((one.ok() && other.ok()));
  CHECK(one->master_port >= 20000);
  CHECK(one->master_port < 32000);
  CHECK(one->master_port != other->master_port);
  CHECK(launch_in(with(kSlurm, {{"MASTER_PORT", "5"}}))->master_port == 5);
}

TEST_CASE("the first host of a Slurm node list") {
  CHECK(first_host("a") == "a");
  CHECK(first_host("b,a") == "b");
  CHECK(first_host("a[03-05,9]-ib,b") == "a03-ib");
  CHECK(first_host("rack[2-3]node[01,02]") == "rack2node01");
  CHECK(first_host("a[03").empty());
  CHECK(first_host("").empty());
}
