// Collectives whose result every rank has, or a part of it: broadcast, reductions, allgather, reduce-scatter.
#include <ATen/Functions.h>
#include <torch/version.h>

#include "bindings/torch/src/backend.hpp"

namespace longspan::torch_binding {
namespace {

#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 12
constexpr c10d::OpType kReduceScatterCoalesced = c10d::OpType::COALESCED;
#else
constexpr c10d::OpType kReduceScatterCoalesced = c10d::OpType::REDUCE_SCATTER_TENSOR_COALESCED;
#endif

longspan::CollectiveCall call_of(Collective kind, const at::Tensor& in, const at::Tensor& out, std::size_t count,
                                 DataType type) {
  longspan::CollectiveCall call;
  call.kind = kind;
  call.in = in.defined() ? in.const_data_ptr() : nullptr;
  call.out = out.defined() ? out.data_ptr() : nullptr;
  call.count = count;
  call.type = type;
  return call;
}

void apply(longspan::CollectiveCall& call, const Reduction& reduction) {
  call.op = reduction.op;
  call.factor = reduction.factor;
}

std::vector<at::Tensor> flattened(const std::vector<std::vector<at::Tensor>>& lists) {
  std::vector<at::Tensor> all;
  for (const auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

const std::vector<at::Tensor>& single_list(const std::vector<std::vector<at::Tensor>>& lists, const char* collective) {
  TORCH_CHECK(lists.size() == 1, collective, ": expected one list of tensors, found ", lists.size());
  return lists[0];
}

void check_bitwise(const at::Tensor& tensor, const char* collective) {
  TORCH_CHECK(at::isIntegralType(tensor.scalar_type(), /*includeBool=*/true), collective,
              ": bitwise operations need integers, found ", tensor.scalar_type());
}

/// `to` becomes what the rows of `all` give, one row a rank.
void reduce_bitwise(const at::Tensor& to, const at::Tensor& all, c10d::ReduceOp::RedOpType op) {
  at::Tensor result = all[0].clone();
  for (std::int64_t r = 1; r < all.size(0); ++r) {
    if (op == c10d::ReduceOp::BAND) result.bitwise_and_(all[r]);
    if (op == c10d::ReduceOp::BOR) result.bitwise_or_(all[r]);
    if (op == c10d::ReduceOp::BXOR) result.bitwise_xor_(all[r]);
  }
  to.copy_(result.view(to.sizes()));
}

}  // namespace

void LongspanBackend::add_broadcast(Batch& batch, const at::Tensor& tensor, int root) {
  const at::Tensor host = rank_ == root ? staged(tensor) : staged_empty(tensor);
  auto call = call_of(Collective::kBroadcast, host, host, tensor.nbytes(), DataType::kUint8);
  call.root = root;
  batch.calls.push_back(call);
  batch.plan.held.push_back(host);
  if (!host.is_same(tensor) && rank_ != root) batch.after.push_back([tensor, host] { tensor.copy_(host); });
}

LongspanBackend::WorkPtr LongspanBackend::broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) {
  const at::Tensor& tensor = single(tensors, "broadcast");
  const int root = checked_root(options.rootRank, "broadcast");
  Batch batch = begin(c10d::OpType::BROADCAST, "longspan:broadcast", tensors, tensors, options);
  add_broadcast(batch, tensor, root);
  return start(std::move(batch));
}

void LongspanBackend::add_allreduce(Batch& batch, const at::Tensor& tensor, const c10d::ReduceOp& op,
                                    const char* title) {
  if (is_bitwise(op)) return add_bitwise(batch, tensor, op, title);
  const Reduction reduction = reduction_for(tensor, op, title);
  const at::Tensor host = staged(tensor);
  auto call = call_of(Collective::kAllReduce, host, host, static_cast<std::size_t>(tensor.numel()) * reduction.width,
                      reduction.type);
  apply(call, reduction);
  batch.calls.push_back(call);
  batch.plan.held.push_back(host);
  if (!host.is_same(tensor)) batch.after.push_back([tensor, host] { tensor.copy_(host); });
}

void LongspanBackend::add_bitwise(Batch& batch, const at::Tensor& tensor, const c10d::ReduceOp& op, const char* title) {
  check_bitwise(tensor, title);
  const at::Tensor host = staged(tensor);
  std::vector<std::int64_t> shape{size_};
  shape.insert(shape.end(), host.sizes().begin(), host.sizes().end());
  const at::Tensor all = at::empty(shape, host.options());
  batch.calls.push_back(call_of(Collective::kAllGather, host, all, host.nbytes(), DataType::kUint8));
  batch.plan.held.insert(batch.plan.held.end(), {host, all});
  batch.after.push_back([tensor, all, op = op.op_] { reduce_bitwise(tensor, all, op); });
}

LongspanBackend::WorkPtr LongspanBackend::allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) {
  if (tensors.size() == 1 && tensors[0].is_sparse()) return allreduce_sparse(tensors, options);
  const at::Tensor& tensor = single(tensors, "allreduce");
  Batch batch = begin(c10d::OpType::ALLREDUCE, "longspan:all_reduce", tensors, tensors, options);
  add_allreduce(batch, tensor, options.reduceOp, "allreduce");
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::allreduce_coalesced(Tensors& tensors,
                                                              const c10d::AllreduceCoalescedOptions& options) {
  Batch batch = begin(c10d::OpType::ALLREDUCE_COALESCED, "longspan:all_reduce_coalesced", tensors, tensors, options);
  for (const at::Tensor& tensor : tensors) {
    add_allreduce(batch, single({tensor}, "allreduce_coalesced"), options.reduceOp, "allreduce_coalesced");
  }
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::reduce(Tensors& tensors, const c10d::ReduceOptions& options) {
  const at::Tensor tensor = single(tensors, "reduce");
  const int root = checked_root(options.rootRank, "reduce");
  Batch batch = begin(c10d::OpType::REDUCE, "longspan:reduce", tensors, tensors, options);
  if (is_bitwise(options.reduceOp)) {
    add_bitwise(batch, rank_ == root ? tensor : tensor.clone(), options.reduceOp, "reduce");
    return start(std::move(batch));
  }
  const Reduction reduction = reduction_for(tensor, options.reduceOp, "reduce");
  const at::Tensor host = staged(tensor);
  auto call = call_of(Collective::kReduce, host, rank_ == root ? host : at::Tensor(),
                      static_cast<std::size_t>(tensor.numel()) * reduction.width, reduction.type);
  call.root = root;
  apply(call, reduction);
  batch.calls.push_back(call);
  batch.plan.held.push_back(host);
  if (rank_ == root && !host.is_same(tensor)) batch.after.push_back([tensor, host] { tensor.copy_(host); });
  return start(std::move(batch));
}

void LongspanBackend::add_allgather(Batch& batch, const Tensors& outputs, const at::Tensor& input) {
  check_group_size(outputs.size(), "the output list", "allgather");
  for (const at::Tensor& output : outputs) check_like(output, input, "allgather");
  TORCH_CHECK(outputs[static_cast<std::size_t>(rank_)].numel() == input.numel(),
              "allgather: this rank's output tensor has ", outputs[static_cast<std::size_t>(rank_)].numel(),
              " elements and its input ", input.numel());
  const at::Tensor in = staged(input);
  const Stretch out = stretch(outputs, false);
  auto call = call_of(Collective::kAllGather, in, out.flat, input.nbytes(), DataType::kUint8);
  if (!out.even()) {
    batch.lists.push_back(out.bytes);
    call.out_counts = batch.lists.back();
  }
  batch.calls.push_back(call);
  batch.plan.held.insert(batch.plan.held.end(), {in, out.flat});
  if (!out.in_place) batch.after.push_back([out, outputs] { spread(out, outputs); });
}

LongspanBackend::WorkPtr LongspanBackend::allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                                    const c10d::AllgatherOptions& options) {
  const at::Tensor& input = single(inputs, "allgather");
  const Tensors& list = single_list(outputs, "allgather");
  Batch batch = begin(c10d::OpType::ALLGATHER, "longspan:all_gather", inputs, list, options);
  add_allgather(batch, list, input);
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                                                              const c10d::AllgatherOptions& options) {
  // One list a rank, each with a tensor for every input.
  check_group_size(outputs.size(), "the output lists", "allgather_coalesced");
  Batch batch =
      begin(c10d::OpType::ALLGATHER_COALESCED, "longspan:all_gather_coalesced", inputs, flattened(outputs), options);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    Tensors list;
    for (const Tensors& of_rank : outputs) {
      TORCH_CHECK(of_rank.size() == inputs.size(), "allgather_coalesced: invalid output list, ", of_rank.size(),
                  " tensors for ", inputs.size(), " inputs");
      list.push_back(of_rank[i]);
    }
    add_allgather(batch, list, inputs[i]);
  }
  return start(std::move(batch));
}

void LongspanBackend::add_allgather_into(Batch& batch, const at::Tensor& output, const at::Tensor& input,
                                         const char* title) {
  check_like(output, input, title);
  TORCH_CHECK(output.numel() == input.numel() * size_, title,
              ": output tensor size must be equal to world_size times input tensor size, found ", output.numel(),
              " and ", size_, " times ", input.numel());
  const at::Tensor in = staged(input);
  const at::Tensor out = staged_empty(output);
  batch.calls.push_back(call_of(Collective::kAllGather, in, out, input.nbytes(), DataType::kUint8));
  batch.plan.held.insert(batch.plan.held.end(), {in, out});
  if (!out.is_same(output)) batch.after.push_back([output, out] { output.copy_(out); });
}

LongspanBackend::WorkPtr LongspanBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                          const c10d::AllgatherOptions& options) {
  Batch batch = begin(c10d::OpType::_ALLGATHER_BASE, "longspan:_all_gather_base", {input}, {output}, options);
  add_allgather_into(batch, output, input, "_allgather_base");
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                                          const c10d::AllgatherOptions& options) {
  TORCH_CHECK(outputs.size() == inputs.size(), "allgather_into_tensor_coalesced: ", outputs.size(), " outputs for ",
              inputs.size(), " inputs");
  Batch batch = begin(c10d::OpType::COALESCED, "longspan:all_gather_into_tensor_coalesced", inputs, outputs, options);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    add_allgather_into(batch, outputs[i], inputs[i], "allgather_into_tensor_coalesced");
  }
  return start(std::move(batch));
}

