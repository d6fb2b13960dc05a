"""The results of wan.py as an SVG: a panel for each RTT, buffer and loss; a bar for each size and peer."""
from html import escape

COLOURS = {"longspan": "#0b6fb8", "gloo": "#e08214", "open_mpi": "#7a7a7a", "mpich": "#9e5fa8"}
BAR, GAP, HEIGHT = 16, 14, 150
LEFT, TOP, PANEL_TOP, PANEL_BOTTOM = 46, 66, 34, 44


def size_name(size):
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


def text(x, y, words, size=11, anchor="middle", weight="normal", extra=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" {extra}>'
            f"{escape(words)}</text>")


def upright(x, bottom, words, colour):
    x, y = x + 3, bottom - 3
    return text(x, y, words, 9, "start", extra=f'fill="{colour}" transform="rotate(-90 {x:.1f} {y:.1f})"')


def bar(x, bottom, cell, peer):
    """One bar with its number, or what became of the cell."""
    middle = x + BAR / 2
    if cell is None:
        return upright(middle, bottom, "not run", "#999")
    if "bound_percent" not in cell:
        return upright(middle, bottom, cell["failures"][0].split(":")[0], "#b00020")
    height = min(cell["bound_percent"], 110) / 100 * HEIGHT
    mark = "*" if cell["invalid"] or cell["ok"] < cell["rounds"] else ""
    tip = (f"{peer}: {cell['time_us'] / 1e3:.4g} ms, {cell['bound_percent']:.1f} % of the bound, "
           f"{cell['ok']} of {cell['rounds']} rounds")
    return (f'<rect x="{x:.1f}" y="{bottom - height:.1f}" width="{BAR - 2}" height="{height:.1f}" '
            f'fill="{COLOURS[peer]}"><title>{escape(tip)}</title></rect>'
            + text(middle - 1, bottom - height - 3, f"{cell['bound_percent']:.0f}{mark}", 9))


def panel(x, y, title, sizes, peers, cells):
    bottom = y + PANEL_TOP + HEIGHT
    group = BAR * len(peers) + GAP
    width = group * len(sizes) + GAP
    parts = [text(x, y + 16, title, 12, "start", "bold")]
    for percent in (0, 25, 50, 75, 100):
        line = bottom - percent / 100 * HEIGHT
        colour = "#888" if percent in (0, 100) else "#ddd"
        parts.append(f'<line x1="{x}" x2="{x + width}" y1="{line:.1f}" y2="{line:.1f}" stroke="{colour}"/>')
        parts.append(text(x - 6, line + 4, f"{percent}", 10, "end"))
    for i, size in enumerate(sizes):
        start = x + GAP + i * group
        parts.append(text(start + (group - GAP) / 2, bottom + 16, size_name(size)))
        parts += [bar(start + BAR * j, bottom, cells.get((size, peer)), peer) for j, peer in enumerate(peers)]
    return "\n".join(parts)


def draw(results, names):
    cells = results["cells"]
    peers = [peer for peer in results["peers"] if any(cell["peer"] == peer for cell in cells)]
    sizes = sorted({cell["size"] for cell in cells})
    rows = sorted({(cell["rtt_ms"], cell["buffer"]) for cell in cells})
    losses = sorted({cell["loss"] for cell in cells})
    panel_width = max(265, (BAR * len(peers) + GAP) * len(sizes) + GAP + 50)
    panel_height = PANEL_TOP + HEIGHT + PANEL_BOTTOM
    width = max(600, LEFT + panel_width * len(losses))
    height = TOP + panel_height * len(rows) + 16
    title = f"Allreduce over the WAN, % of the bound: 2 regions x 2 hosts, {results['rate']}"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
             f'height="{height}" font-family="Helvetica, Arial, sans-serif" fill="#222">',
             '<rect width="100%" height="100%" fill="white"/>', text(LEFT, 22, title, 13, "start", "bold")]
    x = LEFT
    for peer in peers:
        parts.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{COLOURS[peer]}"/>')
        parts.append(text(x + 17, 46, names[peer], 12, "start"))
        x += 110
    for i, (rtt, buffer) in enumerate(rows):
        for j, loss in enumerate(losses):
            own = {(cell["size"], cell["peer"]): cell for cell in cells
                   if (cell["rtt_ms"], cell["buffer"], cell["loss"]) == (rtt, buffer, loss)}
            if own:
                buffer_name = f"{buffer / 1e6:g} MB" if buffer >= 1e6 else f"{buffer / 1e3:g} KB"
                parts.append(panel(LEFT + panel_width * j, TOP + panel_height * i,
                                   f"RTT {rtt:g} ms, buffer {buffer_name}, loss {loss:g}", sizes, peers, own))
    note = "* some rounds failed, or the lab's emulator was late (docs/lab.md)"
    if any("bound_percent" in cell and (cell["invalid"] or cell["ok"] < cell["rounds"]) for cell in cells):
        parts.append(text(LEFT, height - 8, note, 10, "start"))
    return "\n".join(parts + ["</svg>"]) + "\n"
