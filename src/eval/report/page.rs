//! The page around the charts.

use std::fmt::Write;

use super::svg::escape;
use super::{Report, Tone, bars, examples, histogram, lines, map, reliability, tables};

/// The whole page.
pub fn html(report: &Report) -> String {
    let title = escape(report.title.as_bytes());
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <meta name=\"generator\" content=\"secondpass {}\"><title>{title}</title><style>{}</style></head><body><main>",
        env!("CARGO_PKG_VERSION"),
        STYLE.split('\n').map(str::trim).collect::<String>()
    );
    let _ = write!(out, "<header><h1>{title}</h1><dl>");
    for (label, value) in &report.facts {
        let _ = write!(
            out,
            "<div><dt>{}</dt><dd>{}</dd></div>",
            escape(label.as_bytes()),
            escape(value.as_bytes())
        );
    }
    out.push_str("</dl></header><section class=\"tiles\">");
    for tile in &report.tiles {
        let tone = match tile.tone {
            Tone::Plain => "",
            Tone::Good => " good",
            Tone::Bad => " bad",
        };
        let _ = write!(
            out,
            "<div class=\"tile{tone}\"><span>{}</span><strong>{}</strong><small>{}</small></div>",
            escape(tile.label.as_bytes()),
            escape(tile.value.as_bytes()),
            escape(tile.note.as_bytes())
        );
    }
    out.push_str("</section>");
    figure(
        &mut out,
        "What each feature set is worth",
        &bars::chart(report),
        "Weights of every set are learnt on the other folds of these lists, so that no utterance is judged by weights \
         that have seen it. Whiskers are 95\u{a0}% intervals of each rate alone: a difference on the same speakers is surer than \
         they look. The dashed line is where it began.",
        true,
    );
    out.push_str("<section class=\"grid\">");
    if let Some(map) = &report.map {
        let text = match map.y.1.is_empty() {
            true => "The other weights stay as they are. The dot is the weight in force.",
            false => {
                "Dark is good. The other weights stay as they are; the ring is the weights in force. A wide dark valley carries over to other data, a narrow one may not."
            }
        };
        figure(&mut out, "Error over the main weights", &map::chart(map, &report.unit), text, false);
    }
    figure(
        &mut out,
        "Best of n",
        &lines::chart(&report.oracles, &report.unit),
        "What a perfect choice among the first n would leave: the room there is for any rescoring.",
        false,
    );
    let scores = report.reliability.iter().map(|one| {
        let nce = one.nce.map_or("undefined".to_owned(), |nce| format!("{nce:.3}").replace('-', "\u{2212}"));
        format!(" Normalised cross entropy of {} {nce}, expected calibration error {:.3}.", one.name, one.ece)
    });
    let scores: String = scores.collect();
    figure(
        &mut out,
        "Calibration",
        &reliability::chart(&report.reliability),
        &format!(
            "On the dashed line confidence means what it says; the larger a dot, the more it stands for.{}",
            escape(scores.as_bytes())
        ),
        false,
    );
    figure(
        &mut out,
        "Latency",
        &histogram::chart(&report.latencies),
        "From the reading of a record to its answer, as the records say.",
        false,
    );
    out.push_str("</section>");
    let changes = tables::changes(report);
    if !changes.is_empty() || !report.changes.is_empty() {
        let _ = write!(
            out,
            "<section><h2>What changed</h2><p>{}</p>{changes}</section>",
            escape(report.changes.as_bytes())
        );
    }
    if !report.examples.is_empty() {
        let _ = write!(
            out,
            "<section><h2>Examples</h2><p>The utterances that gained and lost most. \
             <span class=\"won word\">right now</span> <span class=\"lost word\">wrong now</span> \
             <span class=\"wrong word\">wrong, as before</span> \u{2205}\u{a0}nothing was heard.</p>{}</section>",
            examples::list(&report.examples)
        );
    }
    if !report.speakers.is_empty() {
        let _ = write!(out, "<section><h2>Speakers</h2>{}</section>", tables::speakers(&report.speakers));
    }
    out.push_str("<footer>");
    for note in &report.notes {
        let _ = write!(out, "<p>{}</p>", escape(note.as_bytes()));
    }
    out.push_str("</footer></main></body></html>\n");
    out
}

