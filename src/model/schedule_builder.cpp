#include "longspan/spi/schedule_builder.hpp"

#include <algorithm>
#include <utility>

namespace longspan::spi {
namespace {

bool overlaps(const Slice& a, const Slice& b) {
  return a.block < b.block + b.blocks && b.block < a.block + a.blocks && a.begin < b.end && b.begin < a.end;
}

bool covers(const Slice& outer, const Slice& inner) {
  return outer.block <= inner.block && inner.block + inner.blocks <= outer.block + outer.blocks &&
         outer.begin <= inner.begin && inner.end <= outer.end;
}

double share_of(const Slice& slice) { return (slice.end.value() - slice.begin.value()) * slice.blocks; }

constexpr std::size_t kBuckets = 64;
constexpr std::size_t kMostWithoutBuckets = 32;
constexpr std::size_t kWide = 4;  ///< buckets; what touches more is kept apart

/// The buckets [first, last) that a range of a block touches.
std::pair<std::size_t, std::size_t> buckets_of(const Slice& slice) {
  const auto first = static_cast<std::size_t>(Uint128{slice.begin.num} * kBuckets / slice.begin.den);
  const auto last = static_cast<std::size_t>((Uint128{slice.end.num} * kBuckets + slice.end.den - 1) / slice.end.den);
  return {std::min(first, kBuckets - 1), last};
}

std::size_t index(std::uint64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

ScheduleBuilder::ScheduleBuilder(const CollectiveShape& shape, const Cluster& cluster, int rank, std::string algorithm)
    : cluster_(&cluster) {
  schedule_.shape = shape;
  schedule_.algorithm = std::move(algorithm);
  schedule_.ranks = cluster.size();
  schedule_.rank = rank;
  const auto most = static_cast<std::size_t>(std::max(1, schedule_.ranks));
  in_.resize(most);
  out_.resize(most);
  channel_of_.resize(most, -1);
}

void ScheduleBuilder::phase(std::string name) { schedule_.phases.push_back(std::move(name)); }

Slice ScheduleBuilder::scratch(const Slice& extent) {
  Slice whole = extent;
  whole.buffer = BufferKind::kScratch;
  whole.area = static_cast<std::uint32_t>(schedule_.scratch.size());
  schedule_.scratch.push_back(ScratchArea{extent});
  scratch_.emplace_back();
  if (extent.blocks > 1) schedule_.chunkable = false;
  return whole;
}

void ScheduleBuilder::Accesses::add(const Access& access) {
  if (buckets.empty() && wide.size() >= kMostWithoutBuckets) {
    buckets.resize(kBuckets);
    const std::vector<Access> all = std::move(wide);
    wide.clear();
    for (const Access& old : all) add(old);
  }
  const auto [first, last] = buckets_of(access.slice);
  if (buckets.empty() || last - first > kWide) {
    wide.push_back(access);
    return;
  }
  for (std::size_t k = first; k < last; ++k) buckets[k].push_back(access);
}

template <class Visit>
void ScheduleBuilder::Accesses::each_list(const Slice& slice, Visit&& visit) {
  visit(wide);
  if (buckets.empty()) return;
  const auto [first, last] = buckets_of(slice);
  for (std::size_t k = first; k < last; ++k) visit(buckets[k]);
}

ScheduleBuilder::Accesses& ScheduleBuilder::accesses_of(BufferKind buffer, std::uint32_t area, std::uint32_t block) {
  switch (buffer) {
    case BufferKind::kIn: return in_[index(block)];
    case BufferKind::kOut: return out_[index(block)];
    case BufferKind::kScratch: break;
  }
  return scratch_[index(area)];
}

void ScheduleBuilder::depend_on(const Slice& slice, bool writes, std::vector<Dependency>& found) {
  const std::uint32_t blocks = slice.buffer == BufferKind::kScratch ? 1 : slice.blocks;
  for (std::uint32_t b = 0; b < blocks; ++b) {
    accesses_of(slice.buffer, slice.area, slice.block + b).each_list(slice, [&](const std::vector<Access>& list) {
      for (const Access& access : list) {
        if ((!writes && !access.write) || !overlaps(access.slice, slice)) continue;
        found.push_back(Dependency{access.step, writes ? DependencyKind::kReuse : DependencyKind::kData});
      }
    });
  }
}

void ScheduleBuilder::record(const Slice& slice, std::uint32_t step, bool write) {
  const std::uint32_t blocks = slice.buffer == BufferKind::kScratch ? 1 : slice.blocks;
  for (std::uint32_t b = 0; b < blocks; ++b) {
    Accesses& accesses = accesses_of(slice.buffer, slice.area, slice.block + b);
    Slice seen = slice;
    if (slice.buffer != BufferKind::kScratch) {
      seen.block = slice.block + b;
      seen.blocks = 1;
    }
    // What a write covers is ordered before it, so whoever comes later need only wait for the write.
    if (write) {
      accesses.each_list(seen, [&](std::vector<Access>& list) {
        std::erase_if(list, [&](const Access& old) { return old.step != step && covers(seen, old.slice); });
      });
    }
    accesses.add(Access{seen, step, write});
  }
}

Step ScheduleBuilder::message(StepKind kind, int peer, std::uint32_t stream) {
  Step step;
  step.kind = kind;
  step.peer = peer;
  step.stream = stream;
  step.tier = cluster_->tier_between(schedule_.rank, peer);
  std::int32_t& channel = channel_of_[static_cast<std::size_t>(peer)];
  if (channel < 0) {
    channel = static_cast<std::int32_t>(schedule_.channels.size());
    schedule_.channels.push_back(
        ScheduleChannel{.peer = peer, .tier = step.tier, .order = static_cast<std::uint32_t>(channel)});
  }
  step.channel = static_cast<std::uint32_t>(channel);
  ScheduleChannel& used = schedule_.channels[step.channel];
  ++(kind == StepKind::kSend ? used.sends : used.recvs);
  return step;
}

std::uint32_t ScheduleBuilder::add(Step step, std::span<const Slice> reads, const Slice* write) {
  std::vector<Dependency> found;
  for (const Slice& slice : reads) {
    depend_on(slice, false, found);
    if (slice.blocks > 1) schedule_.chunkable = false;
  }
  if (write != nullptr) {
    depend_on(*write, true, found);
    Slice alias;
    if (in_place_alias(schedule_.shape, schedule_.ranks, schedule_.rank, *write, alias)) depend_on(alias, true, found);
    if (write->blocks > 1) schedule_.chunkable = false;
    step.dst = *write;
  }
  std::sort(found.begin(), found.end(), [](const Dependency& a, const Dependency& b) {
    return a.step != b.step ? a.step < b.step : a.kind < b.kind;
  });
  found.erase(std::unique(found.begin(), found.end(), [](auto& a, auto& b) { return a.step == b.step; }), found.end());

  const auto id = static_cast<std::uint32_t>(schedule_.steps.size());
  step.phase = static_cast<std::uint16_t>(schedule_.phases.empty() ? 0 : schedule_.phases.size() - 1);
  step.operands_begin = static_cast<std::uint32_t>(schedule_.operands.size());
  step.operands_count = static_cast<std::uint32_t>(reads.size());
  for (const Slice& slice : reads) schedule_.operands.push_back(Operand{slice, -1});
  step.dependencies_begin = static_cast<std::uint32_t>(schedule_.dependencies.size());
  step.dependencies_count = static_cast<std::uint32_t>(found.size());
  schedule_.dependencies.insert(schedule_.dependencies.end(), found.begin(), found.end());
  schedule_.steps.push_back(step);
  for (const Slice& slice : reads) record(slice, id, false);
  if (write != nullptr) record(*write, id, true);
  return id;
}

std::uint32_t ScheduleBuilder::send(int peer, std::uint32_t stream, const Slice& source) {
  const Step step = message(StepKind::kSend, peer, stream);
  schedule_.channels[step.channel].send_share += share_of(source);
  return add(step, std::span(&source, 1), nullptr);
}

std::uint32_t ScheduleBuilder::recv(int peer, std::uint32_t stream, const Slice& destination) {
  const Step step = message(StepKind::kRecv, peer, stream);
  schedule_.channels[step.channel].recv_share += share_of(destination);
  return add(step, {}, &destination);
}

std::uint32_t ScheduleBuilder::recv_copied(int peer, std::uint32_t stream, const Slice& destination) {
  copied_.push_back(recv(peer, stream, destination));
  return copied_.back();
}

std::uint32_t ScheduleBuilder::send_signal(int peer, std::uint32_t stream, std::span<const std::uint32_t> after) {
  Step step = message(StepKind::kSend, peer, stream);
  step.signal = true;
  const std::uint32_t id = add(step, {}, nullptr);
  for (const std::uint32_t before : after) schedule_.dependencies.push_back(Dependency{before, DependencyKind::kData});
  schedule_.steps[index(id)].dependencies_count += static_cast<std::uint32_t>(after.size());
  return id;
}

std::uint32_t ScheduleBuilder::recv_signal(int peer, std::uint32_t stream) {
  Step step = message(StepKind::kRecv, peer, stream);
  step.signal = true;
  return add(step, {}, nullptr);
}

std::uint32_t ScheduleBuilder::reduce(const Slice& dst, std::span<const Slice> operands, bool final_value) {
  Step step;
  step.kind = StepKind::kReduce;
  step.post_scale = final_value;
  return add(step, operands, &dst);
}

std::uint32_t ScheduleBuilder::copy(const Slice& dst, const Slice& source) {
  Step step;
  step.kind = StepKind::kCopy;
  return add(step, std::span(&source, 1), &dst);
}

void ScheduleBuilder::resolve_writers(const Step& reader, std::vector<bool>& viewable) {
  // The steps that wrote scratch that this one reads are among its dependencies; by area, since reduces may have many.
  std::vector<std::pair<std::uint32_t, std::uint32_t>> writers;
  for (std::uint32_t d = 0; d < reader.dependencies_count; ++d) {
    const std::uint32_t id = schedule_.dependencies[index(reader.dependencies_begin + d)].step;
    const Step& step = schedule_.steps[index(id)];
    if (step.kind == StepKind::kSend || step.dst.buffer != BufferKind::kScratch || step.signal) continue;
    writers.emplace_back(step.dst.area, id);
  }
  std::sort(writers.begin(), writers.end());
  for (std::uint32_t k = 0; k < reader.operands_count; ++k) {
    Operand& operand = schedule_.operands[index(reader.operands_begin + k)];
    if (operand.slice.buffer != BufferKind::kScratch) continue;
    const auto first =
        std::lower_bound(writers.begin(), writers.end(), std::pair(operand.slice.area, std::uint32_t{0}));
    std::vector<std::uint32_t> found;
    for (auto at = first; at != writers.end() && at->first == operand.slice.area; ++at) {
      if (overlaps(schedule_.steps[index(at->second)].dst, operand.slice)) found.push_back(at->second);
    }
    if (found.size() == 1 && reader.kind != StepKind::kSend) {
      const Step& writer = schedule_.steps[index(found[0])];
      if (writer.kind == StepKind::kRecv && covers(writer.dst, operand.slice)) {
        operand.from_recv = static_cast<std::int32_t>(found[0]);
        continue;
      }
    }
    for (const std::uint32_t id : found) viewable[index(id)] = false;
  }
}

Schedule ScheduleBuilder::finish() {
  // Find, for each operand in scratch, the one recv that wrote it; and the recvs whose bytes need never be copied.
  auto& steps = schedule_.steps;
  std::vector<bool> viewable(steps.size(), false);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    // Only inside a host can memory be mapped; further away a view would only make the sender wait for its reader.
    viewable[i] = steps[i].kind == StepKind::kRecv && steps[i].tier == Tier::kHost && !steps[i].signal &&
                  steps[i].dst.buffer == BufferKind::kScratch && steps[i].dst.blocks == 1;
  }
  for (const std::uint32_t id : copied_) viewable[index(id)] = false;
  for (const Step& step : steps) resolve_writers(step, viewable);
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i].view_ok = viewable[i];
  scratch_.clear();
  in_.clear();
  out_.clear();
  return std::move(schedule_);
}

}  // namespace longspan::spi
