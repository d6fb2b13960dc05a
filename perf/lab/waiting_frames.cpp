#include "lab/waiting_frames.hpp"

namespace longspan::lab {

void WaitingFrames::add(TrainMemory::Block& block, std::size_t length) {
  TrainMemory::hold(block);
  frames_.push_back({&block, length});
  total_bytes_ += length;
}

Duration WaitingFrames::share(Duration of, std::size_t bytes) const {
  const double part = static_cast<double>(bytes) / static_cast<double>(total_bytes_);
  return bytes == total_bytes_ ? of : std::chrono::duration_cast<Duration>(of * part);
}

void WaitingFrames::clear() {
  for (const Frame& frame : frames_) TrainMemory::release(*frame.block);
  frames_.clear();
  total_bytes_ = 0;
}

}  // namespace longspan::lab
