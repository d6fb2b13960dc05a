// The C interface: translates arguments and keeps the last error; everything else is the C++ API.
#include <chrono>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "longspan/communicator.hpp"
#include "longspan/longspan.h"

struct longspan_comm {
  longspan::Communicator comm;
};
struct longspan_work {
  longspan::Work work;
};

namespace {

using longspan::Collective;
using longspan::CollectiveCall;
using longspan::Communicator;
using longspan::DataType;
using longspan::ReduceOp;
using longspan::Status;
using longspan::StatusCode;

thread_local std::string g_last_error;
thread_local std::unique_ptr<longspan::CallGroup> g_group;
thread_local int g_group_depth = 0;

longspan_status_t tell(const Status& status) {
  if (!status.ok()) g_last_error = status.to_string();
  return static_cast<longspan_status_t>(status.code());
}

longspan_status_t refuse(const char* text) { return tell(Status(StatusCode::kInvalidArgument, text)); }

/// Runs `body`; what it throws (only bad_alloc can come out of the library) becomes an error.
template <class Body>
longspan_status_t guarded(Body&& body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return tell(Status(StatusCode::kResource, "out of memory"));
  } catch (const std::exception& error) {
    return tell(Status(StatusCode::kInternal, error.what()));
  }
}

bool valid(longspan_type_t type) { return type >= LONGSPAN_INT8 && type <= LONGSPAN_FLOAT8_E5M2; }
bool valid(longspan_op_t op) { return op >= LONGSPAN_SUM && op <= LONGSPAN_PREMUL_SUM; }

longspan_status_t launch(longspan_comm_t comm, const CollectiveCall& call, longspan_work_t* work) {
  return guarded([&] {
    if (comm == nullptr) return refuse("the communicator is NULL");
    if (work == nullptr) return tell(comm->comm.run(call));
    auto handle = std::make_unique<longspan_work>();
    handle->work = comm->comm.start(call);
    *work = handle.release();
    return LONGSPAN_OK;
  });
}

longspan_status_t start(Collective kind, const void* in, void* out, size_t count, longspan_type_t type,
                        longspan_op_t op, int root, longspan_comm_t comm, longspan_stream_t stream,
                        longspan_work_t* work, double factor = 1) {
  if (!valid(type)) return refuse("unknown element type");
  if (!valid(op)) return refuse("unknown reduction");
  CollectiveCall call;
  call.kind = kind;
  call.in = in;
  call.out = out;
  call.count = count;
  call.type = static_cast<DataType>(type);
  call.op = static_cast<ReduceOp>(op);
  call.factor = factor;
  call.root = root;
  call.stream = stream;
  return launch(comm, call, work);
}

longspan::Options options_of(const longspan_options_t* given) {
  longspan::Options options;
  if (given == nullptr) return options;
  // A program built against an older header has a smaller struct: what it lacks is not set.
  longspan_options_t known = LONGSPAN_OPTIONS_INIT;
  std::memcpy(&known, given, given->size < sizeof known ? given->size : sizeof known);
  if (known.topology_file != nullptr) options.topology_file = known.topology_file;
  if (known.host != nullptr) options.host = known.host;
  if (known.algorithm != nullptr) options.algorithm = known.algorithm;
  if (known.timeout_ns != 0) options.timeout = std::chrono::nanoseconds(known.timeout_ns);
  if (known.log_level != nullptr) options.log_level = known.log_level;
  if (known.transports != nullptr) {
    std::vector<std::string> names(1);
    for (const char* c = known.transports; *c != '\0'; ++c) {
      if (*c == ',') names.emplace_back();
      else names.back().push_back(*c);
    }
    options.transports = std::move(names);
  }
  return options;
}

longspan_status_t keep(longspan::Result<Communicator> made, longspan_comm_t* comm) {
  if (!made.ok()) return tell(made.status());
  *comm = new longspan_comm{std::move(*made)};
  return LONGSPAN_OK;
}

template <class Call>
longspan_status_t with(longspan_comm_t comm, Call&& call) {
  return guarded([&] { return comm == nullptr ? refuse("the communicator is NULL") : call(comm->comm); });
}

/// A send or receive: handed out as `work`, left to the group, or waited for.
template <class Begin>
longspan_status_t message(longspan_comm_t comm, longspan_type_t type, longspan_stream_t stream, longspan_work_t* work,
                          Begin&& begin) {
  return with(comm, [&](Communicator& c) {
    if (!valid(type)) return refuse("unknown element type");
    longspan::Work started = begin(c);
    if (work != nullptr) {
      *work = new longspan_work{std::move(started)};
      return LONGSPAN_OK;
    }
    if (stream != nullptr) return tell(started.status());
    return g_group_depth > 0 ? LONGSPAN_OK : tell(started.wait());
  });
}

