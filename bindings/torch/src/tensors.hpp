#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/Types.hpp>

#include <cstddef>
#include <string>
#include <vector>

#include <longspan/types.hpp>

namespace longspan::torch_binding {

/// How elements are to be reduced. PyTorch has more types and operations than the wire.
struct Reduction {
  DataType type = DataType::kFloat32;
  ReduceOp op = ReduceOp::kSum;
  double factor = 1;        ///< kPremulSum: of this rank
  std::size_t width = 1;    ///< wire elements per element of the tensor (complex: 2)
};

/// What the wire does for `op` on tensors like `tensor`; throws torch's errors for what it cannot do, and never does
/// something else instead. Booleans reduce as NCCL's do: sum and max are or, product and min are and.
Reduction reduction_for(const at::Tensor& tensor, const c10d::ReduceOp& op, const char* collective);

/// True for the bitwise operations, which are gathered and reduced by torch.
bool is_bitwise(const c10d::ReduceOp& op);

/// Throws unless `tensors` is one dense tensor.
const at::Tensor& single(const std::vector<at::Tensor>& tensors, const char* collective);
/// Throws unless `tensor` is dense and has the type of `like`.
void check_like(const at::Tensor& tensor, const at::Tensor& like, const char* collective);

/// `tensor` itself where the wire can read and write it, else a copy of it on the host, one element after the other.
at::Tensor staged(const at::Tensor& tensor);
/// The same without its contents.
at::Tensor staged_empty(const at::Tensor& tensor);

/// Tensors of one type as one stretch of memory.
struct Stretch {
  at::Tensor flat;                   ///< on the host
  std::vector<std::size_t> bytes;    ///< of each tensor
  bool in_place = false;             ///< the tensors' own memory: they already lie one after the other
  std::size_t total() const;
  bool even() const;
};
/// With their contents (`filled`), or only room for them.
Stretch stretch(const std::vector<at::Tensor>& tensors, bool filled);
/// Copies a stretch back to the tensors it stands for.
void spread(const Stretch& from, const std::vector<at::Tensor>& tensors);

}  // namespace longspan::torch_binding
