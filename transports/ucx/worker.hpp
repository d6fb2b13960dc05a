#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ucx/library.hpp"

namespace longspan::ucx {

/// A UCX context and its one worker. Used by one thread at a time, not always the same one.
class Worker {
 public:
  static Result<std::unique_ptr<Worker>> create();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();

  const Library& library() const noexcept { return library_; }
  ucp_context_h context() const noexcept { return context_; }
  ucp_worker_h get() const noexcept { return worker_; }
  int event_fd() const noexcept { return event_fd_; }
  /// What peers make endpoints from.
  const std::string& address() const noexcept { return address_; }
  /// Accelerator memory may be given to it.
  bool device_memory() const noexcept { return device_memory_; }
  /// What UCX found and may use: "rc_verbs/mlx5_0:1", "tcp/eth0".
  const std::vector<std::string>& resources() const noexcept { return resources_; }
  bool has_rdma() const noexcept;
  /// Nothing but memory of this host.
  bool host_only() const noexcept;

  /// The packing of messages: see Payload.
  ucp_datatype_t payload() const noexcept { return payload_; }
  Status listen(ucp_am_recv_callback_t callback, void* argument);
  unsigned progress() noexcept { return library_.worker_progress(worker_); }
  /// False when there is something to do.
  bool arm() noexcept { return library_.worker_arm(worker_) == UCS_OK; }
  std::string describe(ucs_status_t status) const { return library_.status_string(status); }

 private:
  explicit Worker(const Library& library) : library_(library) {}
  Status set_up();
  Status make_context();
  Status make_worker();
  void survey();

  const Library& library_;
  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  ucp_datatype_t payload_ = 0;
  int event_fd_ = -1;  // the worker's
  bool device_memory_ = false;
  std::string address_;
  std::vector<std::string> resources_;
};

/// One message's way in or out of UCX. UCX asks for the bytes of what it sends when it can send them, and hands over
/// those that came: it never holds on to a user's memory. So a message can be taken back at any moment, by setting
/// `memory` to nullptr, and nobody waits for the peer. What is packed after that is not the message, and the trailer
/// says so.
struct Payload {
  std::byte* memory = nullptr;  ///< read when sending, written when receiving
  std::size_t bytes = 0;
  std::uint64_t trailer = 0;    ///< receiving
  bool taken_back = false;      ///< sending
};
extern const ucp_generic_dt_ops_t kPayloadOperations;

}  // namespace longspan::ucx
