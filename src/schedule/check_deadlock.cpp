#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "schedule/check_parts.hpp"
#include "schedule/export.hpp"

namespace longspan::checking {
namespace {

constexpr std::uint32_t kCollectives = 2;  ///< in flight at once, on two communicators
/// In which order things that could happen do: with finite credit, an order may deadlock where another does not.
enum class Order { kOldestFirst, kNewestFirst, kShuffled };

struct Setting {
  std::uint32_t chunks = 1;
  bool views = false;
  Order order = Order::kOldestFirst;
};

/// What each step releases, the same for every chunk and collective.
struct Shape {
  explicit Shape(const Program& program) {
    const std::size_t n = program.ranks.size();
    first.resize(n + 1);
    for (std::size_t r = 0; r < n; ++r) {
      first[r + 1] = first[r] + static_cast<std::uint32_t>(program.ranks[r].steps.size());
    }
    dependents.resize(first[n]);
    readers.resize(first[n]);
    rank_of.resize(first[n]);
    for (std::uint32_t r = 0; r < n; ++r) {
      const Schedule& schedule = program.ranks[r];
      for (std::uint32_t i = 0; i < schedule.steps.size(); ++i) {
        rank_of[first[r] + i] = r;
        for (const Dependency& d : dependencies(schedule, schedule.steps[i])) {
          dependents[first[r] + d.step].push_back(first[r] + i);
        }
        for (const Operand& operand : operands(schedule, schedule.steps[i])) {
          if (operand.from_recv >= 0) ++readers[first[r] + static_cast<std::uint32_t>(operand.from_recv)];
        }
      }
    }
  }
  std::uint32_t steps() const { return first.back(); }

  std::vector<std::uint32_t> first;  ///< rank -> its first step, numbering the steps of all ranks
  std::vector<std::uint32_t> rank_of;
  std::vector<std::vector<std::uint32_t>> dependents;
  std::vector<std::uint32_t> readers;  ///< of a recv: operands that read it where it came
};

/// Executes all ranks with finite credit and scratch until nothing can move.
class Run {
 public:
  Run(const Program& program, const Shape& shape, const CheckOptions& options, Setting setting)
      : program_(program), shape_(shape), options_(options), setting_(setting), random_(setting.chunks + 1) {
    const std::size_t n = program.ranks.size();
    state_.resize(std::size_t{kCollectives} * setting.chunks * shape.steps());
    credit_.assign(n * n, options.credits);
    blocked_.resize(n * n);
    for (std::uint32_t q = 0; q < kCollectives; ++q) {
      left_[q].resize(n * setting.chunks);
      admitted_[q].resize(n);
    }
    for (std::uint32_t id = 0; id < state_.size(); ++id) {
      const Step& s = step(id);
      state_[id].pending = s.dependencies_count + 1;  // one for the admission of its chunk
      state_[id].readers = shape.readers[id % shape.steps()];
      ++left(id);
    }
  }

  Status run() {
    for (std::uint32_t r = 0; r < program_.ranks.size(); ++r) {
      // Half of the ranks issue the two collectives the other way round.
      for (std::uint32_t k = 0; k < kCollectives; ++k) admit((k + r) % kCollectives, r);
    }
    while (!open_.empty()) start(take());
    return report();
  }

 private:
  /// An instance is a step of one chunk of one collective: ((collective * chunks) + chunk) * steps + step.
  struct Instance {
    std::uint32_t pending = 0;
    std::uint32_t readers = 0;  ///< of a viewed recv: operands still to be read
    bool posted = false;        ///< recv: may take its message; send: has something to say
    bool arrived = false;       ///< recv: its message lies in the receive pool
    bool sent = false;
    bool done = false;
  };

  std::uint32_t rank_of(std::uint32_t id) const { return shape_.rank_of[id % shape_.steps()]; }
  std::uint32_t index_of(std::uint32_t id) const { return id % shape_.steps() - shape_.first[rank_of(id)]; }
  std::uint32_t chunk_of(std::uint32_t id) const { return id / shape_.steps() % setting_.chunks; }
  std::uint32_t collective_of(std::uint32_t id) const { return id / shape_.steps() / setting_.chunks; }
  const Step& step(std::uint32_t id) const { return program_.ranks[rank_of(id)].steps[index_of(id)]; }
  /// The instance of another step of the same chunk and collective.
  std::uint32_t sibling(std::uint32_t id, std::uint32_t step) const { return id - id % shape_.steps() + step; }
  std::uint32_t other_end(std::uint32_t id) const {
    const auto peer = static_cast<std::size_t>(step(id).peer);
    return sibling(id, shape_.first[peer] + program_.other_end[rank_of(id)][index_of(id)]);
  }
  std::size_t pair(std::uint32_t send) const {
    return rank_of(send) * program_.ranks.size() + static_cast<std::size_t>(step(send).peer);
  }
  std::uint32_t& left(std::uint32_t id) {
    return left_[collective_of(id)][rank_of(id) * setting_.chunks + chunk_of(id)];
  }

  void admit(std::uint32_t collective, std::uint32_t rank) {
    std::uint32_t& next = admitted_[collective][rank];
    while (next < setting_.chunks) {
      if (next >= options_.window && left_[collective][rank * setting_.chunks + next - options_.window] != 0) return;
      const std::uint32_t base = (collective * setting_.chunks + next) * shape_.steps();
      ++next;
      for (std::uint32_t i = shape_.first[rank]; i < shape_.first[rank + 1]; ++i) release(base + i);
    }
  }

