#include "replay.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <sstream>

namespace longspan::hierarchical {
namespace {

constexpr std::size_t kElementSize = 64;  // every element is an edge, so all positions are tried

std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15U;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
  return x ^ (x >> 31);
}

Symbol input_of(int rank, std::uint32_t block) {
  const std::uint64_t seed = mixed((static_cast<std::uint64_t>(rank) << 32) | block);
  return Symbol{seed, mixed(seed)};
}

struct Memory {
  std::vector<std::vector<Symbol>> in, out, scratch;
};

class World {
 public:
  World(std::vector<Schedule> schedules, std::size_t count, std::uint32_t chunks)
      : schedules_(std::move(schedules)), count_(count), chunks_(chunks) {}

  std::string run();
  std::string check() const;

 private:
  ElementRange range(const Slice& slice, std::uint32_t chunk) const {
    return elements_of(slice.begin, slice.end, count_, chunk, chunks_, kElementSize);
  }
  std::vector<Symbol>& buffer(std::size_t rank, const Slice& slice) {
    Memory& memory = memory_[rank];
    if (slice.buffer == BufferKind::kScratch) return memory.scratch.at(slice.area);
    return (slice.buffer == BufferKind::kIn ? memory.in : memory.out).at(slice.block);
  }
  std::vector<Symbol> read(std::size_t rank, const Slice& slice, std::uint32_t chunk) {
    const auto [offset, length] = range(slice, chunk);
    const auto& from = buffer(rank, slice);
    return {from.begin() + static_cast<std::ptrdiff_t>(offset), from.begin() + static_cast<std::ptrdiff_t>(offset + length)};
  }
  bool write(std::size_t rank, const Slice& slice, std::uint32_t chunk, const std::vector<Symbol>& values) {
    const auto [offset, length] = range(slice, chunk);
    if (length != values.size()) return false;
    std::copy(values.begin(), values.end(), buffer(rank, slice).begin() + static_cast<std::ptrdiff_t>(offset));
    return true;
  }
  void prepare();
  bool advance(std::size_t rank, std::uint32_t chunk, std::string& error);

