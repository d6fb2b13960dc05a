#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdio>
#include <iostream>

#include "base/env.hpp"
#include "support/catch.hpp"

using namespace longspan;

namespace {

/// Output and exit code of a shell command.
std::pair<std::string, int> run(const std::string& command) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {"popen failed", -1};
  std::string out;
  char bytes[4096];
  while (const std::size_t got = std::fread(bytes, 1, sizeof bytes, pipe)) out.append(bytes, got);
  const int status = ::pclose(pipe);
  return {out, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

bool works(const std::string& command) { return run("timeout 60 " + command).second == 0; }

void check_three(const std::string& launcher, const std::string& command) {
  const auto [out, code] = run("timeout 60 " + command + " " LONGSPAN_PROBE);
  INFO(out);
  CHECK(code == 0);
  for (int rank = 0; rank < 3; ++rank) {
    CHECK(out.find(fmt::format("probe: {} {} of 3 met 0 1 2\n", launcher, rank)) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("ranks that Open MPI's mpirun starts meet, without any setting") {
  // Root needs leave to run mpirun; containers often have no other user.
  const std::string mpirun =
      "env -u RANK -u WORLD_SIZE OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe -n 3";
  if (run("mpirun --version").first.find("Open MPI") == std::string::npos || !works(mpirun + " true")) {
    std::cout << "SKIP: Open MPI is not installed (apt-get install openmpi-bin)\n";
    return;
  }
  check_three("Open MPI", mpirun);
}

TEST_CASE("ranks that torchrun starts meet, though its agent listens on MASTER_PORT") {
  const std::string python = env::get("LONGSPAN_TEST_PYTHON").value_or("python3");
  if (!works(python + " -c 'import torch.distributed.run'")) {
    std::cout << "SKIP: torch is not installed (LONGSPAN_TEST_PYTHON names a Python that has it)\n";
    return;
  }
  check_three("torchrun", python + " -m torch.distributed.run --standalone --nproc-per-node 3 --no-python");
}

TEST_CASE("ranks that MPICH's mpiexec starts meet, without any setting") {
  const std::string mpiexec = env::get("LONGSPAN_TEST_HYDRA").value_or("mpiexec.hydra");
  if (!works(mpiexec + " -n 3 true")) {
    std::cout << "SKIP: MPICH is not installed (apt-get install mpich; LONGSPAN_TEST_HYDRA names its mpiexec)\n";
    return;
  }
  check_three("MPICH/PMI", mpiexec + " -n 3");
  // Through a shell, which is the parent then.
  check_three("MPICH/PMI", mpiexec + " -n 3 sh -c '\"$0\"; exit $?'");
}
