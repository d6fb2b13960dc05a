/* The C interface of longspan. Mirrors longspan/communicator.hpp; see there for what each call means.
 *
 *     longspan_comm_t comm;
 *     if (longspan_init_from_environment(NULL, &comm) != LONGSPAN_OK) die(longspan_last_error());
 *     longspan_all_reduce(x, x, n, LONGSPAN_FLOAT32, LONGSPAN_SUM, comm, NULL, NULL);
 *     longspan_destroy(comm);
 *
 * Every function returns a longspan_status_t; after a failure longspan_last_error() (per thread) says what, where and
 * what to do. No function throws. Functions with a `work` argument start an operation and return at once when `work` is
 * not NULL, and block when it is NULL. */
#ifndef LONGSPAN_LONGSPAN_H
#define LONGSPAN_LONGSPAN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LONGSPAN_C_API __attribute__((visibility("default")))

#define LONGSPAN_API_VERSION 1

typedef struct longspan_comm* longspan_comm_t;
typedef struct longspan_work* longspan_work_t;
/* Where an operation is ordered; NULL is the host. A CUstream (cudaStream_t): begun when the stream comes to it, and
 * the stream waits for its result; calls without a work return at once then. Sends and receives of a group begin
 * together. Buffers may be CUDA device memory. The default stream is cudaStreamLegacy or cudaStreamPerThread, never
 * NULL. */
typedef void* longspan_stream_t;

typedef enum {
  LONGSPAN_OK = 0,
  LONGSPAN_INVALID_ARGUMENT = 1, /* an argument, option or file is wrong */
  LONGSPAN_MISMATCH = 2,         /* ranks called the same collective with different arguments */
  LONGSPAN_TIMEOUT = 3,          /* the deadline passed */
  LONGSPAN_PEER_LOST = 4,        /* a peer died or became unreachable */
  LONGSPAN_ABORTED = 5,          /* abort was called here or on another rank */
  LONGSPAN_UNSUPPORTED = 6,      /* valid, but not offered here */
  LONGSPAN_RESOURCE = 7,         /* out of memory, descriptors, ports or a kernel limit */
  LONGSPAN_SYSTEM = 8,           /* a system call failed */
  LONGSPAN_INTERNAL = 9,         /* a defect in longspan */
  LONGSPAN_IN_PROGRESS = 100     /* longspan_test: not done yet */
} longspan_status_t;

typedef enum {
  LONGSPAN_INT8 = 0, LONGSPAN_UINT8, LONGSPAN_INT32, LONGSPAN_UINT32, LONGSPAN_INT64, LONGSPAN_UINT64,
  LONGSPAN_FLOAT16, LONGSPAN_BFLOAT16, LONGSPAN_FLOAT32, LONGSPAN_FLOAT64, LONGSPAN_FLOAT8_E4M3, LONGSPAN_FLOAT8_E5M2
} longspan_type_t;

typedef enum {
  LONGSPAN_SUM = 0,
  LONGSPAN_PROD,
  LONGSPAN_MIN,
  LONGSPAN_MAX,
  LONGSPAN_AVG,
  LONGSPAN_PREMUL_SUM
} longspan_op_t;

#define LONGSPAN_ANY_SOURCE (-1)

/* Settings; start from LONGSPAN_OPTIONS_INIT. NULL and 0 mean: from the environment, then the default. `size` and
 * `version` let later versions grow the struct without breaking programs that were built before. */
typedef struct {
  size_t size;
  uint32_t version;
  const char* topology_file;
  const char* host;
  const char* algorithm;
  const char* transports; /* comma-separated */
  uint64_t timeout_ns;
  const char* log_level;
} longspan_options_t;
#define LONGSPAN_OPTIONS_INIT {sizeof(longspan_options_t), LONGSPAN_API_VERSION, NULL, NULL, NULL, NULL, 0, NULL}

typedef struct { char bytes[128]; } longspan_unique_id_t;