  std::vector<Schedule> schedules_;
  std::size_t count_;
  std::uint32_t chunks_;
  std::vector<Memory> memory_;
  std::vector<std::size_t> next_;
  std::map<std::tuple<int, int, std::uint32_t>, std::vector<Symbol>> mail_;
};

void World::prepare() {
  memory_.clear();
  for (const Schedule& s : schedules_) {
    Memory memory;
    for (int b = 0; b < blocks_in(s.shape, s.ranks, s.rank); ++b) {
      memory.in.emplace_back(count_, input_of(s.rank, static_cast<std::uint32_t>(b)));
    }
    memory.out.resize(static_cast<std::size_t>(blocks_out(s.shape, s.ranks, s.rank)), std::vector<Symbol>(count_));
    memory.scratch.resize(s.scratch.size(), std::vector<Symbol>(count_));
    memory_.push_back(std::move(memory));
  }
}

bool World::advance(std::size_t rank, std::uint32_t chunk, std::string& error) {
  const Schedule& s = schedules_[rank];
  const Step& step = s.steps[next_[rank]];
  const auto operand = [&](std::uint32_t k) -> const Slice& { return s.operands[step.operands_begin + k].slice; };
  const int me = s.rank;
  switch (step.kind) {
    case StepKind::kSend: {
      auto [it, fresh] = mail_.try_emplace({me, step.peer, step.stream});
      if (!fresh) error = fmt::format("rank {}: stream {} to {} used twice", me, step.stream, step.peer);
      if (!step.signal) it->second = read(rank, operand(0), chunk);
      break;
    }
    case StepKind::kRecv: {
      const auto it = mail_.find({step.peer, me, step.stream});
      if (it == mail_.end()) return false;
      if (!step.signal && !write(rank, step.dst, chunk, it->second)) {
        error = fmt::format("rank {}: length of stream {} from {} differs", me, step.stream, step.peer);
      }
      mail_.erase(it);
      break;
    }
    case StepKind::kReduce: {
      std::vector<Symbol> sum(range(step.dst, chunk).length);
      for (std::uint32_t k = 0; k < step.operands_count; ++k) {
        const std::vector<Symbol> values = read(rank, operand(k), chunk);
        if (values.size() != sum.size()) {
          error = fmt::format("rank {}: operand {} of step {} has another length", me, k, next_[rank]);
          return true;
        }
        for (std::size_t i = 0; i < sum.size(); ++i) {
          sum[i].sum += values[i].sum;
          sum[i].order = mixed(sum[i].order ^ values[i].order) + (k + 1 == step.operands_count && step.post_scale ? 1 : 0);
        }
      }
      write(rank, step.dst, chunk, sum);
      break;
    }
    case StepKind::kCopy: write(rank, step.dst, chunk, read(rank, operand(0), chunk)); break;
  }
  ++next_[rank];
  return true;
}

std::string World::run() {
  prepare();
  std::string error;
  for (std::uint32_t chunk = 0; chunk < chunks_; ++chunk) {
    next_.assign(schedules_.size(), 0);
    for (bool moved = true; moved && error.empty();) {
      moved = false;
      for (std::size_t r = 0; r < schedules_.size(); ++r) {
        while (error.empty() && next_[r] < schedules_[r].steps.size() && advance(r, chunk, error)) moved = true;
      }
    }
    for (std::size_t r = 0; r < schedules_.size() && error.empty(); ++r) {
      if (next_[r] < schedules_[r].steps.size()) {
        const Step& step = schedules_[r].steps[next_[r]];
        error = fmt::format("rank {} waits for ever for rank {} ({})", r, step.peer, schedules_[r].phases[step.phase]);
      }
    }
    if (error.empty() && !mail_.empty()) {
      const auto [from, to, stream] = mail_.begin()->first;
      error = fmt::format("rank {} never receives stream {} from rank {}", to, stream, from);
    }
  }
  return error.empty() ? check() : error;
}

std::string World::check() const {
  const CollectiveShape& shape = schedules_.front().shape;
  const int ranks = schedules_.front().ranks;
  const auto expected = [&](int rank, std::uint32_t block) {
    Symbol all;
    const std::uint32_t wanted = shape.kind == Collective::kReduceScatter ? static_cast<std::uint32_t>(rank) : 0;
    switch (shape.kind) {
      case Collective::kAllReduce:
      case Collective::kReduce:
      case Collective::kReduceScatter:
        for (int r = 0; r < ranks; ++r) all.sum += input_of(r, wanted).sum;
        return all;
      case Collective::kBroadcast: return input_of(shape.root, 0);
      case Collective::kScatter: return input_of(shape.root, static_cast<std::uint32_t>(rank));
      case Collective::kAllToAll: return input_of(static_cast<int>(block), static_cast<std::uint32_t>(rank));
      default: return input_of(static_cast<int>(block), 0);
    }
  };
  const std::vector<Symbol>* first = nullptr;
  for (int r = 0; r < ranks; ++r) {
    const auto& out = memory_[static_cast<std::size_t>(r)].out;
    for (std::uint32_t b = 0; b < out.size(); ++b) {
      const Symbol want = expected(r, b);
      for (std::size_t i = 0; i < out[b].size(); ++i) {
        const bool same = reduces(shape.kind) ? out[b][i].sum == want.sum : out[b][i] == want;
        if (!same) return fmt::format("rank {}: block {}, element {} is wrong", r, b, i);
      }
      if (shape.kind == Collective::kAllReduce) {
        if (first != nullptr && *first != out[b]) return fmt::format("rank {} differs from rank 0 in the order of operands", r);
        first = &out[b];
      }
    }
  }
  return {};
}

std::vector<Schedule> build_all(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
                                std::string_view variant) {
  std::vector<Schedule> schedules;
  for (int r = 0; r < cluster.size(); ++r) schedules.push_back(algorithm.build(shape, cluster, variant, r));
  return schedules;
}

Host host_from(const std::string& word, int region, int number) {
  Host host;
  host.name = fmt::format("h{}-{}", region, number);
  host.region = host.site = host.rack = region;
  host.gateway = word.back() != '!';
  if (const auto colon = word.find(':'); colon != std::string::npos) {
    host.nic = Bandwidth{std::stod(word.substr(colon + 1)) * 125e6};
  }
  return host;
}

}  // namespace

