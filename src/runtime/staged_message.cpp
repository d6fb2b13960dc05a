#include "runtime/staged_message.hpp"

#include <algorithm>

#include "runtime/communicator_impl.hpp"
#include "runtime/work_state.hpp"

namespace longspan::runtime {
namespace {

constexpr std::size_t kLongestPiece = std::size_t{64} << 20;  // more is no header of ours

}  // namespace

StagedMessage::StagedMessage(WorkState& work, spi::Channel& channel, const spi::MessageId& id, device::Copier* copier)
    : work_(work), channel_(channel), id_(id), copier_(copier) {
  for (Part& each : parts_) each.owner = this;
}

void* StagedMessage::tagged(const void* pointer) const noexcept {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(pointer) | kTag);
}

StagedMessage* StagedMessage::of(void* context) noexcept {
  return reinterpret_cast<Part*>(reinterpret_cast<std::uintptr_t>(context) & ~kTag)->owner;
}

StagedMessage* StagedMessage::of(const device::Token& token) noexcept { return of(token.owner); }

void StagedMessage::completed(const spi::Completion& completion) {
  StagedMessage* const self = of(completion.context);
  const auto* part = reinterpret_cast<const Part*>(reinterpret_cast<std::uintptr_t>(completion.context) & ~kTag);
  self->advance(self->part_completed(static_cast<std::uint32_t>(part - self->parts_.data()), completion.bytes));
}

void StagedMessage::copied(const device::Token& token) {
  --copies_;
  const auto* part = static_cast<const Part*>(token.what);
  advance(part_copied(static_cast<std::uint32_t>(part - parts_.data())));
}

void StagedMessage::advance(const Result<bool>& over) {
  CommunicatorImpl& comm = *work_.comm;
  if (!over.ok()) comm.message_failed(work_, over.status());
  else if (*over) comm.finish(work_, outcome_);
}

void StagedMessage::end() noexcept {
  const bool idle = copies_ == 0 || copier_->abandon(tagged(parts_.data()));
  copies_ = 0;
  if (copier_ != nullptr && !memory_.empty() && idle) copier_->give_back(memory_);
  memory_ = {};
}

Status StagedMessage::take(std::uint32_t parts, std::size_t bytes) {
  if (copier_ != nullptr && !memory_.empty()) copier_->give_back(std::exchange(memory_, {}));
  part_bytes_ = bytes;
  if (copier_ != nullptr) {
    LONGSPAN_ASSIGN(memory_, copier_->take(parts * bytes));
  } else {
    own_memory_.resize(parts * bytes);
    memory_ = own_memory_;
  }
  return {};
}

std::span<std::byte> StagedMessage::part_memory(std::uint32_t part, std::size_t bytes) const {
  return memory_.subspan(part * part_bytes_, bytes);
}

Status StagedMessage::move(bool to_device, std::uint32_t part, std::size_t offset, std::size_t bytes) {
  const device::Move one{part_memory(part, bytes).data(), work_.data + offset, bytes};
  void* const owner = tagged(parts_.data());
  void* const what = &parts_[part];
  LONGSPAN_TRY(to_device ? copier_->to_device(std::span(&one, 1), owner, what)
                         : copier_->to_host(std::span(&one, 1), nullptr, owner, what));
  ++copies_;
  return {};
}

void StagedMessage::post(std::uint32_t part, std::uint32_t chunk, std::span<std::byte> data, bool any_length) {
  spi::RecvRequest request;
  request.id = id_;
  request.id.chunk = chunk;
  request.data = data;
  request.any_length = any_length;
  request.context = tagged(&parts_[part]);
  channel_.post_recv(request);
}

void StagedMessage::send(std::uint32_t part, std::uint32_t chunk, std::span<const std::byte> data) {
  spi::SendRequest request;
  request.id = id_;
  request.id.chunk = chunk;
  request.data = data;
  request.context = tagged(&parts_[part]);
  channel_.send(request);
}

std::uint32_t StagedMessage::pieces() const {
  return static_cast<std::uint32_t>((header_.bytes + header_.piece - 1) / header_.piece);
}

std::size_t StagedMessage::piece_bytes(std::uint32_t piece) const {
  return static_cast<std::size_t>(std::min(header_.piece, header_.bytes - piece * header_.piece));
}

// ---- sending ----

void StagedSend::send_empty(spi::Channel& channel, spi::MessageId id) {
  static constexpr PieceHeader kNothing{};
  spi::SendRequest request;
  request.id = id;
  request.id.chunk = kHeaderChunk;
  request.data = std::as_bytes(std::span(&kNothing, 1));
  channel.send(request);
}

