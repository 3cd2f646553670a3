//! Log-sum-exp from a few features of a state, with exact logits for the tokens that count.
//!
//! All logits are previewed from `K` features ([`super::basis`]), and their exponentials summed up. Tokens
//! whose preview holds more than [`SHARE`] of the sum get exact logits instead, and so do those that somebody
//! waits for. For the others there remain errors that scatter around zero: over thousands of tokens
//! `E[exp(error)]` is what their sum is multiplied with, and that is `exp(variance / 2)` for errors that are
//! nearly normal. The variance is estimated for each row from what its features leave out.
//!
//! Bound: if no logit of the others is wrong by more than `d`, the logarithm of the sum is not by more than
//! `d` times about their share of it, a few per cent for a model that knows what it says.
//!
//! Which tokens are exact depends on the row's own previews alone: neither on other rows, nor on threads.

use super::super::product::{Epilogue, Matrix, PANEL, PIECE, Panel, Rows, Team, Tiles, dot, dots};
use super::basis::{self, PROBES, Typical};
use super::reduce::{self, Reduce, Sum};
use super::{Head, Norm, Scratch, segments};
use crate::lm::{BOUNDARY, Wanted};

/// What a head that previews has beside the previewing matrix.
pub(super) struct Preview {
    /// Makes features of states.
    pub features: Matrix,
    /// What each feature begins with, one row of 32 a panel.
    offsets: Vec<Panel>,
    /// Panels of features; then come those of what moves all logits and of what features leave out.
    panels: usize,
    /// Biases as they were: the head's own are those of previews.
    pub bias: Vec<f32>,
    /// The likeliest tokens by themselves: their sum is where a search for large logits begins.
    seed: Matrix,
    seed_bias: Vec<Panel>,
}

/// One worker's memory.
#[derive(Default)]
pub(super) struct Memory {
    /// Panel after panel, each with one for every row.
    features: Vec<Panel>,
    /// States, one after another.
    states: Vec<f32>,
    rows: Rows,
    seeds: Vec<Sum>,
    /// As the sums: segment after segment.
    limits: Vec<f32>,
    found: Vec<Vec<Found>>,
    by_row: Vec<Found>,
    begins: Vec<u32>,
}

/// A token whose preview may count.
#[derive(Clone, Copy, Default)]
struct Found {
    row: u32,
    token: u32,
    logit: f32,
}

/// How to pack a head that previews.
pub(super) struct Packed {
    pub preview: Preview,
    pub matrix: Matrix,
    pub bias: Vec<f32>,
}

impl Preview {
    /// Packs previews of `exact`, tokens' weights one after another, each `width` long.
    pub fn pack(tiles: Tiles, typical: &Typical<'_>, exact: &[f32], width: usize, bias: Vec<f32>) -> Packed {
        let made = basis::fit(typical, exact, width);
        let (rank, tokens) = (made.rank, bias.len());
        let panels = rank.div_ceil(PANEL);
        // Features, then room up to a whole panel, then the others.
        let place = |output: usize| match output {
            output if output < rank => Some(output),
            output if output < panels * PANEL => None,
            output => Some(output - panels * PANEL + rank).filter(|&place| place <= rank + PROBES),
        };
        let feature =
            |output: usize, k: usize| place(output).map_or(0.0, |place| made.features[place * width + k]);
        let all = panels + (1 + PROBES).div_ceil(PANEL);
        let features = Matrix::pack(tiles.exact(), width, all, feature);
        let offset = |output: usize| place(output).map_or(0.0, |place| made.offsets[place]);
        let offsets =
            (0..all).map(|panel| Panel(std::array::from_fn(|lane| offset(panel * PANEL + lane)))).collect();
        let weight = |token: usize, k: usize| made.weights.get(token * rank + k).copied().unwrap_or(0.0);
        let matrix = Matrix::pack(tiles, rank, tokens.div_ceil(PANEL), weight);
        let centred: Vec<f32> = bias.iter().zip(&made.centres).map(|(bias, centre)| bias + centre).collect();
        let mut likely: Vec<usize> = (0..tokens).collect();
        let share = |token: &usize| typical.shares.get(*token).copied().unwrap_or(0.0);
        likely.sort_by(|a, b| share(b).total_cmp(&share(a)).then(a.cmp(b)));
        likely.truncate(LIKELY.max(tokens / 64));
        let of = |lane: usize| likely.get(lane).map_or(f32::NEG_INFINITY, |&token| centred[token]);
        let some = likely.len().div_ceil(PANEL);
        let seed = Matrix::pack(tiles, rank, some, |lane, k| likely.get(lane).map_or(0.0, |&t| weight(t, k)));
        let seed_bias = (0..some).map(|panel| Panel(std::array::from_fn(|lane| of(panel * PANEL + lane))));
        let seed_bias = seed_bias.collect();
        Packed { preview: Self { features, offsets, panels, bias, seed, seed_bias }, matrix, bias: centred }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let panels = (self.offsets.len() + self.seed_bias.len()) * size_of::<Panel>();
        self.features.bytes() + self.seed.bytes() + panels + size_of_val(&self.bias[..])
    }

