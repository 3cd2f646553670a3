//! The graph of one step over an arena: what is put around the model's own nodes.

use super::super::graph::{Dtype, Edit, Graph, Projection, Walk};
use super::super::signature::{Kind, Layout, Run, Signature, State};
use super::nodes::Nodes;

/// int64 `[3, N]`: of each row its token, the place it starts from, and where its state goes.
pub(super) const ROWS: &str = "secondpass.rows";
/// int64 `[P, 2]`: row and token of each score that is wanted.
pub(super) const PAIRS: &str = "secondpass.pairs";
/// int64 `[B, 2]`: the rows of which the mass of all word starts is wanted, and N, N + 1, ..
pub(super) const BOUNDS: &str = "secondpass.bounds";
/// float32 `[P + B]`: what is wanted.
pub(super) const SCORES: &str = "secondpass.scores";

/// The arena of state `number`, as an input.
pub(super) fn arena(number: usize) -> String {
    format!("secondpass.arena_{number}")
}

/// The same after the step.
pub(super) fn kept(number: usize) -> String {
    format!("secondpass.kept_{number}")
}

/// A state's shape with the arena's places where the batch is.
pub(super) fn places(state: &State, count: Option<usize>) -> Vec<Option<usize>> {
    let dims = state.dims.iter().enumerate();
    dims.map(|(at, &size)| if at == state.batch { count } else { Some(size) }).collect()
}

/// The changes that make of a model the graph of one step over an arena, with the output layer in tiles
/// of `tile` tokens where there are more.
///
/// # Errors
/// Why that cannot be done.
pub(super) fn step(
    graph: &Graph,
    signature: &Signature,
    starts: &[u32],
    tile: usize,
) -> Result<Vec<Edit>, String> {
    let walk = Walk::new(graph);
    fits(signature)?;
    let set = graph.opsets.iter().find(|(domain, _)| domain.is_empty() || domain == "ai.onnx");
    let opset = set.map_or(0, |&(_, version)| version);
    if opset < OLDEST {
        return Err(format!("its operators are of version {opset}, older than {OLDEST}"));
    }
    if starts.is_empty() {
        return Err("no token of its vocabulary starts a word".into());
    }
    // Else a place could be overwritten before it is read.
    if signature.states.iter().any(|state| !walk.sources(&state.output).contains(&*state.input)) {
        return Err("a state does not depend on what it was before".into());
    }
    let mut nodes = Nodes::new(opset);
    rows(&mut nodes, signature);
    nodes.edits.extend(graph.outputs.iter().map(|output| Edit::RemoveOutput(output.name.clone())));
    for (number, state) in signature.states.iter().enumerate() {
        let (axis, rank, given) = (state.batch, state.dims.len(), arena(number));
        nodes.edits.push(Edit::RemoveInput(state.input.clone()));
        nodes.input(&given, Dtype::FLOAT, &places(state, None));
        nodes.first("Gather", &[&given, FROM], &state.input, &[("axis", axis as i64)]);
        nodes.scatter(&given, TO, &state.output, &kept(number), axis, rank);
        nodes.output(&kept(number), &places(state, None));
    }
    nodes.input(PAIRS, Dtype::INT64, &[None, Some(2)]);
    nodes.input(BOUNDS, Dtype::INT64, &[None, Some(2)]);
    for (list, name, column) in
        [(PAIRS, PAIR_ROWS, 0), (PAIRS, PAIR_TOKENS, 1), (BOUNDS, BOUND_ROWS, 0), (BOUNDS, BOUND_PLACES, 1)]
    {
        let at = format!("{name}.column");
        nodes.list(&at, &[], vec![column]);
        nodes.then("Gather", &[list, &at], name, &[("axis", 1)]);
    }
    if signature.vocab_size <= tile {
        whole(&mut nodes, signature, starts);
    } else {
        let log = matches!(signature.kind, Kind::LogProbs | Kind::Logits);
        let layer = walk.projection(&signature.output).filter(|_| log);
        let layer = layer.ok_or("its scores do not come from one matrix product and a bias")?;
        tiles(&mut nodes, graph, signature, &layer, starts, tile)?;
    }
    nodes.then("Concat", &[PICKED, MASS], SCORES, &[("axis", 0)]);
    nodes.output(SCORES, &[None]);
    nodes.edits.push(Edit::Prune);
    Ok(nodes.edits)
}

