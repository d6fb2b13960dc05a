#pragma once

#if defined(__SANITIZE_THREAD__)
#define LONGSPAN_SHM_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LONGSPAN_SHM_TSAN 1
#endif
#endif

#ifdef LONGSPAN_SHM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace longspan::shm {

/// Two threads of one process map a segment at two addresses, so ThreadSanitizer does not see that the ring's atomics
/// order what they do to each other's buffers. These tell it, by one name for both; nothing in other builds.
inline void tsan_release([[maybe_unused]] void* name) noexcept {
#ifdef LONGSPAN_SHM_TSAN
  if (name != nullptr) __tsan_release(name);
#endif
}
inline void tsan_acquire([[maybe_unused]] void* name) noexcept {
#ifdef LONGSPAN_SHM_TSAN
  if (name != nullptr) __tsan_acquire(name);
#endif
}

}  // namespace longspan::shm
