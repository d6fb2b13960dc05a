#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <string_view>

#include "planner/report.hpp"
#include "planner/text.hpp"

namespace longspan::planner {
namespace {

constexpr double kPi = std::numbers::pi;
constexpr double kHeader = 96;
constexpr double kFooter = 56;
constexpr double kPanelWidth = 264;
constexpr double kCardHeight = 54;
constexpr double kCardGap = 8;
constexpr double kApart = 12;  ///< of a line from the middle of its pair, with three regions and more

struct Point {
  double x = 0;
  double y = 0;
};

struct Box {
  double x = 0, y = 0, width = 0, height = 0;
  Point centre() const { return {x + width / 2, y + height / 2}; }
};

std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '<': safe += "&lt;"; break;
      case '>': safe += "&gt;"; break;
      case '&': safe += "&amp;"; break;
      case '"': safe += "&quot;"; break;
      default: safe += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return safe;
}

/// Colour of something busy for this part of the predicted time; the legend says the same.
const char* colour_of(double busy) {
  if (busy >= 0.8) return "#c2571a";
  if (busy >= 0.4) return "#2f73b3";
  return busy > 0 ? "#86a3bf" : "#c9ced6";
}

/// Draws one picture into a string.
class Picture {
 public:
  Picture(const Cluster& cluster, const Explanation& explanation) : cluster_(cluster), explanation_(explanation) {
    for (const LinkLoad& load : explanation.links) loads_[load.link] = load;
    for (int rank = 0; rank < cluster.size(); ++rank) ++ranks_on_[cluster.host_of_rank[static_cast<std::size_t>(rank)]];
  }

