#include "bootstrap/messages.hpp"

#include <algorithm>

namespace longspan::bootstrap {
namespace {

constexpr std::size_t kMaxAlgorithm = 128;
constexpr std::size_t kMaxWaitingOn = 1024;

template <class Enum>
Enum checked(std::uint8_t value, int count, bool& valid) {
  valid = valid && value < count;
  return valid ? static_cast<Enum>(value) : Enum{};
}

std::string_view cut(std::string_view text, std::size_t max) { return text.substr(0, max); }

void put(Writer& w, const Fault& f) {
  w.u64(f.comm);
  w.u64(f.seq);
  w.i32(f.step);
  w.u8(static_cast<std::uint8_t>(f.code));
  w.i32(f.blamed);
  w.text(cut(f.text, kMaxFaultText));
}

Fault get_fault(Reader& r, bool& valid) {
  Fault f;
  f.comm = r.u64();
  f.seq = r.u64();
  f.step = r.i32();
  f.code = checked<StatusCode>(r.u8(), static_cast<int>(StatusCode::kInternal) + 1, valid);
  f.blamed = r.i32();
  f.text = r.text(kMaxFaultText);
  return f;
}

void put(Writer& w, const WaitReport& report) {
  w.u64(report.comm);
  w.u64(report.seq);
  w.u8(report.member ? 1 : 0);
  w.u64(report.next_seq);
  w.u8(report.busy ? 1 : 0);
  w.u8(report.call ? 1 : 0);
  const CallDescriptor call = report.call.value_or(CallDescriptor());
  w.u8(static_cast<std::uint8_t>(call.kind));
  w.u64(call.count);
  w.u8(static_cast<std::uint8_t>(call.type));
  w.u8(static_cast<std::uint8_t>(call.op));
  w.i32(call.root);
  w.text(cut(call.algorithm, kMaxAlgorithm));
  w.u64(call.digest);
  w.i32(report.step);
  const std::size_t n = std::min(report.waiting_on.size(), kMaxWaitingOn);
  w.u32(static_cast<std::uint32_t>(n));
  for (std::size_t i = 0; i < n; ++i) w.i32(report.waiting_on[i]);
}

WaitReport get_report(Reader& r, bool& valid) {
  WaitReport report;
  report.comm = r.u64();
  report.seq = r.u64();
  report.member = r.u8() != 0;
  report.next_seq = r.u64();
  report.busy = r.u8() != 0;
  const bool has_call = r.u8() != 0;
  CallDescriptor call;
  call.kind = checked<Collective>(r.u8(), kCollectiveCount, valid);
  call.count = r.u64();
  call.type = checked<DataType>(r.u8(), kDataTypeCount, valid);
  call.op = checked<ReduceOp>(r.u8(), kReduceOpCount, valid);
  call.root = r.i32();
  call.algorithm = r.text(kMaxAlgorithm);
  call.digest = r.u64();
  if (has_call) report.call = std::move(call);
  report.step = r.i32();
  const std::uint32_t n = r.count(4);
  valid = valid && n <= kMaxWaitingOn;
  for (std::uint32_t i = 0; valid && i < n; ++i) report.waiting_on.push_back(r.i32());
  return report;
}

void put(Writer& w, const Verdict& v) {
  w.u64(v.comm);
  w.u64(v.seq);
  w.i32(v.root);
  w.u8(static_cast<std::uint8_t>(v.code));
  w.text(cut(v.text, 2 * kMaxFaultText));
}

Verdict get_verdict(Reader& r, bool& valid) {
  Verdict v;
  v.comm = r.u64();
  v.seq = r.u64();
  v.root = r.i32();
  v.code = checked<StatusCode>(r.u8(), static_cast<int>(StatusCode::kInternal) + 1, valid);
  v.text = r.text(2 * kMaxFaultText);
  return v;
}

}  // namespace

std::string encode(const ControlMessage& m) {
  Writer w;
  switch (m.type) {
    case ControlType::kHello:
      w.u64(m.job);
      w.i32(m.rank);
      break;
    case ControlType::kFault: put(w, m.fault); break;
    case ControlType::kQuery:
      w.u32(m.inquiry);
      w.u64(m.report.comm);
      w.u64(m.report.seq);
      break;
    case ControlType::kReport:
      w.u32(m.inquiry);
      put(w, m.report);
      break;
    case ControlType::kVerdict: put(w, m.verdict); break;
    case ControlType::kWitness: w.i32(m.rank); break;
    case ControlType::kNote: w.text(m.note); break;
    case ControlType::kUnknown:
    case ControlType::kHeartbeat:
    case ControlType::kGoodbye: break;
  }
  return make_frame(static_cast<std::uint16_t>(m.type), std::move(w).take());
}

Result<ControlMessage> decode_control(const Frame& frame) {
  Reader r(frame.body);
  ControlMessage m;
  m.type = static_cast<ControlType>(frame.type);
  bool valid = frame.version == kProtocolVersion;
  switch (m.type) {
    case ControlType::kHello:
      m.job = r.u64();
      m.rank = r.i32();
      break;
    case ControlType::kFault: m.fault = get_fault(r, valid); break;
    case ControlType::kQuery:
      m.inquiry = r.u32();
      m.report.comm = r.u64();
      m.report.seq = r.u64();
      break;
    case ControlType::kReport:
      m.inquiry = r.u32();
      m.report = get_report(r, valid);
      break;
    case ControlType::kVerdict: m.verdict = get_verdict(r, valid); break;
    case ControlType::kWitness: m.rank = r.i32(); break;
    case ControlType::kNote: m.note = r.text(kMaxNote); break;
    case ControlType::kHeartbeat:
    case ControlType::kGoodbye: break;
    default: m.type = ControlType::kUnknown; break;
  }
  if (!valid || !r.ok()) {
    return Status(StatusCode::kInvalidArgument, "a message of the control plane that cannot be read");
  }
  return m;
}

}  // namespace longspan::bootstrap
