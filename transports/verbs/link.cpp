#include "verbs/link.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.hpp"

namespace longspan::verbs {
namespace {

constexpr std::uint32_t kBuffers = 32;
constexpr std::uint32_t kFrameSends = 128;
constexpr std::uint32_t kSegments = 64;
/// Receives that only frames about receives may use, so that those always get through: at most four of them (a quarter
/// of the buffers is reported at a time) go before the other side reports theirs.
constexpr std::uint32_t kReserve = 8;
constexpr std::uint32_t kInline = 256;

}  // namespace

Link::~Link() {
  if (control_.valid()) drop(control_);
  for (Lane& lane : lanes_) {
    if (lane.queue.valid()) drop(lane.queue);
  }
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    Waiting waiting = waiting_.pop_front();
    if (waiting.work.message != nullptr) user_.on_work(*this, waiting.work, false);
    waiting_.push_back(std::move(waiting));
  }
}

Status Link::enlist(const QueuePair& queue, std::size_t lane) {
  adapter_.enlist(queue.number(), *this, lane);
  return {};
}

/// Its requests end here: no completion of it is looked at any more.
void Link::drop(QueuePair& queue) {
  const bool of_lane = &queue != &control_;
  adapter_.dismiss(queue.number());
  adapter_.release(of_lane ? 2 * kSegments : kFrameSends + kBuffers);
  while (!queue.idle()) on_sent(queue, of_lane, false);
  queue = QueuePair();
}

Status Link::create(std::size_t lanes) {
  LONGSPAN_TRY(adapter_.reserve(kFrameSends + kBuffers));
  auto control = QueuePair::create(adapter_.device(), adapter_.queue(), {kFrameSends, kBuffers, kInline});
  if (!control.ok()) {
    adapter_.release(kFrameSends + kBuffers);
    return control.status();
  }
  control_ = std::move(*control);
  LONGSPAN_TRY(enlist(control_, 0));
  LONGSPAN_ASSIGN(buffers_, Block::create(adapter_.device(), kBuffers * wire::kBufferBytes));
  for (std::size_t i = 0; i < kBuffers; ++i) {
    const auto buffer = buffers_.bytes().subspan(i * wire::kBufferBytes, wire::kBufferBytes);
    if (!control_.post_receive(i, buffer, buffers_.key())) {
      return Status(StatusCode::kResource, "verbs: receives cannot be posted on " + adapter_.device().where());
    }
  }
  lanes_.resize(lanes);
  for (Lane& lane : lanes_) LONGSPAN_TRY(make_lane(lane));
  return {};
}

Status Link::make_lane(Lane& lane) {
  lane = Lane{};
  LONGSPAN_TRY(adapter_.reserve(2 * kSegments));
  auto queue = QueuePair::create(adapter_.device(), adapter_.queue(), {kSegments, kSegments, 0});
  if (!queue.ok()) {
    adapter_.release(2 * kSegments);
    return queue.status();
  }
  lane.queue = std::move(*queue);
  LONGSPAN_TRY(enlist(lane.queue, static_cast<std::size_t>(&lane - lanes_.data()) + 1));
  for (std::uint32_t i = 0; i < kSegments; ++i) {
    if (!lane.queue.post_receive(i, {}, 0)) {
      return Status(StatusCode::kResource, "verbs: receives cannot be posted on " + adapter_.device().where());
    }
  }
  return {};
}

void Link::describe(wire::Greeting& greeting) const {
  const Device& device = adapter_.device();
  std::copy_n(device.gid.raw, greeting.gid.size(), greeting.gid.begin());
  greeting.lid = device.lid;
  greeting.mtu = static_cast<std::uint8_t>(device.mtu);
  greeting.lanes = static_cast<std::uint8_t>(lanes_.size());
  greeting.buffers = kBuffers;
  greeting.segments = kSegments;
  greeting.control = control_.name();
  for (std::size_t i = 0; i < lanes_.size(); ++i) greeting.data[i] = lanes_[i].queue.name();
}