/* "0.1.0". */
LONGSPAN_C_API const char* longspan_version(void);
/* One line per code. */
LONGSPAN_C_API const char* longspan_status_string(longspan_status_t status);
/* What the last failing call of this thread reported; "" when none failed. Valid until the thread's next failure. */
LONGSPAN_C_API const char* longspan_last_error(void);

LONGSPAN_C_API longspan_status_t longspan_unique_id(longspan_unique_id_t* id);
LONGSPAN_C_API longspan_status_t longspan_init(const longspan_unique_id_t* id, int rank, int size,
                                               const longspan_options_t* options, longspan_comm_t* comm);
LONGSPAN_C_API longspan_status_t longspan_init_from_environment(const longspan_options_t* options,
                                                                longspan_comm_t* comm);
/* *child is NULL when color < 0. */
LONGSPAN_C_API longspan_status_t longspan_split(longspan_comm_t comm, int color, int key, longspan_comm_t* child);
/* First sends what finished calls still owe other regions. */
LONGSPAN_C_API longspan_status_t longspan_destroy(longspan_comm_t comm);
LONGSPAN_C_API longspan_status_t longspan_abort(longspan_comm_t comm, const char* reason);
LONGSPAN_C_API longspan_status_t longspan_comm_error(longspan_comm_t comm);
LONGSPAN_C_API longspan_status_t longspan_rank(longspan_comm_t comm, int* rank);
LONGSPAN_C_API longspan_status_t longspan_size(longspan_comm_t comm, int* size);

LONGSPAN_C_API longspan_status_t longspan_all_reduce(const void* in, void* out, size_t count, longspan_type_t type,
                                                     longspan_op_t op, longspan_comm_t comm, longspan_stream_t stream,
                                                     longspan_work_t* work);
