#pragma once

#include <cstdint>
#include <string>

#include "longspan/schedule.hpp"

namespace longspan {

/// "out[3] 1/4..2/4", "scratch2(in[0] 0..1)".
std::string describe(const Schedule& schedule, const Slice& slice);
/// "step 7 (recv out[3] 1/4..2/4 from rank 2 stream 5)".
std::string describe_step(const Schedule& schedule, std::uint32_t step);

/// One rank's schedule for people: a line per step, with its dependencies.
std::string to_text(const Schedule& schedule);
/// The same for programs: docs/algorithms.md lists the fields.
std::string to_json(const Schedule& schedule);

}  // namespace longspan
