#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace longspan::train {

/// Fully connected: out = in x weights + bias; parameters and gradients of a layer are one array (weights, then bias),
/// so that one collective moves them.
struct Layer {
  int inputs = 0;
  int outputs = 0;
  std::vector<float> parameters, gradients, momentum;

  std::size_t weights() const { return static_cast<std::size_t>(inputs) * static_cast<std::size_t>(outputs); }
};

/// A multilayer perceptron with ReLU and softmax cross-entropy, trained by SGD with momentum. Deterministic: the same
/// seed gives the same parameters everywhere.
class Model {
 public:
  Model(const std::vector<int>& widths, std::uint32_t seed);

  std::vector<Layer>& layers() { return layers_; }
  std::size_t parameter_count() const;
  /// Mean loss of a batch; leaves the mean gradients in the layers, the last layer's first: `ready(layer)` is called as
  /// soon as a layer's are complete.
  double gradients(const std::vector<const float*>& images, const std::vector<int>& labels,
                   const std::function<void(std::size_t layer)>& ready);
  void update(float learning_rate, float momentum);
  int predict(const float* image);
  /// Equal for equal bits.
  std::uint64_t fingerprint() const;

 private:
  void forward(const std::vector<const float*>& images);
  double output_error(const std::vector<int>& labels);
  void backward(std::size_t layer, int batch);

  std::vector<Layer> layers_;
  std::vector<std::vector<float>> activations_;  // [0] the images; [l + 1] the output of layer l, batch x outputs
  std::vector<float> error_, previous_error_;    // of the current layer's output, batch x outputs
};

}  // namespace longspan::train
