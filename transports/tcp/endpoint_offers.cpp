// Connections that are dialed from here for lanes of the peer: one side that can be reached is enough for a pair.
#include <sys/socket.h>

#include <cerrno>

#include "base/log.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp {
namespace {

/// For the other side to be reached, to prove the key, and to answer.
constexpr std::chrono::seconds kOfferTime{10};

}  // namespace

void TcpEndpoint::offer(TcpChannel& channel, std::uint16_t lane) {
  const SocketAddress& address = channel.address_for(lane, 0);
  Fd fd(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return;
  channel.configure(fd.get());
  if (begin_connect(fd.get(), address) != 0) return;
  auto stranger = std::make_unique<Stranger>(*this, Connection(std::move(fd)));
  stranger->connecting = true;
  stranger->deadline = Clock::now() + kOfferTime;
  wire::Hello hello;
  hello.job = options_.job;
  hello.from = options_.self;
  hello.to = channel.peer();
  hello.lane = lane;
  hello.lanes = wire::kMaxLanes;  // the peer knows how many there are
  hello.offer = true;
  wire::encode(hello, stranger->offer);
  if (guard_ != nullptr) stranger->connection.protect(guard_->dial(stranger->connection.fd(), channel.introduction()));
  // The peer proves the key in the same handshake, and nobody but the peer takes this connection.
  stranger->introduction = introduction(channel.peer(), options_.self, channel.introduction().sealed);
  request_timer(stranger->deadline);
  watch(stranger->connection.fd(), *stranger);
  strangers_.push_back(std::move(stranger));
}

/// Goes on with a connection that is to be offered. True once it is: from here on it is the peer's turn to say HELLO.
bool TcpEndpoint::offered(Stranger& stranger) {
  const int error = connect_result(stranger.connection.fd());
  if (error == EINPROGRESS) return false;
  if (error != 0) {
    drop_stranger(stranger);
    return false;
  }
  if (const auto progress = stranger.connection.prove(); progress != security::Session::Progress::kDone) {
    if (progress == security::Session::Progress::kFailed) drop_stranger(stranger);
    return false;
  }
  if (stranger.connection.session() != nullptr) stranger.connection.proved();
  iovec vector{stranger.offer.data(), stranger.offer.size()};
  if (stranger.connection.write(std::span(&vector, 1)).bytes != stranger.offer.size()) {
    drop_stranger(stranger);
    return false;
  }
  stranger.connecting = false;
  return stranger.proved = true;
}

/// The peer has made a connection for a lane of this side.
void TcpEndpoint::take_offer(Stranger& stranger, const wire::Hello& hello) {
  const auto found = channels_.find(hello.from);
  Connection connection = std::move(stranger.connection);
  unwatch(connection.fd());
  drop_stranger(stranger);
  if (found == channels_.end() || !found->second->take_offer(hello.lane, std::move(connection))) {
    log::debug("tcp: peer {:x} offers a connection for lane {}, which needs none", hello.from, hello.lane);
  }
}

}  // namespace longspan::tcp
