#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/sockets.hpp"
#include "longspan/spi/transport.hpp"
#include "tcp/dialer.hpp"
#include "tcp/inbox.hpp"
#include "tcp/lane.hpp"
#include "tcp/loss_watch.hpp"
#include "tcp/outbox.hpp"

namespace longspan::tcp {

class TcpEndpoint;

/// The way to one peer: the lanes that this side dialed carry its data and bring replies, those that the peer dialed
/// the other way round. Exists from the first of connect() and the peer's HELLO.
class TcpChannel final : public spi::Channel {
 public:
  TcpChannel(TcpEndpoint& endpoint, spi::PeerId peer);

  spi::PeerId peer() const noexcept override { return peer_; }
  void send(const spi::SendRequest& request) override;
  void post_recv(const spi::RecvRequest& request) override;
  void release_view(std::uint64_t /*view_token*/) override {}  // never gives views
  void set_rate(double bytes_per_second) override;
  spi::ChannelStats stats() const override;
  std::string trouble() const override;

  // For the endpoint.
  TcpEndpoint& endpoint() const noexcept { return endpoint_; }
  bool started() const noexcept { return started_; }
  void start(std::vector<SocketAddress> addresses, const spi::ChannelOptions& options, TimePoint deadline);
  /// Whether a connection with this HELLO has a place here. Where it has none, `refusal` is what to answer; nothing,
  /// where a later connection took the place.
  bool accepts(const wire::Hello& hello, std::optional<wire::Refusal>& refusal) const;
  void join(Connection connection, const wire::Hello& hello);
  /// A connection that the peer made for lane `lane` of this side. False: it needs none.
  bool take_offer(std::uint16_t lane, Connection connection);
  void on_lane_events(Lane& lane, std::uint32_t events);
  /// Handles what a lane's read ended with.
  void after_read(Lane& lane, Lane::Outcome outcome);
  /// Writes what can be written. False: there is more to write right now.
  bool flush();
  /// Dials again, looks after silent lanes, gives up; returns when to be called next.
  std::optional<TimePoint> on_timer(TimePoint now);
  void forget(std::uint64_t comm);
  bool dirty = false;  ///< in the endpoint's list of channels to flush

  // Closing: all is sent, then a goodbye on every lane, then the end of stream.
  bool drained() const { return over() || outbox_.all_written(); }
  void say_goodbye();
  bool goodbye_flushed() const;
  void shut_down();
  bool acknowledged() const;
  void abort_operations(const Status& status);

  // For its lanes.
  bool next_frame(Lane& lane, wire::Frame& frame, OutFrame& out);
  /// The lane's kernel took so many bytes.
  void taken(Lane& lane, std::size_t bytes);
  void written(OutFrame& frame);
  void let_go(SendMessage& message) { outbox_.let_go(message); }
  /// Copies the payload of `frame`, so that its source may change.
  void copy(OutFrame& frame);
  void give_back(OutFrame& frame);
  void count_sent(std::size_t bytes) noexcept { bytes_sent_ += bytes; }
  Status begin(const wire::Frame& frame, Landing& landing) { return inbox_.begin(frame, landing); }
  void landed(Landing& landing);
  void abandon(Landing& landing) { inbox_.abandon(landing); }
  Status on_control(Lane& lane, const wire::Frame& frame);
  std::uint64_t lanes_up() const;
  void has_something_to_write();
  /// Of which the socket says nothing.
  void has_something_to_read(Lane& lane);
  std::size_t ack_every() const noexcept { return ack_every_; }
  /// Nothing is left to send, and what is sent waits for acknowledgements.
  bool last_to_send() const noexcept { return options_.tier != Tier::kWan && !outbox_.may_have_work(); }

  /// Large messages for another region are on their way.
  bool sends_far() const noexcept { return options_.tier == Tier::kWan && !over() && sends_bulk(); }

  bool warms() const noexcept;
  bool gets_warm() const noexcept;

  // Repeats (channel_repeats.cpp).
  bool repeats() const noexcept { return repair_lanes_ > 0; }
  Lane* accepted_lane(std::uint16_t index) const noexcept;
  void repeat_began() noexcept { ++repeats_in_progress_; }
  void repeat_ended() noexcept { --repeats_in_progress_; }
  bool repeats_in_progress() const noexcept { return repeats_in_progress_ > 0; }
  /// Frame `number` of `lane` has come: nobody need read a repeat of it.
  void drop_repeats(std::uint16_t lane, std::uint64_t number) noexcept;
  /// How much a lane may take from the others at once.
  std::size_t batch_bytes() const noexcept {
    return options_.rate_bytes_per_second > 0 ? fragment_bytes_ : kLargestBatch;
  }

  // For its dialers.
  const SocketAddress& address() const noexcept { return addresses_.front(); }
  /// Where attempt `attempt` for lane `lane` goes: lanes are spread over the peer's network cards, and a repeated
  /// attempt tries the next one.
  const SocketAddress& address_for(std::uint16_t lane, std::uint32_t attempt) const noexcept {
    return addresses_[(lane + attempt) % addresses_.size()];
  }
  void configure(int fd);
  /// What its connections prove the job's key with.
  security::Introduction introduction() const;
  wire::Hello hello_of(const Lane& lane, std::uint32_t generation) const;
  /// After how much silence a connection is replaced.
  Duration silence_limit() const noexcept;
  /// The same, and longer where replacements did not help: the peer is slow rather than cut off.
  Duration answer_limit(const Lane& lane) const noexcept;
  /// The peer's port can be reached: where nobody listens any more, its process is gone.
  void reached() noexcept { reached_ = true; }
  void connected(Lane& lane, Connection connection);
  void dial_failed(Lane& lane, int error);
  void answered(Lane& lane, Connection connection, std::uint32_t generation, wire::WireError error,
                const wire::Frame& answer);