  std::string draw() {
    place_regions();
    std::string head = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} "
        "{1:.0f}\" "
        "font-family=\"Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\">\n"
        "<rect width=\"{0:.0f}\" height=\"{1:.0f}\" fill=\"#fcfcfa\"/>\n",
        width_, height_);
    header();
    for (const WanLink& link : cluster_.topology.wan) line(link);
    for (std::size_t region = 0; region < panels_.size(); ++region) panel(region);
    for (const WanLink& link : cluster_.topology.wan) label(link);
    legend();
    return head + svg_ + "</svg>\n";
  }

 private:
  std::vector<std::size_t> hosts_of(std::size_t region) const {
    std::vector<std::size_t> hosts;
    for (std::size_t h = 0; h < cluster_.topology.hosts.size(); ++h) {
      if (static_cast<std::size_t>(cluster_.topology.hosts[h].region) == region) hosts.push_back(h);
    }
    return hosts;
  }

  void place_regions() {
    const std::size_t n = cluster_.topology.regions.size();
    max_cards_ = n <= 3 ? 5 : 3;
    double tallest = 0;
    for (std::size_t region = 0; region < n; ++region) {
      const std::size_t hosts = hosts_of(region).size();
      const double cards = static_cast<double>(std::min(hosts, max_cards_));
      const double height = 46 + cards * (kCardHeight + kCardGap) + (hosts > max_cards_ ? 22 : 4);
      panels_.push_back({0, 0, kPanelWidth, height});
      tallest = std::max(tallest, height);
    }
    width_ = n <= 3 ? 1000 : std::max(1280.0, 160.0 * static_cast<double>(n));
    // Regions sit on an ellipse, high enough for labels between neighbours.
    const double rise = n < 3 ? 0 : n <= 5 ? std::max(240.0, tallest / 2 + 150) : 0.95 * tallest + 150;
    for (std::size_t region = 0; region < n; ++region) {
      const double angle = -kPi / 2 + 2 * kPi * static_cast<double>(region) / static_cast<double>(n);
      Point centre{width_ / 2, 0};
      if (n == 2) centre.x = region == 0 ? 40 + kPanelWidth / 2 : width_ - 40 - kPanelWidth / 2;
      if (n >= 3) centre = {width_ / 2 + (width_ / 2 - kPanelWidth / 2 - 40) * std::cos(angle), rise * std::sin(angle)};
      panels_[region].x = centre.x - panels_[region].width / 2;
      panels_[region].y = centre.y - panels_[region].height / 2;
    }
    double top = panels_.front().y;
    double bottom = top;
    for (const Box& box : panels_) {
      top = std::min(top, box.y);
      bottom = std::max(bottom, box.y + box.height);
    }
    for (Box& box : panels_) box.y += kHeader + 20 - top;
    height_ = kHeader + 40 + (bottom - top) + kFooter;
  }

  void text(double x, double y, double size, const char* colour, std::string_view words, const char* more = "") {
    svg_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{}\" fill=\"{}\"{}>{}</text>\n", x, y, size,
                        colour, more, escaped(words));
  }

  void header() {
    text(40, 42, 20, "#1d2530", title_of(explanation_, cluster_), " font-weight=\"600\"");
    const Decision& d = explanation_.decision;
    std::string line = d.full_name();
    if (d.predicted_seconds >= 0) line += fmt::format(": {} predicted", time_text(d.predicted_seconds));
    if (explanation_.bound.seconds >= 0) {
      line += fmt::format(", at least {} ({})", time_text(explanation_.bound.seconds), explanation_.bound.cut);
    }
    text(40, 68, 14, "#5b6675", line);
  }

  double busy(const std::string& link) const {
    const auto found = loads_.find(link);
    const double predicted = explanation_.decision.predicted_seconds;
    return found == loads_.end() || predicted <= 0 ? 0 : std::min(1.0, found->second.seconds / predicted);
  }
  double bytes(const std::string& link) const {
    const auto found = loads_.find(link);
    return found == loads_.end() ? 0 : found->second.bytes;
  }
  const std::string& region_name(int region) const {
    return cluster_.topology.regions[static_cast<std::size_t>(region)].name;
  }
  std::string wan_name(const WanLink& link) const {
    return fmt::format("wan {}->{}", region_name(link.from), region_name(link.to));
  }

  struct Segment {
    Point from, to, normal;
  };

  /// The line between two panels' edges, moved to the right of its direction so that the way back lies beside it.
  Segment segment(const WanLink& link) const {
    const Box& a = panels_[static_cast<std::size_t>(link.from)];
    const Box& b = panels_[static_cast<std::size_t>(link.to)];
    Point from = a.centre();
    Point to = b.centre();
    const double length = std::max(1.0, std::hypot(to.x - from.x, to.y - from.y));
    const Point along{(to.x - from.x) / length, (to.y - from.y) / length};
    // Above the way back when drawn from left to right.
    const Point normal{along.y, -along.x};
    const double apart = panels_.size() == 2 ? 26 : kApart;
    from = {from.x + normal.x * apart, from.y + normal.y * apart};
    to = {to.x + normal.x * apart, to.y + normal.y * apart};
    return {leave(a, from, along, 6), leave(b, to, {-along.x, -along.y}, 8), normal};
  }

  /// Where a ray from inside a box leaves it, and `gap` further.
  static Point leave(const Box& box, Point from, Point direction, double gap) {
    const double right = direction.x > 0 ? box.x + box.width : box.x;
    const double bottom = direction.y > 0 ? box.y + box.height : box.y;
    const double across = std::abs(direction.x) < 1e-9 ? 1e9 : (right - from.x) / direction.x;
    const double down = std::abs(direction.y) < 1e-9 ? 1e9 : (bottom - from.y) / direction.y;
    const double reach = std::max(0.0, std::min(across, down)) + gap;
    return {from.x + direction.x * reach, from.y + direction.y * reach};
  }

  void line(const WanLink& link) {
    const Segment at = segment(link);
    const double share = busy(wan_name(link));
    const double thick = share > 0 ? 2 + 6 * share : 1.5;
    const double length = std::max(1.0, std::hypot(at.to.x - at.from.x, at.to.y - at.from.y));
    const Point along{(at.to.x - at.from.x) / length, (at.to.y - at.from.y) / length};
    const double head = 8 + thick;
    const Point neck{at.to.x - along.x * head, at.to.y - along.y * head};
    svg_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"{:.1f}\"{}/>\n",
        at.from.x, at.from.y, neck.x, neck.y, colour_of(share), thick, share > 0 ? "" : " stroke-dasharray=\"5 5\"");
    const double wide = head * 0.62;
    svg_ += fmt::format("<polygon points=\"{:.1f},{:.1f} {:.1f},{:.1f} {:.1f},{:.1f}\" fill=\"{}\"/>\n", at.to.x,
                        at.to.y, neck.x + at.normal.x * wide, neck.y + at.normal.y * wide, neck.x - at.normal.x * wide,
                        neck.y - at.normal.y * wide, colour_of(share));
  }

  std::string load_text(const WanLink& link) const {
    const std::string name = wan_name(link);
    return fmt::format("{}, {:.0f} % busy", bytes_text(bytes(name)), 100 * busy(name));
  }
  static std::string stated_text(const WanLink& link) {
    return fmt::format("{}, {}", rate_text(link.bandwidth.bytes_per_second), time_text(link.latency.count()));
  }

  /// Two regions: each direction has its own label beside its line. More: one label per pair, on the lines.
  void label(const WanLink& link) {
    if (bytes(wan_name(link)) <= 0) return;
    const WanLink* back = cluster_.topology.wan_link(link.to, link.from);
    const bool both = back != nullptr && bytes(wan_name(*back)) > 0;
    if (panels_.size() == 2) {
      const Segment at = segment(link);
      const Point middle{(at.from.x + at.to.x) / 2, (at.from.y + at.to.y) / 2 + at.normal.y * 34};
      lines_at(middle, load_text(link), stated_text(link));
    } else if (!both) {
      tag(link, fmt::format("to {}: {}", region_name(link.to), load_text(link)), stated_text(link));
    } else if (link.from < link.to) {
      const bool alike = load_text(link) == load_text(*back) && stated_text(link) == stated_text(*back);
      if (alike) {
        tag(link, panels_.size() == 3 ? load_text(link) + " each way" : load_text(link), stated_text(link));
      } else {
        tag(link, fmt::format("to {}: {}", region_name(link.to), load_text(link)),
            fmt::format("to {}: {}", region_name(link.from), load_text(*back)));
      }
    }
  }

  void lines_at(Point middle, const std::string& first, const std::string& second) {
    text(middle.x, middle.y - 3, 12.5, "#1d2530", first, " font-weight=\"600\" text-anchor=\"middle\"");
    text(middle.x, middle.y + 13, 11.5, "#5b6675", second, " text-anchor=\"middle\"");
  }

  bool free(const Box& box) const {
    const auto overlaps = [&box](const Box& other) {
      constexpr double kGap = 4;
      return box.x < other.x + other.width + kGap && other.x < box.x + box.width + kGap &&
             box.y < other.y + other.height + kGap && other.y < box.y + box.height + kGap;
    };
    return std::none_of(tags_.begin(), tags_.end(), overlaps) && std::none_of(panels_.begin(), panels_.end(), overlaps);
  }

  void tag(const WanLink& link, const std::string& first, const std::string& second) {
    const Segment at = segment(link);
    // Bold text of this size is at most this wide per character in the fonts asked for.
    const double wide = 7.7 * static_cast<double>(std::max(first.size(), second.size())) + 22;
    constexpr double kHigh = 40;
    // Between the two directions; in the middle, or wherever no other label or region is.
    Point middle;
    for (const double part : {0.5, 0.4, 0.6, 0.3, 0.7, 0.25, 0.75, 0.5}) {
      middle = {at.from.x + (at.to.x - at.from.x) * part - at.normal.x * kApart,
                at.from.y + (at.to.y - at.from.y) * part - at.normal.y * kApart};
      if (free(Box{middle.x - wide / 2, middle.y - kHigh / 2, wide, kHigh})) break;
    }
    tags_.push_back(Box{middle.x - wide / 2, middle.y - kHigh / 2, wide, kHigh});
    svg_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" rx=\"9\" fill=\"#fcfcfa\" "
        "stroke=\"#ccd6e0\"/>\n",
        middle.x - wide / 2, middle.y - kHigh / 2, wide, kHigh);
    lines_at(middle, first, second);
  }

  void panel(std::size_t region) {
    const Box& box = panels_[region];
    svg_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" rx=\"14\" fill=\"#eef2f6\" stroke=\"#ccd6e0\"/>\n",
        box.x, box.y, box.width, box.height);
    const std::vector<std::size_t> hosts = hosts_of(region);
    int ranks = 0;
    for (const std::size_t host : hosts) ranks += ranks_of(host);
    text(box.x + 16, box.y + 28, 16, "#1d2530", cluster_.topology.regions[region].name, " font-weight=\"600\"");
    text(box.x + box.width - 16, box.y + 28, 12, "#5b6675", fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s"),
         " text-anchor=\"end\"");
    double y = box.y + 42;
    for (std::size_t i = 0; i < hosts.size() && i < max_cards_; ++i) {
      card(hosts[i], box.x + 12, y);
      y += kCardHeight + kCardGap;
    }
    if (hosts.size() > max_cards_)
      text(box.x + 16, y + 12, 12, "#5b6675", fmt::format("and {} more hosts", hosts.size() - max_cards_));
  }

  int ranks_of(std::size_t host) const {
    const auto found = ranks_on_.find(static_cast<int>(host));
    return found == ranks_on_.end() ? 0 : found->second;
  }

  void card(std::size_t index, double x, double y) {
    const Host& host = cluster_.topology.hosts[index];
    const double width = kPanelWidth - 24;
    svg_ += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{}\" height=\"{}\" rx=\"8\" fill=\"#ffffff\" stroke=\"#dbe2ea\"/>\n",
        x, y, width, kCardHeight);
    text(x + 12, y + 20, 13, "#1d2530", host.name, " font-weight=\"600\"");
    text(x + width - 12, y + 20, 11.5, "#5b6675", host.nic ? rate_text(host.nic->bytes_per_second) : "nic not stated",
         " text-anchor=\"end\"");
    const std::string out = "nic " + host.name + " out";
    const std::string in = "nic " + host.name + " in";
    text(x + 12, y + 37, 11.5, "#5b6675", fmt::format("out {}", bytes_text(bytes(out))));
    text(x + width - 12, y + 37, 11.5, "#5b6675", fmt::format("in {}", bytes_text(bytes(in))), " text-anchor=\"end\"");
    bar(x + 12, y + 44, (width - 36) / 2, busy(out));
    bar(x + 24 + (width - 36) / 2, y + 44, (width - 36) / 2, busy(in));
  }

  void bar(double x, double y, double width, double share) {
    svg_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"4\" rx=\"2\" fill=\"#e8ecf1\"/>\n",
                        x, y, width);
    if (share <= 0) return;
    svg_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"4\" rx=\"2\" fill=\"{}\"/>\n", x, y,
                        std::max(4.0, width * share), colour_of(share));
  }

  void legend() {
    static constexpr std::array<std::pair<double, const char*>, 3> kSteps{
        {{0.9, "80 % or more"}, {0.5, "40 to 80 %"}, {0.1, "less"}}};
    const double y = height_ - 26;
    text(40, y, 12, "#5b6675", "Busy during the collective:");
    double x = 222;
    for (const auto& [share, words] : kSteps) {
      svg_ += fmt::format("<rect x=\"{}\" y=\"{:.1f}\" width=\"22\" height=\"6\" rx=\"3\" fill=\"{}\"/>\n", x, y - 8,
                          colour_of(share));
      text(x + 30, y, 12, "#5b6675", words);
      x += 128;
    }
  }

  const Cluster& cluster_;
  const Explanation& explanation_;
  std::map<std::string, LinkLoad> loads_;
  std::map<int, int> ranks_on_;
  std::vector<Box> panels_;
  std::vector<Box> tags_;
  std::size_t max_cards_ = 5;  ///< hosts drawn per region
  double width_ = 0, height_ = 0;
  std::string svg_;
};

}  // namespace

std::string topology_svg(const Cluster& cluster, const Explanation& explanation) {
  return Picture(cluster, explanation).draw();
}

}  // namespace longspan::planner