void LongspanBackend::add_bitwise_scatter(Batch& batch, const at::Tensor& output, Stretch in, const c10d::ReduceOp& op,
                                          const char* title) {
  check_bitwise(output, title);
  const at::Tensor all = at::empty({size_, output.numel()}, output.options().device(at::kCPU));
  const Stretch out{all, std::vector<std::size_t>(static_cast<std::size_t>(size_), output.nbytes()), true};
  add_exchange(batch, out, in);
  batch.after.push_back([output, all, op = op.op_] { reduce_bitwise(output, all, op); });
}

void LongspanBackend::add_reduce_scatter(Batch& batch, const at::Tensor& output, const Tensors& inputs,
                                         const c10d::ReduceOp& op, const char* title) {
  check_group_size(inputs.size(), "the input list", title);
  for (const at::Tensor& input : inputs) check_like(input, output, title);
  TORCH_CHECK(inputs[static_cast<std::size_t>(rank_)].numel() == output.numel(), title, ": the output tensor has ",
              output.numel(), " elements and this rank's input ", inputs[static_cast<std::size_t>(rank_)].numel());
  if (is_bitwise(op)) return add_bitwise_scatter(batch, output, stretch(inputs, true), op, title);
  const Reduction reduction = reduction_for(output, op, title);
  const Stretch in = stretch(inputs, true);
  const at::Tensor out = staged_empty(output);
  auto call = call_of(Collective::kReduceScatter, in.flat, out,
                      static_cast<std::size_t>(output.numel()) * reduction.width, reduction.type);
  apply(call, reduction);
  if (!in.even()) {
    batch.lists.push_back(in.bytes);
    for (std::size_t& each : batch.lists.back()) each /= size_of(reduction.type);
    call.in_counts = batch.lists.back();
  }
  batch.calls.push_back(call);
  batch.plan.held.insert(batch.plan.held.end(), {in.flat, out});
  if (!out.is_same(output)) batch.after.push_back([output, out] { output.copy_(out); });
}