/* Sum of every rank's input times that rank's `factor`. */
LONGSPAN_C_API longspan_status_t longspan_all_reduce_premul_sum(const void* in, void* out, size_t count,
                                                                longspan_type_t type, double factor,
                                                                longspan_comm_t comm, longspan_stream_t stream,
                                                                longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_all_gather(const void* in, void* out, size_t count, longspan_type_t type,
                                                     longspan_comm_t comm, longspan_stream_t stream,
                                                     longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_reduce_scatter(const void* in, void* out, size_t count, longspan_type_t type,
                                                         longspan_op_t op, longspan_comm_t comm,
                                                         longspan_stream_t stream, longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_broadcast(const void* in, void* out, size_t count, longspan_type_t type,
                                                    int root, longspan_comm_t comm, longspan_stream_t stream,
                                                    longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_reduce(const void* in, void* out, size_t count, longspan_type_t type,
                                                 longspan_op_t op, int root, longspan_comm_t comm,
                                                 longspan_stream_t stream, longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_gather(const void* in, void* out, size_t count, longspan_type_t type,
                                                 int root, longspan_comm_t comm, longspan_stream_t stream,
                                                 longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_scatter(const void* in, void* out, size_t count, longspan_type_t type,
                                                  int root, longspan_comm_t comm, longspan_stream_t stream,
                                                  longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_all_to_all(const void* in, void* out, size_t count, longspan_type_t type,
                                                     longspan_comm_t comm, longspan_stream_t stream,
                                                     longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_barrier(longspan_comm_t comm, longspan_stream_t stream,
                                                  longspan_work_t* work);

/* Variable counts, as in MPI: elements per rank; offsets NULL: packed. */
LONGSPAN_C_API longspan_status_t longspan_all_gather_v(const void* in, void* out, const size_t* counts,
                                                       const size_t* offsets, longspan_type_t type,
                                                       longspan_comm_t comm, longspan_stream_t stream,
                                                       longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_reduce_scatter_v(const void* in, void* out, const size_t* counts,
                                                           longspan_type_t type, longspan_op_t op, longspan_comm_t comm,
                                                           longspan_stream_t stream, longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_gather_v(const void* in, size_t count, void* out, const size_t* counts,
                                                   const size_t* offsets, longspan_type_t type, int root,
                                                   longspan_comm_t comm, longspan_stream_t stream,
                                                   longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_scatter_v(const void* in, const size_t* counts, const size_t* offsets,
                                                    void* out, size_t count, longspan_type_t type, int root,
                                                    longspan_comm_t comm, longspan_stream_t stream,
                                                    longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_all_to_all_v(const void* in, const size_t* in_counts,
                                                       const size_t* in_offsets, void* out, const size_t* out_counts,
                                                       const size_t* out_offsets, longspan_type_t type,
                                                       longspan_comm_t comm, longspan_stream_t stream,
                                                       longspan_work_t* work);

LONGSPAN_C_API longspan_status_t longspan_send(const void* data, size_t count, longspan_type_t type, int peer,
                                               uint32_t tag, longspan_comm_t comm, longspan_stream_t stream,
                                               longspan_work_t* work);
LONGSPAN_C_API longspan_status_t longspan_recv(void* data, size_t count, longspan_type_t type, int peer, uint32_t tag,
                                               longspan_comm_t comm, longspan_stream_t stream, longspan_work_t* work);

/* Calls of this thread between start and end may block on each other in any order; end waits for all. */
LONGSPAN_C_API longspan_status_t longspan_group_start(void);
LONGSPAN_C_API longspan_status_t longspan_group_end(void);

/* A work must be given to longspan_free_work once, done or not. timeout_ns 0: the operation's own deadline. */
LONGSPAN_C_API longspan_status_t longspan_wait(longspan_work_t work, uint64_t timeout_ns);
LONGSPAN_C_API longspan_status_t longspan_test(longspan_work_t work);
LONGSPAN_C_API longspan_status_t longspan_work_source(longspan_work_t work, int* source, size_t* count);
LONGSPAN_C_API void longspan_free_work(longspan_work_t work);

LONGSPAN_C_API longspan_status_t longspan_register_buffer(longspan_comm_t comm, void* data, size_t bytes);
LONGSPAN_C_API longspan_status_t longspan_unregister_buffer(longspan_comm_t comm, void* data);
LONGSPAN_C_API longspan_status_t longspan_alloc(longspan_comm_t comm, size_t bytes, void** data);
LONGSPAN_C_API longspan_status_t longspan_free(longspan_comm_t comm, void* data);

/* This rank's use of one directed WAN link, as longspan::LinkStats says. Rates are bytes per second, times are
 * nanoseconds. */
typedef struct {
  size_t size; /* of this struct: set by the caller */
  char name[64]; /* "eu -> us" */
  double bandwidth;     /* as the topology states it */
  double capacity;      /* what the link was found to carry; at most as stated */
  double rate;          /* what arrived while this rank last used it, of IP packets */
  double share_used;    /* rate / capacity */
  double leased;        /* what this rank may send now */
  uint64_t bytes_sent;  /* payload */
  uint64_t rtt_ns;
  uint64_t min_rtt_ns;
  uint64_t queue_delay_ns;
  uint64_t retransmits;
  uint64_t drops;       /* packets that the network lost */
  uint64_t reconnects;
  double observed_loss;        /* share of packets, at random; 0: none was seen */
  uint32_t connections;        /* that carry data now */
  uint32_t repair_connections; /* that repeat the end of it (lossy links) */
} longspan_link_stats_t;
/* Every WAN link of the topology, in its order: fills at most `capacity` entries of `stats`, each with `size` set, and
 * tells in *count how many there are. stats may be NULL when capacity is 0. No communication. */
LONGSPAN_C_API longspan_status_t longspan_link_stats(longspan_comm_t comm, longspan_link_stats_t* stats,
                                                     size_t capacity, size_t* count);

#ifdef __cplusplus
}
#endif

#endif