Status StagedSend::begin() {
  header_ = {work_.bytes, std::min<std::uint64_t>(work_.bytes, kPieceBytes)};
  const std::uint32_t parts = std::min(pieces(), kParts);
  LONGSPAN_TRY(take(parts, static_cast<std::size_t>(header_.piece)));
  left_ = pieces();
  if (pieces() > 1) {
    ++left_;
    spi::SendRequest empty;
    empty.id = id_;
    channel_.send(empty);
    send(kHeader, kHeaderChunk, std::as_bytes(std::span(&header_, 1)));
  }
  for (std::uint32_t part = 0; part < parts; ++part) LONGSPAN_TRY(fill(part));
  return {};
}

Status StagedSend::fill(std::uint32_t part) {
  const std::uint32_t piece = parts_[part].number = next_++;
  return move(false, part, static_cast<std::size_t>(piece * header_.piece), piece_bytes(piece));
}

Result<bool> StagedSend::part_copied(std::uint32_t part) {
  const std::uint32_t piece = parts_[part].number;
  send(part, pieces() == 1 ? 0 : kFirstPieceChunk + piece, part_memory(part, piece_bytes(piece)));
  return false;
}

Result<bool> StagedSend::part_completed(std::uint32_t part, std::size_t) {
  if (part != kHeader && next_ < pieces()) LONGSPAN_TRY(fill(part));
  return --left_ == 0;
}

// ---- receiving ----

Status StagedReceive::begin(std::size_t length) {
  const std::size_t room = std::min(work_.bytes, length);
  LONGSPAN_TRY(take(1, std::max<std::size_t>(room, 1)));
  post(0, 0, part_memory(0, room), true);
  return {};
}

void StagedReceive::begin_pieces() {
  state_ = State::kHeader;
  post(kHeader, kHeaderChunk, std::as_writable_bytes(std::span(&header_, 1)), false);
}

Result<bool> StagedReceive::part_completed(std::uint32_t part, std::size_t bytes) {
  if (state_ == State::kHeader) return on_header();
  if (state_ == State::kWhole && bytes == 0) {
    begin_pieces();
    return false;
  }
  if (state_ == State::kWhole) {
    header_ = {bytes, bytes};
  } else if (copier_ == nullptr || too_long_) {
    return piece_done(part);
  }
  const std::uint32_t piece = parts_[part].number;
  LONGSPAN_TRY(move(true, part, static_cast<std::size_t>(piece * header_.piece), piece_bytes(piece)));
  return false;
}

Result<bool> StagedReceive::part_copied(std::uint32_t part) {
  if (state_ == State::kPieces) return piece_done(part);
  work_.bytes = static_cast<std::size_t>(header_.bytes);
  return true;
}

Result<bool> StagedReceive::on_header() {
  if (header_.bytes == 0) {
    work_.bytes = 0;
    return true;
  }
  if (header_.piece == 0 || header_.piece > kLongestPiece || header_.bytes / header_.piece > UINT32_MAX / 2) {
    return Status(StatusCode::kInternal, "the header of a message in pieces makes no sense");
  }
  state_ = State::kPieces;
  too_long_ = header_.bytes > work_.bytes;
  left_ = pieces();
  const std::uint32_t parts = std::min(pieces(), kParts);
  if (copier_ != nullptr || too_long_) LONGSPAN_TRY(take(parts, static_cast<std::size_t>(header_.piece)));
  for (std::uint32_t part = 0; part < parts; ++part) post_piece(part);
  return false;
}

void StagedReceive::post_piece(std::uint32_t part) {
  const std::uint32_t piece = parts_[part].number = next_++;
  const std::size_t bytes = piece_bytes(piece);
  const bool straight = copier_ == nullptr && !too_long_;
  post(part, kFirstPieceChunk + piece,
       straight ? std::span(work_.data + piece * header_.piece, bytes) : part_memory(part, bytes), false);
}

bool StagedReceive::piece_done(std::uint32_t part) {
  if (--left_ > 0) {
    if (next_ < pieces()) post_piece(part);
    return false;
  }
  if (!too_long_) {
    work_.bytes = static_cast<std::size_t>(header_.bytes);
    return true;
  }
  const spi::Match match{0, header_.bytes, 0, work_.bytes, true};
  outcome_ = Status(StatusCode::kInvalidArgument,
                    std::string(spi::mismatch(id_, work_.comm->describe(work_.peer), match).message()));
  return true;
}

}  // namespace longspan::runtime