Cluster cluster_of(const std::vector<std::string>& regions) {
  Cluster cluster;
  Topology& topology = cluster.topology;
  for (int g = 0; g < static_cast<int>(regions.size()); ++g) {
    topology.regions.push_back(Group{fmt::format("r{}", g), -1, {}, {}});
    topology.sites.push_back(Group{"", g, {}, {}});
    topology.racks.push_back(Group{"", g, {}, {}});
    for (int other = 0; other < static_cast<int>(regions.size()); ++other) {
      if (other != g) topology.wan.push_back(WanLink{g, other, Bandwidth{125e6}, Latency{0.02}, {}, 0});
    }
    std::istringstream words(regions[static_cast<std::size_t>(g)]);
    int number = 0;
    for (std::string word; words >> word; ++number) {
      const int host = static_cast<int>(topology.hosts.size());
      cluster.host_of_rank.insert(cluster.host_of_rank.end(), std::stoul(word), host);
      topology.hosts.push_back(host_from(word, g, number));
    }
  }
  return cluster;
}

Outcome replay(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
               std::string_view variant, std::size_t count, std::uint32_t chunks) {
  std::vector<Schedule> schedules = build_all(algorithm, shape, cluster, variant);
  Outcome outcome;
  for (const Schedule& s : schedules) {
    outcome.most_steps = std::max(outcome.most_steps, static_cast<int>(s.steps.size()));
    if (!s.chunkable) outcome.error = fmt::format("rank {} is not chunkable", s.rank);
    for (const Step& step : s.steps) {
      if (step.tier != Tier::kWan) continue;
      if (!cluster.gateway(s.rank)) outcome.error = fmt::format("rank {} is no gateway, but reaches the WAN", s.rank);
      if (step.kind != StepKind::kSend || step.signal) continue;
      const Slice& sent = s.operands[step.operands_begin].slice;
      outcome.wan_share += sent.end.value() - sent.begin.value();
    }
  }
  if (outcome.error.empty()) outcome.error = World(std::move(schedules), count, chunks).run();
  return outcome;
}

std::string compare_stages(const spi::Algorithm& algorithm, const CollectiveShape& shape, const Cluster& cluster,
                           std::string_view variant) {
  const std::vector<spi::Stage> stages = algorithm.stages(shape, cluster, variant);
  std::map<std::tuple<std::size_t, int, int>, double> flows;
  for (std::size_t p = 0; p < stages.size(); ++p) {
    for (const spi::StageFlow& flow : stages[p].flows) flows[{p, flow.from, flow.to}] -= flow.share;
  }
  for (const Schedule& s : build_all(algorithm, shape, cluster, variant)) {
    if (s.phases.size() != stages.size()) return fmt::format("rank {} has {} phases, not {}", s.rank, s.phases.size(), stages.size());
    for (std::size_t p = 0; p < stages.size(); ++p) {
      if (s.phases[p] != stages[p].name) return fmt::format("phase {} is {}, not {}", p, s.phases[p], stages[p].name);
    }
    for (const Step& step : s.steps) {
      if (step.kind != StepKind::kSend) continue;
      const auto key = std::tuple<std::size_t, int, int>(step.phase, s.rank, step.peer);
      if (!flows.contains(key)) return fmt::format("{}: no flow from {} to {}", s.phases[step.phase], s.rank, step.peer);
      if (step.signal) continue;
      const Slice& sent = s.operands[step.operands_begin].slice;
      flows[key] += sent.end.value() - sent.begin.value();
    }
  }
  for (const auto& [key, rest] : flows) {
    if (std::abs(rest) > 1e-6) {
      return fmt::format("{}: {} to {} differs by {}", stages[std::get<0>(key)].name, std::get<1>(key), std::get<2>(key), rest);
    }
  }
  return {};
}

}  // namespace longspan::hierarchical
