#include "device/cuda/kernels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "device/cuda/elements.hpp"

namespace longspan::device::cuda {
namespace {

constexpr unsigned kThreads = 512;
constexpr std::size_t kMostBlocks = 32;           // of 132 multiprocessors of an H200, say
constexpr std::size_t kBytesPerBlock = 64 << 10;  // less is not worth another block
constexpr std::size_t kScale = 4;

template <class T>
std::uint64_t saturated(double factor) {
  if (std::isnan(factor)) return 0;
  if (factor >= static_cast<double>(std::numeric_limits<T>::max()))
    return static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  if (factor <= static_cast<double>(std::numeric_limits<T>::min()))
    return static_cast<std::uint64_t>(std::numeric_limits<T>::min());
  return static_cast<std::uint64_t>(static_cast<T>(factor));
}

std::uint64_t integer_factor(DataType type, double factor) {
  switch (type) {
    case DataType::kInt8: return saturated<std::int8_t>(factor);
    case DataType::kUint8: return saturated<std::uint8_t>(factor);
    case DataType::kInt32: return saturated<std::int32_t>(factor);
    case DataType::kUint32: return saturated<std::uint32_t>(factor);
    case DataType::kInt64: return saturated<std::int64_t>(factor);
    case DataType::kUint64: return saturated<std::uint64_t>(factor);
    default: return 1;
  }
}

std::size_t operation_of(ReduceOp op) {
  return op == ReduceOp::kProd ? 1 : op == ReduceOp::kMin ? 2 : op == ReduceOp::kMax ? 3 : 0;
}

}  // namespace

Result<std::unique_ptr<Kernels>> Kernels::load(const Driver& driver, std::span<const std::byte> image) {
  if (image.empty()) {
    return Status(StatusCode::kUnsupported,
                  "this build has no device kernels; build where nvcc is (cmake/setup.sh --cuda gets it)");
  }
  Module module = nullptr;
  LONGSPAN_TRY(driver.check(driver.module_load(&module, image.data()), "cuModuleLoadData"));
  std::unique_ptr<Kernels> made(new Kernels(driver, module));
  constexpr std::array<const char*, kOperations> kNames{"sum", "prod", "min", "max", "scale"};
  for (std::size_t op = 0; op < kOperations; ++op) {
    for (std::size_t type = 0; type < kDataTypeCount; ++type) {
      const std::string name = fmt::format("longspan_{}_{}", kNames[op], name_of(static_cast<DataType>(type)));
      const Status found = driver.check(driver.module_function(&made->functions_[op][type], module, name.c_str()),
                                        "cuModuleGetFunction");
      if (!found.ok()) return found.with_context(name);
    }
  }
  return made;
}

Kernels::~Kernels() { driver_.module_unload(module_); }

Status Kernels::launch(Function function, std::size_t bytes, void* arguments, Stream stream) {
  const auto blocks = static_cast<unsigned>(std::clamp<std::size_t>(bytes / kBytesPerBlock, 1, kMostBlocks));
  void* parameters[] = {arguments};
  return driver_.check(driver_.launch(function, blocks, 1, 1, kThreads, 1, 1, 0, stream, parameters, nullptr),
                       "cuLaunchKernel");
}

Status Kernels::reduce(DataType type, ReduceOp op, void* dst, std::span<const void* const> operands, std::size_t count,
                       double divisor, Stream stream) {
  if (operands.empty() || operands.size() > kMostOperands) {
    return {StatusCode::kInvalidArgument,
            fmt::format("a reduce kernel takes 1 to {} operands, not {}", kMostOperands, operands.size())};
  }
  if (count == 0) return {};
  if (operands.size() == 1 && divisor == 1) {  // as it is: through the arithmetic, a NaN would lose its payload
    if (dst == operands[0]) return {};
    const auto to = reinterpret_cast<DevicePointer>(dst);
    const auto from = reinterpret_cast<DevicePointer>(operands[0]);
    return driver_.check(driver_.copy(to, from, count * size_of(type), stream), "cuMemcpyAsync");
  }
  ReduceArguments job;
  job.dst = dst;
  std::copy(operands.begin(), operands.end(), job.operands);
  job.operand_count = static_cast<unsigned>(operands.size());
  job.count = count;
  job.divisor = divisor;
  return launch(functions_[operation_of(op)][static_cast<std::size_t>(type)], count * size_of(type), &job, stream);
}

Status Kernels::scale(DataType type, void* dst, const void* src, std::size_t count, double factor, Stream stream) {
  if (count == 0) return {};
  ScaleArguments job{dst, src, count, factor, integer_factor(type, factor)};
  return launch(functions_[kScale][static_cast<std::size_t>(type)], count * size_of(type), &job, stream);
}

}  // namespace longspan::device::cuda
