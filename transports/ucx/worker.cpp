#include "ucx/worker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>

#include "base/env.hpp"
#include "base/log.hpp"
#include "ucx/wire.hpp"

namespace longspan::ucx {
namespace {

struct Setting {
  const char* name;  ///< as ucp_config_modify knows it: without the name of a transport
  const char* value;
  std::array<const char*, 2> environment;  ///< what the user may have set instead
};
/// Shared memory must notice peers that die, or UCX leaves it out of endpoints that ask for that; larger pieces on
/// sockets, since each costs a system call.
constexpr Setting kSettings[] = {
    {"MM_ERROR_HANDLING", "y", {"UCX_POSIX_ERROR_HANDLING", "UCX_SYSV_ERROR_HANDLING"}},
    {"TX_SEG_SIZE", "1M", {"UCX_TCP_TX_SEG_SIZE", "UCX_TCP_RX_SEG_SIZE"}},
    {"RX_SEG_SIZE", "1M", {"UCX_TCP_TX_SEG_SIZE", "UCX_TCP_RX_SEG_SIZE"}},
};

void* start(void* /*context*/, const void* buffer, std::size_t /*count*/) { return const_cast<void*>(buffer); }
void* start_unpack(void* /*context*/, void* buffer, std::size_t /*count*/) { return buffer; }
std::size_t packed_size(void* state) { return static_cast<Payload*>(state)->bytes + wire::kTrailerBytes; }

std::size_t pack(void* state, std::size_t offset, void* to, std::size_t most) {
  const Payload& payload = *static_cast<Payload*>(state);
  auto* at = static_cast<std::byte*>(to);
  std::size_t packed = 0;
  if (offset < payload.bytes) {
    packed = std::min(most, payload.bytes - offset);
    if (payload.taken_back) std::memset(at, 0, packed);
    else std::memcpy(at, payload.memory + offset, packed);
  }
  if (packed == most) return packed;
  const std::uint64_t trailer = payload.taken_back ? 0 : wire::kWhole;
  const std::size_t begin = offset + packed - payload.bytes;
  const std::size_t bytes = std::min(most - packed, sizeof trailer - begin);
  std::memcpy(at + packed, reinterpret_cast<const std::byte*>(&trailer) + begin, bytes);
  return packed + bytes;
}

ucs_status_t unpack(void* state, std::size_t offset, const void* from, std::size_t length) {
  Payload& payload = *static_cast<Payload*>(state);
  const auto* at = static_cast<const std::byte*>(from);
  if (offset < payload.bytes) {
    const std::size_t bytes = std::min(length, payload.bytes - offset);
    if (payload.memory != nullptr) std::memcpy(payload.memory + offset, at, bytes);
    offset += bytes;
    at += bytes;
    length -= bytes;
  }
  const std::size_t begin = offset - payload.bytes;
  if (length == 0 || begin >= sizeof payload.trailer) return UCS_OK;
  std::memcpy(reinterpret_cast<std::byte*>(&payload.trailer) + begin, at,
              std::min(length, sizeof payload.trailer - begin));
  return UCS_OK;
}

void finish(void* /*state*/) {}

}  // namespace

const ucp_generic_dt_ops_t kPayloadOperations{&start, &start_unpack, &packed_size, &pack, &unpack, &finish};

Result<std::unique_ptr<Worker>> Worker::create() {
  LONGSPAN_ASSIGN(const Library* library, Library::load());
  std::unique_ptr<Worker> worker(new Worker(*library));
  LONGSPAN_TRY(worker->set_up());
  return worker;
}

Worker::~Worker() {
  if (payload_ != 0) library_.dt_destroy(payload_);
  if (worker_ != nullptr) library_.worker_destroy(worker_);
  if (context_ != nullptr) library_.cleanup(context_);
}

Status Worker::set_up() {
  LONGSPAN_TRY(make_context());
  LONGSPAN_TRY(make_worker());
  if (library_.dt_create_generic(&kPayloadOperations, this, &payload_) != UCS_OK) {
    return Status(StatusCode::kResource, "ucx: no memory for a datatype");
  }
  survey();
  return {};
}

Status Worker::make_context() {
  ucp_config_t* config = nullptr;
  if (const ucs_status_t status = library_.config_read(nullptr, nullptr, &config); status != UCS_OK) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("UCX cannot read its settings (UCX_* in the environment): {}", describe(status)));
  }
  for (const Setting& setting : kSettings) {
    if (env::get(setting.environment[0]) || env::get(setting.environment[1])) continue;
    if (library_.config_modify(config, setting.name, setting.value) != UCS_OK) {
      log::debug("ucx: does not know {}", setting.name);
    }
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.name = "longspan";
  const ucs_status_t status = library_.init_version(UCP_API_MAJOR, UCP_API_MINOR, &params, config, &context_);
  library_.config_release(config);
  if (status == UCS_OK) return {};
  context_ = nullptr;
  return Status(StatusCode::kUnsupported,
                fmt::format("UCX cannot start here: {} (look at UCX_TLS and UCX_NET_DEVICES)", describe(status)));
}

