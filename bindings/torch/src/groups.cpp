#include "bindings/torch/src/groups.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <random>
#include <sstream>

#include <longspan/bootstrap.hpp>

namespace longspan::torch_binding {
namespace {

constexpr const char* kKey = "longspan/group";

std::mutex g_mutex;
std::vector<std::weak_ptr<Job>> g_jobs;

void check(const Status& status, const char* doing) {
  TORCH_CHECK_WITH(DistBackendError, status.ok(), "longspan: ", doing, ": ", status.to_string());
}

std::string hex(const UniqueId& id) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : id.bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

UniqueId from_hex(const std::string& text) {
  UniqueId id;
  TORCH_CHECK_WITH(DistBackendError, text.size() == 2 * UniqueId::kBytes,
                   "longspan: the group's store holds no identity, but ", text.size(), " bytes under ", kKey);
  for (std::size_t i = 0; i < UniqueId::kBytes; ++i) {
    id.bytes[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  }
  return id;
}

/// Ranks of `job` with these global ranks, in that order; nothing if one of them is not in it.
std::optional<std::vector<int>> members_in(const Job& job, const std::vector<std::int64_t>& global_ranks) {
  std::vector<int> found;
  for (const std::int64_t rank : global_ranks) {
    const auto at = std::find(job.ranks.begin(), job.ranks.end(), rank);
    if (at == job.ranks.end()) return std::nullopt;
    found.push_back(static_cast<int>(at - job.ranks.begin()));
  }
  return found;
}

std::vector<std::shared_ptr<Job>> live_jobs() {
  const std::lock_guard lock(g_mutex);
  std::vector<std::shared_ptr<Job>> live;
  std::erase_if(g_jobs, [](const std::weak_ptr<Job>& job) { return job.expired(); });
  for (const auto& weak : g_jobs) {
    if (auto job = weak.lock()) live.push_back(std::move(job));
  }
  return live;
}

/// A tag that no other group of this job has.
std::uint32_t fresh_tag() {
  // Groups have different first ranks, so nobody counts for all of them; 32 random bits beside the ranks themselves.
  static std::mt19937 random{std::random_device{}()};
  const std::lock_guard lock(g_mutex);
  return static_cast<std::uint32_t>(random());
}

/// What the group's first rank decided: "job HEX-ID" or "part TAG JOB-NAME".
std::string decide(const GroupSeat& seat, const longspan::Options& options) {
  if (!seat.global_ranks.empty()) {
    for (const auto& job : live_jobs()) {
      if (members_in(*job, seat.global_ranks)) return "part " + std::to_string(fresh_tag()) + " " + job->name;
    }
  }
  const Result<UniqueId> id = make_unique_id(options.key);
  check(id.status(), "cannot open a meeting place for the group");
  return "job " + hex(id.value());
}

/// What the first rank of the group decides, on all its ranks.
std::string agree(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                  const std::function<std::string()>& decision) {
  // A store may serve several groups one after the other (torch splits once a device): the ranks count alike.
  const std::int64_t turn = store->add(std::string(kKey) + "/turn/" + std::to_string(rank), 1);
  const std::string key = std::string(kKey) + "/" + std::to_string(turn);
  if (rank == 0) {
    const std::string text = decision();
    store->set(key, std::vector<std::uint8_t>(text.begin(), text.end()));
    return text;
  }
  const std::vector<std::uint8_t> bytes = store->get(key);
  return std::string(bytes.begin(), bytes.end());
}

Membership subgroup_of(std::shared_ptr<Job> job, longspan::Communicator& parent, const std::vector<int>& ranks,
                       std::uint32_t tag) {
  Result<longspan::Communicator> made = parent.subgroup(ranks, tag);
  check(made.status(), "cannot make a group of the job's ranks");
  return {std::move(job), std::make_shared<longspan::Communicator>(std::move(made).value())};
}

Membership new_job(const GroupSeat& seat, const longspan::Options& options, const std::string& id) {
  Result<longspan::Communicator> made = longspan::Communicator::create(from_hex(id), seat.rank, seat.size, options);
  check(made.status(), "cannot join the group");
  auto job = std::make_shared<Job>();
  job->name = id;
  job->ranks = seat.global_ranks;
  job->world = std::move(made).value();
  const std::lock_guard lock(g_mutex);
  g_jobs.push_back(job);
  return {job, std::shared_ptr<longspan::Communicator>(job, &job->world)};
}

}  // namespace

Membership join_group(const GroupSeat& seat, const longspan::Options& options) {
  const std::string text = agree(seat.store, seat.rank, [&] { return decide(seat, options); });
  std::istringstream words(text);
  std::string kind;
  words >> kind;
  if (kind == "job") {
    std::string id;
    words >> id;
    return new_job(seat, options, id);
  }
  std::uint32_t tag = 0;
  std::string name;
  words >> tag >> name;
  for (const auto& job : live_jobs()) {
    if (job->name != name) continue;
    if (const auto members = members_in(*job, seat.global_ranks)) return subgroup_of(job, job->world, *members, tag);
  }
  TORCH_CHECK_WITH(DistBackendError, false, "longspan: rank ", seat.rank,
                   " of the group has no part in the job that its first rank took, ",
                   "perhaps because it destroyed its default process group");
}

Membership split_group(const Membership& parent, const c10::intrusive_ptr<c10d::Store>& store,
                       const std::vector<int>& ranks) {
  const auto mine = std::find(ranks.begin(), ranks.end(), parent.communicator->rank());
  const std::string tag =
      agree(store, static_cast<int>(mine - ranks.begin()), [] { return std::to_string(fresh_tag()); });
  return subgroup_of(parent.job, *parent.communicator, ranks, static_cast<std::uint32_t>(std::stoul(tag)));
}

}  // namespace longspan::torch_binding
