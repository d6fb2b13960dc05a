// Compiled where the toolkit's cuda.h is: what driver_api.hpp declares is what the driver has.
#include <cuda.h>

#include <type_traits>

#include "device/cuda/driver_api.hpp"

namespace longspan::device::cuda {
namespace {

// Names of enumerations and of the attributes that only C++ cares for differ; sizes and kinds of arguments may not.
template <class Ours, class Theirs>
constexpr bool alike() {
  if constexpr (std::is_enum_v<Theirs>) {
    return sizeof(Ours) == sizeof(Theirs) && std::is_integral_v<Ours>;
  } else if constexpr (std::is_class_v<Theirs>) {
    return sizeof(Ours) == sizeof(Theirs) && std::is_trivially_copyable_v<Ours>;
  } else if constexpr (std::is_pointer_v<Ours> && std::is_pointer_v<Theirs>) {
    using O = std::remove_cv_t<std::remove_pointer_t<Ours>>;
    using T = std::remove_cv_t<std::remove_pointer_t<Theirs>>;
    if constexpr (std::is_same_v<O, T> || std::is_function_v<O>)
      return true;
    else
      return alike<O, T>();
  } else {
    return std::is_same_v<Ours, Theirs>;
  }
}

template <class Ours, class Theirs>
struct SameCall : std::false_type {};
template <class... Ours, class... Theirs>
struct SameCall<Code(Ours...), CUresult(Theirs...)>
    : std::bool_constant<sizeof...(Ours) == sizeof...(Theirs) && (alike<Ours, Theirs>() && ...)> {};

#define LONGSPAN_CUDA_CHECK(member, symbol, arguments) \
  static_assert(SameCall<Code arguments, decltype(::symbol)>::value, #symbol);
#define cuStreamWaitValue32_v2 cuStreamWaitValue32
LONGSPAN_CUDA_FUNCTIONS(LONGSPAN_CUDA_CHECK)

static_assert(kSuccess == CUDA_SUCCESS && kNotReady == CUDA_ERROR_NOT_READY);
static_assert(kAttributeMemoryType == CU_POINTER_ATTRIBUTE_MEMORY_TYPE &&
              kAttributeIsManaged == CU_POINTER_ATTRIBUTE_IS_MANAGED);
static_assert(kAttributeDeviceOrdinal == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL &&
              kMemoryTypeDevice == CU_MEMORYTYPE_DEVICE);
static_assert(kAttributeBufferId == CU_POINTER_ATTRIBUTE_BUFFER_ID &&
              kAttributeIpcCapable == CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE);
static_assert(kAttributeRangeStart == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR &&
              kAttributeRangeSize == CU_POINTER_ATTRIBUTE_RANGE_SIZE);
static_assert(kIpcLazyPeerAccess == CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS &&
              kPeerAccessAlreadyEnabled == CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
static_assert(kHostAllocPortable == CU_MEMHOSTALLOC_PORTABLE && kHostAllocDeviceMap == CU_MEMHOSTALLOC_DEVICEMAP);
static_assert(kStreamNonBlocking == CU_STREAM_NON_BLOCKING && kWaitValueGeq == CU_STREAM_WAIT_VALUE_GEQ);
static_assert(kCaptureNone == CU_STREAM_CAPTURE_STATUS_NONE && kCaptureModeRelaxed == CU_STREAM_CAPTURE_MODE_RELAXED);

}  // namespace
}  // namespace longspan::device::cuda
