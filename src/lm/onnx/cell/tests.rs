//! The layers against the equations of the ONNX operators in f64.

use super::super::head::Head;
use super::super::product::{Team, Tiles};
use super::layer::{Kind, Weights};
use super::stack::{Arena, Scratch, Stack};
use super::table::{Embedding, Room};
use crate::lm::{BOUNDARY, Rows, Wanted};

/// Numbers that look random, between -1 and 1 (xorshift).
fn numbers(count: usize, seed: u64, spread: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * spread
    };
    std::iter::repeat_with(next).take(count).collect()
}

struct Model {
    layers: Vec<Weights>,
    width: usize,
    tokens: usize,
    embedding: Vec<f32>,
    matrix: Vec<f32>,
    bias: Vec<f32>,
}

fn starts(token: usize) -> bool {
    token.is_multiple_of(3)
}

fn times(matrix: &[f32], row: usize, vector: &[f64]) -> f64 {
    let weights = &matrix[row * vector.len()..(row + 1) * vector.len()];
    weights.iter().zip(vector).map(|(&w, x)| f64::from(w) * x).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Model {
    fn new(kind: Kind, peepholes: bool, width: usize, sizes: &[usize], tokens: usize) -> Self {
        let mut below = width;
        let layers = sizes.iter().zip(1u64..).map(|(&size, seed)| {
            let (input, gates) = (std::mem::replace(&mut below, size), kind.gates());
            // Large enough for gates to be open, closed and in between.
            let spread = 2.0 / (size as f32).sqrt();
            Weights {
                kind,
                input,
                size,
                w: numbers(gates * size * input, seed * 10 + 1, spread),
                r: numbers(
                    gates * size * size,
                    seed * 10 + 2,
                    if kind == Kind::Relu { spread / 4.0 } else { spread },
                ),
                b: numbers(2 * gates * size, seed * 10 + 3, 1.0),
                p: if peepholes { numbers(3 * size, seed * 10 + 4, 1.0) } else { Vec::new() },
            }
        });
        Self {
            layers: layers.collect(),
            width,
            tokens,
            embedding: numbers(tokens * width, 5, 1.0),
            matrix: numbers(tokens * sizes[sizes.len() - 1], 6, 1.0),
            bias: numbers(tokens, 7, 1.0),
        }
    }

    fn stack(&self, tiles: Tiles, table: usize) -> Stack {
        let size = self.layers[self.layers.len() - 1].size;
        let weight = |token: usize, k: usize| self.matrix[token * size + k];
        let head = Head::pack_for(tiles, size, self.tokens, weight, |token| self.bias[token], starts);
        let embedding = Embedding::Own(self.embedding.clone());
        let room = Room { first: table, further: 0 };
        let layers = self.layers.iter().cloned().map(Ok);
        Stack::new(tiles, layers, embedding, self.tokens, head, room).unwrap()
    }

    /// ln p of each token, then of the starts, after each step over `ids`.
    fn scores(&self, ids: &[u32]) -> Vec<Vec<f64>> {
        let mut states: Vec<(Vec<f64>, Vec<f64>)> =
            self.layers.iter().map(|layer| (vec![0.0; layer.size], vec![0.0; layer.size])).collect();
        let step = |&id: &u32| {
            let vector = &self.embedding[id as usize * self.width..][..self.width];
            let mut x: Vec<f64> = vector.iter().map(|&x| f64::from(x)).collect();
            for (layer, (h, c)) in self.layers.iter().zip(&mut states) {
                (*h, *c) = next(layer, &x, h, c);
                x.clone_from(h);
            }
            let logits: Vec<f64> = (0..self.tokens)
                .map(|token| times(&self.matrix, token, &x) + f64::from(self.bias[token]))
                .collect();
            let top = logits.iter().copied().fold(f64::MIN, f64::max);
            let sum = |all: bool| {
                let terms = logits.iter().enumerate().filter(|(token, _)| all || starts(*token));
                terms.map(|(_, logit)| (logit - top).exp()).sum::<f64>().ln() + top
            };
            let mut scores: Vec<f64> = logits.iter().map(|logit| logit - sum(true)).collect();
            scores.push(sum(false) - sum(true));
            scores
        };
        ids.iter().map(step).collect()
    }
}

/// One step of one layer, as the ONNX operators are defined.
fn next(layer: &Weights, x: &[f64], h: &[f64], c: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let size = layer.size;
    let gates = layer.kind.gates() * size;
    let of_input = |row: usize| times(&layer.w, row, x) + f64::from(layer.b[row]);
    let of_state = |row: usize| times(&layer.r, row, h) + f64::from(layer.b[gates + row]);
    let gate = |gate: usize, unit: usize| of_input(gate * size + unit) + of_state(gate * size + unit);
    let peep = |which: usize, unit: usize| layer.p.get(which * size + unit).map_or(0.0, |&p| f64::from(p));
    let unit = |u: usize| match layer.kind {
        Kind::Lstm => {
            let input = sigmoid(gate(0, u) + peep(0, u) * c[u]);
            let forget = sigmoid(gate(2, u) + peep(2, u) * c[u]);
            let cell = forget * c[u] + input * gate(3, u).tanh();
            (sigmoid(gate(1, u) + peep(1, u) * cell) * cell.tanh(), cell)
        }
        Kind::Gru => {
            let (update, reset) = (sigmoid(gate(0, u)), sigmoid(gate(1, u)));
            let new = (of_input(2 * size + u) + reset * of_state(2 * size + u)).tanh();
            ((1.0 - update) * new + update * h[u], 0.0)
        }
        Kind::Tanh => (gate(0, u).tanh(), 0.0),
        Kind::Relu => (gate(0, u).max(0.0), 0.0),
    };
    (0..size).map(unit).unzip()
}

/// Runs histories side by side, each in the state of its number, and gives what follows each step of each.
fn run(stack: &Stack, histories: &[Vec<u32>], tokens: usize, team: &Team) -> Vec<Vec<Vec<f32>>> {
    let (mut arena, mut scratch) = (Arena::new(stack), Scratch::default());
    assert!(arena.reserve(stack, histories.len()));
    (0..histories.len() as u32).for_each(|state| arena.reset(stack, state));
    let row: Vec<u32> = (0..tokens as u32).chain([BOUNDARY]).collect();
    let mut all = vec![Vec::new(); histories.len()];
    for step in 0..histories.iter().map(Vec::len).max().unwrap_or(0) {
        let live: Vec<u32> =
            (0..histories.len() as u32).filter(|&s| step < histories[s as usize].len()).collect();
        let fed: Vec<u32> = live.iter().map(|&s| histories[s as usize][step]).collect();
        let wanted = row.repeat(live.len());
        let offsets: Vec<u32> = (0..=live.len()).map(|n| (n * row.len()) as u32).collect();
        let mut out = vec![f32::NAN; wanted.len()];
        let rows = Rows { tokens: &fed, from: &live, to: &live };
        let wanted = Wanted { tokens: &wanted, offsets: &offsets };
        stack.step(rows, wanted, &mut out, &mut arena, &mut scratch, team);
        for (&state, scores) in live.iter().zip(out.chunks(row.len())) {
            all[state as usize].push(scores.to_vec());
        }
        // What was asked once may be asked again, and has the same bits.
        let mut again = vec![f32::NAN; out.len()];
        stack.again(&live, wanted, &mut again, &mut arena, &mut scratch, team);
        assert!(again.iter().zip(&out).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
    all
}

fn histories(count: usize, tokens: usize) -> Vec<Vec<u32>> {
    let token = |row: usize, at: usize| ((row * 7919 + at * 104_729 + row * at) % tokens) as u32;
    (0..count).map(|row| (0..1 + row % 5).map(|at| token(row, at)).collect()).collect()
}

const KINDS: [(Kind, bool); 5] =
    [(Kind::Lstm, false), (Kind::Lstm, true), (Kind::Gru, false), (Kind::Tanh, false), (Kind::Relu, false)];

#[test]
fn as_the_equations_for_all_cells_and_sizes() {
    for (kind, peepholes) in KINDS {
        for (width, sizes, tokens) in
            [(1, &[1][..], 3), (5, &[5], 40), (9, &[33, 12], 33), (16, &[40, 8, 33], 70)]
        {
            let model = Model::new(kind, peepholes, width, sizes, tokens);
            let histories = histories(14, tokens);
            for tiles in Tiles::all() {
                // A table of everything, of some, of nothing.
                let row = sizes[0].div_ceil(kind.units()) * 128;
                let all = [usize::MAX, 5 * row, 0]
                    .map(|bytes| run(&model.stack(tiles, bytes), &histories, tokens, &Team::alone()));
                assert_eq!(all[0], all[1]);
                assert_eq!(all[0], all[2]);
                for (history, got) in histories.iter().zip(&all[0]) {
                    for (want, got) in model.scores(history).iter().zip(got) {
                        for (&want, &got) in want.iter().zip(got) {
                            let near = 2e-6 * (1.0 + want.abs());
                            assert!(
                                (f64::from(got) - want).abs() < near,
                                "{kind:?} {sizes:?} {tiles:?}: {got}, not {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_history_has_the_same_bits_in_any_company_and_with_any_number_of_threads() {
    for (kind, peepholes) in KINDS {
        let model = Model::new(kind, peepholes, 12, &[40, 33], 70);
        let histories = histories(26, 70);
        for tiles in Tiles::all() {
            let stack = model.stack(tiles, usize::MAX);
            let together = run(&stack, &histories, 70, &Team::alone());
            for threads in [2, 3] {
                assert_eq!(run(&stack, &histories, 70, &Team::new(threads).unwrap()), together);
            }
            for (first, last) in [(0, 1), (3, 4), (5, 18), (7, 20), (13, 26)] {
                let part = run(&stack, &histories[first..last], 70, &Team::alone());
                assert_eq!(part[..], together[first..last], "{kind:?} {tiles:?}");
            }
        }
    }
}

#[test]
fn five_hundred_steps_do_not_drift() {
    for (kind, peepholes) in [(Kind::Lstm, false), (Kind::Lstm, true), (Kind::Gru, false)] {
        let mut model = Model::new(kind, peepholes, 8, &[24, 24], 30);
        // As trained networks are: not chaotic, where any two computations part.
        let soften = |values: &mut Vec<f32>| values.iter_mut().for_each(|value| *value *= 0.4);
        model.layers.iter_mut().for_each(|layer| soften(&mut layer.r));
        let history: Vec<u32> = (0..500u32).map(|at| at * at % 30).collect();
        let got =
            run(&model.stack(Tiles::best(), usize::MAX), std::slice::from_ref(&history), 30, &Team::alone());
        let want = model.scores(&history);
        for at in [0, 99, 499] {
            for (&got, &want) in got[0][at].iter().zip(&want[at]) {
                assert!((f64::from(got) - want).abs() < 5e-6, "{kind:?}, step {at}: {got}, not {want}");
            }
        }
    }
}

/// A row may overwrite its own state; others may start from the state that a third one starts from.
#[test]
fn states_are_read_before_they_are_written() {
    let model = Model::new(Kind::Lstm, false, 6, &[20, 20], 25);
    let stack = model.stack(Tiles::best(), usize::MAX);
    let (mut arena, mut scratch) = (Arena::new(&stack), Scratch::default());
    assert!(arena.reserve(&stack, 40));
    let mut step = |arena: &mut Arena, tokens: &[u32], from: &[u32], to: &[u32]| {
        let offsets: Vec<u32> = (0..=tokens.len() as u32).collect();
        let mut out = vec![0.0; tokens.len()];
        let wanted = Wanted { tokens: &vec![4; tokens.len()], offsets: &offsets };
        let rows = Rows { tokens, from, to };
        stack.step(rows, wanted, &mut out, arena, &mut scratch, &Team::alone());
        out
    };
    arena.reset(&stack, 0);
    step(&mut arena, &[1], &[0], &[0]);
    let carried = arena.save(&stack, 0);
    let tokens: Vec<u32> = (0..20).collect();
    let to: Vec<u32> = (20..40).collect();
    let apart = step(&mut arena, &tokens, &[0; 20], &to);
    (1..20).for_each(|state| arena.load(&stack, state, &carried));
    let own: Vec<u32> = (0..20).collect();
    assert_eq!(step(&mut arena, &tokens, &own, &own), apart);
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    for (kind, peepholes) in KINDS {
        let model = Model::new(kind, peepholes, 6, &[20], 25);
        for tiles in Tiles::all() {
            let mut broken = model.embedding.clone();
            broken[7 * 6..8 * 6].fill(f32::NAN);
            let stack = Model { embedding: broken, ..Model::new(kind, peepholes, 6, &[20], 25) }
                .stack(tiles, usize::MAX);
            let histories: Vec<Vec<u32>> = (0..14).map(|token| vec![token, 3]).collect();
            let got = run(&stack, &histories, 25, &Team::alone());
            let good = run(&model.stack(tiles, usize::MAX), &histories, 25, &Team::alone());
            for (token, (got, good)) in got.iter().zip(&good).enumerate() {
                match token {
                    7 => assert!(got.iter().flatten().all(|ln| ln.is_nan()), "{kind:?} {tiles:?}"),
                    _ => assert_eq!(got, good),
                }
            }
        }
    }
}

#[test]
fn an_arena_grows_after_memory_was_refused() {
    let model = Model::new(Kind::Gru, false, 6, &[20, 20], 25);
    let stack = model.stack(Tiles::best(), usize::MAX);
    let mut arena = Arena::new(&stack);
    // As after a request that ended between two panels: some are longer than what is counted.
    assert!(arena.grow(&stack, 500));
    assert!(!arena.reserve(&stack, usize::MAX));
    for count in [70, 600] {
        assert!(arena.reserve(&stack, count));
        assert_eq!(arena.count(), count);
        arena.reset(&stack, count as u32 - 1);
    }
}

#[test]
fn wanting_less_or_later_changes_no_bit() {
    let model = Model::new(Kind::Lstm, false, 6, &[20], 60);
    let stack = model.stack(Tiles::best(), usize::MAX);
    let (mut arena, mut scratch) = (Arena::new(&stack), Scratch::default());
    assert!(arena.reserve(&stack, 4));
    (0..4).for_each(|state| arena.reset(&stack, state));
    let states = [0, 1, 2, 3];
    let rows = Rows { tokens: &[1, 2, 3, 2], from: &states, to: &states };
    let mut out = [f32::NAN; 3];
    let team = Team::alone();
    // The second row wants nothing, the fourth what the second will be asked.
    let wanted = Wanted { tokens: &[9, 50, BOUNDARY], offsets: &[0, 1, 1, 1, 3] };
    stack.step(rows, wanted, &mut out, &mut arena, &mut scratch, &team);
    let mut later = [f32::NAN; 6];
    // Two ask for the same state.
    let wanted = Wanted { tokens: &[50, BOUNDARY, BOUNDARY, 50, 9, 50], offsets: &[0, 2, 4, 5, 6] };
    let carried = arena.save(&stack, 3);
    arena.load(&stack, 2, &carried);
    stack.again(&[1, 1, 0, 2], wanted, &mut later, &mut arena, &mut scratch, &team);
    let expected = [out[1], out[2], out[2], out[1], out[0], out[1]];
    assert_eq!(later.map(f32::to_bits), expected.map(f32::to_bits));
}

/// Steps of several lengths made layer after layer, against the same steps one by one.
#[test]
fn levels_have_the_bits_of_steps_one_by_one() {
    let mut chance = numbers(100_000, 99, 0.5).into_iter().map(|number| number + 0.5);
    let mut below = |most: usize| ((chance.next().unwrap() * most as f32) as usize).min(most - 1);
    for (kind, peepholes) in KINDS {
        for sizes in [&[40][..], &[33, 40], &[9, 70, 33]] {
            let model = Model::new(kind, peepholes, 12, sizes, 70);
            for tiles in Tiles::all() {
                let stack = model.stack(tiles, if below(2) == 0 { usize::MAX } else { 0 });
                // A state for each row, and one beside them that two lists start from.
                let mut levels = vec![0, 1 + below(3)];
                let mut from: Vec<u32> = (0..levels[1] as u32).collect();
                for _ in 0..1 + below(6) {
                    let (first, end) = (levels[levels.len() - 2], levels[levels.len() - 1]);
                    let most = if below(4) == 0 { 60 } else { 6 };
                    let rows = 1 + below(most);
                    // Of the last level most start, of those before some.
                    let start = |below: &mut dyn FnMut(usize) -> usize| match below(5) {
                        0 => below(end),
                        _ => first + below(end - first),
                    };
                    from.extend((0..rows).map(|_| start(&mut below) as u32));
                    levels.push(end + rows);
                }
                let count = from.len();
                let tokens: Vec<u32> = (0..count).map(|_| below(70) as u32).collect();
                let to: Vec<u32> = (0..count as u32).collect();
                let ends: Vec<u32> = levels.iter().map(|&end| end as u32).collect();
                let row: Vec<u32> = (0..70).chain([BOUNDARY]).collect();
                let scores = |team: &Team, together: bool| {
                    let (mut arena, mut scratch) = (Arena::new(&stack), Scratch::default());
                    assert!(arena.reserve(&stack, count));
                    (0..levels[1] as u32).for_each(|state| arena.reset(&stack, state));
                    let rows = Rows { tokens: &tokens, from: &from, to: &to };
                    if together {
                        stack.run_levels(rows, &ends, &mut arena, &mut scratch, team);
                    } else {
                        for level in levels.windows(2) {
                            let nothing = Wanted { tokens: &[], offsets: &vec![0; level[1] - level[0] + 1] };
                            let rows = rows.slice(level[0]..level[1]);
                            stack.step(rows, nothing, &mut [], &mut arena, &mut scratch, team);
                        }
                    }
                    // What each state shows, and by one step more what it holds beside.
                    let offsets: Vec<u32> = (0..=count).map(|n| (n * row.len()) as u32).collect();
                    let tokens = row.repeat(count);
                    let wanted = Wanted { tokens: &tokens, offsets: &offsets };
                    let mut out = vec![f32::NAN; 2 * tokens.len()];
                    let (now, next) = out.split_at_mut(tokens.len());
                    stack.again(&to, wanted, now, &mut arena, &mut scratch, team);
                    let rows = Rows { tokens: &vec![5; count], from: &to, to: &to };
                    stack.step(rows, wanted, next, &mut arena, &mut scratch, team);
                    out.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
                };
                let one_by_one = scores(&Team::alone(), false);
                for team in [Team::alone(), Team::new(2).unwrap()] {
                    assert!(scores(&team, true) == one_by_one, "{kind:?} {sizes:?} {tiles:?} {levels:?}");
                }
            }
        }
    }
}
