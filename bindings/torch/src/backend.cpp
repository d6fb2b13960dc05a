// What every call of the process group passes through; the collectives are in collectives.cpp and exchanges.cpp.
#include <Python.h>  // before all others, as it asks

#include "bindings/torch/src/backend.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>

#include <longspan/status.hpp>

namespace longspan::torch_binding {
namespace {

// In nanoseconds it must not overflow.
constexpr std::chrono::milliseconds kLongestTimeout = std::chrono::hours(24 * 3650);

/// Several works as one.
class CoalescedWork final : public c10d::Work {
 public:
  explicit CoalescedWork(std::vector<c10::intrusive_ptr<c10d::Work>> works)
      : c10d::Work(-1, c10d::OpType::COALESCED), works_(std::move(works)) {}
  bool isCompleted() override {
    return std::all_of(works_.begin(), works_.end(), [](const auto& work) { return work->isCompleted(); });
  }
  bool isSuccess() const override {
    return std::all_of(works_.begin(), works_.end(), [](const auto& work) { return work->isSuccess(); });
  }
  void synchronize() override { wait(kNoTimeout); }
  bool wait(std::chrono::milliseconds timeout) override {
    for (const auto& work : works_) work->wait(timeout);
    return true;
  }
  std::vector<at::Tensor> result() override {
    std::vector<at::Tensor> all;
    for (const auto& work : works_) {
      const auto each = work->result();
      all.insert(all.end(), each.begin(), each.end());
    }
    return all;
  }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override {
    std::vector<c10::intrusive_ptr<c10::ivalue::Future>> futures;
    for (const auto& work : works_) futures.push_back(work->getFuture());
    c10::List<c10::intrusive_ptr<c10::ivalue::Future>> list(
        c10::FutureType::create(c10::ListType::create(c10::TensorType::get())));
    for (auto& future : futures) list.push_back(future);
    return c10::collectAll(list);
  }

