#include "longspan/types.hpp"

#include <algorithm>

namespace longspan {
namespace {

constexpr std::array<std::string_view, kDataTypeCount> kTypeNames{
    "int8", "uint8", "int32", "uint32", "int64", "uint64", "half", "bfloat16", "float", "double", "f8e4m3", "f8e5m2"};
constexpr std::array<std::string_view, kReduceOpCount> kOpNames{"sum", "prod", "min", "max", "avg", "mulsum"};
constexpr std::array<std::string_view, kTierCount> kTierNames{"self", "host", "rack", "site", "region", "wan"};

template <class Enum, std::size_t N>
std::optional<Enum> parse(const std::array<std::string_view, N>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

}  // namespace

std::string_view name_of(DataType type) noexcept { return kTypeNames[static_cast<std::size_t>(type)]; }
std::string_view name_of(ReduceOp op) noexcept { return kOpNames[static_cast<std::size_t>(op)]; }
std::string_view name_of(Tier tier) noexcept { return kTierNames[static_cast<std::size_t>(tier)]; }
std::optional<DataType> parse_data_type(std::string_view name) noexcept { return parse<DataType>(kTypeNames, name); }
std::optional<ReduceOp> parse_reduce_op(std::string_view name) noexcept { return parse<ReduceOp>(kOpNames, name); }

}  // namespace longspan
