#include "verbs/queue_pair.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

namespace longspan::verbs {
namespace {

std::uint32_t random_packet_number() {
  static thread_local std::minstd_rand source(std::random_device{}());
  return static_cast<std::uint32_t>(source()) & 0xffffff;
}

ibv_qp* make(const Device& device, ibv_cq* queue, const QueuePair::Sizes& sizes, std::uint32_t inline_bytes,
             std::uint32_t& granted) {
  ibv_qp_init_attr attributes{};
  attributes.send_cq = queue;
  attributes.recv_cq = queue;
  attributes.cap.max_send_wr = sizes.sends;
  attributes.cap.max_recv_wr = sizes.receives;
  attributes.cap.max_send_sge = 2;
  attributes.cap.max_recv_sge = 1;
  attributes.cap.max_inline_data = inline_bytes;
  attributes.qp_type = IBV_QPT_RC;
  attributes.sq_sig_all = 1;
  ibv_qp* const made = ibv_create_qp(device.domain.get(), &attributes);
  granted = attributes.cap.max_inline_data;
  return made;
}

}  // namespace

std::string describe(ibv_wc_status status, const Device& device) {
  return fmt::format("{} ({})", ibv_wc_status_str(status), device.where());
}

Result<QueuePair> QueuePair::create(const Device& device, ibv_cq* queue, const Sizes& sizes) {
  QueuePair pair;
  // How much may be inlined no attribute of the device tells: less is asked for until it is granted.
  for (std::uint32_t wanted = sizes.inline_bytes;; wanted /= 2) {
    pair.handle_.reset(make(device, queue, sizes, wanted, pair.inline_bytes_));
    if (pair.handle_ != nullptr || wanted < sizeof(wire::Frame)) break;
  }
  if (pair.handle_ == nullptr) {
    return Status(
        StatusCode::kResource,
        fmt::format(
            "verbs: {} gives no more queue pairs (errno {}); is the limit of lockable memory (ulimit -l) too low?",
            device.where(), errno));
  }
  pair.sends_ = sizes.sends;
  pair.first_packet_ = random_packet_number();
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_INIT;
  attributes.pkey_index = device.pkey_index;
  attributes.port_num = device.port;
  attributes.qp_access_flags = IBV_ACCESS_REMOTE_WRITE;
  if (const int error = ibv_modify_qp(pair.handle_.get(), &attributes,
                                      IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
      error != 0) {
    return system_error("verbs: a queue pair of " + device.where() + " cannot be initialised", error);
  }
  return pair;
}

Status QueuePair::connect(const Device& device, const wire::Greeting& peer, const wire::QueueName& name) {
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_RTR;
  attributes.path_mtu = std::min(device.mtu, static_cast<ibv_mtu>(peer.mtu));
  attributes.dest_qp_num = name.number;
  attributes.rq_psn = name.first_packet;
  attributes.max_dest_rd_atomic = 1;
  attributes.min_rnr_timer = 12;
  ibv_ah_attr& way = attributes.ah_attr;
  way.is_global = 1;
  std::copy(peer.gid.begin(), peer.gid.end(), way.grh.dgid.raw);
  way.grh.sgid_index = static_cast<std::uint8_t>(device.gid_index);
  way.grh.hop_limit = 64;
  way.grh.traffic_class = device.wishes.traffic_class;
  way.dlid = peer.lid;
  way.sl = device.wishes.service_level;
  way.port_num = device.port;
  int error = ibv_modify_qp(handle_.get(), &attributes,
                            IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU | IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
                                IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
  if (error != 0) {
    ibv_gid gid{};
    std::copy(peer.gid.begin(), peer.gid.end(), gid.raw);
    return system_error(fmt::format("verbs: {} has no way to {}", device.where(), to_string(gid)), error);
  }
  attributes = {};
  attributes.qp_state = IBV_QPS_RTS;
  attributes.timeout = device.wishes.timeout;
  attributes.retry_cnt = device.wishes.retries;
  attributes.rnr_retry = 7;  // for ever; credits see to it that no receive is missing
  attributes.sq_psn = first_packet_;
  attributes.max_rd_atomic = 1;
  error = ibv_modify_qp(
      handle_.get(), &attributes,
      IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC);
  return error == 0 ? Status()
                    : system_error("verbs: a queue pair of " + device.where() + " cannot be made ready", error);
}

void QueuePair::stop() noexcept {
  if (handle_ == nullptr) return;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  ibv_modify_qp(handle_.get(), &attributes, IBV_QP_STATE);
}

bool QueuePair::post_receive(std::uint64_t slot, std::span<std::byte> buffer, std::uint32_t key) noexcept {
  ibv_sge piece{reinterpret_cast<std::uint64_t>(buffer.data()), static_cast<std::uint32_t>(buffer.size()), key};
  ibv_recv_wr request{};
  request.wr_id = slot | kIsReceive;
  request.sg_list = &piece;
  request.num_sge = buffer.empty() ? 0 : 1;
  ibv_recv_wr* bad = nullptr;
  return ibv_post_recv(handle_.get(), &request, &bad) == 0;
}

bool QueuePair::send(std::span<ibv_sge> pieces, bool inlined, const SendWork& work) {
  ibv_send_wr request{};
  request.sg_list = pieces.data();
  request.num_sge = static_cast<int>(pieces.size());
  request.opcode = IBV_WR_SEND;
  request.send_flags =
      static_cast<unsigned>(IBV_SEND_SIGNALED) | (inlined ? static_cast<unsigned>(IBV_SEND_INLINE) : 0u);
  ibv_send_wr* bad = nullptr;
  if (ibv_post_send(handle_.get(), &request, &bad) != 0) return false;
  works_.push_back(work);
  return true;
}

bool QueuePair::write(std::span<const std::byte> data, std::uint32_t key, std::uint64_t address,
                      std::uint32_t remote_key, std::uint32_t token, const SendWork& work) {
  ibv_sge piece{reinterpret_cast<std::uint64_t>(data.data()), static_cast<std::uint32_t>(data.size()), key};
  ibv_send_wr request{};
  request.sg_list = &piece;
  request.num_sge = 1;
  request.opcode = IBV_WR_RDMA_WRITE_WITH_IMM;
  request.send_flags = IBV_SEND_SIGNALED;
  request.imm_data = token;
  request.wr.rdma.remote_addr = address;
  request.wr.rdma.rkey = remote_key;
  ibv_send_wr* bad = nullptr;
  if (ibv_post_send(handle_.get(), &request, &bad) != 0) return false;
  works_.push_back(work);
  return true;
}

}  // namespace longspan::verbs
