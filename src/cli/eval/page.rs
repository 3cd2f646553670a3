//! `--report`: the figures of an evaluation, gathered for the page.

use super::super::messages::Messages;
use super::Args;
use super::cases::{Case, Cases};
use super::study::Study;
use super::summary::{Summary, p_value, samples};
use crate::Result;
use crate::combine::WORDS;
use crate::eval::confidence::Outcomes;
use crate::eval::report::{Bar, Example, Kind, Map, Oracles, Reliability, Report, Speaker, Tile, Tone};
use crate::eval::significance::FEWEST;
use crate::eval::{Bootstrap, Estimate, Oracle};

/// Makes the page.
pub fn report(all: &Cases, summary: &Summary, arguments: &Args, messages: &Messages) -> Result<Report> {
    let mut scorer = arguments.scoring.scorer()?;
    let mut words = arguments.scoring.words()?;
    let study = Study::new(all, &mut scorer);
    let bar = super::super::progress("learning weights of feature sets", 0);
    let learnt = study.learnt(&mut || bar.inc(1))?;
    bar.finish_and_clear();
    let (decided, outcomes) = study.consensus(&mut words, &mut scorer);
    if study.models.is_empty() && summary.changed {
        messages
            .say("the lists have no scores of models: the page has no feature sets and no map of weights");
    }
    let name = match arguments.lists.file_name().map(|name| name.to_string_lossy()) {
        Some(name) if name != "-" => name.into_owned(),
        _ => "lists".into(),
    };
    let mut bars = vec![row(
        &summary.baseline,
        "",
        interval(all, summary.resamples, |case| case.counts[0].errors()),
        Kind::Baseline,
    )];
    for set in learnt {
        bars.push(row(&set.name, "weights learnt on the other folds", set.rate, Kind::Other));
        log::debug!("{}: {}", set.name, set.features);
    }
    if summary.changed {
        let rate = interval(all, summary.resamples, |case| case.counts[1].errors());
        bars.push(row("these lists", "as they are ranked", rate, Kind::Chosen));
    }
    for other in decided {
        bars.push(row(other.name, "over the totals of these lists", other.rate, Kind::Other));
    }
    let errors = |oracle: &Oracle| oracle.all();
    let best = errors(&all.oracles[0]);
    let bound = Estimate { value: best.rate(), low: best.rate(), high: best.rate() };
    bars.push(Bar { interval: false, ..row("oracle", "the best of each list", bound, Kind::Bound) });
    let mut report = Report {
        title: arguments.title.clone().unwrap_or_else(|| format!("Second pass over {name}")),
        unit: summary.unit.into(),
        facts: facts(all, summary, &study, &name),
        tiles: tiles(summary),
        bars,
        map: map(&study, all)?,
        oracles: oracles(all, summary),
        reliability: reliability(summary, &outcomes),
        latencies: summary.latencies.clone(),
        notes: notes(summary, arguments),
        ..Report::default()
    };
    if summary.compared && summary.changed {
        let c = &summary.changes;
        report.changes = format!(
            "{} utterances are better, {} worse, {} others changed with as many errors. {} words were corrected, {} broken; \
             {} inserted words are gone, {} are new.",
            c.better, c.worse, c.other, c.corrected, c.broken, c.removed, c.added
        );
        report.corrected = c.most(true, 12);
        report.broken = c.most(false, 12);
        report.examples = examples(all, &scorer);
        let known = summary.speakers.len() > 1 || summary.speakers.keys().any(|name| !name.is_empty());
        report.speakers = summary.speakers.iter().filter(|_| known).map(speaker).collect();
        // The largest gains first.
        report.speakers.sort_by(|a, b| (a.after - a.before).total_cmp(&(b.after - b.before)));
    }
    Ok(report)
}

fn row(name: &str, note: &str, rate: Estimate, kind: Kind) -> Bar {
    Bar { name: name.into(), note: note.into(), rate, interval: true, kind }
}

/// As in the summary, so that one figure is one figure.
fn interval(all: &Cases, resamples: usize, errors: impl Fn(&Case) -> u64) -> Estimate {
    let bootstrap =
        Bootstrap { resamples: if resamples > 0 { resamples } else { 1000 }, ..Bootstrap::default() };
    bootstrap.compare(&samples(all, all.cases.iter().map(errors))).after
}

fn facts(all: &Cases, summary: &Summary, study: &Study<'_>, name: &str) -> Vec<(String, String)> {
    let hypotheses: usize =
        all.cases.iter().filter_map(|case| case.list.as_ref()).map(|l| l.hypotheses.len()).sum();
    let known = all.cases.iter().filter(|case| case.speaker.is_some()).count();
    let mut facts = vec![
        ("lists".into(), name.to_owned()),
        ("utterances".into(), all.cases.len().to_string()),
        ("hypotheses".into(), hypotheses.to_string()),
        ("reference".into(), {
            let unit = if summary.unit == "CER" { "characters" } else { "words" };
            format!("{} {unit}", summary.tallies[0].counts.reference)
        }),
    ];
    if known > 0 {
        facts.push(("speakers".into(), summary.speakers.len().to_string()));
    }
    if !study.weights.is_empty() {
        let term = |(name, weight): &(String, f64)| {
            let sign = if *weight < 0.0 { "\u{2212} " } else { "+ " };
            if *weight == 1.0 { format!("{sign}{name}") } else { format!("{sign}{:.4} {name}", weight.abs()) }
        };
        let formula: Vec<String> = study.weights.iter().map(term).collect();
        facts.push(("total =".into(), formula.join(" ").trim_start_matches("+ ").to_owned()));
    }
    facts
}

