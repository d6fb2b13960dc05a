#include "bindings/torch/src/tensors.hpp"

#include <torch/version.h>

#include <algorithm>
#include <numeric>
#include <optional>

namespace longspan::torch_binding {
namespace {

#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 13
using Premultiplied = c10d::NCCLPreMulSumSupplement;
#else
using Premultiplied = c10d::PreMulSumSupplement;
#endif

std::optional<DataType> wire_type(at::ScalarType type) {
  switch (type) {
    case at::kChar: return DataType::kInt8;
    case at::kByte:
    case at::kBool: return DataType::kUint8;
    case at::kInt: return DataType::kInt32;
    case at::kUInt32: return DataType::kUint32;
    case at::kLong: return DataType::kInt64;
    case at::kUInt64: return DataType::kUint64;
    case at::kHalf: return DataType::kFloat16;
    case at::kBFloat16: return DataType::kBfloat16;
    case at::kFloat: return DataType::kFloat32;
    case at::kDouble: return DataType::kFloat64;
    case at::kFloat8_e4m3fn: return DataType::kFloat8E4M3;
    case at::kFloat8_e5m2: return DataType::kFloat8E5M2;
    case at::kComplexHalf: return DataType::kFloat16;
    case at::kComplexFloat: return DataType::kFloat32;
    case at::kComplexDouble: return DataType::kFloat64;
    default: return std::nullopt;
  }
}

ReduceOp bool_op(c10d::ReduceOp::RedOpType op, const char* collective) {
  switch (op) {
    case c10d::ReduceOp::SUM:
    case c10d::ReduceOp::MAX: return ReduceOp::kMax;
    case c10d::ReduceOp::PRODUCT:
    case c10d::ReduceOp::MIN: return ReduceOp::kMin;
    default: TORCH_CHECK(false, collective, ": this ReduceOp has no meaning for Boolean tensors");
  }
}

ReduceOp wire_op(c10d::ReduceOp::RedOpType op, const char* collective) {
  switch (op) {
    case c10d::ReduceOp::SUM: return ReduceOp::kSum;
    case c10d::ReduceOp::AVG: return ReduceOp::kAvg;
    case c10d::ReduceOp::PRODUCT: return ReduceOp::kProd;
    case c10d::ReduceOp::MIN: return ReduceOp::kMin;
    case c10d::ReduceOp::MAX: return ReduceOp::kMax;
    case c10d::ReduceOp::PREMUL_SUM: return ReduceOp::kPremulSum;
    default: TORCH_CHECK(false, collective, ": longspan does not support this ReduceOp");
  }
}

double premul_factor(const c10d::ReduceOp& op, const char* collective) {
  const auto* supplement = dynamic_cast<const Premultiplied*>(op.supplement_.get());
  TORCH_CHECK(supplement != nullptr, collective, ": ReduceOp.PREMUL_SUM comes without its factor");
  return supplement->tensor_factor.defined() ? supplement->tensor_factor.item<double>() : supplement->double_factor;
}

void check_dense(const at::Tensor& tensor, const char* collective) {
  TORCH_CHECK(tensor.defined(), collective, ": undefined tensor");
  TORCH_CHECK(tensor.layout() == at::kStrided, collective, ": longspan needs dense tensors, found layout ",
              tensor.layout());
}

bool usable(const at::Tensor& tensor) {
  return tensor.device().is_cpu() && tensor.is_contiguous() && !tensor.is_conj() && !tensor.is_neg();
}

}  // namespace

bool is_bitwise(const c10d::ReduceOp& op) {
  return op.op_ == c10d::ReduceOp::BAND || op.op_ == c10d::ReduceOp::BOR || op.op_ == c10d::ReduceOp::BXOR;
}

Reduction reduction_for(const at::Tensor& tensor, const c10d::ReduceOp& op, const char* collective) {
  const std::optional<DataType> type = wire_type(tensor.scalar_type());
  TORCH_CHECK(type.has_value(), collective, ": invalid scalar type ", tensor.scalar_type(),
              ", which longspan cannot reduce");
  Reduction made;
  made.type = *type;
  if (tensor.is_complex()) {
    TORCH_CHECK(c10d::isComplexViewAsRealAllowed(op), collective, " does not support this ReduceOp on complex tensors");
    made.width = 2;
  }
  made.op = tensor.scalar_type() == at::kBool ? bool_op(op.op_, collective) : wire_op(op.op_, collective);
  if (made.op == ReduceOp::kPremulSum) made.factor = premul_factor(op, collective);
  return made;
}

const at::Tensor& single(const std::vector<at::Tensor>& tensors, const char* collective) {
  TORCH_CHECK(tensors.size() == 1, collective, ": expected one tensor for each rank, found ", tensors.size());
  check_dense(tensors[0], collective);
  return tensors[0];
}

void check_like(const at::Tensor& tensor, const at::Tensor& like, const char* collective) {
  check_dense(tensor, collective);
  TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), collective, ": tensors of different types, ",
              tensor.scalar_type(), " and ", like.scalar_type());
}

at::Tensor staged(const at::Tensor& tensor) {
  if (usable(tensor)) return tensor;
  at::Tensor copy = staged_empty(tensor);
  copy.copy_(tensor);
  return copy;
}

at::Tensor staged_empty(const at::Tensor& tensor) {
  if (usable(tensor)) return tensor;
  return at::empty(tensor.sizes(), tensor.options().device(at::kCPU).memory_format(at::MemoryFormat::Contiguous));
}

std::size_t Stretch::total() const { return std::accumulate(bytes.begin(), bytes.end(), std::size_t{0}); }

bool Stretch::even() const {
  return std::all_of(bytes.begin(), bytes.end(), [this](std::size_t each) { return each == bytes.front(); });
}

Stretch stretch(const std::vector<at::Tensor>& tensors, bool filled) {
  Stretch made;
  const std::byte* next = nullptr;
  made.in_place = true;
  for (const at::Tensor& tensor : tensors) {
    made.bytes.push_back(tensor.nbytes());
    const auto* data = static_cast<const std::byte*>(tensor.const_data_ptr());
    made.in_place = made.in_place && usable(tensor) && (next == nullptr || data == next);
    next = data + tensor.nbytes();
  }
  if (made.in_place) {
    made.flat = tensors.front();
    return made;
  }
  made.flat = at::empty({static_cast<std::int64_t>(made.total() / tensors.front().element_size())},
                        at::TensorOptions().dtype(tensors.front().dtype()));
  if (!filled) return made;
  std::int64_t at = 0;
  for (const at::Tensor& tensor : tensors) {
    made.flat.narrow(0, at, tensor.numel()).copy_(tensor.reshape({-1}));
    at += tensor.numel();
  }
  return made;
}

void spread(const Stretch& from, const std::vector<at::Tensor>& tensors) {
  if (from.in_place) return;
  std::int64_t at = 0;
  for (const at::Tensor& tensor : tensors) {
    tensor.copy_(from.flat.narrow(0, at, tensor.numel()).view(tensor.sizes()));
    at += tensor.numel();
  }
}

}  // namespace longspan::torch_binding
