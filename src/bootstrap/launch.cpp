#include "bootstrap/launch.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <string_view>

#include "base/env.hpp"

namespace longspan {
namespace bootstrap {
namespace {

constexpr int kDefaultPort = 29500;  // torch's

Result<int> number(const char* name, const std::string& text, int least) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}={}: expected a whole number of at least {}", name, text, least));
  }
  return value;
}

Result<int> read(const Lookup& lookup, const char* name, int least, int otherwise) {
  const auto text = name ? lookup(name) : std::nullopt;
  if (!text) return otherwise;
  return number(name, *text, least);
}

Result<int> need(const Lookup& lookup, const char* name, int least, const char* because) {
  if (const auto text = lookup(name)) return number(name, *text, least);
  return Status(StatusCode::kInvalidArgument, fmt::format("{} is not set, but {} is", name, because));
}

/// Where a launcher says who this process is.
struct Names {
  const char* launcher;
  const char* rank;
  const char* size;
  const char* local_rank;
  const char* local_size;  ///< nullptr: it does not say
};

Result<LaunchInfo> read_ranks(const Lookup& lookup, const Names& names) {
  LaunchInfo info;
  info.launcher = names.launcher;
  LONGSPAN_ASSIGN(info.rank, need(lookup, names.rank, 0, names.size));
  LONGSPAN_ASSIGN(info.size, need(lookup, names.size, 1, names.rank));
  LONGSPAN_ASSIGN(info.local_rank, read(lookup, names.local_rank, 0, 0));
  LONGSPAN_ASSIGN(info.local_size, read(lookup, names.local_size, 1, std::max(1, info.local_rank + 1)));
  if (info.rank >= info.size) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{}={} with {}={}: expected 0 <= {} < {}", names.rank,
                                                            info.rank, names.size, info.size, names.rank, names.size));
  }
  if (names.local_size != nullptr && (info.local_rank >= info.local_size || info.local_size > info.size)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}={} with {}={} and {}={}: expected {} < {} <= {}", names.local_rank, info.local_rank,
                              names.local_size, info.local_size, names.size, info.size, names.local_rank,
                              names.local_size, names.size));
  }
  return info;
}

// Below the ports that Linux gives to outgoing connections (32768 and up), so that none of them is in the way.
int port_of(const std::string& id) {
  std::uint32_t hash = 2166136261U;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return 20000 + static_cast<int>(hash % 12000U);
}

/// MASTER_ADDR and MASTER_PORT, which every launcher's user may set.
Status read_master(const Lookup& lookup, LaunchInfo& info) {
  if (const auto address = lookup("MASTER_ADDR")) info.master_address = *address;
  LONGSPAN_ASSIGN(info.master_port, read(lookup, "MASTER_PORT", 1, info.master_port));
  if (info.master_port > 65535) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("MASTER_PORT={}: expected a port from 1 to 65535", info.master_port));
  }
  if (info.master_port == 0) info.master_port = info.run_id.empty() ? kDefaultPort : port_of(info.run_id);
  return {};
}

/// Ranks on one host need no address: they meet at a unix socket whose name only their job has.
Status meet_on_this_host(LaunchInfo& info, const std::string& job, const char* set_with) {
  if (info.size == 1 || !info.master_address.empty()) return {};
  if (info.local_size == info.size && !job.empty()) {
    info.master_address = fmt::format("unix:@longspan-{}-{}", ::getuid(), job);
    return {};
  }
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("{} gives {} ranks but no address of rank 0: set MASTER_ADDR to its host and MASTER_PORT to a "
                  "free port there, on all ranks ({})",
                  info.launcher, info.size, set_with));
}

Result<LaunchInfo> from_torchrun(const Lookup& lookup) {
  const bool elastic = lookup("TORCHELASTIC_RUN_ID").has_value();
  LONGSPAN_ASSIGN(LaunchInfo info, read_ranks(lookup, {elastic ? "torchrun" : "environment", "RANK", "WORLD_SIZE",
                                                       "LOCAL_RANK", "LOCAL_WORLD_SIZE"}));
  info.agent_store = lookup("TORCHELASTIC_USE_AGENT_STORE") == "True";
  LONGSPAN_TRY(read_master(lookup, info));
  if (elastic) {
    info.run_id =
        fmt::format("{}/{}", *lookup("TORCHELASTIC_RUN_ID"), lookup("TORCHELASTIC_RESTART_COUNT").value_or("0"));
  }
  if (info.size > 1 && info.master_address.empty()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("WORLD_SIZE={} but MASTER_ADDR is not set: set it to the host of rank 0 (and MASTER_PORT to a "
                    "free port there) on all ranks",
                    info.size));
  }
  return info;
}

Result<LaunchInfo> from_open_mpi(const Lookup& lookup) {
  LONGSPAN_ASSIGN(LaunchInfo info, read_ranks(lookup, {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
                                                       "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"}));
  std::string job = lookup("PMIX_NAMESPACE").value_or(lookup("OMPI_MCA_ess_base_jobid").value_or(""));
  if (const auto directory = lookup("PMIX_SERVER_TMPDIR")) job += "-" + std::to_string(port_of(*directory));
  info.run_id = job;
  LONGSPAN_TRY(read_master(lookup, info));
  LONGSPAN_TRY(meet_on_this_host(info, job, "mpirun -x MASTER_ADDR=... -x MASTER_PORT=..."));
  return info;
}