/// A chart with its heading, unless there is nothing to show. `text` is HTML.
fn figure(out: &mut String, title: &str, chart: &str, text: &str, wide: bool) {
    if chart.is_empty() {
        return;
    }
    let class = if wide { " class=\"wide\"" } else { "" };
    let _ = write!(out, "<figure{class}><h2>{title}</h2>{chart}<figcaption>{text}</figcaption></figure>");
}

const STYLE: &str = "
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2430; --soft: #5b6776; --faint: #8a94a3; --rule: #dfe3e9; --grid: #e8ebf0;
  --blue: #1f5fbf; --orange: #c2570c; --won: #10743f; --won-back: #d9f2e3; --lost: #b3261e; --lost-back: #fbe0dd;
  --wrong: #8a5a00; --wrong-back: #fdf0cf; --halo: #ffffff;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #11151b; --card: #1a2028; --ink: #e8ecf1; --soft: #a5b0be; --faint: #7b8796; --rule: #2e3742; --grid: #27303a;
    --blue: #74aaf7; --orange: #f39a55; --won: #6fd49b; --won-back: #143c28; --lost: #ff9d94; --lost-back: #4a1d1a;
    --wrong: #e9bf64; --wrong-back: #3d3012; --halo: #1a2028;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, \"Segoe UI\", Roboto, \"Helvetica Neue\", \"Noto Sans\", \"DejaVu Sans\", Arial, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 40px 24px 56px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 14px; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 17px; line-height: 1.3; margin: 0 0 12px; }