fn tiles(summary: &Summary) -> Vec<Tile> {
    let percent = |rate: f64| format!("{:.2} %", 100.0 * rate);
    let minus = |text: String| text.replace('-', "\u{2212}");
    let [before, after] = summary.tallies.map(|tally| tally.counts.rate());
    let within = |estimate: Option<Estimate>| match estimate {
        Some(e) if e.low.is_finite() => minus(format!("{:.2} to {:.2}", 100.0 * e.low, 100.0 * e.high)),
        _ => String::new(),
    };
    let tile = |label: String, value: String, note: String, tone: Tone| Tile { label, value, note, tone };
    let c = summary.comparison;
    let mut tiles = Vec::new();
    if summary.compared {
        let label = format!("{} {}", summary.baseline, summary.unit);
        tiles.push(tile(label, percent(before), within(c.map(|c| c.before)), Tone::Plain));
    }
    if summary.changed {
        let label = format!("second pass {}", summary.unit);
        tiles.push(tile(label, percent(after), within(c.map(|c| c.after)), Tone::Plain));
    }
    if summary.compared && summary.changed {
        let delta = after - before;
        let sure = c.is_some_and(|c| c.delta.high < 0.0 || c.delta.low > 0.0);
        let tone = match delta {
            d if sure && d < 0.0 => Tone::Good,
            d if sure && d > 0.0 => Tone::Bad,
            _ => Tone::Plain,
        };
        let value = minus(format!("{:+.2}", 100.0 * delta));
        let relative = (before > 0.0).then(|| minus(format!("{:+.1} % relative", 100.0 * delta / before)));
        let label = relative.map_or("difference".into(), |relative| format!("difference, {relative}"));
        tiles.push(tile(label, value, within(c.map(|c| c.delta)), tone));
        let note = format!("{} segments", summary.test.segments);
        tiles.push(tile("matched pairs, p".into(), p_value(summary.test.p), note, Tone::Plain));
    }
    if tiles.len() < 4
        && let Some((depth, counts)) = summary.oracle.last()
    {
        let label = format!("oracle {}", summary.unit);
        tiles.push(tile(label, percent(counts.rate()), format!("best of {depth}"), Tone::Plain));
    }
    tiles
}

/// The error over the two weights that matter most, the others as they are.
fn map(study: &Study<'_>, all: &Cases) -> Result<Option<Map>> {
    let Some(last) = study.models.last() else { return Ok(None) };
    let used = |name: &String| study.weights.iter().any(|(other, _)| other == name);
    let mut models: Vec<String> = study.models.iter().filter(|name| used(name)).cloned().collect();
    if models.is_empty() {
        models.push(last.clone());
    }
    let mut features = study.base.clone();
    features.extend(models.iter().cloned());
    features.push(WORDS.to_owned());
    let problem = study.problem(&features, models.len())?;
    let spreads = problem.spreads();
    let weight =
        |at: usize| study.weights.iter().find(|(name, _)| *name == features[at]).map_or(0.0, |(_, w)| *w);
    let mut weights: Vec<f64> = (0..features.len()).map(weight).collect();
    if study.weights.is_empty() {
        weights[..study.base.len()].fill(1.0);
    }
    let total = weights[0].abs() * spreads[0];
    // How much each moves totals; of those without a weight, models before words.
    let mut free: Vec<usize> =
        (1..features.len()).filter(|&at| spreads[at] > 0.0 && (at >= study.base.len())).collect();
    free.sort_by(|&a, &b| (weights[b].abs() * spreads[b]).total_cmp(&(weights[a].abs() * spreads[a])));
    let Some(&x) = free.first() else { return Ok(None) };
    let y = free.get(1).copied();
    let axis = |at: usize| -> Vec<f64> {
        let unit = if spreads[at] > 0.0 && total > 0.0 { total / spreads[at] } else { 1.0 };
        let w = weights[at];
        let signed = features[at] == WORDS || w < 0.0;
        let reach = if w == 0.0 { unit } else { 2.0 * w.abs() };
        let low = if signed { -reach } else { 0.0 };
        (0..POINTS).map(|n| low + (reach - low) * n as f64 / (POINTS - 1) as f64).collect()
    };
    let reference: u64 = all.cases.iter().map(|case| case.counts[0].reference).sum();
    let rate = |weights: &[f64]| crate::eval::wer::rate(problem.loss(weights), reference);
    let (xs, ys) = (axis(x), y.map(axis).unwrap_or_default());
    let chosen = weights.clone();
    let mut rates = Vec::with_capacity(xs.len() * ys.len().max(1));
    // Without a second weight there is one row, in which nothing moves.
    let rows = if ys.is_empty() { vec![None] } else { ys.iter().copied().map(Some).collect() };
    for row in rows {
        for &value in &xs {
            weights[x] = value;
            if let (Some(y), Some(row)) = (y, row) {
                weights[y] = row;
            }
            rates.push(rate(&weights));
        }
    }
    let known = !study.weights.is_empty();
    Ok(Some(Map {
        x: (features[x].clone(), xs),
        y: (y.map(|y| features[y].clone()).unwrap_or_default(), ys),
        rates,
        chosen: known.then(|| (chosen[x], y.map_or(0.0, |y| chosen[y]))),
        rate: known.then(|| rate(&chosen)),
    }))
}

