// The device kernels give the bits of the host's, for every type and operation, however the buffers are aligned.
#include "device/cuda/kernels.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <random>

#include "device/cuda/copier.hpp"
#include "gpu.hpp"
#include "reduce/reduce.hpp"
#include "support/catch.hpp"

namespace longspan {
namespace {

namespace cuda = device::cuda;
using test::gpu::Memory;

constexpr std::size_t kCount = 1003;
constexpr std::byte kBefore{0x5a};  // around what a kernel may write

/// Any bits but those of NaNs: their payload is each processor's own affair in fp32 and fp64.
std::vector<std::byte> values(DataType type, unsigned seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(kCount * size_of(type));
  for (std::size_t i = 0; i < kCount; ++i) {
    std::uint64_t bits = random();
    if (type == DataType::kFloat32 && std::isnan(std::bit_cast<float>(static_cast<std::uint32_t>(bits)))) bits = i;
    if (type == DataType::kFloat64 && std::isnan(std::bit_cast<double>(bits))) bits = i;
    std::memcpy(bytes.data() + i * size_of(type), &bits, size_of(type));
  }
  return bytes;
}

/// Elements of fp32 and fp64 that are NaN count as equal: infinities of both signs may meet.
bool same(DataType type, const std::byte* a, const std::byte* b) {
  for (std::size_t i = 0; i < kCount; ++i, a += size_of(type), b += size_of(type)) {
    if (std::memcmp(a, b, size_of(type)) == 0) continue;
    float f[2];
    double d[2];
    std::memcpy(&f[0], a, 4), std::memcpy(&f[1], b, 4);
    if (type == DataType::kFloat32 && std::isnan(f[0]) && std::isnan(f[1])) continue;
    if (type != DataType::kFloat64) return false;
    std::memcpy(&d[0], a, 8), std::memcpy(&d[1], b, 8);
    if (!std::isnan(d[0]) || !std::isnan(d[1])) return false;
  }
  return true;
}

/// A driver, a context and the kernels in it.
struct Device {
  Device() {
    if (!test::gpu::ready()) return;
    driver = *cuda::Driver::usable();
    context = std::move(*cuda::PrimaryContext::retain(*driver, 0));
    guard.emplace(*driver, context->get());
    const std::byte anything[1] = {};
    const auto image = test::gpu::is_double() ? std::span<const std::byte>(anything) : cuda::kernel_image();
    auto loaded = cuda::Kernels::load(*driver, image);
    if (!loaded.ok()) {
      fmt::print("SKIP: cuda: {}\n", loaded.status().to_string());
      return;
    }
    kernels = std::move(*loaded);
    stream.emplace(0);
  }
  cuda::Stream on() const { return static_cast<cuda::Stream>(stream->get()); }

  const cuda::Driver* driver = nullptr;
  std::unique_ptr<cuda::PrimaryContext> context;
  std::optional<cuda::ContextGuard> guard;
  std::unique_ptr<cuda::Kernels> kernels;
  std::optional<test::gpu::Stream> stream;
};

/// Reduces three operands that lie `shifts` elements into their buffers; the first bits that differ, or "".
std::string reduces_alike(Device& device, DataType type, ReduceOp op, double divisor,
                          const std::array<std::size_t, 4>& shifts) {
  const std::size_t size = size_of(type);
  const std::size_t room = (kCount + 32) * size;
  std::vector<Memory> memory;
  std::vector<std::vector<std::byte>> given;
  std::vector<const void*> there, here;
  for (unsigned k = 0; k < 3; ++k) {
    given.push_back(values(type, 10 * static_cast<unsigned>(type) + k));
    std::vector<std::byte> shifted(room);
    std::memcpy(shifted.data() + shifts[k] * size, given.back().data(), given.back().size());
    memory.emplace_back(0, room);
    memory.back().upload(shifted.data(), room);
    there.push_back(static_cast<std::byte*>(memory.back().get()) + shifts[k] * size);
  }
  for (const auto& each : given) here.push_back(each.data());
  Memory out(0, room);
  std::vector<std::byte> got(room, kBefore), expected(kCount * size);
  out.upload(got.data(), room);
  auto* const dst = static_cast<std::byte*>(out.get()) + shifts[3] * size;
  if (auto s = device.kernels->reduce(type, op, dst, there, kCount, divisor, device.on()); !s.ok())
    return s.to_string();
  if (device.stream->synchronize() != 0) return "the stream failed";
  out.download(got.data(), room);
  reduce::reduce(type, op, expected.data(), here, kCount, divisor);
  const std::string what = std::string(name_of(type)) + " " + std::string(name_of(op));
  if (!same(type, got.data() + shifts[3] * size, expected.data())) return what + " differs";
  const std::size_t end = shifts[3] * size + expected.size();
  const bool outside = std::count(got.begin(), got.begin() + static_cast<std::ptrdiff_t>(shifts[3] * size), kBefore) ==
                           static_cast<std::ptrdiff_t>(shifts[3] * size) &&
                       std::count(got.begin() + static_cast<std::ptrdiff_t>(end), got.end(), kBefore) ==
                           static_cast<std::ptrdiff_t>(room - end);
  return outside ? "" : what + " wrote beside its buffer";
}

}  // namespace

TEST_CASE("Device kernels reduce to the bits of the host's") {
  Device device;
  if (device.kernels == nullptr) return;
  for (int type = 0; type < kDataTypeCount; ++type) {
    for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kProd, ReduceOp::kMin, ReduceOp::kMax}) {
      // Aligned; misaligned alike; each differently.
      for (const auto& shifts : {std::array<std::size_t, 4>{0, 0, 0, 0}, {3, 3, 3, 3}, {0, 1, 2, 3}}) {
        CHECK(reduces_alike(device, static_cast<DataType>(type), op, 1, shifts) == "");
      }
    }
    for (const double divisor : {2.0, 3.0, 300.0}) {
      if (type == static_cast<int>(DataType::kInt8) || type == static_cast<int>(DataType::kUint8) || divisor < 300) {
        CHECK(reduces_alike(device, static_cast<DataType>(type), ReduceOp::kAvg, divisor, {}) == "");
      }
    }
  }
}

TEST_CASE("Device kernels scale to the bits of the host's, in place too") {
  Device device;
  if (device.kernels == nullptr) return;
  for (int t = 0; t < kDataTypeCount; ++t) {
    const auto type = static_cast<DataType>(t);
    for (const double factor : {3.0, -2.5, 1e30, 0.1}) {
      const std::vector<std::byte> given = values(type, 7);
      std::vector<std::byte> expected(given.size()), got(given.size());
      reduce::scale(type, expected.data(), given.data(), kCount, factor);
      Memory memory(0, given.size());
      memory.upload(given.data(), given.size());
      REQUIRE(device.kernels->scale(type, memory.get(), memory.get(), kCount, factor, device.on()).ok());
      REQUIRE(device.stream->synchronize() == 0);
      memory.download(got.data(), got.size());
      INFO(name_of(type) << " times " << factor);
      CHECK(same(type, got.data(), expected.data()));
    }
  }
}

TEST_CASE("Kernels of a build without nvcc are missing with what to do") {
  Device device;
  if (device.driver == nullptr) return;
  const auto none = cuda::Kernels::load(*device.driver, {});
  REQUIRE(!none.ok());
  CHECK(none.status().message().find("setup.sh --cuda") != std::string_view::npos);
}

}  // namespace longspan
