#include "ucx/channel.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "ucx/endpoint.hpp"

namespace longspan::ucx {
namespace {

/// UCX's data and the lifeline's end race each other.
constexpr auto kPatience = std::chrono::seconds(1);

void on_endpoint_error(void* channel, ucp_ep_h /*endpoint*/, ucs_status_t status) {
  static_cast<UcxChannel*>(channel)->on_error(status);
}

}  // namespace

UcxChannel::UcxChannel(spi::PeerId peer, UcxEndpoint& endpoint, Shared& shared, Worker& worker, const Token& token)
    : peer_(peer), endpoint_(endpoint), shared_(shared), worker_(worker), token_(token), outbox_(peer, shared, worker),
      inbox_(peer, shared, worker, outbox_) {
  inbox_.set_peer_name(fmt::format("peer {:x}", peer));
}

spi::ChannelStats UcxChannel::stats() const {
  spi::ChannelStats stats;
  stats.bytes_sent = outbox_.bytes_sent();
  stats.bytes_received = inbox_.bytes_received();
  stats.messages_sent = outbox_.messages_sent();
  stats.messages_received = inbox_.messages_received();
  stats.eager_bytes = inbox_.eager_bytes();
  return stats;
}

std::string UcxChannel::trouble() const {
  if (state_ != State::kOpen) return std::string(over_status_.message());
  if (started_ && !greeted()) {
    return fmt::format("ucx: {} has not answered at {} yet", inbox_.peer_name(), dialed_address_);
  }
  return {};
}

// ---- setting up ----

Status UcxChannel::start(std::string_view peer_address, const spi::ChannelOptions& options, TimePoint deadline) {
  LONGSPAN_ASSIGN(const UcxEndpoint::Address there, UcxEndpoint::parse_announced(peer_address));
  deadline_ = deadline;
  if (!options.peer_name.empty()) inbox_.set_peer_name(options.peer_name);
  dialed_address_ = there.lifeline.to_string();
  worker_address_ = there.worker;
  if (lines_[1] != nullptr) {  // it dialed first
    started_ = true;
    return {};
  }
  started_ = true;
  Result<Fd> fd = dial(there.lifeline);
  if (!fd.ok()) {
    break_down(fmt::format("cannot connect to {}", fd.status().message()));
    return {};
  }
  set_keepalive(fd->get());
  lines_[0] = std::make_unique<Lifeline>(std::move(*fd));
  endpoint_.protect_dialed(*lines_[0], peer_);
  watch_line(0);
  lines_[0]->say(endpoint_.greeting(peer_, token_, true), endpoint_.worker_address());
  on_lines();
  return {};
}

void UcxChannel::watch_line(std::size_t which) {
  endpoint_.watch(lines_[which]->fd(), this, UcxEndpoint::Watched::kLine);
}

void UcxChannel::join(std::unique_ptr<Lifeline> line, const wire::Greeting& greeting,
                      const std::string& worker_address) {
  lines_[1] = std::move(line);
  watch_line(1);
  lines_[1]->say(endpoint_.greeting(peer_, token_, false), {});
  open(worker_address, greeting);
  on_lines();
}

void UcxChannel::welcomed(const wire::Greeting& greeting) {
  switch (greeting.verdict) {
    case wire::Verdict::kWelcome: break;
    case wire::Verdict::kOtherJob:
      return break_down(fmt::format("{} belongs to another job", dialed_address_), StatusCode::kInvalidArgument);
    case wire::Verdict::kOtherPeer: return break_down(fmt::format("another rank answers at {} now", dialed_address_));
    case wire::Verdict::kOtherVersion:
      return break_down("it speaks another version of this transport: all ranks must run the same build",
                        StatusCode::kInvalidArgument);
    case wire::Verdict::kAlreadyConnected:
      return break_down("it has a connection from this rank already", StatusCode::kInvalidArgument);
    case wire::Verdict::kKeyNeeded:
      return break_down("its job has a key and this rank has none: set LONGSPAN_KEY or LONGSPAN_KEY_FILE",
                        StatusCode::kInvalidArgument);
  }
  if (greeting.job != endpoint_.options().job || greeting.from != peer_ || greeting.to != endpoint_.options().self) {
    return break_down(fmt::format("another rank answers at {} now", dialed_address_));
  }
  open(worker_address_, greeting);
}

void UcxChannel::open(const std::string& worker_address, const wire::Greeting& greeting) {
  if (greeted() || state_ != State::kOpen) return;
  ucp_ep_params_t params{};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(worker_address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = &on_endpoint_error;
  params.err_handler.arg = this;
  const ucs_status_t status = worker_.library().ep_create(worker_.get(), &params, &ucp_endpoint_);
  if (status != UCS_OK) {
    ucp_endpoint_ = nullptr;
    return break_down(fmt::format("UCX finds no way to it ({}); here it has {}", worker_.describe(status),
                                  fmt::join(worker_.resources(), ", ")));
  }
  outbox_.open(ucp_endpoint_, greeting.token, static_cast<std::size_t>(greeting.credit));
}

void UcxChannel::on_lines() {
  read_lines();
  decide();
}

void UcxChannel::read_lines() {
  for (auto& line : lines_) {
    if (line != nullptr && state_ == State::kOpen) hear_line(*line);
  }
}

void UcxChannel::hear_line(Lifeline& line) {
  line.step();
  if (&line == lines_[0].get() && !line.greeted) {
    wire::Greeting greeting;
    std::string address;
    if (line.hear(greeting, address)) {
      line.greeted = true;
      welcomed(greeting);
    }
  }
  if (state_ != State::kOpen) return;  // the lines went with it
  wire::Note note;
  while (line.greeted && line.hear(note)) {
    if (note.kind == wire::NoteKind::kFarewell) {
      farewell_ = true;
    } else if (note.kind == wire::NoteKind::kGoodbye && !goodbye_) {
      goodbye_ = true;
      announced_ = note.value;
    }
  }
  if (line.ended() && !hung_up_) {
    hung_up_ = true;
    patience_ = Clock::now() + kPatience;
    endpoint_.request_timer();
  }
}

std::optional<TimePoint> UcxChannel::on_timer(TimePoint now) {
  if (state_ != State::kOpen) return std::nullopt;
  if (hung_up_) {
    decide();
    return state_ == State::kOpen ? std::optional(patience_) : std::nullopt;
  }
  if (!started_ || greeted()) return std::nullopt;
  if (now < deadline_) return deadline_;
  break_down(fmt::format("has not answered at {} in time: its process is there but does not run", dialed_address_));
  return std::nullopt;
}

// ---- moving data ----

void UcxChannel::on_message(const wire::MessageHeader& header, void* data, std::size_t length, bool offered,
                            bool& taken) {
  taken = false;
  if (state_ != State::kOpen) return;
  const auto* bytes = static_cast<const std::byte*>(data);
  bool sane = false;
  switch (header.kind) {
    case wire::MessageKind::kEager: sane = !offered && inbox_.on_eager(header, bytes, length); break;
    case wire::MessageKind::kBequest: sane = !offered && inbox_.on_bequest(header, bytes, length); break;
    case wire::MessageKind::kOffer: sane = offered && inbox_.on_offer(header, data, length, taken); break;
    case wire::MessageKind::kCredit:
      sane = !offered;
      outbox_.on_credit(header.comm, header.bytes);
      break;
  }
  if (!sane) insane_ = true;
  if (insane_ || goodbye_) shared_.attention = true;
}

void UcxChannel::on_error(ucs_status_t status) {
  ucx_trouble_ = worker_.describe(status);
  shared_.attention = true;
}

void UcxChannel::forget(std::uint64_t comm) {
  inbox_.forget(comm);
  outbox_.forget(comm);
}

// ---- ends ----

bool UcxChannel::in_trouble() const noexcept {
  return !ucx_trouble_.empty() || !outbox_.trouble().empty() || !inbox_.trouble().empty();
}

void UcxChannel::decide() {
  if (state_ != State::kOpen) return;
  if (insane_) return break_down("sends what makes no sense", StatusCode::kInternal);
  // Its goodbye was said before UCX's connection ended, and may be unread.
  if (in_trouble() && !goodbye_) read_lines();
  if (goodbye_) return decide_leaving();
  if (hung_up_ && farewell_) return end(State::kClosed, left());  // it had all of ours, and then left itself
  if (hung_up_) {
    const Lifeline& line = *lines_[lines_[0] != nullptr && lines_[0]->ended() ? 0 : 1];
    if (!greeted()) return break_down(fmt::format("no connection at {}: {}", dialed_address_, line.why()));
    return break_down(
        fmt::format("its end closed without a goodbye ({}): the process died, or refused this connection", line.why()));
  }
  if (!in_trouble() || said_goodbye_) return;
  const std::string& what = !ucx_trouble_.empty()        ? ucx_trouble_
                            : !outbox_.trouble().empty() ? outbox_.trouble()
                                                         : inbox_.trouble();
  break_down(fmt::format("UCX has lost the connection: {}", what));
}

/// The peer has said goodbye: waits for what is on its way.
void UcxChannel::decide_leaving() {
  if (!leaving_ && inbox_.taken_over() >= announced_) {
    leaving_ = true;
    inbox_.flush();
    inbox_.peer_leaves();
  }
  if (leaving_ && inbox_.quiet()) {
    for (auto& line : lines_) {
      if (line != nullptr && line->greeted) line->say(wire::NoteKind::kFarewell, 0);
    }
    return end(State::kClosed, left());
  }
  if (!hung_up_ || Clock::now() < patience_) return;
  if (leaving_) return end(State::kClosed, left());
  break_down("it left before all that it had sent was here");
}

Status UcxChannel::left() const {
  return Status(StatusCode::kPeerLost, fmt::format("{} has said goodbye", inbox_.peer_name()));
}

void UcxChannel::break_down(const std::string& why, StatusCode code) {
  if (state_ != State::kOpen) return;
  const Status status = Status(code, why).with_context(inbox_.peer_name());
  log::debug("ucx: {}", status.to_string());
  end(State::kBroken, status);
}

void UcxChannel::end(State state, const Status& status) {
  state_ = state;
  over_status_ = status;
  if (state == State::kBroken) shared_.complete(spi::CompletionKind::kBroken, nullptr, peer_, {}, 0, 0, status);
  outbox_.fail_all(status);
  inbox_.fail_all(status);
  if (state == State::kClosed) shared_.complete(spi::CompletionKind::kClosed, nullptr, peer_, {}, 0, 0);
  close_endpoint();
}

void UcxChannel::close_endpoint() {
  for (auto& line : lines_) {
    if (line == nullptr) continue;
    endpoint_.unwatch(line->fd());
    line.reset();
  }
  if (ucp_endpoint_ != nullptr) endpoint_.close(std::exchange(ucp_endpoint_, nullptr));
}

void UcxChannel::flush_endpoint() {
  if (ucp_endpoint_ != nullptr && !in_trouble()) endpoint_.flush(ucp_endpoint_);
}

void UcxChannel::say_goodbye() {
  if (state_ != State::kOpen || !greeted() || std::exchange(said_goodbye_, true)) return;
  for (auto& line : lines_) {
    if (line != nullptr && line->greeted) line->say(wire::NoteKind::kGoodbye, outbox_.handed_over());
  }
}

void UcxChannel::abandon(const Status& status) {
  if (state_ != State::kOpen) return;
  state_ = State::kClosed;
  over_status_ = status;
  if (farewell_) outbox_.settle();
  outbox_.fail_all(status);
  inbox_.fail_all(status);
  close_endpoint();
}

}  // namespace longspan::ucx