    /// See [`Head::run_rows`]; the wanted are sorted already.
    pub fn run(
        &self,
        head: &Head,
        rows: &Rows,
        wanted: Wanted<'_>,
        out: &mut [f32],
        scratch: &mut Scratch,
        team: &Team,
    ) {
        let count = rows.count();
        scratch.norms.clear();
        if count == 0 {
            return;
        }
        let asked = wanted.offsets[0] as usize..wanted.offsets[count] as usize;
        let starts = wanted.tokens[asked].contains(&BOUNDARY);
        self.look_at(head, rows, &mut scratch.preview, team);
        self.sweep(head, starts, scratch, team);
        for want in &scratch.wanted {
            out[want.at as usize] = want.logit;
        }
        let (parts, _) = segments(head.bias.len());
        let (sums, memory) = (&scratch.sums, &scratch.preview);
        let width = self.features.width();
        scratch.norms.resize(count, Norm { all: f64::NAN, starts: None });
        let mut left = &mut out[..];
        let mut passed = 0;
        let items = scratch.norms.iter_mut().enumerate().map(|(row, norm)| {
            let range = wanted.offsets[row] as usize..wanted.offsets[row + 1] as usize;
            let (_, rest) = std::mem::take(&mut left).split_at_mut(range.start - passed);
            let (here, rest) = rest.split_at_mut(range.len());
            (left, passed) = (rest, range.end);
            (row, norm, &wanted.tokens[range], here)
        });
        team.share(items, |(row, norm, tokens, out)| {
            let rough = reduce::norm((0..parts).map(|segment| &sums[segment * count + row]), starts);
            let found = &memory.by_row[memory.begins[row] as usize..memory.begins[row + 1] as usize];
            let after = self.left_out(&memory.features, row, count);
            let state = &memory.states[row * width..(row + 1) * width];
            let summed = Summed { preview: self, head, state, rough, after };
            *norm = summed.norm(found);
            for (&token, out) in tokens.iter().zip(out) {
                *out = match token {
                    BOUNDARY => norm.boundary(),
                    token => summed.ln(token as usize, *out, norm.all),
                };
            }
        });
    }

    /// Makes features of states, and of them rows for previews.
    fn look_at(&self, head: &Head, rows: &Rows, memory: &mut Memory, team: &Team) {
        struct Keep<'a> {
            offset: &'a Panel,
            out: &'a mut [Panel],
        }

        impl Epilogue for Keep<'_> {
            #[inline(always)]
            fn added(&self, _: usize) -> Option<&Panel> {
                Some(self.offset)
            }

