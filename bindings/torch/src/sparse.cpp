// The sum of sparse tensors: their entries are gathered, and added up by torch.
#include <ATen/Functions.h>

#include "bindings/torch/src/backend.hpp"

namespace longspan::torch_binding {
namespace {

constexpr std::int64_t kMostDimensions = 12;

/// What a rank says of its tensor before it sends entries: [entries, type, sparse dimensions, dense dimensions,
/// sizes...].
constexpr std::int64_t kFacts = 4 + kMostDimensions;

at::Tensor facts_of(const at::Tensor& tensor) {
  at::Tensor facts = at::zeros({kFacts}, at::kLong);
  auto* const says = facts.mutable_data_ptr<std::int64_t>();
  says[0] = tensor._nnz();
  says[1] = static_cast<std::int64_t>(tensor.scalar_type());
  says[2] = tensor.sparse_dim();
  says[3] = tensor.dense_dim();
  for (std::int64_t i = 0; i < tensor.dim(); ++i) says[4 + i] = tensor.size(i);
  return facts;
}

/// Entries of each rank; throws, on all ranks, when the tensors do not go together.
std::vector<std::int64_t> entries_of(const at::Tensor& all) {
  std::vector<std::int64_t> entries;
  for (std::int64_t r = 0; r < all.size(0); ++r) {
    TORCH_CHECK(at::equal(all[r].narrow(0, 1, kFacts - 1), all[0].narrow(0, 1, kFacts - 1)),
                "allreduce: the sparse tensors of ranks 0 and ", r, " have different sizes, dimensions or types");
    entries.push_back(all[r][0].item<std::int64_t>());
  }
  return entries;
}

/// `flat` holds [rows, n] of every rank, one after the other; gives [rows, all n].
at::Tensor side_by_side(const at::Tensor& flat, std::int64_t rows, const std::vector<std::int64_t>& entries) {
  std::vector<at::Tensor> parts;
  std::int64_t at = 0;
  for (const std::int64_t each : entries) {
    parts.push_back(flat.narrow(0, at, rows * each).view({rows, each}));
    at += rows * each;
  }
  return at::cat(parts, 1);
}

}  // namespace

LongspanBackend::WorkPtr LongspanBackend::allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& options) {
  TORCH_CHECK(tensors.size() == 1 && tensors[0].is_sparse(),
              "allreduce: longspan reduces one sparse COO tensor a call, alone");
  TORCH_CHECK(options.reduceOp.op_ == c10d::ReduceOp::SUM,
              "allreduce: unsupported reduction operation (allreduce of sparse tensors only works with ReduceOp.SUM)");
  const at::Tensor tensor = tensors[0];
  TORCH_CHECK(tensor.dim() <= kMostDimensions, "allreduce: a sparse tensor of more than ", kMostDimensions,
              " dimensions");
  const at::NoGradGuard no_grad;
  const at::Tensor mine = tensor.coalesce().to(at::kCPU);
  // How much everyone sends is known to nobody: asked here and now, so that the order of operations is the same
  // everywhere.
  at::Tensor facts = facts_of(mine);
  at::Tensor all_facts = at::empty({size_, kFacts}, at::kLong);
  c10d::AllgatherOptions first;
  first.timeout = options.timeout;
  first.asyncOp = false;
  _allgather_base(all_facts, facts, first)->wait(kNoTimeout);
  const std::vector<std::int64_t> entries = entries_of(all_facts);

  const at::Tensor indices = mine._indices().contiguous();
  const at::Tensor values = mine._values().contiguous();
  std::int64_t sum = 0;
  for (const std::int64_t each : entries) sum += each;
  std::vector<std::int64_t> shape = values.sizes().vec();
  shape[0] = sum;
  const at::Tensor all_indices = at::empty({tensor.sparse_dim() * sum}, indices.options());
  const at::Tensor all_values = at::empty(shape, values.options());
  Batch batch = begin(c10d::OpType::ALLREDUCE, "longspan:all_reduce_sparse", tensors, tensors, options);
  add_gather_of_entries(batch, indices, all_indices, entries);
  add_gather_of_entries(batch, values, all_values, entries);
  batch.after.push_back([tensor, all_indices, all_values, entries] {
    const at::Tensor summed =
        at::_sparse_coo_tensor_unsafe(side_by_side(all_indices, tensor.sparse_dim(), entries), all_values,
                                      tensor.sizes(), tensor.options().device(at::kCPU))
            .coalesce();
    tensor.copy_(summed);
  });
  return start(std::move(batch));
}

void LongspanBackend::add_gather_of_entries(Batch& batch, const at::Tensor& in, const at::Tensor& out,
                                            const std::vector<std::int64_t>& entries) {
  if (out.numel() == 0) return;
  const auto own = static_cast<std::size_t>(entries[static_cast<std::size_t>(rank_)]);
  std::size_t sum = 0;
  for (const std::int64_t each : entries) sum += static_cast<std::size_t>(each);
  const std::size_t width = out.nbytes() / sum;
  longspan::CollectiveCall call;
  call.kind = Collective::kAllGather;
  call.in = in.const_data_ptr();
  call.out = out.data_ptr();
  call.count = own * width;
  call.type = DataType::kUint8;
  std::vector<std::size_t>& bytes = batch.lists.emplace_back();
  for (const std::int64_t each : entries) bytes.push_back(static_cast<std::size_t>(each) * width);
  call.out_counts = bytes;
  batch.calls.push_back(call);
  batch.plan.held.insert(batch.plan.held.end(), {in, out});
}

}  // namespace longspan::torch_binding