h3 { font-size: 15px; margin: 0 0 6px; }
h4 { font-size: 14px; margin: 0 0 8px; font-weight: 500; }
h4 small { margin-left: 6px; }
p { margin: 0 0 12px; max-width: 72ch; }
small { color: var(--soft); }
code { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, \"DejaVu Sans Mono\", monospace; overflow-wrap: anywhere; }
header { margin-bottom: 26px; }
dl { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 0; font-size: 14px; }
dl div { display: flex; gap: 7px; max-width: 100%; }
dt { color: var(--soft); white-space: nowrap; }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
section { margin: 0 0 22px; }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 14px; }
.tile, figure, section:not(.tiles):not(.grid) { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 14px 16px 13px; display: flex; flex-direction: column; }
.tile span { font-size: 13px; color: var(--soft); }
.tile strong { font-size: 27px; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.tile small { font-size: 13px; font-variant-numeric: tabular-nums; }
.good strong { color: var(--won); }
.bad strong { color: var(--lost); }
figure { margin: 0; padding: 18px 20px 16px; min-width: 0; }
figure.wide { margin-bottom: 22px; }
figcaption { font-size: 13px; line-height: 1.45; color: var(--soft); margin-top: 10px; max-width: 84ch; }
.grid { display: grid; grid-template-columns: 1fr 1fr; gap: 22px; }
.grid figure:last-child:nth-child(odd) { grid-column: 1 / -1; display: grid; grid-template-columns: 1fr 1fr; column-gap: 42px; }
.grid figure:last-child:nth-child(odd) h2 { grid-column: 1 / -1; }
.grid figure:last-child:nth-child(odd) figcaption { align-self: center; }
section:not(.tiles):not(.grid) { padding: 20px 20px 18px; }
svg { display: block; width: 100%; height: auto; overflow: visible; font-family: inherit; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .axis { stroke: var(--faint); stroke-width: 1; }
svg .base { stroke: var(--faint); stroke-width: 1.2; stroke-dasharray: 4 4; }
svg text { fill: var(--ink); font-size: 12.5px; }
svg .tick { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .name { fill: var(--soft); font-size: 12px; }
svg .value { font-size: 14px; font-weight: 600; font-variant-numeric: tabular-nums; }
svg .halo { paint-order: stroke; stroke: var(--halo); stroke-width: 4px; stroke-linejoin: round; }
svg .whisker { stroke: var(--blue); stroke-width: 2; stroke-linecap: round; }
svg .dot { fill: var(--blue); stroke: var(--card); stroke-width: 2; }
svg .first .dot { fill: var(--soft); } svg .first .whisker { stroke: var(--soft); }
svg .chosen .dot { fill: var(--orange); } svg .chosen .whisker { stroke: var(--orange); }
svg .chosen .label { font-weight: 600; }
svg .bound .dot { fill: var(--card); stroke: var(--soft); } svg .bound .whisker { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .mark { stroke: var(--card); stroke-width: 1.5; }
svg .faint { fill-opacity: .75; }
svg .line.series0 { stroke: var(--blue); } svg .mark.series0 { fill: var(--blue); }
svg .line.series1 { stroke: var(--orange); } svg .mark.series1 { fill: var(--orange); }
svg .column { fill: var(--blue); }
table { border-collapse: collapse; font-size: 14px; width: 100%; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 13px; border-bottom: 1px solid var(--rule); }
th, td { padding: 5px 12px 5px 0; vertical-align: baseline; overflow-wrap: anywhere; }
tbody tr + tr td { border-top: 1px solid var(--grid); }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.diff { width: 22%; min-width: 80px; padding-right: 0; vertical-align: middle; }
.diff svg { height: 12px; }
svg .won { fill: var(--won); } svg .lost { fill: var(--lost); }
.pair .num { width: 4.2em; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 36px; }
.word, .words i { border-radius: 4px; padding: 0 5px; }
.word { white-space: nowrap; }
.won { color: var(--won); } .lost { color: var(--lost); } .wrong { color: var(--wrong); }
span.won, i.won { background: var(--won-back); } span.lost, i.lost { background: var(--lost-back); }
span.wrong, i.wrong { background: var(--wrong-back); }
.example { border-top: 1px solid var(--rule); padding: 14px 0 12px; }
.badge { font-size: 12px; font-weight: 600; border-radius: 4px; padding: 1px 7px; margin-right: 6px; }
.win .badge { color: var(--won); background: var(--won-back); }
.loss .badge { color: var(--lost); background: var(--lost-back); }
.even .badge { color: var(--soft); background: var(--grid); }
.words { display: flex; flex-wrap: wrap; gap: 10px 3px; }
.col { display: grid; grid-template-rows: repeat(3, 25px); align-items: center; max-width: 100%; }
.col i { font-style: normal; font-size: 14px; line-height: 22px; min-width: 1ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.col i:first-child { color: var(--soft); }
.col .none { color: var(--faint); text-align: center; }
.col .won.none { color: var(--won); }
.head b { font-weight: 500; font-size: 12px; color: var(--faint); padding-right: 9px; }
footer { color: var(--soft); font-size: 13px; padding: 6px 2px; }
footer p { margin-bottom: 6px; max-width: 96ch; }
@media screen and (max-width: 760px) {
  main { padding: 26px 14px 40px; }
  h1 { font-size: 24px; }
  .grid, .pair, .grid figure:last-child:nth-child(odd) { grid-template-columns: minmax(0, 1fr); }
  .tiles { grid-template-columns: 1fr 1fr; gap: 10px; }
  .tile { padding: 11px 12px; }
  .tile strong { font-size: 22px; }
  figure { padding: 14px 12px; }
  figure.wide { overflow-x: auto; }
  figure.wide svg { min-width: 560px; }
  section:not(.tiles):not(.grid) { padding: 14px 12px; overflow-x: auto; }
  .pair { gap: 20px; }
}
@media print {
  @page { margin: 14mm; }
  :root { --page: #fff; }
  body { font-size: 11pt; -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  h1 { font-size: 19pt; }
  .tile { padding: 8px 10px; }
  .tile strong { font-size: 17pt; }
  .tile span, .tile small { font-size: 8.5pt; }
  .grid { gap: 12px; }
  figure { padding: 12px 14px; }
  figcaption { font-size: 9pt; }
  table, .col i { font-size: 9.5pt; }
  figure, .tile, .example, tr { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  .tile, figure, section:not(.tiles):not(.grid) { border-color: #ccd2da; }
}
";
