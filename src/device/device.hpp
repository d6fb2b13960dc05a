#pragma once

#include "longspan/types.hpp"

namespace longspan::device {

/// Where memory is: which accelerator's, if any.
struct Place {
  MemoryKind kind = MemoryKind::kHost;
  int device = 0;  ///< the driver's number of it; kCuda only
};

/// Which memory `pointer` belongs to. Never loads a driver: memory of an accelerator exists only where the program has
/// loaded one. Cost: tens of nanoseconds in a process without a driver, one call of the driver in others.
Place place_of(const void* pointer) noexcept;

}  // namespace longspan::device
