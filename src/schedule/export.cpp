#include "schedule/export.hpp"

#include <fmt/format.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

namespace longspan {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kBufferNames[] = {"in", "out", "scratch"};
constexpr std::string_view kKindNames[] = {"send", "recv", "reduce", "copy"};
constexpr std::string_view kDependencyNames[] = {"data", "reuse"};

template <class Enum, std::size_t size>
std::string_view name_in(const std::string_view (&names)[size], Enum value) {
  const auto i = static_cast<std::size_t>(value);
  return i < size ? names[i] : "?";
}

std::string text_of(const Fraction& f) {
  if (f.num == 0) return "0";
  if (f.num == f.den) return "1";
  return fmt::format("{}/{}", f.num, f.den);
}

std::string coordinates(std::string_view buffer, const Slice& slice) {
  std::string text = slice.blocks == 1 ? fmt::format("{}[{}]", buffer, slice.block)
                                       : fmt::format("{}[{}..{})", buffer, slice.block, slice.block + slice.blocks);
  if (slice.begin == kZero && slice.end == kOne) return text;
  return fmt::format("{} {}..{}", text, text_of(slice.begin), text_of(slice.end));
}

std::span<const Operand> operands_of(const Schedule& s, const Step& step) {
  if (std::size_t{step.operands_begin} + step.operands_count > s.operands.size()) return {};
  return std::span(s.operands).subspan(step.operands_begin, step.operands_count);
}

std::span<const Dependency> dependencies_of(const Schedule& s, const Step& step) {
  if (std::size_t{step.dependencies_begin} + step.dependencies_count > s.dependencies.size()) return {};
  return std::span(s.dependencies).subspan(step.dependencies_begin, step.dependencies_count);
}

/// "recv out[3] 1/4..2/4 from rank 2 stream 5": without index and dependencies, so that defects can be named too.
std::string body_of(const Schedule& s, const Step& step) {
  const std::string_view kind = name_in(kKindNames, step.kind);
  const auto operands = operands_of(s, step);
  if (step.kind == StepKind::kSend || step.kind == StepKind::kRecv) {
    const bool sends = step.kind == StepKind::kSend;
    std::string what = "signal";
    if (!step.signal) {
      what = sends ? (operands.empty() ? "nothing" : describe(s, operands[0].slice)) : describe(s, step.dst);
    }
    return fmt::format("{} {} {} rank {} stream {}", kind, what, sends ? "to" : "from", step.peer, step.stream);
  }
  std::string reads;
  for (const Operand& operand : operands) {
    reads += reads.empty() ? " = " : " + ";
    reads += describe(s, operand.slice);
    if (operand.from_recv >= 0) reads += fmt::format(" (of step {})", operand.from_recv);
  }
  return fmt::format("{} {}{}{}", kind, describe(s, step.dst), reads, step.post_scale ? " [final]" : "");
}

Json json_of(const Slice& slice) {
  Json j;
  j["buffer"] = name_in(kBufferNames, slice.buffer);
  if (slice.buffer == BufferKind::kScratch) j["area"] = slice.area;
  j["block"] = slice.block;
  if (slice.blocks != 1) j["blocks"] = slice.blocks;
  j["begin"] = {slice.begin.num, slice.begin.den};
  j["end"] = {slice.end.num, slice.end.den};
  return j;
}

Json json_of(const Schedule& s, const Step& step) {
  Json j;
  const bool moves = step.kind == StepKind::kSend || step.kind == StepKind::kRecv;
  j["kind"] = name_in(kKindNames, step.kind);
  j["phase"] = step.phase;
  if (moves) {
    j["peer"] = step.peer;
    j["stream"] = step.stream;
    j["tier"] = name_of(step.tier);
    j["channel"] = step.channel;
    if (step.signal) j["signal"] = true;
    if (step.view_ok) j["view_ok"] = true;
  }
  if (step.post_scale) j["final"] = true;
  if (step.kind != StepKind::kSend && !step.signal) j["dst"] = json_of(step.dst);
  for (const Operand& operand : operands_of(s, step)) {
    Json read = json_of(operand.slice);
    if (operand.from_recv >= 0) read["from_recv"] = operand.from_recv;
    j["reads"].push_back(std::move(read));
  }
  for (const Dependency& d : dependencies_of(s, step)) {
    j["after"].push_back({{"step", d.step}, {"kind", name_in(kDependencyNames, d.kind)}});
  }
  return j;
}

}  // namespace

std::string describe(const Schedule& schedule, const Slice& slice) {
  if (slice.buffer != BufferKind::kScratch) return coordinates(name_in(kBufferNames, slice.buffer), slice);
  const bool known = slice.area < schedule.scratch.size();
  const auto like = known ? name_in(kBufferNames, schedule.scratch[slice.area].extent.buffer) : std::string_view("?");
  return fmt::format("scratch{}({})", slice.area, coordinates(like, slice));
}

std::string describe_step(const Schedule& schedule, std::uint32_t step) {
  if (step >= schedule.steps.size()) return fmt::format("step {} (no such step)", step);
  return fmt::format("step {} ({})", step, body_of(schedule, schedule.steps[step]));
}

std::string to_text(const Schedule& schedule) {
  std::string text = fmt::format("{} {}: rank {} of {}, {} steps{}\n", name_of(schedule.shape.kind), schedule.algorithm,
                                 schedule.rank, schedule.ranks, schedule.steps.size(),
                                 schedule.chunkable ? "" : ", not chunkable");
  const auto out = std::back_inserter(text);
  for (const ScheduleChannel& c : schedule.channels) {
    fmt::format_to(out, "channel to rank {} ({}): sends {:.6g} blocks, receives {:.6g}\n", c.peer, name_of(c.tier),
                   c.send_share, c.recv_share);
  }
  std::size_t phase = schedule.phases.size();
  for (std::size_t i = 0; i < schedule.steps.size(); ++i) {
    const Step& step = schedule.steps[i];
    if (step.phase != phase && step.phase < schedule.phases.size()) {
      phase = step.phase;
      fmt::format_to(out, "phase {}\n", schedule.phases[phase]);
    }
    fmt::format_to(out, "{:>5}  {}", i, body_of(schedule, step));
    std::string_view separator = "  after ";
    for (const Dependency& d : dependencies_of(schedule, step)) {
      fmt::format_to(out, "{}{}{}", separator, d.step, d.kind == DependencyKind::kReuse ? "r" : "");
      separator = ",";
    }
    text += '\n';
  }
  return text;
}

std::string to_json(const Schedule& schedule) {
  Json j;
  j["collective"] = name_of(schedule.shape.kind);
  j["algorithm"] = schedule.algorithm;
  j["ranks"] = schedule.ranks;
  j["rank"] = schedule.rank;
  if (has_root(schedule.shape.kind)) j["root"] = schedule.shape.root;
  j["chunkable"] = schedule.chunkable;
  j["phases"] = schedule.phases;
  j["channels"] = Json::array();
  for (const ScheduleChannel& c : schedule.channels) {
    j["channels"].push_back({{"peer", c.peer},
                             {"tier", name_of(c.tier)},
                             {"order", c.order},
                             {"send_share", c.send_share},
                             {"recv_share", c.recv_share}});
  }
  j["scratch"] = Json::array();
  for (const ScratchArea& area : schedule.scratch) j["scratch"].push_back(json_of(area.extent));
  j["steps"] = Json::array();
  for (const Step& step : schedule.steps) j["steps"].push_back(json_of(schedule, step));
  return j.dump(1);
}

}  // namespace longspan
