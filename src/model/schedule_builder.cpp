#include "longspan/spi/schedule_builder.hpp"

#include <algorithm>

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

std::vector<ScheduleBuilder::Access>& ScheduleBuilder::accesses_of(BufferKind buffer, std::uint32_t area, std::uint32_t block) {
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
    for (const Access& access : accesses_of(slice.buffer, slice.area, slice.block + b)) {
      if ((!writes && !access.write) || !overlaps(access.slice, slice)) continue;
      found.push_back(Dependency{access.step, writes ? DependencyKind::kReuse : DependencyKind::kData});
    }
  }
}

void ScheduleBuilder::record(const Slice& slice, std::uint32_t step, bool write) {
  const std::uint32_t blocks = slice.buffer == BufferKind::kScratch ? 1 : slice.blocks;
  for (std::uint32_t b = 0; b < blocks; ++b) {
    auto& list = accesses_of(slice.buffer, slice.area, slice.block + b);
    Slice seen = slice;
    if (slice.buffer != BufferKind::kScratch) {
      seen.block = slice.block + b;
      seen.blocks = 1;
    }
    // What a write covers is ordered before it, so whoever comes later need only wait for the write.
    if (write) std::erase_if(list, [&](const Access& old) { return old.step != step && covers(seen, old.slice); });
    list.push_back(Access{seen, step, write});
  }
}

std::uint32_t ScheduleBuilder::channel_to(int peer, Tier tier) {
  for (std::size_t i = 0; i < schedule_.channels.size(); ++i) {
    if (schedule_.channels[i].peer == peer) return static_cast<std::uint32_t>(i);
  }
  schedule_.channels.push_back(ScheduleChannel{peer, tier, static_cast<std::uint32_t>(schedule_.channels.size()), 0, 0});
  return static_cast<std::uint32_t>(schedule_.channels.size() - 1);
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
  Step step;
  step.kind = StepKind::kSend;
  step.peer = peer;
  step.stream = stream;
  step.tier = cluster_->tier_between(schedule_.rank, peer);
  step.channel = channel_to(peer, step.tier);
  schedule_.channels[index(step.channel)].send_share += share_of(source);
  return add(step, std::span(&source, 1), nullptr);
}

std::uint32_t ScheduleBuilder::recv(int peer, std::uint32_t stream, const Slice& destination) {
  Step step;
  step.kind = StepKind::kRecv;
  step.peer = peer;
  step.stream = stream;
  step.tier = cluster_->tier_between(schedule_.rank, peer);
  step.channel = channel_to(peer, step.tier);
  schedule_.channels[index(step.channel)].recv_share += share_of(destination);
  return add(step, {}, &destination);
}

std::uint32_t ScheduleBuilder::recv_copied(int peer, std::uint32_t stream, const Slice& destination) {
  copied_.push_back(recv(peer, stream, destination));
  return copied_.back();
}

std::uint32_t ScheduleBuilder::send_signal(int peer, std::uint32_t stream, std::span<const std::uint32_t> after) {
  Step step;
  step.kind = StepKind::kSend;
  step.signal = true;
  step.peer = peer;
  step.stream = stream;
  step.tier = cluster_->tier_between(schedule_.rank, peer);
  step.channel = channel_to(peer, step.tier);
  const std::uint32_t id = add(step, {}, nullptr);
  for (const std::uint32_t before : after) schedule_.dependencies.push_back(Dependency{before, DependencyKind::kData});
  schedule_.steps[index(id)].dependencies_count += static_cast<std::uint32_t>(after.size());
  return id;
}

std::uint32_t ScheduleBuilder::recv_signal(int peer, std::uint32_t stream) {
  Step step;
  step.kind = StepKind::kRecv;
  step.signal = true;
  step.peer = peer;
  step.stream = stream;
  step.tier = cluster_->tier_between(schedule_.rank, peer);
  step.channel = channel_to(peer, step.tier);
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

void ScheduleBuilder::resolve_writer(const Step& reader, Operand& operand, std::vector<bool>& viewable) const {
  int writers = 0;
  std::int32_t covering_recv = -1;
  const auto each_writer = [&](auto&& visit) {
    for (std::uint32_t d = 0; d < reader.dependencies_count; ++d) {
      const std::uint32_t id = schedule_.dependencies[index(reader.dependencies_begin + d)].step;
      const Step& step = schedule_.steps[index(id)];
      if (step.kind == StepKind::kSend || step.dst.buffer != BufferKind::kScratch || step.signal) continue;
      if (step.dst.area == operand.slice.area && overlaps(step.dst, operand.slice)) visit(id, step);
    }
  };
  each_writer([&](std::uint32_t id, const Step& step) {
    ++writers;
    if (step.kind == StepKind::kRecv && covers(step.dst, operand.slice)) covering_recv = static_cast<std::int32_t>(id);
  });
  if (writers == 1 && covering_recv >= 0 && reader.kind != StepKind::kSend) {
    operand.from_recv = covering_recv;
    return;
  }
  each_writer([&](std::uint32_t id, const Step&) { viewable[index(id)] = false; });
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
  for (const Step& step : steps) {
    for (std::uint32_t k = 0; k < step.operands_count; ++k) {
      Operand& operand = schedule_.operands[index(step.operands_begin + k)];
      if (operand.slice.buffer == BufferKind::kScratch) resolve_writer(step, operand, viewable);
    }
  }
  for (std::size_t i = 0; i < steps.size(); ++i) steps[i].view_ok = viewable[i];
  scratch_.clear();
  for (auto& list : in_) list.clear();
  for (auto& list : out_) list.clear();
  return std::move(schedule_);
}

}  // namespace longspan::spi