            #[inline(always)]
            fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
                self.out[first..first + tile.len()].copy_from_slice(tile);
            }
        }

        let count = rows.count();
        memory.features.resize(self.offsets.len() * count, Panel::ZERO);
        let panels = memory.features.chunks_exact_mut(count).zip(&self.offsets).enumerate();
        team.share(panels, |(panel, (out, offset))| {
            self.features.run(panel, rows, &mut Keep { offset, out });
        });
        memory.states.resize(count * self.features.width(), 0.0);
        rows.unpack(&self.features, &mut memory.states);
        let features = &memory.features;
        memory.rows.pack(&head.matrix, count, team, |row, piece| {
            let (pieces, _) = features[piece * PIECE / PANEL * count + row].0.as_chunks();
            &pieces[piece % (PANEL / PIECE)]
        });
    }

    /// Sums up previews, and finds those that may count.
    fn sweep(&self, head: &Head, starts: bool, scratch: &mut Scratch, team: &Team) {
        let memory = &mut scratch.preview;
        let rows = &memory.rows;
        let count = rows.count();
        memory.seeds.clear();
        memory.seeds.resize(count, Sum::EMPTY);
        for (panel, bias) in self.seed_bias.iter().enumerate() {
            let mut reduce = Reduce::<false> { bias, starts: None, sums: &mut memory.seeds, wants: &mut [] };
            self.seed.run(panel, rows, &mut reduce);
        }
        let (parts, each) = segments(head.bias.len());
        memory.limits.clear();
        for _ in 0..parts {
            memory.limits.extend(memory.seeds.iter().map(Sum::limit));
        }
        memory.found.resize_with(parts, Vec::new);
        memory.found.iter_mut().for_each(Vec::clear);
        scratch.sums.clear();
        scratch.sums.resize(parts * count, Sum::EMPTY);
        let mut left = &mut scratch.wanted[..];
        let sums = scratch.sums.chunks_exact_mut(count);
        let limits = memory.limits.chunks_exact_mut(count);
        let items =
            sums.zip(limits).zip(&mut memory.found).enumerate().map(|(part, ((sums, limits), found))| {
                let panels = part * each..((part + 1) * each).min(head.bias.len());
                let wants = (scratch.begins[panels.end] - scratch.begins[panels.start]) as usize;
                let (wants, rest) = std::mem::take(&mut left).split_at_mut(wants);
                left = rest;
                (panels, sums, limits, found, wants)
            });
        team.share(items, |(panels, sums, limits, found, mut wants)| {
            for panel in panels {
                let here = wants.iter().take_while(|want| want.token as usize / PANEL == panel).count();
                let (wants_here, rest) = wants.split_at_mut(here);
                wants = rest;
                let token = (panel * PANEL) as u32;
                let bias = &head.bias[panel];
                if starts {
                    let starts = Some(&head.starts[panel]);
                    let reduce = Reduce::<true> { bias, starts, sums, wants: wants_here };
                    head.matrix.run(panel, rows, &mut Look { reduce, limits, found, token });
                } else {
                    let reduce = Reduce::<false> { bias, starts: None, sums, wants: wants_here };
                    head.matrix.run(panel, rows, &mut Look { reduce, limits, found, token });
                }
            }
        });
        memory.by_row(count);
    }

    /// What moves all logits of a row alike, and what the errors of its previews add to their sum.
    fn left_out(&self, features: &[Panel], row: usize, count: usize) -> After {
        let others = self.offsets.len() - self.panels;
        let all = (0..others).flat_map(|panel| features[(self.panels + panel) * count + row].0);
        let mut all = all.take(1 + PROBES);
        let shift = f64::from(all.next().unwrap_or(0.0));
        let squares: f64 = all.map(|value| f64::from(value) * f64::from(value)).sum();
        After { shift, correction: gained(squares / PROBES as f64, self.bias.len()) }
    }
}

/// What is added to a row's previews.
#[derive(Clone, Copy)]
struct After {
    shift: f64,
    correction: f64,
}

/// ln of the mean of `exp(error)` over so many errors, normal and of mean zero. Where they are so large that
/// the largest one rules the sum, it grows with their deviation only (the random energy model: Derrida 1981).
fn gained(variance: f64, count: usize) -> f64 {
    let most = 2.0 * (count.max(1) as f64).ln();
    if variance > most { (variance * most).sqrt() - most / 2.0 } else { variance / 2.0 }
}

/// A row after the sweep.
struct Summed<'a> {
    preview: &'a Preview,
    head: &'a Head,
    state: &'a [f32],
    /// Of previews.
    rough: Norm,
    after: After,
}

