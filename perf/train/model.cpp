#include "train/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace longspan::train {
namespace {

std::size_t at(int i, int width) { return static_cast<std::size_t>(i) * static_cast<std::size_t>(width); }

}  // namespace

Model::Model(const std::vector<int>& widths, std::uint32_t seed) {
  std::mt19937 random(seed);
  for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
    Layer layer;
    layer.inputs = widths[l];
    layer.outputs = widths[l + 1];
    layer.parameters.assign(layer.weights() + static_cast<std::size_t>(layer.outputs), 0.0f);
    // He initialisation; from the engine's raw numbers, because distributions differ between standard libraries.
    const float scale = std::sqrt(6.0f / static_cast<float>(layer.inputs));
    for (std::size_t i = 0; i < layer.weights(); ++i) {
      layer.parameters[i] = scale * (static_cast<float>(random() >> 8) / 8388608.0f - 1.0f);
    }
    layer.gradients.assign(layer.parameters.size(), 0.0f);
    layer.momentum.assign(layer.parameters.size(), 0.0f);
    layers_.push_back(std::move(layer));
  }
  activations_.resize(layers_.size() + 1);
}

std::size_t Model::parameter_count() const {
  std::size_t count = 0;
  for (const Layer& layer : layers_) count += layer.parameters.size();
  return count;
}

void Model::forward(const std::vector<const float*>& images) {
  const int batch = static_cast<int>(images.size());
  activations_[0].resize(at(batch, layers_.front().inputs));
  for (int b = 0; b < batch; ++b) {
    std::copy_n(images[static_cast<std::size_t>(b)], layers_.front().inputs,
                activations_[0].data() + at(b, layers_.front().inputs));
  }
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    auto& out = activations_[l + 1];
    out.resize(at(batch, layer.outputs));
    const float* bias = layer.parameters.data() + layer.weights();
    for (int b = 0; b < batch; ++b) {
      float* row = out.data() + at(b, layer.outputs);
      std::copy_n(bias, layer.outputs, row);
      const float* in = activations_[l].data() + at(b, layer.inputs);
      for (int i = 0; i < layer.inputs; ++i) {
        if (in[i] == 0.0f) continue;  // half of what ReLU gives
        const float* weights = layer.parameters.data() + at(i, layer.outputs);
        for (int o = 0; o < layer.outputs; ++o) row[o] += in[i] * weights[o];
      }
      if (l + 1 < layers_.size()) {
        std::transform(row, row + layer.outputs, row, [](float x) { return std::max(x, 0.0f); });
      }
    }
  }
}

double Model::output_error(const std::vector<int>& labels) {
  const int classes = layers_.back().outputs;
  const int batch = static_cast<int>(labels.size());
  error_ = activations_.back();
  double loss = 0;
  for (int b = 0; b < batch; ++b) {
    float* row = error_.data() + at(b, classes);
    const float most = *std::max_element(row, row + classes);
    float sum = 0;
    for (int c = 0; c < classes; ++c) sum += row[c] = std::exp(row[c] - most);
    for (int c = 0; c < classes; ++c) row[c] /= sum;
    const int label = labels[static_cast<std::size_t>(b)];
    loss -= std::log(std::max(row[label], 1e-12f));
    row[label] -= 1.0f;
    for (int c = 0; c < classes; ++c) row[c] /= static_cast<float>(batch);
  }
  return loss / batch;
}

void Model::backward(std::size_t l, int batch) {
  Layer& layer = layers_[l];
  std::fill(layer.gradients.begin(), layer.gradients.end(), 0.0f);
  float* bias = layer.gradients.data() + layer.weights();
  previous_error_.assign(at(batch, layer.inputs), 0.0f);
  for (int b = 0; b < batch; ++b) {
    const float* error = error_.data() + at(b, layer.outputs);
    const float* in = activations_[l].data() + at(b, layer.inputs);
    float* back = previous_error_.data() + at(b, layer.inputs);
    for (int o = 0; o < layer.outputs; ++o) bias[o] += error[o];
    for (int i = 0; i < layer.inputs; ++i) {
      if (in[i] == 0.0f) continue;  // no gradient through a closed ReLU, and none for its weights
      float* weights = layer.gradients.data() + at(i, layer.outputs);
      const float* parameters = layer.parameters.data() + at(i, layer.outputs);
      float sum = 0;
      for (int o = 0; o < layer.outputs; ++o) {
        weights[o] += in[i] * error[o];
        sum += parameters[o] * error[o];
      }
      back[i] = sum;
    }
  }
  std::swap(error_, previous_error_);
}

double Model::gradients(const std::vector<const float*>& images, const std::vector<int>& labels,
                        const std::function<void(std::size_t layer)>& ready) {
  forward(images);
  const double loss = output_error(labels);
  for (std::size_t l = layers_.size(); l-- > 0;) {
    backward(l, static_cast<int>(images.size()));
    ready(l);
  }
  return loss;
}

void Model::update(float learning_rate, float momentum) {
  for (Layer& layer : layers_) {
    for (std::size_t i = 0; i < layer.parameters.size(); ++i) {
      layer.momentum[i] = momentum * layer.momentum[i] + layer.gradients[i];
      layer.parameters[i] -= learning_rate * layer.momentum[i];
    }
  }
}

int Model::predict(const float* image) {
  forward({image});
  const auto& scores = activations_.back();
  return static_cast<int>(std::max_element(scores.begin(), scores.end()) - scores.begin());
}

std::uint64_t Model::fingerprint() const {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const Layer& layer : layers_) {
    for (const float value : layer.parameters) {
      std::uint32_t bits = 0;
      std::memcpy(&bits, &value, sizeof bits);
      hash = (hash ^ bits) * 0x100000001b3ULL;
    }
  }
  return hash;
}

}  // namespace longspan::train