fn fits(signature: &Signature) -> Result<(), String> {
    let Signature { tokens, states, .. } = signature;
    let positions = matches!(signature.layout, Layout::Each { .. } | Layout::Last | Layout::First);
    if signature.run != Run::Steps || signature.targets.is_some() || !positions || states.is_empty() {
        return Err("it does not run in steps that score all tokens".into());
    }
    if !signature.context.is_empty() || states.iter().any(|state| state.grows.is_some()) {
        return Err("its states are not all it needs of what was before".into());
    }
    if !signature.fills.is_empty() || signature.lengths.is_some() {
        return Err("it reads more than tokens and states".into());
    }
    if tokens.batch.is_some() || tokens.length.is_some_and(|length| length != 1) {
        return Err("its batch has a fixed size".into());
    }
    Ok(())
}

/// Tokens and places out of the one input that has them all.
fn rows(nodes: &mut Nodes, signature: &Signature) {
    let tokens = &signature.tokens;
    nodes.input(ROWS, Dtype::INT64, &[Some(3), None]);
    for (row, name) in [TOKENS, FROM, TO].into_iter().enumerate() {
        let at = format!("{name}.row");
        nodes.list(&at, &[], vec![row as i64]);
        nodes.first("Gather", &[ROWS, &at], name, &[("axis", 0)]);
    }
    nodes.list(GRID, &[2], if tokens.time_major { vec![1, -1] } else { vec![-1, 1] });
    nodes.edits.push(Edit::RemoveInput(tokens.ids.name.clone()));
    let (name, dtype) = (&*tokens.ids.name, tokens.ids.dtype);
    if dtype == Dtype::INT64 {
        return nodes.first("Reshape", &[TOKENS, GRID], name, &[]);
    }
    nodes.first("Reshape", &[TOKENS, GRID], INTEGERS, &[]);
    nodes.first("Cast", &[INTEGERS], name, &[("to", i64::from(dtype.0))]);
}

/// The scores of all tokens at once, as the model makes them; only what is wanted leaves the device.
fn whole(nodes: &mut Nodes, signature: &Signature, starts: &[u32]) {
    nodes.list(TABLE, &[2], vec![-1, signature.vocab_size as i64]);
    nodes.then("Reshape", &[&signature.output, TABLE], GIVEN, &[]);
    let all = match signature.kind {
        Kind::LogProbs | Kind::Logits => GIVEN,
        Kind::Probabilities => {
            nodes.then("Log", &[GIVEN], LOGS, &[]);
            LOGS
        }
        Kind::NegativeLog => {
            nodes.then("Neg", &[GIVEN], LOGS, &[]);
            LOGS
        }
    };
    let norm = signature.kind == Kind::Logits;
    nodes.then("GatherND", &[all, PAIRS], if norm { PICKED_LOGITS } else { PICKED }, &[]);
    if let Some(begun) = begin(nodes, all, starts, 0, signature.vocab_size) {
        nodes.log_sum_exp(&begun, if norm { MASS_LOGITS } else { MASS }, false);
    }
    if norm {
        nodes.log_sum_exp(all, NORMS, false);
        nodes.then("Gather", &[NORMS, PAIR_ROWS], PAIR_NORMS, &[("axis", 0)]);
        nodes.then("Sub", &[PICKED_LOGITS, PAIR_NORMS], PICKED, &[]);
        nodes.then("Gather", &[NORMS, BOUND_ROWS], BOUND_NORMS, &[("axis", 0)]);
        nodes.then("Sub", &[MASS_LOGITS, BOUND_NORMS], MASS, &[]);
    }
}