fn oracles(all: &Cases, summary: &Summary) -> Vec<Oracles> {
    let points = |oracle: &Oracle| oracle.depths().map(|(depth, counts)| (depth, counts.rate())).collect();
    let mut series = vec![Oracles { name: "first-pass order".into(), points: points(&all.oracles[0]) }];
    if all.rescored && summary.changed {
        series.push(Oracles { name: "second-pass order".into(), points: points(&all.oracles[1]) });
    }
    series
}

/// What the records say; where they say nothing, what the totals would say.
fn reliability(summary: &Summary, computed: &[Outcomes; 2]) -> Vec<Reliability> {
    let said = [&summary.words, &summary.utterances];
    let of = |at: usize, name: &str| {
        let (outcomes, note) = match said[at].is_empty() {
            true => (&computed[at], ", cross-fitted"),
            false => (said[at], ""),
        };
        Reliability {
            name: format!("{name}{note}"),
            bins: outcomes.bins(10),
            nce: outcomes.nce(),
            ece: outcomes.ece(),
        }
    };
    let all = [of(0, "words"), of(1, "utterances")];
    all.into_iter().filter(|one| one.bins.iter().any(|bin| bin.count > 0)).collect()
}

fn speaker((name, [before, after]): (&Vec<u8>, &[crate::eval::Tally; 2])) -> Speaker {
    Speaker {
        name: name.clone(),
        utterances: before.sentences,
        words: before.counts.reference,
        before: before.counts.rate(),
        after: after.counts.rate(),
    }
}

/// The largest gains and the largest losses: both are the truth.
fn examples(all: &Cases, scorer: &crate::eval::Scorer) -> Vec<Example> {
    let change = |case: &&Case| case.counts[1].errors() as i64 - case.counts[0].errors() as i64;
    let shown = |case: &&Case| change(case) != 0 && case.counts[0].reference <= MOST_WORDS;
    let mut changed: Vec<&Case> = all.cases.iter().filter(shown).collect();
    // Of equal changes those of short sentences: they show more.
    changed.sort_by_key(|case| (change(case), case.counts[0].reference));
    let wins = changed.iter().filter(|case| change(case) < 0).take(WINS);
    let losses = changed.iter().rev().filter(|case| change(case) > 0).take(LOSSES);
    let example = |case: &&Case| Example {
        id: case.id.clone(),
        rank: case.list.as_ref().and_then(|list| list.hypotheses.get(case.chosen)).map(|h| h.rank),
        before: scorer.align(&case.reference, &case.before),
        after: scorer.align(&case.reference, &case.after),
    };
    wins.chain(losses).map(example).collect()
}

fn notes(summary: &Summary, arguments: &Args) -> Vec<String> {
    let scoring = &arguments.scoring;
    let how = match scoring.alignment {
        super::super::lists::Align::Levenshtein => "the fewest errors, as compute-wer and jiwer count",
        super::super::lists::Align::Sclite => "sclite's costs of 4, 3 and 3",
    };
    let mut notes = vec![
        format!("{}: {how}.", summary.unit),
        format!(
            "Intervals: 95 %, {} resampled whole (Bisani and Ney 2004). p: matched-pairs sentence-segment word error test \
             (Gillick and Cox 1989), {} segments.",
            summary.groups, summary.test.segments
        ),
    ];
    // Else the whiskers of one chart would be drawn in two ways without a word.
    if summary.speakers.len() < FEWEST && !summary.speakers.keys().all(Vec::is_empty) {
        notes.push(format!(
            "{} speakers are too few to learn on some and judge on others: where weights are learnt, the intervals are those \
             of runs of neighbouring utterances, and narrower.",
            summary.speakers.len()
        ));
    }
    notes.push(format!("Made by secondpass {}.", env!("CARGO_PKG_VERSION")));
    notes
}

/// Values of each weight on the map.
const POINTS: usize = 41;

/// Words of an utterance that anybody reads as an example.
const MOST_WORDS: u64 = 400;

/// Examples shown.
const WINS: usize = 10;
const LOSSES: usize = 6;
