#include "longspan/status.hpp"

#include <cstring>

namespace longspan {

std::string_view name_of(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk: return "ok";
    case StatusCode::kInvalidArgument: return "invalid argument";
    case StatusCode::kMismatch: return "mismatch";
    case StatusCode::kTimeout: return "timeout";
    case StatusCode::kPeerLost: return "peer lost";
    case StatusCode::kAborted: return "aborted";
    case StatusCode::kUnsupported: return "unsupported";
    case StatusCode::kResource: return "out of resources";
    case StatusCode::kSystem: return "system error";
    case StatusCode::kInternal: return "internal error";
  }
  return "unknown";
}

std::string_view meaning_of(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::kOk: return "the operation succeeded";
    case StatusCode::kInvalidArgument: return "an argument, option or file is wrong; the message says where";
    case StatusCode::kMismatch: return "ranks called the same collective with different arguments";
    case StatusCode::kTimeout: return "the deadline passed before the operation could finish";
    case StatusCode::kPeerLost: return "a peer died or became unreachable";
    case StatusCode::kAborted: return "abort() was called here or on another rank";
    case StatusCode::kUnsupported: return "valid, but not offered by this build, machine or algorithm";
    case StatusCode::kResource: return "out of memory, file descriptors, ports or a kernel limit";
    case StatusCode::kSystem: return "a system call failed; the message has errno's text";
    case StatusCode::kInternal: return "a defect in longspan; please report it";
  }
  return "unknown code";
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(name_of(code())) + ": " + rep_->message;
}

Status Status::with_context(std::string_view context) const {
  if (ok()) return {};
  return Status(code(), std::string(context) + ": " + rep_->message);
}

Status system_error(std::string_view what, int errno_value) {
  return Status(StatusCode::kSystem, std::string(what) + ": " + std::strerror(errno_value));
}

}  // namespace longspan
