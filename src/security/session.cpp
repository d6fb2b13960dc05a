#include "security/session.hpp"

namespace longspan::security {

std::string_view describe(Failure failure) noexcept {
  switch (failure) {
    case Failure::kNone: return "it proved the job's key";
    case Failure::kNetwork: return "it ended before it proved the job's key";
    case Failure::kOtherKey: return "its key is another one";
    case Failure::kNoKey: return "it speaks longspan without a key";
    case Failure::kStranger: return "it does not speak longspan's protocol";
  }
  return "unknown";
}

}  // namespace longspan::security