/// The process among this one's ancestors that runs `program`; the parent when there is none.
int ancestor(std::string_view program) {
  int pid = ::getppid();
  for (int generation = 0; generation < 16 && pid > 1; ++generation) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string stat;
    std::getline(file, stat);  // "pid (name, 15 bytes at most) state ppid ..."
    const auto open = stat.find('(');
    const auto close = stat.rfind(')');
    if (open == std::string::npos || close == std::string::npos || close + 4 >= stat.size()) break;
    if (stat.substr(open + 1, close - open - 1) == program.substr(0, 15)) return pid;
    pid = std::atoi(stat.c_str() + close + 4);
  }
  return ::getppid();
}

Result<LaunchInfo> from_pmi(const Lookup& lookup) {
  LONGSPAN_ASSIGN(LaunchInfo info,
                  read_ranks(lookup, {"MPICH/PMI", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"}));
  LONGSPAN_TRY(read_master(lookup, info));
  // Hydra names no job, but its processes on one host descend from one proxy.
  LONGSPAN_TRY(meet_on_this_host(info, fmt::format("pid{}", ancestor("hydra_pmi_proxy")),
                                 "mpiexec -genv MASTER_ADDR ... -genv MASTER_PORT ..."));
  return info;
}

/// Tasks on this node, from "2(x3),1": two on each of the first three nodes, one on the fourth.
int slurm_local_size(const std::string& text, int node) {
  std::size_t at = 0;
  while (at < text.size()) {
    int tasks = 0;
    int times = 1;
    const char* end = text.data() + text.size();
    auto parsed = std::from_chars(text.data() + at, end, tasks);
    if (parsed.ec != std::errc() || tasks < 1) return 0;
    if (end - parsed.ptr > 2 && parsed.ptr[0] == '(' && parsed.ptr[1] == 'x') {
      parsed = std::from_chars(parsed.ptr + 2, end, times);
      if (parsed.ec != std::errc() || parsed.ptr == end || *parsed.ptr != ')') return 0;
      ++parsed.ptr;
    }
    if (node < times) return tasks;
    node -= times;
    at = static_cast<std::size_t>(parsed.ptr - text.data()) + 1;
  }
  return 0;
}

Result<LaunchInfo> from_slurm(const Lookup& lookup) {
  const char* size = lookup("SLURM_STEP_NUM_TASKS") ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
  LONGSPAN_ASSIGN(LaunchInfo info, read_ranks(lookup, {"Slurm", "SLURM_PROCID", size, "SLURM_LOCALID", nullptr}));
  LONGSPAN_ASSIGN(const int node, read(lookup, "SLURM_NODEID", 0, 0));
  const int local = slurm_local_size(lookup("SLURM_STEP_TASKS_PER_NODE").value_or(""), node);
  if (local > info.local_rank && local <= info.size) info.local_size = local;
  info.run_id = fmt::format("slurm-{}.{}-{}", lookup("SLURM_JOB_ID").value_or("0"),
                            lookup("SLURM_STEP_ID").value_or("0"), lookup("SLURM_RESTART_COUNT").value_or("0"));
  if (info.local_size < info.size) {
    const auto nodes = lookup("SLURM_STEP_NODELIST");
    info.master_address = first_host(nodes ? *nodes : lookup("SLURM_JOB_NODELIST").value_or(""));
  }
  LONGSPAN_TRY(read_master(lookup, info));
  LONGSPAN_TRY(meet_on_this_host(info, info.run_id, "srun --export=ALL,MASTER_ADDR=...,MASTER_PORT=..."));
  return info;
}

}  // namespace

std::string first_host(const std::string& nodelist) {
  std::string host;
  for (std::size_t i = 0; i < nodelist.size(); ++i) {
    const char c = nodelist[i];
    if (c == ',') break;
    if (c != '[') {
      host += c;
      continue;
    }
    const std::size_t close = nodelist.find(']', i);
    if (close == std::string::npos) return {};
    const std::string range = nodelist.substr(i + 1, close - i - 1);
    host += range.substr(0, range.find_first_of(",-"));
    i = close;
  }
  return host;
}

Result<LaunchInfo> launch_info_from(const Lookup& lookup) {
  if (lookup("RANK") || lookup("WORLD_SIZE")) return from_torchrun(lookup);
  if (lookup("OMPI_COMM_WORLD_RANK")) return from_open_mpi(lookup);
  // A batch script has SLURM_PROCID and SLURM_NTASKS, too, but is one process: only srun makes a step of tasks.
  const bool step = lookup("SLURM_PROCID") && (lookup("SLURM_STEP_NUM_TASKS") || lookup("SLURM_STEP_ID"));
  // srun --mpi=pmi2 sets PMI_RANK, too, but Slurm's own variables say more. Hydra under Slurm is itself the step.
  const bool hydra = lookup("MPI_LOCALRANKID").has_value();
  if (lookup("PMI_RANK") && lookup("PMI_SIZE") && (hydra || !step)) return from_pmi(lookup);
  if (step) return from_slurm(lookup);
  LaunchInfo alone;
  alone.launcher = "none";
  return alone;
}

}  // namespace bootstrap

Result<LaunchInfo> launch_info_from_environment() {
  return bootstrap::launch_info_from([](const char* name) { return env::get(name); });
}

}  // namespace longspan
