// The Python module longspan._C.
#include <pybind11/chrono.h>
#include <torch/csrc/utils/pybind.h>
#include <torch/version.h>

#include <string>
#include <vector>

#include "bindings/torch/src/backend.hpp"

namespace py = pybind11;

namespace longspan::torch_binding {
namespace {

template <typename T>
using Setting = std::optional<T> longspan::Options::*;

template <typename T>
void setting(py::class_<LongspanOptions, c10::intrusive_ptr<LongspanOptions>, c10d::Backend::Options>& type,
             const char* name, Setting<T> field) {
  type.def_property(
      name, [field](const LongspanOptions& self) { return self.core.*field; },
      [field](LongspanOptions& self, std::optional<T> value) { self.core.*field = std::move(value); });
}

LongspanBackend& backend_of(const c10::intrusive_ptr<c10d::Backend>& backend) {
  auto* const own = dynamic_cast<LongspanBackend*>(backend.get());
  TORCH_CHECK_VALUE(own != nullptr, "not a process group of longspan, but of ", backend->getBackendName());
  return *own;
}

py::dict explain(const c10::intrusive_ptr<c10d::Backend>& backend, const std::string& collective, std::size_t bytes) {
  const auto kind = parse_collective(collective);
  TORCH_CHECK_VALUE(kind.has_value(), "unknown collective \"", collective,
                    "\"; known are all_reduce, all_gather, reduce_scatter, ...");
  CollectiveShape shape;
  shape.kind = *kind;
  const Result<PlanSummary> plan = backend_of(backend).communicator("explain")->explain(shape, bytes, DataType::kUint8);
  TORCH_CHECK_WITH(DistBackendError, plan.ok(), "longspan: explain: ", plan.status().to_string());
  py::dict told;
  told["algorithm"] = plan->algorithm;
  told["chunks"] = plan->chunks;
  told["predicted_seconds"] = plan->predicted_seconds;
  told["bound_seconds"] = plan->bound_seconds < 0 ? py::object(py::none()) : py::cast(plan->bound_seconds);
  told["bound_cut"] = plan->bound_cut;
  return told;
}

std::vector<py::dict> links(const c10::intrusive_ptr<c10d::Backend>& backend) {
  std::vector<py::dict> all;
  for (const LinkStats& link : backend_of(backend).communicator("links")->link_stats()) {
    py::dict told;
    told["name"] = link.name;
    told["bandwidth_bytes_per_second"] = link.bandwidth_bytes_per_second;
    told["capacity_bytes_per_second"] = link.capacity_bytes_per_second;
    told["bytes_sent"] = link.bytes_sent;
    told["rate_bytes_per_second"] = link.rate_bytes_per_second;
    told["rtt_seconds"] = std::chrono::duration<double>(link.rtt).count();
    told["min_rtt_seconds"] = std::chrono::duration<double>(link.min_rtt).count();
    told["queue_delay_seconds"] = std::chrono::duration<double>(link.queue_delay).count();
    told["retransmits"] = link.retransmits;
    told["drops"] = link.drops;
    told["reconnects"] = link.reconnects;
    all.push_back(std::move(told));
  }
  return all;
}

}  // namespace

PYBIND11_MODULE(_C, module) {
  module.attr("torch_version") = TORCH_VERSION;
  py::class_<LongspanOptions, c10::intrusive_ptr<LongspanOptions>, c10d::Backend::Options> options(module, "Options");
  options.def(py::init([] { return c10::make_intrusive<LongspanOptions>(); }))
      .def("__deepcopy__",
           [](const LongspanOptions& self, const py::dict&) { return c10::make_intrusive<LongspanOptions>(self); })
      .def("__copy__", [](const LongspanOptions& self) { return c10::make_intrusive<LongspanOptions>(self); });
  setting<std::string>(options, "topology", &longspan::Options::topology_file);
  setting<std::string>(options, "topology_text", &longspan::Options::topology_text);
  setting<std::string>(options, "host", &longspan::Options::host);
  setting<std::string>(options, "algorithm", &longspan::Options::algorithm);
  setting<std::vector<std::string>>(options, "transports", &longspan::Options::transports);
  setting<std::string>(options, "log_level", &longspan::Options::log_level);
  setting<std::vector<std::string>>(options, "nics", &longspan::Options::nics);
  setting<std::string>(options, "key", &longspan::Options::key);
  setting<std::string>(options, "key_file", &longspan::Options::key_file);
  setting<std::string>(options, "advertise", &longspan::Options::advertise);

  // Later than its base's: what Python gets of torch for a device is then this class.
  py::class_<LongspanBackend, c10::intrusive_ptr<LongspanBackend>, c10d::Backend>(module, "ProcessGroupLongspan")
      .def_property_readonly("options", [](LongspanBackend& self) { return self.getBackendOptions(); })
      .def("get_error", &LongspanBackend::getError, py::call_guard<py::gil_scoped_release>())
      // torch calls it on ranks outside a new group, for backends whose splits need everybody; these do not.
      .def("perform_nocolor_split", [](LongspanBackend&, const at::Device&) {})
      .def("_set_default_timeout", &LongspanBackend::setTimeout, py::arg("timeout"),
           py::call_guard<py::gil_scoped_release>());

  module.def("create_backend", &create_backend, py::arg("seat"), py::arg("options").none(true),
             py::arg("timeout_from_environment") = false, py::call_guard<py::gil_scoped_release>());
  module.def("explain", &explain, py::arg("backend"), py::arg("collective"), py::arg("bytes"));
  module.def("links", &links, py::arg("backend"));
}

}  // namespace longspan::torch_binding