Status Link::connect(const wire::Greeting& peer) {
  if (peer.lanes != lanes_.size()) {
    return Status(StatusCode::kInternal, "verbs: the peer answers with another number of lanes");
  }
  peer_ = peer;
  room_ = peer.buffers;
  LONGSPAN_TRY(control_.connect(adapter_.device(), peer, peer.control));
  return connect_lanes(std::span(peer.data).first(peer.lanes));
}

Status Link::connect_lanes(std::span<const wire::QueueName> names) {
  if (names.size() != lanes_.size()) {
    return Status(StatusCode::kInternal, "verbs: the peer names another number of lanes");
  }
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    LONGSPAN_TRY(lanes_[i].queue.connect(adapter_.device(), peer_, names[i]));
    lanes_[i].room = std::min(peer_.segments, kSegments);
  }
  lanes_up_ = true;
  return {};
}

// ---- frames ----

void Link::push(const wire::Frame& frame, const SendWork& work, std::vector<wire::QueueName> names) {
  waiting_.push_back({frame, work, std::move(names)});
}

void Link::flush() {
  if (!open_ || failed_) return;
  while (!waiting_.empty() && takes_frame()) {
    Waiting next = waiting_.pop_front();
    if (!post(next.frame, std::as_bytes(std::span(next.names)), next.work)) break;
  }
  return_slots();
}

bool Link::takes_frame() const noexcept { return open_ && !failed_ && room_ > kReserve && control_.has_room(); }

bool Link::send_eager(wire::Frame frame, std::span<const std::byte> payload) {
  return waiting_.empty() && takes_frame() && post(frame, payload, {});
}

bool Link::post(wire::Frame frame, std::span<const std::byte> payload, SendWork work) {
  frame.payload = static_cast<std::uint32_t>(payload.size());
  frame.slots = std::exchange(owed_, 0);
  const std::size_t bytes = sizeof frame + payload.size();
  std::array<ibv_sge, 2> pieces{};
  bool posted = false;
  if (bytes <= control_.inline_bytes()) {
    pieces[0] = {reinterpret_cast<std::uint64_t>(&frame), sizeof frame, 0};
    pieces[1] = {reinterpret_cast<std::uint64_t>(payload.data()), static_cast<std::uint32_t>(payload.size()), 0};
    posted = control_.send(std::span(pieces).first(payload.empty() ? 1 : 2), true, work);
  } else if ((work.bounce = adapter_.take_bounce()) != nullptr) {
    std::memcpy(work.bounce->data, &frame, sizeof frame);
    if (!payload.empty()) std::memcpy(work.bounce->data + sizeof frame, payload.data(), payload.size());
    pieces[0] = {reinterpret_cast<std::uint64_t>(work.bounce->data), static_cast<std::uint32_t>(bytes),
                 work.bounce->key};
    posted = control_.send(std::span(pieces).first(1), false, work);
    if (!posted) adapter_.give_back(work.bounce);
  }
  if (posted) {
    --room_;
    return true;
  }
  failed_ = true;
  if (work.message != nullptr) user_.on_work(*this, work, false);
  user_.on_failure(*this, fmt::format("{} takes no more requests", adapter_.device().where()));
  return false;
}

/// Tells the other side which receives are posted again, when it is a quarter of them, and nothing else that goes tells
/// it.
void Link::return_slots() {
  wire::Frame frame;
  frame.type = wire::FrameType::kSlots;
  if (owed_ >= kBuffers / 4 && room_ > 0 && control_.has_room() && !post(frame, {}, {})) return;
  for (std::size_t i = 0; i < lanes_.size() && lanes_up_; ++i) {
    Lane& lane = lanes_[i];
    if (lane.owed < kSegments / 4 || room_ == 0 || !control_.has_room()) continue;
    frame.lane = static_cast<std::uint8_t>(i + 1);
    frame.token = lane.owed;
    frame.key = epoch_;
    lane.owed = 0;
    if (!post(frame, {}, {})) return;
  }
}

void Link::take_slots(const wire::Frame& frame) {
  room_ = std::min(room_ + frame.slots, peer_.buffers);
  if (frame.type != wire::FrameType::kSlots || frame.lane == 0 || frame.lane > lanes_.size() || frame.key != epoch_) {
    return;
  }
  Lane& lane = lanes_[frame.lane - 1u];
  lane.room = std::min(lane.room + frame.token, kSegments);
}

