// Gather, scatter, all-to-all, messages between two ranks, barrier.
#include <numeric>

#include "bindings/torch/src/backend.hpp"

namespace longspan::torch_binding {
namespace {

/// Lengths in bytes of the parts that `splits` (rows each; empty: equal parts) cut `tensor` into.
std::vector<std::size_t> part_bytes(const at::Tensor& tensor, const std::vector<std::int64_t>& splits, int size,
                                    const char* what) {
  const auto ranks = static_cast<std::size_t>(size);
  if (splits.empty()) {
    TORCH_CHECK(tensor.dim() > 0 && tensor.size(0) % size == 0, "alltoall_base: the ", what,
                " tensor's dim 0 does not divide equally across group size");
    return std::vector<std::size_t>(ranks, tensor.nbytes() / ranks);
  }
  TORCH_CHECK(splits.size() == ranks, "alltoall_base: number of ", what, " splits not equal to group size");
  const std::int64_t rows = std::accumulate(splits.begin(), splits.end(), std::int64_t{0});
  TORCH_CHECK(tensor.dim() > 0 && rows == tensor.size(0), "alltoall_base: ", what,
              " split sizes don't match total dim 0 size");
  const std::size_t row = tensor.size(0) == 0 ? 0 : tensor.nbytes() / static_cast<std::size_t>(tensor.size(0));
  std::vector<std::size_t> bytes;
  for (const std::int64_t split : splits) {
    TORCH_CHECK(split >= 0, "alltoall_base: negative ", what, " split");
    bytes.push_back(static_cast<std::size_t>(split) * row);
  }
  return bytes;
}

std::uint32_t wire_tag(int tag) {
  TORCH_CHECK(tag >= 0, "Tag must be nonnegative, found ", tag);
  return static_cast<std::uint32_t>(tag);
}

}  // namespace

LongspanBackend::WorkPtr LongspanBackend::gather(std::vector<Tensors>& outputs, Tensors& inputs,
                                                 const c10d::GatherOptions& options) {
  const at::Tensor& input = single(inputs, "gather");
  const int root = checked_root(options.rootRank, "gather");
  const at::Tensor in = staged(input);
  longspan::CollectiveCall call;
  call.kind = Collective::kGather;
  call.in = in.const_data_ptr();
  call.count = input.nbytes();
  call.type = DataType::kUint8;
  call.root = root;
  if (rank_ != root) {
    TORCH_CHECK(outputs.empty() || outputs[0].empty(), "gather: requires empty output on non-root");
    Batch batch = begin(c10d::OpType::GATHER, "longspan:gather", inputs, {}, options);
    batch.calls.push_back(call);
    batch.plan.held.push_back(in);
    return start(std::move(batch));
  }
  TORCH_CHECK(outputs.size() == 1, "gather: requires a single-element output list, found ", outputs.size());
  const Tensors list = outputs[0];
  check_group_size(list.size(), "the output list", "gather");
  for (const at::Tensor& output : list) {
    check_like(output, input, "gather");
    TORCH_CHECK(output.numel() == input.numel(), "gather: an output tensor has ", output.numel(),
                " elements and the input ", input.numel());
  }
  Batch batch = begin(c10d::OpType::GATHER, "longspan:gather", inputs, list, options);
  const Stretch out = stretch(list, false);
  call.out = out.flat.data_ptr();
  batch.calls.push_back(call);
  batch.plan.held.insert(batch.plan.held.end(), {in, out.flat});
  if (!out.in_place) batch.after.push_back([out, list] { spread(out, list); });
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                                  const c10d::ScatterOptions& options) {
  const at::Tensor output = single(outputs, "scatter");
  const int root = checked_root(options.rootRank, "scatter");
  const at::Tensor out = staged_empty(output);
  longspan::CollectiveCall call;
  call.kind = Collective::kScatter;
  call.out = out.data_ptr();
  call.count = output.nbytes();
  call.type = DataType::kUint8;
  call.root = root;
  Batch batch = begin(c10d::OpType::SCATTER, "longspan:scatter", {}, outputs, options);
  batch.plan.held.push_back(out);
  if (rank_ == root) {
    TORCH_CHECK(inputs.size() == 1, "scatter: requires a single-element input list, found ", inputs.size());
    check_group_size(inputs[0].size(), "the input list", "scatter");
    for (const at::Tensor& input : inputs[0]) {
      check_like(input, output, "scatter");
      TORCH_CHECK(input.numel() == output.numel(), "scatter: an input tensor has ", input.numel(),
                  " elements and the output ", output.numel());
    }
    const Stretch in = stretch(inputs[0], true);
    call.in = in.flat.const_data_ptr();
    batch.plan.held.push_back(in.flat);
  } else {
    TORCH_CHECK(inputs.empty() || inputs[0].empty(), "scatter: requires empty input on non-root");
  }
  batch.calls.push_back(call);
  if (!out.is_same(output)) batch.after.push_back([output, out] { output.copy_(out); });
  return start(std::move(batch));
}

void LongspanBackend::add_exchange(Batch& batch, const Stretch& out, const Stretch& in) {
  longspan::CollectiveCall call;
  call.kind = Collective::kAllToAll;
  call.in = in.flat.const_data_ptr();
  call.out = out.flat.data_ptr();
  call.type = DataType::kUint8;
  call.private_lengths = true;
  batch.lists.push_back(in.bytes);
  call.in_counts = batch.lists.back();
  batch.lists.push_back(out.bytes);
  call.out_counts = batch.lists.back();
  batch.calls.push_back(call);
  batch.plan.held.insert(batch.plan.held.end(), {in.flat, out.flat});
}

LongspanBackend::WorkPtr LongspanBackend::exchange(Batch batch, Stretch out, Stretch in, Tensors outputs) {
  add_exchange(batch, out, in);
  if (!out.in_place) batch.after.push_back([out, outputs] { spread(out, outputs); });
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                                        std::vector<std::int64_t>& output_splits,
                                                        std::vector<std::int64_t>& input_splits,
                                                        const c10d::AllToAllOptions& options) {
  check_like(output, input, "alltoall_base");
  Batch batch = begin(c10d::OpType::ALLTOALL_BASE, "longspan:all_to_all", {input}, {output}, options);
  Stretch in{staged(input), part_bytes(input, input_splits, size_, "input"), true};
  Stretch out{staged_empty(output), part_bytes(output, output_splits, size_, "output"), true};
  if (!out.flat.is_same(output)) batch.after.push_back([output = output, host = out.flat] { output.copy_(host); });
  return exchange(std::move(batch), std::move(out), std::move(in), {});
}

LongspanBackend::WorkPtr LongspanBackend::alltoall(Tensors& outputs, Tensors& inputs,
                                                   const c10d::AllToAllOptions& options) {
  check_group_size(outputs.size(), "the output list", "alltoall");
  check_group_size(inputs.size(), "the input list", "alltoall");
  for (const Tensors* list : {&outputs, &inputs}) {
    for (const at::Tensor& tensor : *list) check_like(tensor, inputs[0], "alltoall");
  }
  Batch batch = begin(c10d::OpType::ALLTOALL, "longspan:all_to_all", inputs, outputs, options);
  return exchange(std::move(batch), stretch(outputs, false), stretch(inputs, true), outputs);
}

LongspanBackend::WorkPtr LongspanBackend::barrier(const c10d::BarrierOptions& options) {
  Batch batch = begin(c10d::OpType::BARRIER, "longspan:barrier", {}, {}, options);
  longspan::CollectiveCall call;
  call.kind = Collective::kBarrier;
  call.type = DataType::kUint8;
  batch.calls.push_back(call);
  return start(std::move(batch));
}

LongspanBackend::WorkPtr LongspanBackend::send(Tensors& tensors, int to, int tag) {
  const at::Tensor& tensor = single(tensors, "send");
  const std::uint32_t number = wire_tag(tag);
  Batch batch = begin(c10d::OpType::SEND, "longspan:send", tensors, {});
  const at::Tensor host = staged(tensor);
  batch.plan.held.push_back(host);
  const auto communicator = batch.communicator;
  return start(std::move(batch), [&] {
    return std::vector{communicator->send(host.const_data_ptr(), host.nbytes(), DataType::kUint8, to, number)};
  });
}

LongspanBackend::WorkPtr LongspanBackend::receive(const at::Tensor& tensor, int from, int tag, c10d::OpType type,
                                                  const char* title) {
  const std::uint32_t number = wire_tag(tag);
  Batch batch = begin(type, title, {tensor}, {tensor});  // profiles show the shapes of what comes first
  const at::Tensor host = staged_empty(tensor);
  batch.plan.held.push_back(host);
  if (!host.is_same(tensor)) batch.after.push_back([tensor, host] { tensor.copy_(host); });
  const auto communicator = batch.communicator;
  return start(std::move(batch), [&] {
    return std::vector{communicator->recv(host.data_ptr(), host.nbytes(), DataType::kUint8, from, number)};
  });
}

LongspanBackend::WorkPtr LongspanBackend::recv(Tensors& tensors, int from, int tag) {
  return receive(single(tensors, "recv"), from, tag, c10d::OpType::RECV, "longspan:recv");
}

LongspanBackend::WorkPtr LongspanBackend::recvAnysource(Tensors& tensors, int tag) {
  return receive(single(tensors, "recvAnysource"), kAnySource, tag, c10d::OpType::RECVANYSOURCE,
                 "longspan:recvAnySource");
}

}  // namespace longspan::torch_binding