 private:
  enum class State : std::uint8_t { kOpen, kClosed, kBroken };
  static constexpr std::size_t kLargestBatch = std::size_t{1} << 20;

  bool over() const noexcept { return state_ != State::kOpen; }
  double lane_rate(const Lane& lane) const noexcept;
  Lane* next_to_write(TimePoint now) noexcept;
  bool write_lanes();
  bool express_has_room() noexcept;
  bool bulk_on_its_way() const noexcept;
  bool sends_bulk() const noexcept;
  void tune(Lane& lane);
  std::size_t unsent_limit() const noexcept;
  void take_over(Lane& lane, std::uint32_t generation);
  void lost(Lane& lane, Status why);
  void end_lane(Lane& lane);
  bool worth_waiting_for(const Lane& lane) const;
  void finish_if_left();
  void break_down(Status status);
  void close_lanes();
  void peer_gone(spi::CompletionKind kind, const Status& status);
  bool is_repair(const Lane& lane) const noexcept {
    return lane.dialed() && lane.index() >= first_repair_ && lane.index() < first_repair_ + repair_lanes_;
  }
  /// Made when random loss was observed; the channel could do without it.
  bool is_late(const Lane& lane) const noexcept { return lane.dialed() && lane.index() >= first_late_; }
  void plan_path();
  void watch_loss();
  void become_lossy();
  void add_lanes(int count);
  std::uint32_t lanes_up(bool repair) const noexcept;
  void plan_repeats();
  Duration time_to_send_rest() const;
  bool next_repeat(Lane& lane, wire::Frame& frame, OutFrame& out);
  void refresh_models();
  bool next_pad(Lane& lane, wire::Frame& frame, OutFrame& out);
  void start_warming(Lane& lane);
  bool may_pad(const Lane& lane);
  bool settle_written();
  static Status refusal_of(const wire::Frame& frame);
  bool outstanding(const Lane& lane) const noexcept;
  void start_vigil();
  void watch_over(Lane& lane, TimePoint now);
  bool give_up(Lane& lane, TimePoint now);
  std::string outage_of(const Lane& lane, TimePoint now) const;
  Dialer& dialer_of(const Lane& lane) const noexcept { return *dialers_[lane.index()]; }
  std::string who() const;
  std::vector<std::uint16_t> missing_lanes(TimePoint now) const;
  void expect_lanes();
  TimePoint offer_lanes(TimePoint now);

  TcpEndpoint& endpoint_;
  spi::PeerId peer_;
  State state_ = State::kOpen;
  Status over_status_;
  spi::ChannelOptions options_;
  std::vector<SocketAddress> addresses_{1};  // of the peer, one per network card
  TimePoint deadline_{};   // of the first connections
  Duration patience_;      // with a lost connection
  TimePoint dialing_since_{};
  bool started_ = false;
  std::vector<std::unique_ptr<Lane>> lanes_;      // never shrinks: events may still point to closed ones
  std::vector<std::unique_ptr<Dialer>> dialers_;  // of the dialed lanes, by index
  Lane* express_ = nullptr;  // one more than asked for, for small messages; nullptr: there is none
  std::string congestion_control_;  // empty: the system's
  int repair_lanes_ = 0;          // more than asked for, for repeats; by index from first_repair_
  int first_repair_ = 0;
  std::size_t first_late_ = SIZE_MAX;  // by index, of those made when loss was observed
  struct LossCounts {
    std::uint64_t packets = 0;
    std::uint64_t lost = 0;
  };
  std::vector<LossCounts> lane_counts_;  // of the dialed lanes' connections, as last seen
  LossWatch losses_;
  TimePoint loss_due_{};
  std::uint32_t repeats_in_progress_ = 0;
  TimePoint repeat_at_ = TimePoint::max();  // from then on, unless something else is to be sent
  TimePoint models_due_{};
  double express_allowance_ = 0;  // bytes that may go over it now beside bulk data
  TimePoint express_refilled_{};
  std::size_t next_lane_ = 0;
  std::size_t fragment_bytes_;
  std::size_t ack_every_;
  std::size_t copied_bytes_ = 0;
  std::size_t joined_lanes_ = 0;
  std::size_t peer_lanes_ = 0;      // as its HELLOs say
  TimePoint joined_since_{};        // the first of them
  bool expecting_ = false;          // a receive asked for a look at missing lanes
  TimePoint expecting_since_{};
  TimePoint next_offer_{};
  Duration offer_pause_{0};
  bool reached_ = false;            // one of our own attempts to dial has succeeded
  bool vigil_on_ = false;
  TimePoint vigil_at_{};
  bool peer_leaving_ = false;
  std::uint64_t expected_lanes_ = 0;  // what the peer's goodbye says
  TimePoint leaving_deadline_{};
  TimePoint warm_until_{};
  TimePoint warm_again_at_ = TimePoint::max();  // another channel has its turn now
  std::uint64_t bytes_sent_ = 0;
  std::uint64_t bytes_received_ = 0;
  std::uint64_t reconnects_ = 0;
  Inbox inbox_;
  Outbox outbox_;
};

}  // namespace longspan::tcp
