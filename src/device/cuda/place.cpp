#include "device/cuda/driver.hpp"
#include "device/device.hpp"

namespace longspan::device {

Place place_of(const void* pointer) noexcept {
  if (pointer == nullptr) return {};
  const cuda::Driver* driver = cuda::Driver::in_process();
  if (driver == nullptr || driver->pointer_attributes == nullptr) return {};
  unsigned type = 0;
  int managed = 0;
  int ordinal = 0;
  int wanted[] = {cuda::kAttributeMemoryType, cuda::kAttributeIsManaged, cuda::kAttributeDeviceOrdinal};
  void* values[] = {&type, &managed, &ordinal};
  // Of memory that it does not know it says 0; an error (nobody has used the driver yet) means that no memory is a
  // device's.
  const cuda::Code code = driver->pointer_attributes(3, wanted, values, reinterpret_cast<cuda::DevicePointer>(pointer));
  // Managed memory moves while a kernel uses it: it is the driver that must copy it.
  if (code != cuda::kSuccess || (type != cuda::kMemoryTypeDevice && managed == 0)) return {};
  return {MemoryKind::kCuda, ordinal < 0 ? 0 : ordinal};
}

}  // namespace longspan::device
