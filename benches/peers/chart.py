"""The results as bars, in multiples of the floor, on a logarithmic scale."""

import math
from html import escape

WIDTH, LEFT, RIGHT, BAR = 900, 290, 70, 18
COLOURS = {"peer": "#a0aec0", "peer int8": "#718096", "secondpass": "#2b6cb0", "secondpass fast": "#38a169"}


def draw(results):
    cases = {name: case["engines"] for name, case in results["cases"].items() if "floor" in case}
    values = [engine["times_floor"] for engines in cases.values() for engine in engines.values()]
    if not values:
        return '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
    low, high = min(0.5, *values), max(values) * 1.3
    place = lambda value: LEFT + math.log(value / low) / math.log(high / low) * (WIDTH - LEFT - RIGHT)
    parts, y = [], 26
    for name, engines in cases.items():
        parts.append(f'<text x="10" y="{y}" font-weight="bold">{escape(name)}</text>')
        y += 10
        for engine, facts in engines.items():
            end, value = place(facts["times_floor"]), facts["times_floor"]
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(end - LEFT, 1):.1f}" height="{BAR - 4}" fill="{COLOURS[facts["kind"]]}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">{escape(engine)}</text>')
            parts.append(f'<text x="{end + 6:.1f}" y="{y + 11}">{value:.2f}</text>')
            y += BAR
        y += 26
    at = place(1.0)
    parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{y - 22}" stroke="#c53030" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{at:.1f}" y="{y - 8}" text-anchor="middle" fill="#c53030">floor</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" style="font: 12px sans-serif; background: #fff">'
    return head + "".join(parts) + "</svg>\n"