std::span<const std::size_t> list(const size_t* values, const Communicator& comm) {
  return values == nullptr ? std::span<const std::size_t>() : std::span(values, static_cast<std::size_t>(comm.size()));
}

}  // namespace

extern "C" {

const char* longspan_version(void) { return LONGSPAN_VERSION; }

const char* longspan_status_string(longspan_status_t status) {
  if (status == LONGSPAN_IN_PROGRESS) return "the operation is still running";
  if (status < LONGSPAN_OK || status > LONGSPAN_INTERNAL) return "unknown code";
  return longspan::meaning_of(static_cast<StatusCode>(status)).data();
}

const char* longspan_last_error(void) { return g_last_error.c_str(); }

longspan_status_t longspan_unique_id(longspan_unique_id_t* id) {
  return guarded([&] {
    if (id == nullptr) return refuse("id is NULL");
    static_assert(sizeof *id == longspan::UniqueId::kBytes);
    auto made = longspan::make_unique_id();
    if (!made.ok()) return tell(made.status());
    std::memcpy(id->bytes, made->bytes, sizeof id->bytes);
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_init(const longspan_unique_id_t* id, int rank, int size, const longspan_options_t* options,
                                longspan_comm_t* comm) {
  return guarded([&] {
    if (id == nullptr || comm == nullptr) return refuse("id and comm must not be NULL");
    longspan::UniqueId copy;
    std::memcpy(copy.bytes, id->bytes, sizeof copy.bytes);
    return keep(Communicator::create(copy, rank, size, options_of(options)), comm);
  });
}

longspan_status_t longspan_init_from_environment(const longspan_options_t* options, longspan_comm_t* comm) {
  return guarded(
      [&] { return comm == nullptr ? refuse("comm is NULL") : keep(Communicator::create(options_of(options)), comm); });
}

longspan_status_t longspan_split(longspan_comm_t comm, int color, int key, longspan_comm_t* child) {
  return with(comm, [&](Communicator& parent) {
    if (child == nullptr) return refuse("child is NULL");
    *child = nullptr;
    auto made = parent.split(color, key);
    if (made.ok() && color < 0) return LONGSPAN_OK;
    return keep(std::move(made), child);
  });
}

longspan_status_t longspan_destroy(longspan_comm_t comm) {
  return guarded([&] {
    delete comm;
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_abort(longspan_comm_t comm, const char* reason) {
  return with(comm, [&](Communicator& c) {
    c.abort(reason == nullptr ? "no reason given" : reason);
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_comm_error(longspan_comm_t comm) {
  return with(comm, [](Communicator& c) { return tell(c.error()); });
}

longspan_status_t longspan_rank(longspan_comm_t comm, int* rank) {
  return with(comm, [&](Communicator& c) {
    if (rank == nullptr) return refuse("rank is NULL");
    *rank = c.rank();
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_size(longspan_comm_t comm, int* size) {
  return with(comm, [&](Communicator& c) {
    if (size == nullptr) return refuse("size is NULL");
    *size = c.size();
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_all_reduce(const void* in, void* out, size_t count, longspan_type_t type, longspan_op_t op,
                                      longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kAllReduce, in, out, count, type, op, 0, comm, stream, work);
}

longspan_status_t longspan_all_reduce_premul_sum(const void* in, void* out, size_t count, longspan_type_t type,
                                                 double factor, longspan_comm_t comm, longspan_stream_t stream,
                                                 longspan_work_t* work) {
  return start(Collective::kAllReduce, in, out, count, type, LONGSPAN_PREMUL_SUM, 0, comm, stream, work, factor);
}

longspan_status_t longspan_all_gather(const void* in, void* out, size_t count, longspan_type_t type,
                                      longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kAllGather, in, out, count, type, LONGSPAN_SUM, 0, comm, stream, work);
}

longspan_status_t longspan_reduce_scatter(const void* in, void* out, size_t count, longspan_type_t type,
                                          longspan_op_t op, longspan_comm_t comm, longspan_stream_t stream,
                                          longspan_work_t* work) {
  return start(Collective::kReduceScatter, in, out, count, type, op, 0, comm, stream, work);
}

longspan_status_t longspan_broadcast(const void* in, void* out, size_t count, longspan_type_t type, int root,
                                     longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kBroadcast, in, out, count, type, LONGSPAN_SUM, root, comm, stream, work);
}

longspan_status_t longspan_reduce(const void* in, void* out, size_t count, longspan_type_t type, longspan_op_t op,
                                  int root, longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kReduce, in, out, count, type, op, root, comm, stream, work);
}

longspan_status_t longspan_gather(const void* in, void* out, size_t count, longspan_type_t type, int root,
                                  longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kGather, in, out, count, type, LONGSPAN_SUM, root, comm, stream, work);
}

longspan_status_t longspan_scatter(const void* in, void* out, size_t count, longspan_type_t type, int root,
                                   longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kScatter, in, out, count, type, LONGSPAN_SUM, root, comm, stream, work);
}

longspan_status_t longspan_all_to_all(const void* in, void* out, size_t count, longspan_type_t type,
                                      longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kAllToAll, in, out, count, type, LONGSPAN_SUM, 0, comm, stream, work);
}

longspan_status_t longspan_barrier(longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return start(Collective::kBarrier, nullptr, nullptr, 0, LONGSPAN_UINT8, LONGSPAN_SUM, 0, comm, stream, work);
}

longspan_status_t longspan_all_gather_v(const void* in, void* out, const size_t* counts, const size_t* offsets,
                                        longspan_type_t type, longspan_comm_t comm, longspan_stream_t stream,
                                        longspan_work_t* work) {
  if (comm == nullptr || counts == nullptr || !valid(type)) {
    return refuse("all_gather_v: comm, counts or type is wrong");
  }
  CollectiveCall call;
  call.kind = Collective::kAllGather;
  call.in = in;
  call.out = out;
  call.out_counts = list(counts, comm->comm);
  call.out_offsets = list(offsets, comm->comm);
  call.type = static_cast<DataType>(type);
  call.stream = stream;
  return launch(comm, call, work);
}

longspan_status_t longspan_reduce_scatter_v(const void* in, void* out, const size_t* counts, longspan_type_t type,
                                            longspan_op_t op, longspan_comm_t comm, longspan_stream_t stream,
                                            longspan_work_t* work) {
  if (comm == nullptr || counts == nullptr || !valid(type) || !valid(op)) {
    return refuse("reduce_scatter_v: comm, counts, type or op is wrong");
  }
  CollectiveCall call;
  call.kind = Collective::kReduceScatter;
  call.in = in;
  call.out = out;
  call.in_counts = list(counts, comm->comm);
  call.type = static_cast<DataType>(type);
  call.op = static_cast<ReduceOp>(op);
  call.stream = stream;
  return launch(comm, call, work);
}

longspan_status_t longspan_gather_v(const void* in, size_t count, void* out, const size_t* counts,
                                    const size_t* offsets, longspan_type_t type, int root, longspan_comm_t comm,
                                    longspan_stream_t stream, longspan_work_t* work) {
  if (comm == nullptr || !valid(type)) return refuse("gather_v: comm or type is wrong");
  CollectiveCall call;
  call.kind = Collective::kGather;
  call.private_lengths = true;
  call.in = in;
  call.out = out;
  call.count = count;
  call.root = root;
  if (comm->comm.rank() == root) {
    call.out_counts = list(counts, comm->comm);
    call.out_offsets = list(offsets, comm->comm);
  }
  call.type = static_cast<DataType>(type);
  call.stream = stream;
  return launch(comm, call, work);
}

longspan_status_t longspan_scatter_v(const void* in, const size_t* counts, const size_t* offsets, void* out,
                                     size_t count, longspan_type_t type, int root, longspan_comm_t comm,
                                     longspan_stream_t stream, longspan_work_t* work) {
  if (comm == nullptr || !valid(type)) return refuse("scatter_v: comm or type is wrong");
  CollectiveCall call;
  call.kind = Collective::kScatter;
  call.private_lengths = true;
  call.in = in;
  call.out = out;
  call.count = count;
  call.root = root;
  if (comm->comm.rank() == root) {
    call.in_counts = list(counts, comm->comm);
    call.in_offsets = list(offsets, comm->comm);
  }
  call.type = static_cast<DataType>(type);
  call.stream = stream;
  return launch(comm, call, work);
}

longspan_status_t longspan_all_to_all_v(const void* in, const size_t* in_counts, const size_t* in_offsets, void* out,
                                        const size_t* out_counts, const size_t* out_offsets, longspan_type_t type,
                                        longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  if (comm == nullptr || in_counts == nullptr || out_counts == nullptr || !valid(type)) {
    return refuse("all_to_all_v: comm, counts or type is wrong");
  }
  CollectiveCall call;
  call.kind = Collective::kAllToAll;
  call.private_lengths = true;
  call.in = in;
  call.out = out;
  call.in_counts = list(in_counts, comm->comm);
  call.in_offsets = list(in_offsets, comm->comm);
  call.out_counts = list(out_counts, comm->comm);
  call.out_offsets = list(out_offsets, comm->comm);
  call.type = static_cast<DataType>(type);
  call.stream = stream;
  return launch(comm, call, work);
}

longspan_status_t longspan_send(const void* data, size_t count, longspan_type_t type, int peer, uint32_t tag,
                                longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return message(comm, type, stream, work,
                 [&](Communicator& c) { return c.send(data, count, static_cast<DataType>(type), peer, tag, stream); });
}

longspan_status_t longspan_recv(void* data, size_t count, longspan_type_t type, int peer, uint32_t tag,
                                longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work) {
  return message(comm, type, stream, work,
                 [&](Communicator& c) { return c.recv(data, count, static_cast<DataType>(type), peer, tag, stream); });
}

longspan_status_t longspan_group_start(void) {
  return guarded([] {
    if (g_group_depth++ == 0) g_group = std::make_unique<longspan::CallGroup>();
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_group_end(void) {
  return guarded([] {
    if (g_group_depth == 0) return refuse("group_end without group_start");
    if (--g_group_depth > 0) return LONGSPAN_OK;
    const Status status = g_group->end();
    g_group.reset();
    return tell(status);
  });
}

longspan_status_t longspan_wait(longspan_work_t work, uint64_t timeout_ns) {
  return guarded([&] {
    if (work == nullptr) return refuse("the work is NULL");
    return tell(timeout_ns == 0 ? work->work.wait() : work->work.wait_for(std::chrono::nanoseconds(timeout_ns)));
  });
}

longspan_status_t longspan_test(longspan_work_t work) {
  return guarded([&] {
    if (work == nullptr) return refuse("the work is NULL");
    return work->work.test() ? tell(work->work.status()) : LONGSPAN_IN_PROGRESS;
  });
}

longspan_status_t longspan_work_source(longspan_work_t work, int* source, size_t* count) {
  return guarded([&] {
    if (work == nullptr) return refuse("the work is NULL");
    if (source != nullptr) *source = work->work.source();
    if (count != nullptr) *count = work->work.received_count();
    return LONGSPAN_OK;
  });
}

void longspan_free_work(longspan_work_t work) { delete work; }

longspan_status_t longspan_register_buffer(longspan_comm_t comm, void* data, size_t bytes) {
  return with(comm, [&](Communicator& c) { return tell(c.register_buffer(data, bytes)); });
}

longspan_status_t longspan_unregister_buffer(longspan_comm_t comm, void* data) {
  return with(comm, [&](Communicator& c) { return tell(c.unregister_buffer(data)); });
}

longspan_status_t longspan_alloc(longspan_comm_t comm, size_t bytes, void** data) {
  return with(comm, [&](Communicator& c) {
    if (data == nullptr) return refuse("data is NULL");
    auto memory = c.alloc(bytes);
    if (!memory.ok()) return tell(memory.status());
    *data = *memory;
    return LONGSPAN_OK;
  });
}

longspan_status_t longspan_free(longspan_comm_t comm, void* data) {
  return with(comm, [&](Communicator& c) { return tell(c.free(data)); });
}

longspan_status_t longspan_link_stats(longspan_comm_t comm, longspan_link_stats_t* stats, size_t capacity,
                                      size_t* count) {
  return with(comm, [&](Communicator& c) {
    if (count == nullptr || (stats == nullptr && capacity > 0)) return refuse("stats or count is NULL");
    const std::vector<longspan::LinkStats> links = c.link_stats();
    *count = links.size();
    for (size_t i = 0; i < links.size() && i < capacity; ++i) {
      // A caller built with another version of the struct would have its array overrun.
      if (stats[i].size != sizeof *stats) return refuse("set size of each entry to sizeof(longspan_link_stats_t)");
      const longspan::LinkStats& link = links[i];
      longspan_link_stats_t& to = stats[i];
      const auto ns = [](std::chrono::nanoseconds time) { return static_cast<uint64_t>(time.count()); };
      std::memset(to.name, 0, sizeof to.name);
      link.name.copy(to.name, sizeof to.name - 1);
      to.bandwidth = link.bandwidth_bytes_per_second;
      to.capacity = link.capacity_bytes_per_second;
      to.rate = link.rate_bytes_per_second;
      to.share_used = link.share_used;
      to.leased = link.leased_bytes_per_second;
      to.bytes_sent = link.bytes_sent;
      to.rtt_ns = ns(link.rtt);
      to.min_rtt_ns = ns(link.min_rtt);
      to.queue_delay_ns = ns(link.queue_delay);
      to.retransmits = link.retransmits;
      to.drops = link.drops;
      to.reconnects = link.reconnects;
      to.observed_loss = link.observed_loss;
      to.connections = link.connections;
      to.repair_connections = link.repair_connections;
    }
    return LONGSPAN_OK;
  });
}

}  // extern "C"