  void release(std::uint32_t id) {
    if (--state_[id].pending == 0) open_.push_back(id);
  }

  std::uint32_t take() {
    std::size_t at = open_.size() - 1;
    if (setting_.order == Order::kShuffled) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      at = static_cast<std::size_t>((random_ >> 33) % open_.size());
    } else if (setting_.order == Order::kOldestFirst) {
      at = oldest_;
    }
    const std::uint32_t id = open_[at];
    if (setting_.order != Order::kOldestFirst) {
      open_[at] = open_.back();
      open_.pop_back();
    } else if (++oldest_ == open_.size()) {
      open_.clear();
      oldest_ = 0;
    }
    return id;
  }

  void start(std::uint32_t id) {
    state_[id].posted = true;
    switch (step(id).kind) {
      case StepKind::kSend: return start_send(id);
      case StepKind::kRecv: return start_recv(id);
      default: return complete(id);
    }
  }

  void start_send(std::uint32_t id) {
    const std::uint32_t recv = other_end(id);
    if (state_[recv].posted) return deliver(id, recv);
    std::uint32_t& credit = credit_[pair(id)];
    if (credit == 0) {
      blocked_[pair(id)].push_back(id);
      return;
    }
    --credit;
    state_[recv].arrived = true;
    sent(id, recv);
  }

  void start_recv(std::uint32_t id) {
    const std::uint32_t send = other_end(id);
    if (state_[id].arrived) {
      complete(id);
      return_credit(pair(send));
    } else if (state_[send].posted) {
      deliver(send, id);
    }
  }

  void deliver(std::uint32_t send, std::uint32_t recv) {
    sent(send, recv);
    complete(recv);
  }

  /// The source may be overwritten once it is retained, or, where the receiver reads it in place, once it has.
  void sent(std::uint32_t send, std::uint32_t recv) {
    state_[send].sent = true;
    if (!setting_.views || !step(recv).view_ok || state_[recv].readers == 0) complete(send);
  }

  void return_credit(std::size_t pair) {
    auto& waiting = blocked_[pair];
    while (!waiting.empty()) {
      const std::size_t at = setting_.order == Order::kOldestFirst ? 0 : waiting.size() - 1;
      const std::uint32_t send = waiting[at];
      waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(at));
      if (state_[send].sent) continue;
      const std::uint32_t recv = other_end(send);
      state_[recv].arrived = true;
      return sent(send, recv);
    }
    ++credit_[pair];
  }

  void complete(std::uint32_t id) {
    if (state_[id].done) return;
    state_[id].done = true;
    const std::uint32_t rank = rank_of(id);
    if (setting_.views) release_views(id);
    for (const std::uint32_t next : shape_.dependents[id % shape_.steps()]) release(sibling(id, next));
    if (--left(id) == 0) admit(collective_of(id), rank);
  }

  void release_views(std::uint32_t id) {
    for (const Operand& operand : operands(program_.ranks[rank_of(id)], step(id))) {
      if (operand.from_recv < 0) continue;
      const std::uint32_t recv = sibling(id, shape_.first[rank_of(id)] + static_cast<std::uint32_t>(operand.from_recv));
      if (--state_[recv].readers == 0 && step(recv).view_ok) complete(other_end(recv));
    }
  }

  Status report() const {
    std::string text;
    std::size_t stuck = 0;
    std::uint32_t last_rank = kNone;
    constexpr std::size_t kShown = 6;
    for (std::uint32_t id = 0; id < state_.size(); ++id) {
      // The first of each rank that could have started is what it hangs on.
      if (state_[id].done || state_[id].pending != 0) continue;
      const std::uint32_t rank = rank_of(id);
      if (rank == last_rank || ++stuck > kShown) continue;
      last_rank = rank;
      text += fmt::format("; {} of chunk {} waits for rank {}", where(program_, StepRef{rank, index_of(id)}),
                          chunk_of(id), step(id).peer);
    }
    if (std::all_of(state_.begin(), state_.end(), [](const Instance& i) { return i.done; })) return {};
    return defect(fmt::format("deadlock with {} chunks, {} in flight, {} messages of credit{}{}", setting_.chunks,
                              options_.window, options_.credits, setting_.views ? ", peer views" : "", text));
  }

  const Program& program_;
  const Shape& shape_;
  const CheckOptions& options_;
  Setting setting_;
  std::uint64_t random_;
  std::vector<Instance> state_;
  std::vector<std::uint32_t> open_;
  std::size_t oldest_ = 0;
  std::vector<std::uint32_t> credit_;                 ///< by sender and receiver; shared by both collectives
  std::vector<std::vector<std::uint32_t>> blocked_;   ///< sends without credit, by the same
  std::array<std::vector<std::uint32_t>, kCollectives> left_;      ///< steps to do, by rank and chunk
  std::array<std::vector<std::uint32_t>, kCollectives> admitted_;  ///< chunks begun, by rank
};

}  // namespace

Status check_deadlocks(const Program& program, const CheckOptions& options) {
  const Shape shape(program);
  const bool chunkable = program.ranks[0].chunkable;
  for (const std::uint32_t chunks : chunkable ? options.chunks : std::vector<std::uint32_t>{1}) {
    for (const bool views : {false, true}) {
      for (const Order order : {Order::kOldestFirst, Order::kNewestFirst, Order::kShuffled}) {
        LONGSPAN_TRY(Run(program, shape, options, Setting{chunks, views, order}).run());
      }
    }
  }
  return {};
}

}  // namespace longspan::checking
