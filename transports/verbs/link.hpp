#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/containers.hpp"
#include "verbs/adapter.hpp"
#include "verbs/queue_pair.hpp"
#include "verbs/wire.hpp"

namespace longspan::verbs {

/// Who is told what happens on a link.
class LinkUser {
 public:
  virtual void on_frame(Link& link, const wire::Frame& frame, std::span<const std::byte> payload) = 0;
  /// A segment lies where the grant `token` said.
  virtual void on_written(Link& link, std::uint32_t token, std::uint32_t bytes) = 0;
  /// A request that named a message is over; `done` false: nobody knows how far it came.
  virtual void on_work(Link& link, const SendWork& work, bool done) = 0;
  /// No frame passes any more.
  virtual void on_failure(Link& link, const std::string& why) = 0;
  /// Lanes must be made anew.
  virtual void on_lane_failure(Link& link, const std::string& why) = 0;

 protected:
  ~LinkUser() = default;
};

/// The queue pairs that carry the messages of one direction: one for frames, both ways, and lanes for segments, from
/// the side that dialed to the other. A frame is sent only where a receive is known to be posted for it, and a segment,
/// too.
class Link {
 public:
  Link(Adapter& adapter, LinkUser& user) : adapter_(adapter), user_(user) {}
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link();

  /// Makes its queue pairs and posts their receives.
  Status create(std::size_t lanes);
  void describe(wire::Greeting& greeting) const;
  Status connect(const wire::Greeting& peer);
  /// The other side's queue pairs stand: frames may go.
  void open() noexcept { open_ = true; }
  bool is_open() const noexcept { return open_; }

  // ---- frames ----
  void push(const wire::Frame& frame, const SendWork& work = {}, std::vector<wire::QueueName> names = {});
  /// Sends what waits as far as receives are posted for it.
  void flush();
  /// A frame with payload would go now.
  bool takes_frame() const noexcept;
  /// Sends it now; the payload may be overwritten at once. False: it did not.
  bool send_eager(wire::Frame frame, std::span<const std::byte> payload);
  /// Nothing waits, and all that was sent has arrived.
  bool quiet() const noexcept { return waiting_.empty() && control_.idle(); }

  // ---- segments ----
  /// The lane that has most room; -1: none has any.
  int lane_with_room() const noexcept;
  bool write(int lane, std::span<const std::byte> data, std::uint32_t key, std::uint64_t address,
             std::uint32_t remote_key, std::uint32_t token, void* message);
  std::uint64_t bytes_in_flight() const noexcept { return in_flight_; }
  bool lanes_up() const noexcept { return lanes_up_; }
  std::size_t lane_count() const noexcept { return lanes_.size(); }
  std::uint32_t epoch() const noexcept { return epoch_; }

  /// Nothing more is written or read by the lanes: `stop_lanes`, then the adapter's completions, then `remake_lanes`,
  /// which makes others that are to be connected.
  void stop_lanes() noexcept;
  Status remake_lanes(std::uint32_t epoch);
  std::vector<wire::QueueName> lane_names() const;
  Status connect_lanes(std::span<const wire::QueueName> names);

  void on_completion(std::size_t lane, const ibv_wc& completion);

 private:
  struct Lane {
    QueuePair queue;
    std::uint32_t room = 0;  // receives posted at the other side
    std::uint32_t owed = 0;  // receives posted again here, of which the other side does not know
  };
  struct Waiting {
    wire::Frame frame;
    SendWork work;
    std::vector<wire::QueueName> names;
  };

  Status make_lane(Lane& lane);
  Status enlist(const QueuePair& queue, std::size_t lane);
  void drop(QueuePair& queue);
  bool post(wire::Frame frame, std::span<const std::byte> payload, SendWork work);
  void on_received(const ibv_wc& completion);
  void on_segment(std::size_t lane, const ibv_wc& completion);
  void on_sent(QueuePair& queue, bool of_lane, bool done);
  void take_slots(const wire::Frame& frame);
  void return_slots();

  Adapter& adapter_;
  LinkUser& user_;
  QueuePair control_;
  Block buffers_;
  std::vector<Lane> lanes_;
  wire::Greeting peer_;
  Queue<Waiting> waiting_;
  std::uint32_t room_ = 0;
  std::uint32_t owed_ = 0;
  std::uint32_t epoch_ = 0;
  std::uint64_t in_flight_ = 0;
  bool open_ = false;
  bool failed_ = false;
  bool lanes_up_ = false;
};

}  // namespace longspan::verbs