impl Summed<'_> {
    /// Whether a token has its exact logit in the sum.
    fn counts(&self, preview: f32) -> bool {
        f64::from(preview) - self.rough.all > SHARE.ln()
    }

    /// A token's exact logit.
    fn logit(&self, token: usize) -> f64 {
        f64::from(dot(self.weights(token), self.state) + self.preview.bias[token])
    }

    fn weights(&self, token: usize) -> &[f32] {
        let width = self.state.len();
        let exact = self.head.exact.as_deref().unwrap_or_default();
        &exact[token * width..(token + 1) * width]
    }

    /// The sum with exact logits of the tokens that count.
    fn norm(&self, found: &[Found]) -> Norm {
        let Norm { all, starts } = self.rough;
        // Previews as shares of their sum; exact logits as if all logits were not moved, relative to the largest.
        let (mut rest, mut of_starts) = (1.0, starts.map_or(0.0, |starts| (starts - all).exp()));
        let (mut exact, mut exact_starts, mut top) = (0.0, 0.0, 0.0);
        let found = || found.iter().filter(|found| self.counts(found.logit));
        let weights = found().map(|found| self.weights(found.token as usize));
        let mut of = found();
        dots(weights, self.state, |product| {
            let Some(found) = of.next() else { return };
            let token = found.token as usize;
            let share = (f64::from(found.logit) - all).exp();
            let logit = f64::from(product + self.preview.bias[token]) - self.after.shift - all;
            if logit > top {
                let scale = f64::exp(top - logit);
                (exact, exact_starts, top) = (exact * scale, exact_starts * scale, logit);
            }
            let term = (logit - top).exp();
            let start = f64::from(self.head.starts[token / PANEL].0[token % PANEL]);
            rest -= share;
            exact += term;
            of_starts -= share * start;
            exact_starts += term * start;
        });
        let scale = (self.after.correction - top).exp();
        // Rounding may leave less than nothing. NaN stays.
        let left = |rest: f64| if rest < 0.0 { 0.0 } else { rest * scale };
        let total = |sum: f64| all + self.after.shift + top + sum.ln();
        Norm { all: total(left(rest) + exact), starts: starts.map(|_| total(left(of_starts) + exact_starts)) }
    }

    /// ln p of a token whose preview is known; `all` is the sum.
    fn ln(&self, token: usize, preview: f32, all: f64) -> f32 {
        let exact = self.logit(token) - all;
        if self.counts(preview) {
            return (if exact > 0.0 { 0.0 } else { exact }) as f32;
        }
        // It takes the place of its preview in the sum.
        let After { shift, correction } = self.after;
        let others = 1.0 - (f64::from(preview) + shift + correction - all).exp();
        let others = if others < 0.0 { 0.0 } else { others };
        let ln = exact - (others + exact.exp()).ln();
        (if ln > 0.0 { 0.0 } else { ln }) as f32
    }
}

/// Sums up, and notes tokens above a row's limit.
struct Look<'a, const STARTS: bool> {
    reduce: Reduce<'a, STARTS>,
    limits: &'a mut [f32],
    found: &'a mut Vec<Found>,
    /// The panel's first token.
    token: u32,
}

impl<const STARTS: bool> Epilogue for Look<'_, STARTS> {
    #[inline(always)]
    fn added(&self, row: usize) -> Option<&Panel> {
        self.reduce.added(row)
    }

    #[inline(always)]
    fn finish<const FUSED: bool>(&mut self, first: usize, tile: &mut [Panel]) {
        self.reduce.finish::<FUSED>(first, tile);
        for (place, Panel(logits)) in tile.iter().enumerate() {
            let row = first + place;
            let limit = self.limits[row];
            if logits.iter().fold(false, |above, &logit| above | (logit > limit)) {
                self.note(row, logits);
            }
        }
    }
}

impl<const STARTS: bool> Look<'_, STARTS> {
    #[cold]
    fn note(&mut self, row: usize, logits: &[f32; PANEL]) {
        // The sum only grows, and the limit with it.
        let limit = self.limits[row].max(self.reduce.sums[row].limit());
        self.limits[row] = limit;
        for (token, &logit) in (self.token..).zip(logits) {
            if logit > limit {
                self.found.push(Found { row: row as u32, token, logit });
            }
        }
    }
}

impl Sum {
    /// No token counts whose preview is below.
    fn limit(&self) -> f32 {
        // A little lower, as the whole sum is added up in another order.
        (self.ln() + SHARE.ln() - 1e-3) as f32
    }
}

impl Memory {
    /// Brings what was found in order of rows (a counting sort).
    fn by_row(&mut self, count: usize) {
        let Self { found, by_row, begins, .. } = self;
        begins.clear();
        begins.resize(count + 2, 0);
        for found in found.iter().flatten() {
            begins[found.row as usize + 2] += 1;
        }
        for row in 2..begins.len() {
            begins[row] += begins[row - 1];
        }
        by_row.clear();
        by_row.resize(begins[count + 1] as usize, Found::default());
        for found in found.iter().flatten() {
            let place = &mut begins[found.row as usize + 1];
            by_row[*place as usize] = *found;
            *place += 1;
        }
    }
}

/// Tokens with a larger share of the sum get exact logits: about 100 of a trained model's.
const SHARE: f64 = 1.0 / 1024.0;
/// Tokens whose sum is a search's beginning, at least. Of large vocabularies more: where all tokens are as
/// likely as each other, those before the sum is large enough would all be found.
const LIKELY: usize = 128;
