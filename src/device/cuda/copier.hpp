#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <vector>

#include "device/copier.hpp"
#include "device/cuda/kernels.hpp"
#include "device/cuda/mailbox.hpp"

namespace longspan::device::cuda {

/// A primary context, kept alive. Runtime-API programs (PyTorch) use that one; its memory and ours are of one context
/// then.
class PrimaryContext {
 public:
  static Result<std::unique_ptr<PrimaryContext>> retain(const Driver& driver, int device);
  PrimaryContext(const PrimaryContext&) = delete;
  PrimaryContext& operator=(const PrimaryContext&) = delete;
  ~PrimaryContext();
  Context get() const noexcept { return context_; }

 private:
  PrimaryContext(const Driver& driver, int handle, Context context)
      : driver_(driver), handle_(handle), context_(context) {}
  const Driver& driver_;
  int handle_;
  Context context_;
};

/// One stream for each direction, since copies to the host and to the device use different engines, and one for what
/// stays on devices. They hold nothing but copies, kernels of ours and host functions, and never wait for anything that
/// a peer or a user's stream has still to do; so whatever shares a hardware queue with them is never kept waiting by
/// the network. The highest priority keeps them out of the queues of ordinary streams, which may well wait for us
/// (StreamGate).
class CudaCopier final : public Copier {
 public:
  static Result<std::unique_ptr<Copier>> open(std::shared_ptr<DriverMailbox> mailbox, int device);
  CudaCopier(const CudaCopier&) = delete;
  CudaCopier& operator=(const CudaCopier&) = delete;
  ~CudaCopier() override;

  Result<std::span<std::byte>> take(std::size_t bytes) override;
  void give_back(std::span<std::byte> memory) noexcept override { free_.push_back(memory); }
  Status to_host(std::span<const Move> moves, const Scaling* scaling, void* owner, void* what) override;
  Status to_device(std::span<const Move> moves, void* owner, void* what) override;
  Result<std::span<std::byte>> take_device(std::size_t bytes) override;
  void give_back_device(std::span<std::byte> memory) noexcept override { free_there_.push_back(memory); }
  Status reduce(const Reduction& reduction, void* owner, void* what) override;
  Status copy_there(void* to, const void* from, std::size_t bytes, void* owner, void* what) override;
  void told() noexcept override { --under_way_; }
  bool under_way() const noexcept override { return under_way_ > 0; }
  bool computes() override;
  Status copy(void* to, const void* from, std::size_t bytes) override;
  bool abandon(const void* owner) noexcept override;
  Status health() override;

 private:
  CudaCopier(const Driver& driver, std::shared_ptr<DriverMailbox> mailbox, int device,
             std::unique_ptr<PrimaryContext> context);
  Status make_streams();
  Status tell(Stream stream, void* owner, void* what);
  std::array<Stream, 3> streams() const noexcept { return {down_, up_, there_}; }
  bool idle_within(std::chrono::nanoseconds patience) const noexcept;

  const Driver& driver_;
  std::shared_ptr<DriverMailbox> mailbox_;  // shared with the other devices' copiers and the driver's threads
  int device_;
  std::unique_ptr<PrimaryContext> context_;
  Stream down_ = nullptr;
  Stream up_ = nullptr;
  Stream there_ = nullptr;
  std::unique_ptr<Kernels> kernels_;  // nullptr: not loaded, or none that load
  bool looked_for_kernels_ = false;
  std::size_t under_way_ = 0;  // tokens not told yet
  std::vector<std::span<std::byte>> free_;
  std::vector<std::span<std::byte>> free_there_;
};

}  // namespace longspan::device::cuda
