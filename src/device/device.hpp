#pragma once

#include "longspan/types.hpp"

namespace longspan::device {

/// Which memory `pointer` belongs to. Host in a build without an accelerator.
inline MemoryKind kind_of(const void* /*pointer*/) noexcept { return MemoryKind::kHost; }

}  // namespace longspan::device