Status Worker::make_worker() {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;  // whoever holds the Domain's progress
  if (const ucs_status_t status = library_.worker_create(context_, &params, &worker_); status != UCS_OK) {
    worker_ = nullptr;
    return Status(StatusCode::kUnsupported, fmt::format("UCX cannot start a worker: {}", describe(status)));
  }
  if (const ucs_status_t status = library_.worker_get_efd(worker_, &event_fd_); status != UCS_OK) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("UCX offers nothing to sleep on with these transports: {}", describe(status)));
  }
  ucp_worker_attr_t attributes{};
  attributes.field_mask =
      UCP_WORKER_ATTR_FIELD_ADDRESS | UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER | UCP_WORKER_ATTR_FIELD_THREAD_MODE;
  if (const ucs_status_t status = library_.worker_query(worker_, &attributes); status != UCS_OK) {
    return Status(StatusCode::kUnsupported, fmt::format("UCX gives its worker no address: {}", describe(status)));
  }
  address_.assign(reinterpret_cast<const char*>(attributes.address), attributes.address_length);
  library_.worker_release_address(worker_, attributes.address);
  if (attributes.thread_mode == UCS_THREAD_MODE_SINGLE) {
    return Status(StatusCode::kUnsupported, "this UCX serves one thread only; it must be built with --enable-mt");
  }
  if (attributes.max_am_header < sizeof(wire::MessageHeader)) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("UCX's messages have no room for our header ({} bytes)", attributes.max_am_header));
  }
  if (address_.size() > wire::kMaxAddress) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("UCX's address of this host has {} bytes, more than {}: name the devices to use "
                              "in UCX_NET_DEVICES, or the transports in UCX_TLS",
                              address_.size(), wire::kMaxAddress));
  }
  return {};
}

Status Worker::listen(ucp_am_recv_callback_t callback, void* argument) {
  ucp_am_handler_param_t handler{};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = 0;
  handler.cb = callback;
  handler.arg = argument;
  const ucs_status_t status = library_.worker_set_am_recv_handler(worker_, &handler);
  if (status == UCS_OK) return {};
  return Status(StatusCode::kUnsupported,
                fmt::format("UCX has no active messages with these transports: {}", describe(status)));
}

/// What UCX will use is told only in print.
void Worker::survey() {
  ucp_context_attr_t attributes{};
  attributes.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES;
  if (library_.context_query(context_, &attributes) == UCS_OK) {
    device_memory_ = (attributes.memory_types & (UCS_BIT(UCS_MEMORY_TYPE_CUDA) | UCS_BIT(UCS_MEMORY_TYPE_ROCM))) != 0;
  }
  char* text = nullptr;
  std::size_t length = 0;
  std::FILE* const stream = ::open_memstream(&text, &length);
  if (stream == nullptr) return;
  library_.context_print_info(context_, stream);
  std::fclose(stream);
  const std::string all(text, length);
  std::free(text);
  // "#     resource 3  :  md 2  dev 3  flags -- tcp/eth0"
  for (std::size_t at = 0; at < all.size();) {
    const std::size_t end = std::min(all.find('\n', at), all.size());
    const std::string_view line = std::string_view(all).substr(at, end - at);
    at = end + 1;
    if (line.find("resource") == std::string_view::npos || line.find('/') == std::string_view::npos) continue;
    resources_.emplace_back(line.substr(line.rfind(' ') + 1));
  }
}

namespace {

bool begins_with_one_of(std::string_view name, std::span<const std::string_view> kinds) {
  return std::any_of(kinds.begin(), kinds.end(), [&](std::string_view kind) { return name.starts_with(kind); });
}

}  // namespace

bool Worker::has_rdma() const noexcept {
  constexpr std::string_view kKinds[] = {"rc_", "dc_", "ud_", "gga_", "srd/", "efa"};
  return std::any_of(resources_.begin(), resources_.end(),
                     [&](std::string_view name) { return begins_with_one_of(name, kKinds); });
}

bool Worker::host_only() const noexcept {
  constexpr std::string_view kKinds[] = {"self/", "posix/", "sysv/",     "cma/", "xpmem/",
                                         "knem/", "cuda_",  "gdr_copy/", "rocm_"};
  return std::all_of(resources_.begin(), resources_.end(),
                     [&](std::string_view name) { return begins_with_one_of(name, kKinds); });
}

}  // namespace longspan::ucx
