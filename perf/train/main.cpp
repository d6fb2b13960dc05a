#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "harness/spawn.hpp"
#include "longspan/communicator.hpp"
#include "train/digits.hpp"
#include "train/model.hpp"

#ifndef LONGSPAN_DIGITS
#error "the build names the data file"
#endif

namespace longspan::train {
namespace {

constexpr int kTrainingImages = 1440;
constexpr std::uint32_t kSeed = 1798;
constexpr float kLearningRate = 0.05f;
constexpr float kMomentum = 0.9f;
const std::vector<int> kWidths{kPixels, 512, 512, kClasses};

struct Settings {
  int epochs = 20;
  int batch = 128;
  bool verify = false;
  std::string data = LONGSPAN_DIGITS;
  std::string json;
  int ranks = 0;
};

struct Epoch {
  double loss = 0;
  double accuracy = 0;
  double seconds = 0;
};

double accuracy(Model& model, const Digits& test) {
  int right = 0;
  for (int i = 0; i < test.size(); ++i) {
    right += model.predict(test.image(i)) == test.labels[static_cast<std::size_t>(i)];
  }
  return static_cast<double>(right) / test.size();
}

/// The order of the images in an epoch: the same on all ranks.
std::vector<int> shuffled(int images, int epoch) {
  std::vector<int> order(static_cast<std::size_t>(images));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937 random(kSeed + static_cast<std::uint32_t>(epoch));
  for (std::size_t i = order.size(); i-- > 1;) std::swap(order[i], order[random() % (i + 1)]);
  return order;
}

/// Trains on this rank's share of each batch; nullptr: alone, on whole batches. Prints an epoch a line when `prints`.
Result<std::vector<Epoch>> train(Model& model, const DigitSets& digits, const Settings& settings, Communicator* comm,
                                 bool prints) {
  const int ranks = comm == nullptr ? 1 : comm->size();
  const int rank = comm == nullptr ? 0 : comm->rank();
  const int share = settings.batch / ranks;
  std::vector<Epoch> epochs;
  for (int e = 0; e < settings.epochs; ++e) {
    const auto started = std::chrono::steady_clock::now();
    const std::vector<int> order = shuffled(digits.train.size(), e);
    double loss = 0;
    int steps = 0;
    for (int first = 0; first + settings.batch <= digits.train.size(); first += settings.batch, ++steps) {
      std::vector<const float*> images;
      std::vector<int> labels;
      for (int i = first + rank * share; i < first + (rank + 1) * share; ++i) {
        const int which = order[static_cast<std::size_t>(i)];
        images.push_back(digits.train.image(which));
        labels.push_back(digits.train.labels[static_cast<std::size_t>(which)]);
      }
      std::vector<Work> works;
      loss += model.gradients(images, labels, [&](std::size_t layer) {
        if (comm == nullptr) return;
        auto& gradients = model.layers()[layer].gradients;
        works.push_back(comm->all_reduce_async(gradients.data(), gradients.data(), gradients.size(), DataType::kFloat32,
                                               ReduceOp::kAvg));
      });
      for (Work& work : works) LONGSPAN_TRY(work.wait());
      model.update(kLearningRate, kMomentum);
    }
    Epoch epoch{loss / steps, 0, 0};
    if (comm != nullptr) {
      LONGSPAN_TRY(comm->all_reduce(&epoch.loss, &epoch.loss, 1, DataType::kFloat64, ReduceOp::kAvg));
    }
    epoch.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    epoch.accuracy = accuracy(model, digits.test);
    epochs.push_back(epoch);
    if (prints) {
      fmt::print("epoch {:3}   loss {:.6f}   test accuracy {:.2f} %   {:.2f} s\n", e + 1, epoch.loss,
                 100 * epoch.accuracy, epoch.seconds);
      std::fflush(stdout);
    }
  }
  return epochs;
}

/// Fails, naming the ranks, unless all ranks hold the same bits.
Status compare_ranks(Communicator& comm, const Model& model) {
  const std::uint64_t mine = model.fingerprint();
  std::vector<std::uint64_t> all(static_cast<std::size_t>(comm.size()));
  LONGSPAN_TRY(comm.all_gather(&mine, all.data(), 1, DataType::kUint64));
  for (int r = 1; r < comm.size(); ++r) {
    if (all[static_cast<std::size_t>(r)] == all[0]) continue;
    return Status(StatusCode::kInternal,
                  "the parameters of " + comm.describe(r) + " differ from those of " + comm.describe(0));
  }
  return {};
}

/// The largest difference between two models' parameters.
double difference(Model& a, Model& b) {
  double most = 0;
  for (std::size_t l = 0; l < a.layers().size(); ++l) {
    const auto& x = a.layers()[l].parameters;
    const auto& y = b.layers()[l].parameters;
    for (std::size_t i = 0; i < x.size(); ++i) {
      most = std::max(most, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
    }
  }
  return most;
}

Status run(const Settings& settings) {
  LONGSPAN_ASSIGN(const DigitSets digits, load_digits(settings.data, kTrainingImages));
  LONGSPAN_ASSIGN(Communicator comm, Communicator::create());
  if (settings.batch % comm.size() != 0) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("--batch {} cannot be shared by {} ranks", settings.batch, comm.size()));
  }
  Model model(kWidths, kSeed);
  const bool prints = comm.rank() == 0;
  if (prints) {
    fmt::print("training {} parameters on {} images, {} ranks, batches of {}\n", model.parameter_count(),
               digits.train.size(), comm.size(), settings.batch);
  }
  LONGSPAN_ASSIGN(const std::vector<Epoch> epochs, train(model, digits, settings, &comm, prints));
  LONGSPAN_TRY(compare_ranks(comm, model));
  if (!prints) return comm.barrier();
  fmt::print("parameters are bit-identical on all {} ranks\n", comm.size());
  nlohmann::ordered_json json{
      {"program", "longspan-train"}, {"world_size", comm.size()}, {"parameters", model.parameter_count()}};
  for (const Epoch& each : epochs) {
    json["epochs"].push_back({{"loss", each.loss}, {"test_accuracy", each.accuracy}, {"seconds", each.seconds}});
  }
  Status verdict;
  if (settings.verify) {
    Model alone(kWidths, kSeed);
    LONGSPAN_ASSIGN(const std::vector<Epoch> reference, train(alone, digits, settings, nullptr, false));
    const double loss = std::abs(reference.back().loss - epochs.back().loss);
    const double parameters = difference(model, alone);
    json["single_process"] = {{"loss_difference", loss}, {"largest_parameter_difference", parameters}};
    fmt::print("one process alone: loss differs by {:.2g}, parameters by at most {:.2g}\n", loss, parameters);
    if (loss > 1e-3 || parameters > 1e-2) {
      verdict = Status(StatusCode::kInternal, "training across ranks went another way than training alone");
    }
  }
  if (!settings.json.empty()) {
    std::ofstream file(settings.json);
    file << json.dump(2) << '\n';
    if (!file) verdict = Status(StatusCode::kSystem, "cannot write " + settings.json);
  }
  LONGSPAN_TRY(comm.barrier());
  return verdict;
}

int run_rank(const Settings& settings) {
  const Status status = run(settings);
  if (!status.ok()) fmt::print(stderr, "longspan-train: {}\n", status.to_string());
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace longspan::train

int main(int argc, char** argv) {
  longspan::train::Settings settings;
  CLI::App app("Trains a small network on handwritten digits over all ranks", "longspan-train");
  app.add_option("--epochs", settings.epochs, "passes over the data (20)")->check(CLI::Range(1, 10000));
  app.add_option("--batch", settings.batch, "images per step, over all ranks (128)")->check(CLI::Range(1, 1440));
  app.add_flag("--verify", settings.verify, "train alone too, and compare");
  app.add_option("--data", settings.data, "digits.csv");
  app.add_option("--json", settings.json, "write losses and times here");
  app.add_option("--ranks", settings.ranks, "start this many processes on this host")->check(CLI::Range(1, 64));
  CLI11_PARSE(app, argc, argv);
  if (settings.ranks > 0) {
    return longspan::perf::spawn_ranks(settings.ranks, [&] { return longspan::train::run_rank(settings); });
  }
  return longspan::train::run_rank(settings);
}