// ---- segments ----

int Link::lane_with_room() const noexcept {
  if (!open_ || failed_ || !lanes_up_) return -1;
  int best = -1;
  std::uint32_t most = 0;
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    if (lanes_[i].room <= most || !lanes_[i].queue.has_room()) continue;
    most = lanes_[i].room;
    best = static_cast<int>(i);
  }
  return best;
}

bool Link::write(int lane, std::span<const std::byte> data, std::uint32_t key, std::uint64_t address,
                 std::uint32_t remote_key, std::uint32_t token, void* message) {
  Lane& chosen = lanes_[static_cast<std::size_t>(lane)];
  const SendWork work{SendWork::Kind::kWrite, message, nullptr, static_cast<std::uint32_t>(data.size())};
  if (!chosen.queue.write(data, key, address, remote_key, token, work)) return false;
  --chosen.room;
  in_flight_ += data.size();
  return true;
}

void Link::stop_lanes() noexcept {
  lanes_up_ = false;
  for (Lane& lane : lanes_) lane.queue.stop();
}

Status Link::remake_lanes(std::uint32_t epoch) {
  for (Lane& lane : lanes_) {
    if (lane.queue.valid()) drop(lane.queue);
  }
  epoch_ = epoch;
  for (Lane& lane : lanes_) LONGSPAN_TRY(make_lane(lane));
  return {};
}

std::vector<wire::QueueName> Link::lane_names() const {
  std::vector<wire::QueueName> names;
  for (const Lane& lane : lanes_) names.push_back(lane.queue.name());
  return names;
}

// ---- completions ----

void Link::on_completion(std::size_t lane, const ibv_wc& completion) {
  const bool received = (completion.wr_id & QueuePair::kIsReceive) != 0;
  QueuePair& queue = lane == 0 ? control_ : lanes_[lane - 1].queue;
  const bool good = completion.status == IBV_WC_SUCCESS;
  if (!received && !queue.idle()) on_sent(queue, lane > 0, good);
  if (!good) {
    if (lane > 0) {
      // Where they were stopped from here, their end is no news.
      if (std::exchange(lanes_up_, false)) {
        user_.on_lane_failure(*this, verbs::describe(completion.status, adapter_.device()));
      }
    } else if (!std::exchange(failed_, true)) {
      user_.on_failure(*this, verbs::describe(completion.status, adapter_.device()));
    }
    return;
  }
  if (!received) return;
  if (lane == 0) on_received(completion);
  else on_segment(lane - 1, completion);
}

void Link::on_sent(QueuePair& queue, bool of_lane, bool done) {
  const SendWork work = queue.take_work();
  if (of_lane) in_flight_ -= work.bytes;
  if (work.bounce != nullptr) adapter_.give_back(work.bounce);
  if (work.message != nullptr) user_.on_work(*this, work, done);
}

void Link::on_received(const ibv_wc& completion) {
  const std::size_t slot = completion.wr_id & ~QueuePair::kIsReceive;
  const auto buffer = buffers_.bytes().subspan(slot * wire::kBufferBytes, wire::kBufferBytes);
  wire::Frame frame;
  std::memcpy(&frame, buffer.data(), sizeof frame);
  if (const std::string_view wrong = wire::check(frame, completion.byte_len); !wrong.empty()) {
    failed_ = true;
    return user_.on_failure(*this, "it sent " + std::string(wrong));
  }
  open_ = true;
  take_slots(frame);
  user_.on_frame(*this, frame, buffer.subspan(sizeof frame, frame.payload));
  if (failed_ || !control_.valid()) return;
  if (control_.post_receive(slot, buffer, buffers_.key())) ++owed_;
}

void Link::on_segment(std::size_t lane, const ibv_wc& completion) {
  Lane& from = lanes_[lane];
  if (from.queue.post_receive(completion.wr_id & ~QueuePair::kIsReceive, {}, 0)) ++from.owed;
  if (completion.opcode == IBV_WC_RECV_RDMA_WITH_IMM) user_.on_written(*this, completion.imm_data, completion.byte_len);
}

}  // namespace longspan::verbs