LongspanBackend::WorkPtr LongspanBackend::reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                                         const c10d::ReduceScatterOptions& options) {
  const at::Tensor& output = single(outputs, "reduce_scatter");
  const Tensors& list = single_list(inputs, "reduce_scatter");
  Batch batch = begin(c10d::OpType::REDUCE_SCATTER, "longspan:reduce_scatter", list, outputs, options);
  add_reduce_scatter(batch, output, list, options.reduceOp, "reduce_scatter");
  return start(std::move(batch));
}

void LongspanBackend::add_reduce_scatter_from(Batch& batch, const at::Tensor& output, const at::Tensor& input,
                                              const c10d::ReduceOp& op, const char* title) {
  check_like(input, output, title);
  TORCH_CHECK(input.numel() == output.numel() * size_, title,
              ": input tensor must be the same size as output size times world size, found ", input.numel(), " and ",
              size_, " times ", output.numel());
  if (is_bitwise(op)) {
    Stretch parts{staged(input), std::vector<std::size_t>(static_cast<std::size_t>(size_), output.nbytes()), true};
    return add_bitwise_scatter(batch, output, std::move(parts), op, title);
  }
  const Reduction reduction = reduction_for(output, op, title);
  const at::Tensor in = staged(input);
  const at::Tensor out = staged_empty(output);
  auto call = call_of(Collective::kReduceScatter, in, out, static_cast<std::size_t>(output.numel()) * reduction.width,
                      reduction.type);
  apply(call, reduction);
  batch.calls.push_back(call);
  batch.plan.held.insert(batch.plan.held.end(), {in, out});
  if (!out.is_same(output)) batch.after.push_back([output, out] { output.copy_(out); });
}

LongspanBackend::WorkPtr LongspanBackend::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                               const c10d::ReduceScatterOptions& options) {
  Batch batch = begin(c10d::OpType::_REDUCE_SCATTER_BASE, "longspan:_reduce_scatter_base", {input}, {output}, options);
  add_reduce_scatter_from(batch, output, input, options.reduceOp, "_reduce_scatter_base");
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                                          const c10d::ReduceScatterOptions& options) {
  TORCH_CHECK(outputs.size() == inputs.size(), "reduce_scatter_tensor_coalesced: ", outputs.size(), " outputs for ",
              inputs.size(), " inputs");
  Batch batch = begin(kReduceScatterCoalesced, "longspan:reduce_scatter_tensor_coalesced", inputs, outputs, options);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    add_reduce_scatter_from(batch, outputs[i], inputs[i], options.reduceOp, "reduce_scatter_tensor_coalesced");
  }
  return start(std::move(batch));
}

}  // namespace longspan::torch_binding
