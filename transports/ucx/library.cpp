#include "ucx/library.hpp"

#include <dlfcn.h>
#include <fmt/format.h>
#include <signal.h>

#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "base/env.hpp"
#include "base/log.hpp"

namespace longspan::ucx {
namespace {

/// The handlers that stood before; put back when it goes. UCX takes these signals while it is being loaded
/// (UCX_HANDLE_ERRORS), and they belong to the program, which may be Python.
class SignalKeeper {
 public:
  SignalKeeper() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], nullptr, &before_[i]);
  }
  SignalKeeper(const SignalKeeper&) = delete;
  SignalKeeper& operator=(const SignalKeeper&) = delete;
  ~SignalKeeper() {
    for (std::size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  }

 private:
  static constexpr std::array<int, 6> kSignals{SIGILL, SIGSEGV, SIGBUS, SIGFPE, SIGABRT, SIGUSR2};
  std::array<struct sigaction, kSignals.size()> before_{};
};

log::Level level_of(ucs_log_level_t level) {
  if (level <= UCS_LOG_LEVEL_FATAL) return log::Level::kError;
  // What UCX calls an error or a warning is mostly a peer that left, which its channel reports with the peer's name.
  if (level <= UCS_LOG_LEVEL_WARN) return log::Level::kInfo;
  return level <= UCS_LOG_LEVEL_DEBUG ? log::Level::kDebug : log::Level::kTrace;
}

/// UCX writes to standard output unless it is told otherwise, where it would end up among a program's results.
ucs_log_func_rc_t to_our_log(const char* file, unsigned line, const char* /*function*/, ucs_log_level_t level,
                             const ucs_log_component_config_t* /*component*/, const char* format, va_list arguments) {
  const log::Level ours = level_of(level);
  if (!log::enabled(ours)) return UCS_LOG_FUNC_RC_STOP;
  std::array<char, 1024> text;
  std::vsnprintf(text.data(), text.size(), format, arguments);
  log::write(ours, fmt::format("ucx: {} ({}:{})", text.data(), file, line));
  return UCS_LOG_FUNC_RC_STOP;
}

template <class Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

bool resolve(void* ucp, void* ucs, Library& to) {
  return find(ucp, "ucp_init_version", to.init_version) && find(ucp, "ucp_cleanup", to.cleanup) &&
         find(ucp, "ucp_get_version_string", to.get_version_string) && find(ucp, "ucp_config_read", to.config_read) &&
         find(ucp, "ucp_config_modify", to.config_modify) && find(ucp, "ucp_config_release", to.config_release) &&
         find(ucp, "ucp_context_query", to.context_query) &&
         find(ucp, "ucp_context_print_info", to.context_print_info) &&
         find(ucp, "ucp_worker_create", to.worker_create) && find(ucp, "ucp_worker_destroy", to.worker_destroy) &&
         find(ucp, "ucp_worker_query", to.worker_query) &&
         find(ucp, "ucp_worker_release_address", to.worker_release_address) &&
         find(ucp, "ucp_worker_get_efd", to.worker_get_efd) && find(ucp, "ucp_worker_arm", to.worker_arm) &&
         find(ucp, "ucp_worker_progress", to.worker_progress) &&
         find(ucp, "ucp_worker_set_am_recv_handler", to.worker_set_am_recv_handler) &&
         find(ucp, "ucp_ep_create", to.ep_create) && find(ucp, "ucp_ep_close_nbx", to.ep_close_nbx) &&

         find(ucp, "ucp_ep_flush_nbx", to.ep_flush_nbx) && find(ucp, "ucp_am_send_nbx", to.am_send_nbx) &&
         find(ucp, "ucp_am_recv_data_nbx", to.am_recv_data_nbx) &&
         find(ucp, "ucp_am_data_release", to.am_data_release) && find(ucp, "ucp_request_free", to.request_free) &&
         find(ucp, "ucp_request_check_status", to.request_check_status) &&
         find(ucp, "ucp_dt_create_generic", to.dt_create_generic) && find(ucp, "ucp_dt_destroy", to.dt_destroy) &&
         find(ucp, "ucp_mem_map", to.mem_map) && find(ucp, "ucp_mem_unmap", to.mem_unmap) &&
         find(ucs, "ucs_status_string", to.status_string) && find(ucs, "ucs_log_push_handler", to.log_push_handler);
}

/// UCX patches mmap, munmap, madvise and others in this process while it is being loaded, to notice memory that it has
/// registered being freed. It registers none of a user's here: messages go through its own buffers (Payload). Its
/// loader reads this from the environment and nowhere else (ucs_init), so it is there for as long as that takes.
class WithoutMemoryHooks {
 public:
  WithoutMemoryHooks() : ours_(!env::get(kName)) {
    if (ours_) ::setenv(kName, "n", 1);
  }
  WithoutMemoryHooks(const WithoutMemoryHooks&) = delete;
  WithoutMemoryHooks& operator=(const WithoutMemoryHooks&) = delete;
  ~WithoutMemoryHooks() {
    if (ours_) ::unsetenv(kName);
  }

 private:
  static constexpr const char* kName = "UCX_MEM_EVENTS";
  bool ours_;  // else the user has decided
};

Result<Library> open_library() {
  // Another user of UCX in this process (an MPI) keeps its own way of logging.
  const bool ours_alone = ::dlopen("libucs.so.0", RTLD_LAZY | RTLD_NOLOAD) == nullptr;
  const SignalKeeper keeper;
  const WithoutMemoryHooks without;
  void* const ucp = ::dlopen("libucp.so.0", RTLD_NOW | RTLD_LOCAL);
  void* const ucs = ucp == nullptr ? nullptr : ::dlopen("libucs.so.0", RTLD_NOW | RTLD_LOCAL);
  if (ucs == nullptr) {
    const char* const why = ::dlerror();
    return Status(StatusCode::kUnsupported, fmt::format("UCX cannot be loaded ({}); install it (Debian: libucx0)",
                                                        why != nullptr ? why : "no reason given"));
  }
  Library library;
  if (!resolve(ucp, ucs, library)) {
    return Status(StatusCode::kUnsupported,
                  fmt::format("this UCX is another one than longspan was built for ({}.{}): a function is missing",
                              UCP_API_MAJOR, UCP_API_MINOR));
  }
  if (ours_alone) library.log_push_handler(&to_our_log);
  return library;  // never unloaded: UCX has threads and handlers of its own
}

}  // namespace

Result<const Library*> Library::load() {
  static const Result<Library> library = open_library();
  if (!library.ok()) return library.status();
  return &*library;
}

}  // namespace longspan::ucx