 private:
  std::vector<c10::intrusive_ptr<c10d::Work>> works_;
};

/// LONGSPAN_TIMEOUT.
std::chrono::milliseconds environment_timeout() {
  const Result<longspan::Options> resolved = longspan::resolve({});
  TORCH_CHECK_VALUE(resolved.ok(), "longspan: ", resolved.status().message());
  return std::chrono::ceil<std::chrono::milliseconds>(*resolved->timeout);
}

}  // namespace

LongspanBackend::LongspanBackend(Membership membership, c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                                 c10::intrusive_ptr<LongspanOptions> options)
    : c10d::Backend(rank, size),
      membership_(std::move(membership)),
      store_(std::move(store)),
      options_(std::move(options)) {
  init();
  setTimeout(options_->timeout);
}

LongspanBackend::~LongspanBackend() { shutdown(); }

/// Says goodbye to the peers and waits for callbacks, which may want the GIL that this thread has.
void LongspanBackend::shutdown() {
  PyThreadState* const held = Py_IsInitialized() != 0 && PyGILState_Check() != 0 ? PyEval_SaveThread() : nullptr;
  end();
  if (held != nullptr) PyEval_RestoreThread(held);
}

void LongspanBackend::end() {
  coalesced_.clear();
  Membership left;
  std::unique_ptr<Finisher> finisher;
  {
    const std::lock_guard lock(mutex_);
    left = std::exchange(membership_, {});
    finisher = std::move(finisher_);
  }
  left.communicator.reset();
  left.job.reset();
}

std::shared_ptr<longspan::Communicator> LongspanBackend::communicator(const char* doing) const {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK_WITH(DistBackendError, membership_.communicator != nullptr, "longspan: ", doing,
                   ": the process group was shut down");
  return membership_.communicator;
}

void LongspanBackend::setTimeout(std::chrono::milliseconds timeout) {
  TORCH_CHECK_VALUE(timeout > kNoTimeout, "longspan: a process group's timeout must be positive, found ",
                    timeout.count(), " ms");
  communicator("setTimeout")->set_timeout(std::min(timeout, kLongestTimeout));
  options_->timeout = timeout;
}

c10d::ErrorType LongspanBackend::getError() {
  std::shared_ptr<longspan::Communicator> communicator;
  {
    const std::lock_guard lock(mutex_);
    communicator = membership_.communicator;
  }
  if (communicator == nullptr) return c10d::ErrorType::SUCCESS;
  switch (const Status status = communicator->error(); status.code()) {
    case StatusCode::kOk: return c10d::ErrorType::SUCCESS;
    case StatusCode::kTimeout: return c10d::ErrorType::TIMEOUT;
    case StatusCode::kPeerLost: return c10d::ErrorType::REMOTE_ERROR;
    default: return c10d::ErrorType::COMM_ERROR;
  }
}

void LongspanBackend::abort() {
  std::shared_ptr<longspan::Communicator> communicator;
  {
    const std::lock_guard lock(mutex_);
    communicator = membership_.communicator;
  }
  if (communicator != nullptr) communicator->abort("torch.distributed aborted the process group");
}

void LongspanBackend::startCoalescing() {
  TORCH_CHECK(!coalescing_, "startCoalescing: the process group is coalescing already");
  coalescing_ = true;
}

c10::intrusive_ptr<c10d::Work> LongspanBackend::endCoalescing() {
  TORCH_CHECK(coalescing_, "endCoalescing: startCoalescing was not called");
  coalescing_ = false;
  return c10::make_intrusive<CoalescedWork>(std::exchange(coalesced_, {}));
}

c10::intrusive_ptr<c10d::Backend> LongspanBackend::split(const c10::intrusive_ptr<c10d::Store>& store,
                                                         const std::vector<int>& ranks,
                                                         const c10::intrusive_ptr<Options>& options) {
  const auto mine = std::find(ranks.begin(), ranks.end(), rank_);
  if (mine == ranks.end()) return nullptr;
  Membership parent;
  {
    (void)communicator("split");
    const std::lock_guard lock(mutex_);
    parent = membership_;
  }
  return c10::make_intrusive<LongspanBackend>(split_group(parent, store, ranks), store,
                                              static_cast<int>(mine - ranks.begin()), static_cast<int>(ranks.size()),
                                              options_for_another(options));
}

c10::intrusive_ptr<c10d::Backend> LongspanBackend::merge(const c10::intrusive_ptr<c10d::Store>& store,
                                                         const c10::intrusive_ptr<Options>& options, const int& rank,
                                                         const int& size) {
  auto own = options_for_another(options);
  longspan::Options core = own->core;
  core.timeout = std::min(own->timeout, kLongestTimeout);
  return c10::make_intrusive<LongspanBackend>(join_group(GroupSeat{store, rank, size, {}}, core), store, rank, size,
                                              std::move(own));
}

c10::intrusive_ptr<LongspanOptions> LongspanBackend::options_for_another(
    const c10::intrusive_ptr<Options>& given) const {
  const auto own = c10::dynamic_intrusive_pointer_cast<LongspanOptions>(given);
  auto made = c10::make_intrusive<LongspanOptions>(own ? *own : *options_);  // not shared: its timeout may be set
  if (given != nullptr) made->timeout = given->timeout;
  return made;
}

LongspanBackend::Batch LongspanBackend::begin(c10d::OpType type, const char* title, Tensors inputs, Tensors outputs) {
  Batch batch;
  batch.communicator = communicator(title);
  batch.plan.type = type;
  batch.plan.title = title;
  batch.plan.inputs = std::move(inputs);
  batch.plan.outputs = std::move(outputs);
  return batch;
}

LongspanBackend::WorkPtr LongspanBackend::start(Batch batch) {
  std::vector<longspan::CollectiveCall> calls = std::move(batch.calls);
  const auto lists = std::move(batch.lists);
  const auto communicator = batch.communicator;
  const bool awaited = batch.awaited;
  const std::chrono::nanoseconds timeout = batch.timeout > kNoTimeout ? batch.timeout : kNoTimeout;
  return start(std::move(batch), [&] {
    std::vector<longspan::Work> started;
    started.reserve(calls.size());
    for (longspan::CollectiveCall& call : calls) {
      call.awaited = awaited;
      call.timeout = timeout;
      started.push_back(communicator->start(call));
    }
    return started;
  });
}

LongspanBackend::WorkPtr LongspanBackend::start(Batch batch,
                                                const std::function<std::vector<longspan::Work>()>& operations) {
  if (!batch.after.empty()) {
    batch.plan.conclude = [steps = std::move(batch.after)] {
      const at::NoGradGuard no_grad;
      for (const auto& step : steps) step();
    };
  }
  // Not before: a call that is refused is none, on this rank or others.
  batch.plan.sequence = c10d::isP2POp(batch.plan.type) ? ++message_sequence_ : ++sequence_;
  auto work = c10::make_intrusive<LongspanWork>(rank_, std::move(batch.plan));
  work->follow(operations(), finishing_);
  if (coalescing_) coalesced_.push_back(work);
  return work;
}

int LongspanBackend::checked_root(std::int64_t root, const char* collective) const {
  TORCH_CHECK(root >= 0 && root < size_, collective, ": invalid root rank: ", root);
  return static_cast<int>(root);
}

void LongspanBackend::check_group_size(std::size_t found, const char* what, const char* collective) const {
  TORCH_CHECK(found == static_cast<std::size_t>(size_), collective, ": ", what,
              " must have one tensor for each of the ", size_, " ranks, found ", found);
}

c10::intrusive_ptr<c10d::Backend> create_backend(const c10d::DistributedBackendOptions& seat,
                                                 const c10::intrusive_ptr<LongspanOptions>& given,
                                                 bool timeout_from_environment) {
  // A copy: the caller may make other groups with the same options, and this one's timeout may be set.
  auto options =
      given == nullptr ? c10::make_intrusive<LongspanOptions>() : c10::make_intrusive<LongspanOptions>(*given);
  // What init_process_group was given.
  options->timeout = std::chrono::duration_cast<std::chrono::milliseconds>(seat.timeout);
  if (timeout_from_environment) options->timeout = environment_timeout();
  options->global_ranks_in_group.assign(seat.global_ranks_in_group.begin(), seat.global_ranks_in_group.end());
  options->group_name = seat.group_id;
  longspan::Options core = options->core;
  core.timeout = std::min(options->timeout, kLongestTimeout);
  GroupSeat place{seat.store, seat.group_rank, seat.group_size, seat.global_ranks_in_group};
  if (place.global_ranks.empty()) {  // the default group
    for (int r = 0; r < seat.group_size; ++r) place.global_ranks.push_back(r);
  }
  return c10::make_intrusive<LongspanBackend>(join_group(place, core), seat.store, seat.group_rank, seat.group_size,
                                              std::move(options));
}

}  // namespace longspan::torch_binding
