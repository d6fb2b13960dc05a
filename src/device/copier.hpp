#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "longspan/status.hpp"
#include "longspan/types.hpp"

namespace longspan::device {

/// A contiguous piece of device memory, and its image in page-locked host memory.
struct Move {
  std::byte* host = nullptr;
  std::byte* device = nullptr;
  std::size_t bytes = 0;
};

class Copier;

/// What elements are multiplied with, as longspan::reduce::scale does it.
struct Scaling {
  DataType type = DataType::kFloat32;
  double factor = 1;
};

/// An n-ary reduction in a device's memory, as longspan::reduce::reduce does it.
struct Reduction {
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  double divisor = 1;
  std::byte* to = nullptr;
  std::span<const void* const> operands;
  std::size_t count = 0;
};
inline constexpr std::size_t kMostReduced = 16;  // operands

/// What has come to pass on a device. Of moves: `owner` and `what` as given to the Copier, and who moved. Of a stream
/// that has come to a call: `entry`.
struct Token {
  void* owner = nullptr;
  void* what = nullptr;
  Copier* by = nullptr;
  std::uint64_t entry = 0;
};

/// Moves bytes between one device's memory and host memory, both ways at once, without blocking. Used with the Domain's
/// lock held; must outlive its memory.
class Copier {
 public:
  virtual ~Copier() = default;
  /// Page-locked host memory, kept for the next that asks (making it costs about as much as filling it).
  virtual Result<std::span<std::byte>> take(std::size_t bytes) = 0;
  virtual void give_back(std::span<std::byte> memory) noexcept = 0;
  /// Starts the moves in that direction, in the order of the calls; the mailbox gets a token after the last byte.
  /// `scaling`: on the way down all elements are multiplied; only where `scales`.
  virtual Status to_host(std::span<const Move> moves, const Scaling* scaling, void* owner, void* what) = 0;
  virtual Status to_device(std::span<const Move> moves, void* owner, void* what) = 0;
  /// Memory of the device, kept for the next that asks; peers of this host may read it.
  virtual Result<std::span<std::byte>> take_device(std::size_t bytes) = 0;
  virtual void give_back_device(std::span<std::byte> memory) noexcept = 0;
  /// On the device: operands, and `from`, may be memory that it has mapped. Only where it `computes`.
  virtual Status reduce(const Reduction& reduction, void* owner, void* what) = 0;
  virtual Status copy_there(void* to, const void* from, std::size_t bytes, void* owner, void* what) = 0;
  /// One of its tokens was taken from the mailbox.
  virtual void told() noexcept = 0;
  virtual bool under_way() const noexcept = 0;
  /// Its device has the kernels, to reduce and to scale.
  virtual bool computes() = 0;
  /// Between any two places, of the host or of devices; blocks until it is done.
  virtual Status copy(void* to, const void* from, std::size_t bytes) = 0;
  /// Waits for what is under way (nothing else runs on the streams used here) and drops the tokens of `owner`. False:
  /// it is not over in time, as on a device that hangs. The memory must stay then; nobody may be given it again.
  [[nodiscard]] virtual bool abandon(const void* owner) noexcept = 0;
  /// A failure of the device that no token will tell of; looked at now and then while moves are under way.
  virtual Status health() = 0;
};

}  // namespace longspan::device
