#include "two_ends.hpp"

#include <array>
#include <stdexcept>

#include "base/log.hpp"
#include "tcp/endpoint.hpp"

namespace longspan::tcp::testing {

TwoEnds::TwoEnds(const Settings& settings) {
  log::set_level(log::Level::kError);  // what breaks here breaks on purpose
  for (End* end : {&a, &b}) {
    spi::EndpointOptions options;
    options.self = end == &a ? 1 : 2;
    options.job = 0xbeef;
    options.bind_address = "127.0.0.1";
    options.eager_credit_bytes = settings.credit;
    options.key = end == &b ? settings.key_of_b.value_or(settings.key) : settings.key;
    if (end == &b && settings.b_unreachable) options.advertise_address = "none";
    options.nics = end == &b ? settings.nics_of_b : settings.nics_of_a;
    options.encryption = end == &b ? settings.encryption_of_b.value_or(settings.encryption) : settings.encryption;
    auto opened = TcpEndpoint::open(options);
    if (!opened.ok()) throw std::runtime_error(opened.status().to_string());
    end->endpoint = std::move(opened).value();
  }
  const auto first_of = [](const End& end) {
    return end.endpoint->address().substr(0, end.endpoint->address().find(','));
  };
  to_b = std::make_unique<Proxy>(first_of(settings.reflected ? a : b));
  to_a = std::make_unique<Proxy>(first_of(a));
  for (End* end : {&a, &b}) {
    spi::ChannelOptions options;
    options.lanes = settings.lanes;
    options.tier = settings.tier;
    options.window_bytes = settings.window;
    options.rate_bytes_per_second = settings.rate;
    options.loss = settings.loss;
    options.rtt = settings.rtt;
    options.peer_name = end == &a ? "peer b" : "peer a";
    const Proxy& proxy = end == &a ? *to_b : *to_a;
    const std::string direct = (end == &a ? b : a).endpoint->address();
    auto made = end->endpoint->connect(end == &a ? 2 : 1, settings.proxied ? proxy.address() : direct, options,
                                       Clock::now() + settings.patience);
    if (!made.ok()) throw std::runtime_error(made.status().to_string());
    end->channel = *made;
  }
}

Operation& TwoEnds::send(End& from, std::uint32_t number, std::span<const std::byte> data, std::uint64_t comm) {
  Operation& operation = operations_.emplace_back();
  ++open_;
  from.channel->send({{comm, number, 0, 0}, 7, data, nullptr, &operation});
  return operation;
}

Operation& TwoEnds::receive(End& at, std::uint32_t number, std::span<std::byte> data, std::uint64_t comm) {
  Operation& operation = operations_.emplace_back();
  ++open_;
  at.channel->post_recv({{comm, number, 0, 0}, 7, data, nullptr, false, false, &operation});
  return operation;
}

bool TwoEnds::step(End& end) {
  if (end.endpoint == nullptr) return false;
  std::array<spi::Completion, 64> completions;
  const std::size_t count = end.endpoint->poll(completions);
  for (spi::Completion& completion : std::span(completions).first(count)) {
    switch (completion.kind) {
      case spi::CompletionKind::kArrival: continue;
      case spi::CompletionKind::kClosed: end.closed.push_back(completion); continue;
      case spi::CompletionKind::kBroken: end.broken.push_back(completion); continue;
      default: break;
    }
    auto& operation = *static_cast<Operation*>(completion.context);
    if (operation.completions++ == 0) --open_;
    else ++repeated_;
    operation.last = std::move(completion);
  }
  return count > 0;
}

bool TwoEnds::drive(const std::function<bool()>& done, std::chrono::milliseconds limit) {
  const TimePoint deadline = Clock::now() + limit;
  std::vector<pollfd> waits;
  while (!done()) {
    bool any = step(a);
    any |= step(b);
    any |= to_b->step();
    any |= to_a->step();
    if (any) continue;
    const TimePoint now = Clock::now();
    if (now >= deadline) return false;
    waits.clear();
    bool armed = true;
    for (const End* end : {&a, &b}) {
      if (end->endpoint == nullptr) continue;
      armed = end->endpoint->arm() && armed;
      waits.push_back({end->endpoint->wait_fd(), POLLIN, 0});
    }
    to_b->add_waits(waits);
    to_a->add_waits(waits);
    // Short: what a proxy cannot write raises no event here.
    if (armed) ::poll(waits.data(), waits.size(), poll_timeout_ms(now, deadline, 2));
  }
  return true;
}

}  // namespace longspan::tcp::testing
