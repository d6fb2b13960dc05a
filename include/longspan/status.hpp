#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "longspan/export.hpp"

namespace longspan {

/// Why an operation failed; each code has a one-line meaning (`meaning_of`).
enum class StatusCode : std::uint8_t {
  kOk = 0,
  kInvalidArgument,  ///< an argument, option or file is wrong; the message says where
  kMismatch,         ///< ranks called the same collective with different arguments
  kTimeout,          ///< the deadline passed before the operation could finish
  kPeerLost,         ///< a peer died or became unreachable
  kAborted,          ///< abort() was called here or on another rank
  kUnsupported,      ///< valid, but not offered by this build, machine or algorithm
  kResource,         ///< out of memory, file descriptors, ports or a kernel limit
  kSystem,           ///< a system call failed; the message has errno's text
  kInternal,         ///< a defect in longspan; please report it
};

/// One-line meaning of a code, for people.
LONGSPAN_API std::string_view meaning_of(StatusCode code) noexcept;
/// Short stable name, e.g. "timeout".
LONGSPAN_API std::string_view name_of(StatusCode code) noexcept;

/// Success, or a code with a message that says what failed, where, and what to do.
///
/// A success is one null pointer, so returning it costs nothing.
class LONGSPAN_API [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  Status(StatusCode code, std::string message)
      : rep_(code == StatusCode::kOk ? nullptr : std::make_unique<Rep>(Rep{code, std::move(message)})) {}

  Status(const Status& other) : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}
  Status& operator=(const Status& other) {
    if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
    return *this;
  }
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  bool ok() const noexcept { return rep_ == nullptr; }
  explicit operator bool() const noexcept { return ok(); }
  StatusCode code() const noexcept { return rep_ ? rep_->code : StatusCode::kOk; }
  std::string_view message() const noexcept { return rep_ ? std::string_view(rep_->message) : std::string_view(); }
  /// "timeout: rank 3 ..." or "ok".
  std::string to_string() const;
  /// The same failure with `context` put before its message.
  Status with_context(std::string_view context) const;

 private:
  struct Rep {
    StatusCode code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

/// A `Status` for a failed system call: "`what`: strerror(errno_value)".
LONGSPAN_API Status system_error(std::string_view what, int errno_value);

/// A value, or the Status that says why there is none.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by intent
  Result(Status status) : state_(std::in_place_index<1>, std::move(status)) {}  // NOLINT

  bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Status status() const { return ok() ? Status() : std::get<1>(state_); }

 private:
  std::variant<T, Status> state_;
};

}  // namespace longspan

/// Returns the failure of `expr` (a Status) to the caller.
#define LONGSPAN_TRY(expr)                                      \
  do {                                                          \
    if (auto longspan_try_ = (expr); !longspan_try_.ok()) {     \
      return longspan_try_;                                     \
    }                                                           \
  } while (false)

#define LONGSPAN_CONCAT_INNER(a, b) a##b
#define LONGSPAN_CONCAT(a, b) LONGSPAN_CONCAT_INNER(a, b)
/// `LONGSPAN_ASSIGN(auto x, f());` takes the value of a Result or returns its failure.
#define LONGSPAN_ASSIGN(lhs, expr) LONGSPAN_ASSIGN_IMPL(LONGSPAN_CONCAT(longspan_result_, __LINE__), lhs, expr)
#define LONGSPAN_ASSIGN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                         \
  if (!tmp.ok()) return tmp.status();        \
  lhs = std::move(tmp).value()