/// The output layer in tiles, of which one at a time is in memory.
///
/// All that reads a tile ends in one node, so that ONNX Runtime, which runs what a node needs before it
/// goes on, is done with the tile before it makes the next. A tile's weights are a slice of the matrix, made
/// once at load; the rows of the matrix that belong to the wanted tokens are taken from the whole of it.
fn tiles(
    nodes: &mut Nodes,
    graph: &Graph,
    signature: &Signature,
    layer: &Projection,
    starts: &[u32],
    tile: usize,
) -> Result<(), String> {
    let size = signature.vocab_size;
    let matrix = graph.initializers.iter().find(|weight| weight.name == layer.matrix);
    let dims: Vec<usize> =
        matrix.map_or(Vec::new(), |matrix| matrix.dims.iter().map(|&d| d.max(0) as usize).collect());
    let axis = usize::from(!layer.by_token);
    if dims.len() != 2 || dims[axis] != size {
        return Err("its output layer's weights do not fit its vocabulary".into());
    }
    nodes.list(TABLE, &[2], vec![-1, dims[1 - axis] as i64]);
    nodes.then("Reshape", &[&layer.hidden, TABLE], HIDDEN, &[]);
    nodes.list(AXIS, &[1], vec![axis as i64]);
    nodes.list(ZERO, &[1], vec![0]);
    // What is added to no probability at all: a logarithm so low that nothing is left of it.
    nodes.list(LOW, &[1], vec![-1_000_000_000_000]);
    nodes.first("Cast", &[LOW], NEVER, &[("to", i64::from(Dtype::FLOAT.0))]);
    let mut sums = Vec::new();
    for (number, begin_at) in (0..size).step_by(tile).enumerate() {
        let end = (begin_at + tile).min(size);
        let name = |part: &str| format!("secondpass.tile_{number}.{part}");
        let (from, to, weights, logits) = (name("from"), name("to"), name("weights"), name("logits"));
        nodes.list(&from, &[1], vec![begin_at as i64]);
        nodes.list(&to, &[1], vec![end as i64]);
        nodes.then("Slice", &[&layer.matrix, &from, &to, AXIS], &weights, &[]);
        let turned = [("transB", i64::from(layer.by_token))];
        match &layer.bias {
            Some(bias) => {
                let part = name("bias");
                nodes.then("Slice", &[bias, &from, &to, ZERO], &part, &[]);
                nodes.then("Gemm", &[HIDDEN, &weights, &part], &logits, &turned);
            }
            None => nodes.then("Gemm", &[HIDDEN, &weights], &logits, &turned),
        }
        let (sum, mass, both) = (name("sum"), name("mass"), name("both"));
        nodes.log_sum_exp(&logits, &sum, true);
        match begin(nodes, &logits, starts, begin_at, end) {
            Some(begun) => nodes.log_sum_exp(&begun, &mass, true),
            None => {
                let rows = name("rows");
                nodes.then("Gather", &[&sum, BOUND_ROWS], &rows, &[("axis", 0)]);
                nodes.then("Add", &[&rows, NEVER], &mass, &[]);
            }
        }
        nodes.then("Concat", &[&sum, &mass], &both, &[("axis", 0)]);
        sums.push(both);
    }
    let sums: Vec<&str> = sums.iter().map(|name| &**name).collect();
    nodes.then("Concat", &sums, TILE_SUMS, &[("axis", 1)]);
    // First those of the rows, then those of the word starts.
    nodes.log_sum_exp(TILE_SUMS, NORMS, false);
    nodes.then("Gather", &[HIDDEN, PAIR_ROWS], PAIR_HIDDEN, &[("axis", 0)]);
    let along = [("axis", axis as i64)];
    match layer.by_token {
        true => nodes.then("Gather", &[&layer.matrix, PAIR_TOKENS], PAIR_WEIGHTS, &along),
        false => {
            nodes.then("Gather", &[&layer.matrix, PAIR_TOKENS], PAIR_COLUMNS, &along);
            // Of two dimensions it turns round what it is not told to.
            nodes.then("Transpose", &[PAIR_COLUMNS], PAIR_WEIGHTS, &[]);
        }
    }
    nodes.then("Mul", &[PAIR_HIDDEN, PAIR_WEIGHTS], PAIR_PRODUCTS, &[]);
    let product = if layer.bias.is_some() { PAIR_SUMS } else { PICKED_LOGITS };
    nodes.sum(PAIR_PRODUCTS, product);
    if let Some(bias) = &layer.bias {
        nodes.then("Gather", &[bias, PAIR_TOKENS], PAIR_BIAS, &[("axis", 0)]);
        nodes.then("Add", &[PAIR_SUMS, PAIR_BIAS], PICKED_LOGITS, &[]);
    }
    for (rows, norms, logits, to) in
        [(PAIR_ROWS, PAIR_NORMS, PICKED_LOGITS, PICKED), (BOUND_ROWS, BOUND_NORMS, MASS_LOGITS, MASS)]
    {
        if to == MASS {
            nodes.then("Gather", &[NORMS, BOUND_PLACES], logits, &[("axis", 0)]);
        }
        nodes.then("Gather", &[NORMS, rows], norms, &[("axis", 0)]);
        nodes.then("Sub", &[logits, norms], to, &[]);
    }
    Ok(())
}

