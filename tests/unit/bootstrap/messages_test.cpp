#include "bootstrap/messages.hpp"

#include <rapidcheck.h>
#include <sys/socket.h>

#include "base/fd.hpp"
#include "bootstrap/rendezvous_messages.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::bootstrap;

namespace {

Frame frame_of(const std::string& bytes) {
  REQUIRE(bytes.size() >= kFrameHeaderBytes);
  Reader r(std::string_view(bytes).substr(4));
  Frame frame;
  frame.version = r.u16();
  frame.type = r.u16();
  frame.body = bytes.substr(kFrameHeaderBytes);
  return frame;
}

}  // namespace

TEST_CASE("messages of the control plane survive the wire") {
  ControlMessage m;
  m.type = ControlType::kReport;
  m.inquiry = 9;
  m.report = WaitReport{
      5,      7,    true,
      8,      true, CallDescriptor{Collective::kReduce, 1000, DataType::kFloat16, ReduceOp::kMax, 2, "ring", 77},
      {1, 3}, 4};
  const auto report = decode_control(frame_of(encode(m)));
  REQUIRE(report.ok());
  CHECK(report->inquiry == 9);
  CHECK(report->report.call == m.report.call);
  CHECK(report->report.waiting_on == m.report.waiting_on);
  CHECK(report->report.step == 4);

  m.type = ControlType::kFault;
  m.fault = Fault{5, 7, 3, StatusCode::kTimeout, 2, "text", -1};
  const auto fault = decode_control(frame_of(encode(m)));
  REQUIRE(fault.ok());
  CHECK(fault->fault.text == "text");
  CHECK(fault->fault.code == StatusCode::kTimeout);
  CHECK(fault->fault.blamed == 2);

  m.type = ControlType::kVerdict;
  m.verdict = Verdict{5, 7, 2, StatusCode::kPeerLost, "died"};
  const auto verdict = decode_control(frame_of(encode(m)));
  REQUIRE(verdict.ok());
  CHECK(verdict->verdict.status().to_string() == "peer lost: died");
}

TEST_CASE("a later version may add fields and messages") {
  ControlMessage m;
  m.type = ControlType::kWitness;
  m.rank = 3;
  Frame longer = frame_of(encode(m));
  longer.body += "more";
  CHECK(decode_control(longer)->rank == 3);
  longer.type = 999;
  CHECK(decode_control(longer)->type == ControlType::kUnknown);
}

TEST_CASE("any bytes are read safely as any message") {
  CHECK(rc::check([](const std::string& body, std::uint16_t type) {
    for (const std::uint16_t t :
         {type, static_cast<std::uint16_t>(type % 8), static_cast<std::uint16_t>(32 + type % 10)}) {
      const Frame frame{kProtocolVersion, t, body};
      (void)decode_control(frame);
      (void)decode_hello(frame);
      (void)decode_failure(body);
      Rendezvous r;
      (void)decode_joined(body, r);
    }
  }));
}

TEST_CASE("damaged messages are refused or read as something valid") {
  ControlMessage m;
  m.type = ControlType::kReport;
  m.report.call = CallDescriptor{};
  m.report.waiting_on = {1, 2, 3};
  const Frame good = frame_of(encode(m));
  CHECK(rc::check([&](std::size_t at, unsigned char value, std::size_t cut) {
    Frame bad = good;
    bad.body[at % bad.body.size()] = static_cast<char>(value);
    bad.body.resize(bad.body.size() - cut % bad.body.size());
    const auto read = decode_control(bad);
    if (read.ok() && read->report.call) RC_ASSERT(static_cast<int>(read->report.call->kind) < kCollectiveCount);
  }));
}

TEST_CASE("frames come whole out of any pieces, and nothing is read beyond them") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  Stream in{Fd(ends[0])};
  const Fd out(ends[1]);
  const std::string bytes = make_frame(7, "hello") + make_frame(8, "") + "rest";
  FrameReader reader(100);
  std::vector<std::string> got;
  for (const char c : bytes) {
    REQUIRE(::send(out.get(), &c, 1, 0) == 1);
    if (got.size() == 2) continue;
    if (reader.read(in) == FrameReader::State::kFrame) got.push_back(reader.take().body);
  }
  CHECK(got == std::vector<std::string>{"hello", ""});
  char rest[8] = {};
  CHECK(::recv(in.fd(), rest, sizeof rest, 0) == 4);
}

TEST_CASE("a frame that claims to be too long, or is not ours, is malformed at once") {
  for (const std::string& bytes : {std::string("LSPN\1\0\1\0\xff\xff\xff\xff", 12), std::string("HTTP")}) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    Stream in{Fd(ends[0])};
    const Fd out(ends[1]);
    REQUIRE(::send(out.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    FrameReader reader(1000);
    CHECK(reader.read(in) == FrameReader::State::kMalformed);
  }
}
