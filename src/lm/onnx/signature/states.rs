//! Which inputs are states, and which outputs hold their next values.

use super::super::graph::{Dim, Graph, Value};
use super::sidecar::Sidecar;
use super::{Context, Ids, MAX_STATE, Signature, State};

/// Pairs the inputs that are left with outputs; what has no partner comes with the utterance.
pub(super) fn states(
    graph: &Graph,
    sidecar: &Sidecar,
    rest: &[&Value],
    signature: &mut Signature,
) -> Result<(), String> {
    let symbol = batch_symbol(graph, signature);
    let mut free: Vec<&Value> =
        graph.outputs.iter().filter(|output| output.name != signature.output).collect();
    for input in rest {
        let told = sidecar.state.iter().find(|state| state.input == input.name);
        let context = sidecar.context.as_ref().is_some_and(|names| names.contains(&input.name));
        let partner = if context || (told.is_none() && !sidecar.state.is_empty()) {
            None
        } else {
            partner(input, told.map(|state| &*state.output), &free)
        };
        let Some(at) = partner else {
            if told.is_some() || (sidecar.context.is_some() && !context) {
                return Err(format!("no output goes with its input `{input}`; correct the file beside it"));
            }
            if !input.dtype.is_float() && !input.dtype.is_integer() {
                return Err(format!(
                    "what its input `{input}` is cannot be told; name the others in a file beside it, or export it \
                     without"
                ));
            }
            let first = input.dims.as_deref().and_then(<[Dim]>::first);
            let each_row =
                symbol.is_some() && matches!(first, Some(Dim::Symbol(name)) if Some(&**name) == symbol);
            let ids = Ids { name: input.name.clone(), dtype: input.dtype };
            signature.context.push(Context { ids, each_row });
            continue;
        };
        let output = free.remove(at);
        let state = state(input, output, symbol, told.and_then(|state| state.batch))?;
        signature.states.push(state);
    }
    for state in &sidecar.state {
        if !signature.states.iter().any(|found| found.input == state.input) {
            return Err(format!(
                "the file beside it names `{}`, which is no input of the model",
                state.input
            ));
        }
    }
    let order = |state: &State| sidecar.state.iter().position(|told| told.input == state.input);
    signature.states.sort_by_key(order);
    Ok(())
}

/// The output that holds the next value of a state: by name, else the first that has its shape.
fn partner(input: &Value, told: Option<&str>, free: &[&Value]) -> Option<usize> {
    if !input.dtype.is_float() || input.rank().is_some_and(|rank| rank < 2) {
        return None;
    }
    let named = |name: &str| free.iter().position(|output| output.name == name);
    if let Some(name) = told {
        return named(name);
    }
    let name = &input.name;
    let stem = name.trim_end_matches('0');
    let names = [
        format!("next_{name}"),
        name.replacen("in_", "out_", 1),
        format!("out_{name}"),
        name.replacen("past_key_values", "present", 1),
        name.replacen("past", "present", 1),
        name.replacen("prev", "next", 1),
        format!("{name}_out"),
        format!("{name}_next"),
        format!("new_{name}"),
        format!("{stem}n"),
    ];
    let by_name = names.iter().filter(|other| *other != name).find_map(|name| named(name));
    by_name.or_else(|| {
        let differs = |a: &Dim, b: &Dim| matches!((a, b), (Dim::Fixed(a), Dim::Fixed(b)) if a != b);
        free.iter().position(|output| {
            output.dtype == input.dtype
                && match (&input.dims, &output.dims) {
                    (Some(a), Some(b)) => a.len() == b.len() && !a.iter().zip(b).any(|(a, b)| differs(a, b)),
                    _ => true,
                }
        })
    })
}

fn state(input: &Value, output: &Value, symbol: Option<&str>, told: Option<usize>) -> Result<State, String> {
    let wrong = || {
        format!(
            "state `{input}` should be float32 with a free batch size, its other sizes fixed; export it so, or write \
             [[state]] with `batch = ..` in a file beside it"
        )
    };
    let dims = input.dims.as_deref().ok_or_else(wrong)?;
    let mut free: Vec<usize> = (0..dims.len()).filter(|&at| !matches!(dims[at], Dim::Fixed(_))).collect();
    let same = |at: &usize| matches!(&dims[*at], Dim::Symbol(name) if Some(&**name) == symbol);
    let ones = || (0..dims.len()).filter(|&at| dims[at] == Dim::Fixed(1));
    let batch = told
        .filter(|&at| at < dims.len())
        .or_else(|| free.iter().copied().find(same))
        .or_else(|| free.first().copied())
        // As PyTorch has it: [layers, 1, H].
        .or_else(|| ones().find(|&at| at == 1 && dims.len() == 3))
        .or_else(|| ones().next())
        .ok_or_else(wrong)?;
    free.retain(|&at| at != batch);
    if free.len() > 1 {
        return Err(wrong());
    }
    let size = |(at, dim): (usize, &Dim)| match dim {
        _ if at == batch || free.contains(&at) => Some(1),
        &Dim::Fixed(size) if size > 0 => Some(size),
        _ => None,
    };
    let dims: Vec<usize> = dims.iter().enumerate().map(size).collect::<Option<_>>().ok_or_else(wrong)?;
    let total = dims.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    if total.is_none_or(|total| total > MAX_STATE) {
        return Err(format!("state `{input}` is too large; at most {MAX_STATE} numbers a row"));
    }
    let grows = free.first().copied();
    Ok(State { input: input.name.clone(), output: output.name.clone(), dims, batch, grows })
}

/// What the rows are called in the declared shape of the tokens.
pub(super) fn batch_symbol<'a>(graph: &'a Graph, signature: &Signature) -> Option<&'a str> {
    let dims = graph.input(&signature.tokens.ids.name)?.dims.as_deref()?;
    let symbols: Vec<&str> = dims
        .iter()
        .filter_map(|dim| if let Dim::Symbol(name) = dim { Some(&**name) } else { None })
        .collect();
    // Of the tokens' two names, that which states have too.
    let in_states = |symbol: &&&str| {
        let others = graph.inputs.iter().filter(|input| input.name != signature.tokens.ids.name);
        let mut dims =
            others.filter(|input| input.dtype.is_float()).filter_map(|input| input.dims.as_deref()).flatten();
        dims.any(|dim| matches!(dim, Dim::Symbol(name) if name == **symbol))
    };
    symbols.iter().find(in_states).or(symbols.first()).copied()
}