/// The scores of those of the tokens `from..to` that start a word, in the rows asked for; `None` if none
/// does.
fn begin(nodes: &mut Nodes, all: &str, starts: &[u32], from: usize, to: usize) -> Option<String> {
    let (rows, begun, list) = (format!("{all}.rows"), format!("{all}.begun"), format!("{all}.starts"));
    let inside = starts.iter().map(|&token| token as usize).filter(|token| (from..to).contains(token));
    let inside: Vec<i64> = inside.map(|token| (token - from) as i64).collect();
    if inside.is_empty() {
        return None;
    }
    nodes.then("Gather", &[all, BOUND_ROWS], &rows, &[("axis", 0)]);
    if inside.len() == to - from {
        return Some(rows);
    }
    nodes.list(&list, &[inside.len()], inside);
    nodes.then("Gather", &[&rows, &list], &begun, &[("axis", 1)]);
    Some(begun)
}

/// Operators needed are of this version.
const OLDEST: i64 = 11;

const TOKENS: &str = "secondpass.tokens_given";
const INTEGERS: &str = "secondpass.tokens_whole";
const FROM: &str = "secondpass.from";
const TO: &str = "secondpass.to";
const GRID: &str = "secondpass.grid";
const TABLE: &str = "secondpass.table";
const GIVEN: &str = "secondpass.given";
const LOGS: &str = "secondpass.logs";
const HIDDEN: &str = "secondpass.hidden";
const AXIS: &str = "secondpass.token_axis";
const ZERO: &str = "secondpass.first_axis";
const LOW: &str = "secondpass.low";
const NEVER: &str = "secondpass.never";
const TILE_SUMS: &str = "secondpass.tile_sums";
const NORMS: &str = "secondpass.norms";
const PAIR_ROWS: &str = "secondpass.pair_rows";
const PAIR_TOKENS: &str = "secondpass.pair_tokens";
const PAIR_HIDDEN: &str = "secondpass.pair_hidden";
const PAIR_COLUMNS: &str = "secondpass.pair_columns";
const PAIR_WEIGHTS: &str = "secondpass.pair_weights";
const PAIR_PRODUCTS: &str = "secondpass.pair_products";
const PAIR_SUMS: &str = "secondpass.pair_sums";
const PAIR_BIAS: &str = "secondpass.pair_bias";
const PAIR_NORMS: &str = "secondpass.pair_norms";
const PICKED_LOGITS: &str = "secondpass.picked_logits";
const PICKED: &str = "secondpass.picked";
const BOUND_ROWS: &str = "secondpass.bound_rows";
const BOUND_PLACES: &str = "secondpass.bound_places";
const BOUND_NORMS: &str = "secondpass.bound_norms";
const MASS_LOGITS: &str = "secondpass.mass_logits";
const MASS: &str = "secondpass.mass";
