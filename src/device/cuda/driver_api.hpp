#pragma once

#include <cstddef>
#include <cstdint>

// The driver's own names, so that cuda.h may be read beside this.
struct CUctx_st;
struct CUstream_st;
struct CUmod_st;
struct CUfunc_st;

/// The part of the CUDA driver's binary interface that is used here, so that every build supports device memory:
/// neither cuda.h nor a library is needed to build, and the library is found at run time. Where the toolkit is
/// installed, api_check.cpp compares all of this with its cuda.h.
namespace longspan::device::cuda {

using Code = int;                     // CUresult
using DevicePointer = unsigned long long;  // CUdeviceptr
using Context = CUctx_st*;
using Stream = CUstream_st*;
using Module = CUmod_st*;
using Function = CUfunc_st*;
using HostFunction = void (*)(void*);  // CUhostFn

inline constexpr Code kSuccess = 0;
inline constexpr Code kNotReady = 600;
inline constexpr Code kPeerAccessAlreadyEnabled = 704;

// CUpointer_attribute, CUmemorytype
inline constexpr int kAttributeMemoryType = 2;
inline constexpr int kAttributeBufferId = 7;
inline constexpr int kAttributeIsManaged = 8;
inline constexpr int kAttributeDeviceOrdinal = 9;
inline constexpr int kAttributeIpcCapable = 10;  // CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE
inline constexpr int kAttributeRangeStart = 11;
inline constexpr int kAttributeRangeSize = 12;
inline constexpr unsigned kMemoryTypeDevice = 2;

inline constexpr unsigned kHostAllocPortable = 1;   // CU_MEMHOSTALLOC_PORTABLE
inline constexpr unsigned kHostAllocDeviceMap = 2;  // CU_MEMHOSTALLOC_DEVICEMAP
inline constexpr unsigned kStreamNonBlocking = 1;   // CU_STREAM_NON_BLOCKING
inline constexpr unsigned kWaitValueGeq = 0;        // CU_STREAM_WAIT_VALUE_GEQ
inline constexpr int kCaptureNone = 0;              // CU_STREAM_CAPTURE_STATUS_NONE
inline constexpr int kCaptureModeRelaxed = 2;       // CU_STREAM_CAPTURE_MODE_RELAXED

inline constexpr unsigned kIpcLazyPeerAccess = 1;   // CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS

struct IpcHandle {  // CUipcMemHandle
  char bytes[64];
};

// Every function: X(member, symbol, result, arguments). Symbols are those that cuda.h's macros choose.
#define LONGSPAN_CUDA_FUNCTIONS(X)                                                               \
  X(init, cuInit, (unsigned))                                                                    \
  X(error_name, cuGetErrorName, (Code, const char**))                                            \
  X(error_text, cuGetErrorString, (Code, const char**))                                          \
  X(pointer_attributes, cuPointerGetAttributes, (unsigned, int*, void**, DevicePointer))         \
  X(device_get, cuDeviceGet, (int*, int))                                                        \
  X(primary_retain, cuDevicePrimaryCtxRetain, (Context*, int))                                   \
  X(primary_release, cuDevicePrimaryCtxRelease_v2, (int))                                        \
  X(push, cuCtxPushCurrent_v2, (Context))                                                        \
  X(pop, cuCtxPopCurrent_v2, (Context*))                                                         \
  X(capture_mode, cuThreadExchangeStreamCaptureMode, (int*))                                     \
  X(priority_range, cuCtxGetStreamPriorityRange, (int*, int*))                                   \
  X(host_alloc, cuMemHostAlloc, (void**, std::size_t, unsigned))                                 \
  X(host_free, cuMemFreeHost, (void*))                                                           \
  X(device_alloc, cuMemAlloc_v2, (DevicePointer*, std::size_t))                                  \
  X(device_free, cuMemFree_v2, (DevicePointer))                                                  \
  X(ipc_get, cuIpcGetMemHandle, (IpcHandle*, DevicePointer))                                     \
  X(ipc_open, cuIpcOpenMemHandle_v2, (DevicePointer*, IpcHandle, unsigned))                      \
  X(ipc_close, cuIpcCloseMemHandle, (DevicePointer))                                             \
  X(peer_access, cuCtxEnablePeerAccess, (Context, unsigned))                                     \
  X(to_host, cuMemcpyDtoHAsync_v2, (void*, DevicePointer, std::size_t, Stream))                  \
  X(to_device, cuMemcpyHtoDAsync_v2, (DevicePointer, const void*, std::size_t, Stream))          \
  X(copy, cuMemcpyAsync, (DevicePointer, DevicePointer, std::size_t, Stream))                    \
  X(stream_create, cuStreamCreateWithPriority, (Stream*, unsigned, int))                         \
  X(stream_destroy, cuStreamDestroy_v2, (Stream))                                                \
  X(stream_query, cuStreamQuery, (Stream))                                                       \
  X(stream_synchronize, cuStreamSynchronize, (Stream))                                           \
  X(stream_capturing, cuStreamIsCapturing, (Stream, int*))                                       \
  X(stream_context, cuStreamGetCtx, (Stream, Context*))                                          \
  X(stream_wait_value, cuStreamWaitValue32_v2, (Stream, DevicePointer, std::uint32_t, unsigned)) \
  X(host_function, cuLaunchHostFunc, (Stream, HostFunction, void*))                              \
  X(module_load, cuModuleLoadData, (Module*, const void*))                                       \
  X(module_unload, cuModuleUnload, (Module))                                                     \
  X(module_function, cuModuleGetFunction, (Function*, Module, const char*))                      \
  X(launch, cuLaunchKernel,                                                                      \
    (Function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Stream, void**, void**))

struct Functions {
#define LONGSPAN_CUDA_MEMBER(member, symbol, arguments) Code(*member) arguments = nullptr;
  LONGSPAN_CUDA_FUNCTIONS(LONGSPAN_CUDA_MEMBER)
#undef LONGSPAN_CUDA_MEMBER
};

}  // namespace longspan::device::cuda
