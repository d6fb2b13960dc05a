// Communicators made of the ranks of another one.
#include <algorithm>
#include <numeric>

#include "longspan/communicator.hpp"
#include "runtime/communicator_impl.hpp"
#include "runtime/job.hpp"

#include <fmt/format.h>

namespace longspan {
namespace {

/// The communicator of `chosen` (ranks of `parent`, in the order of their new ranks), which this rank is one of.
std::shared_ptr<runtime::CommunicatorImpl> make_child(runtime::CommunicatorImpl& parent, const std::vector<int>& chosen,
                                                      std::uint64_t id, std::size_t epoch) {
  const auto& from = parent.members();
  runtime::CommunicatorImpl::Members members;
  members.id = id;
  members.cluster.topology = from.cluster.topology;
  members.birth_epoch = epoch;
  for (const int r : chosen) {
    const auto i = static_cast<std::size_t>(r);
    if (r == parent.rank()) members.rank = static_cast<int>(members.peers.size());
    members.peers.push_back(from.peers[i]);
    members.world_ranks.push_back(from.world_ranks[i]);
    members.cluster.host_of_rank.push_back(from.cluster.host_of_rank[i]);
  }
  auto child = std::make_shared<runtime::CommunicatorImpl>(parent.shared_job(), std::move(members));
  parent.job().add(*child);
  return child;
}

/// Blocking, whatever CallGroup this thread has open: making a communicator is a step of its own.
Status gather_now(runtime::CommunicatorImpl& impl, const void* mine, void* all, std::size_t bytes) {
  CollectiveCall call;
  call.kind = Collective::kAllGather;
  call.in = mine;
  call.out = all;
  call.count = bytes;
  call.type = DataType::kUint8;
  return Work(impl.start(call, true)).wait();
}

Status check_members(std::span<const int> ranks, int rank, int size) {
  std::vector<bool> seen(static_cast<std::size_t>(size));
  for (const int r : ranks) {
    if (r < 0 || r >= size) {
      return Status(StatusCode::kInvalidArgument, fmt::format("subgroup: rank {} is not one of 0 to {}", r, size - 1));
    }
    if (seen[static_cast<std::size_t>(r)]) {
      return Status(StatusCode::kInvalidArgument, fmt::format("subgroup: rank {} is named twice", r));
    }
    seen[static_cast<std::size_t>(r)] = true;
  }
  if (seen[static_cast<std::size_t>(rank)]) return {};
  return Status(StatusCode::kInvalidArgument,
                fmt::format("subgroup: rank {} calls it and is not one of its ranks", rank));
}

}  // namespace

Result<Communicator> Communicator::split(int color, int key) {
  struct Entry {
    std::int64_t color;
    std::int64_t key;
    std::uint64_t epoch;
  };
  const Entry mine{color, key, impl_->planning_epoch()};
  std::vector<Entry> all(static_cast<std::size_t>(size()));
  const std::uint32_t number = impl_->next_split();
  LONGSPAN_TRY(gather_now(*impl_, &mine, all.data(), sizeof(Entry)));
  if (color < 0) return Communicator();

  std::vector<int> chosen;
  std::size_t epoch = mine.epoch;
  for (int r = 0; r < size(); ++r) {
    const Entry& each = all[static_cast<std::size_t>(r)];
    epoch = std::min<std::size_t>(epoch, each.epoch);
    if (each.color == color) chosen.push_back(r);
  }
  // Not std::stable_sort: libstdc++ 12 implements it with what clang calls deprecated. The rank settles equal keys.
  std::sort(chosen.begin(), chosen.end(), [&](int a, int b) {
    const auto key_a = all[static_cast<std::size_t>(a)].key, key_b = all[static_cast<std::size_t>(b)].key;
    return key_a != key_b ? key_a < key_b : a < b;
  });
  return Communicator(make_child(*impl_, chosen, runtime::child_id(impl_->id(), number, color), epoch));
}

Result<Communicator> Communicator::subgroup(std::span<const int> ranks, std::uint32_t tag) {
  LONGSPAN_TRY(check_members(ranks, rank(), size()));
  const std::vector<int> chosen(ranks.begin(), ranks.end());
  // The ranks take part in the identity: two groups that share a tag by mistake cannot take each other's messages.
  std::uint64_t id = runtime::group_id(impl_->id(), tag, chosen);
  // Ranks outside take no part, so what rates to plan from is agreed among the members, planned from those stated.
  const auto first = make_child(*impl_, chosen, id, 0);
  const std::uint64_t mine = impl_->planning_epoch();
  std::vector<std::uint64_t> all(chosen.size());
  const Status agreed = gather_now(*first, &mine, all.data(), sizeof mine);
  if (!agreed.ok()) {
    first->close();
    return agreed;
  }
  const std::uint64_t epoch = *std::min_element(all.begin(), all.end());
  if (epoch == 0) return Communicator(first);
  first->close();
  return Communicator(make_child(*impl_, chosen, runtime::child_id(id, 0, 0), epoch));
}

}  // namespace longspan
