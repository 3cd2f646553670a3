//! What a model's inputs and outputs mean.
//!
//! A [`Signature`] is data: which tensor is what. It is filled in here for the contract of this
//! project's own exporter; the code that runs models reads nothing else.

use super::graph::{Dim, Dtype, Graph, Value};
use crate::{Error, Result};

/// Which tensor of a model is what, and the numbers that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Input: token ids, int64 [N, L].
    pub tokens: String,
    /// Output: scores of the next token after each position.
    pub output: String,
    /// What the scores are.
    pub kind: Kind,
    /// Recurrent state, in the order of the inputs.
    pub states: Vec<State>,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The token before a sentence.
    pub bos: u32,
    /// The token after a sentence.
    pub eos: u32,
    /// The token of what the model does not know.
    pub unk: Option<u32>,
    /// Which vocabulary file lies beside the model: `words`, `chars`, `sentencepiece`, ...
    pub tokenizer: String,
    /// The kind of network, for people to read.
    pub cell: Option<String>,
}

/// What a model's scores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Natural log probabilities [N, L, V].
    LogProbs,
}

/// One state tensor, float32, zeros at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The input that takes it.
    pub input: String,
    /// The output that gives it after the last token.
    pub output: String,
    /// Its dimensions; that of the batch holds 1.
    pub dims: Vec<usize>,
    /// Which dimension is the batch.
    pub batch: usize,
}

impl Signature {
    /// The signature of a model.
    ///
    /// # Errors
    /// If the model does not keep the contract: what was found, and what was expected.
    pub fn detect(graph: &Graph) -> Result<Self> {
        let fail = |what: String| Error::model(&graph.path, what);
        let Some(tokens) = graph.input("tokens") else {
            return Err(fail(foreign(graph)));
        };
        let Some(output) = graph.output("log_probs") else {
            return Err(fail(foreign(graph)));
        };
        let batch = match tokens.dims.as_deref() {
            Some([Dim::Symbol(batch), length])
                if tokens.dtype == Dtype::INT64 && !matches!(length, Dim::Fixed(_)) =>
            {
                batch.as_str()
            }
            _ => {
                return Err(fail(format!("input `{tokens}` should be tokens int64 [N, L], both sizes free")));
            }
        };
        let declared = match output.dims.as_deref() {
            Some([_, _, last]) if output.dtype == Dtype::FLOAT => last,
            None if output.dtype == Dtype::FLOAT => &Dim::Unknown,
            _ => {
                return Err(fail(format!("output `{output}` should be log_probs float32 [N, L, V]")));
            }
        };
        let states = states(graph, batch).map_err(fail)?;
        let numbers = Numbers::read(graph, declared).map_err(fail)?;
        Ok(Self {
            tokens: "tokens".to_owned(),
            output: "log_probs".to_owned(),
            kind: Kind::LogProbs,
            states,
            vocab_size: numbers.vocab_size,
            bos: numbers.bos,
            eos: numbers.eos,
            unk: numbers.unk,
            tokenizer: property(graph, "tokenizer").unwrap_or("words").to_owned(),
            cell: property(graph, "cell").map(str::to_owned),
        })
    }

    /// Bytes of all states of one history.
    pub fn state_bytes(&self) -> usize {
        self.states.iter().map(|state| state.size() * size_of::<f32>()).sum()
    }
}

impl State {
    /// Numbers in the state of one history.
    pub fn size(&self) -> usize {
        self.dims.iter().product()
    }

    /// The shape for a batch of `rows`.
    pub fn shape(&self, rows: usize) -> Vec<i64> {
        let mut shape: Vec<i64> = self.dims.iter().map(|&size| size as i64).collect();
        shape[self.batch] = rows as i64;
        shape
    }
}

struct Numbers {
    vocab_size: usize,
    bos: u32,
    eos: u32,
    unk: Option<u32>,
}

impl Numbers {
    fn read(graph: &Graph, declared: &Dim) -> Result<Self, String> {
        let number = |name: &str| match property(graph, name) {
            Some(text) => text.trim().parse::<u32>().map(Some).map_err(|_| {
                format!("metadata secondpass.{name} is `{}`, not a number", text.escape_debug())
            }),
            None => Ok(None),
        };
        let missing = |name: &str| format!("metadata secondpass.{name} is missing; export the model again");
        if let Some(version) = number("version")?
            && version > VERSION
        {
            return Err(format!(
                "written for version {version} of the contract, this program knows {VERSION}; update secondpass"
            ));
        }
        let vocab_size = match (number("vocab_size")?, declared) {
            (Some(named), &Dim::Fixed(size)) if named as usize != size => {
                return Err(format!(
                    "metadata secondpass.vocab_size is {named}, but log_probs has {size} scores"
                ));
            }
            (Some(named), _) => named as usize,
            (None, &Dim::Fixed(size)) => size,
            (None, _) => return Err(missing("vocab_size")),
        };
        if vocab_size == 0 || vocab_size > MAX_VOCAB {
            return Err(format!("a vocabulary of {vocab_size} tokens; 1 to {MAX_VOCAB} make sense"));
        }
        let token = |name: &str| match number(name)? {
            Some(id) if id as usize >= vocab_size => {
                Err(format!("metadata secondpass.{name} is {id}, outside the vocabulary of {vocab_size}"))
            }
            id => Ok(id),
        };
        Ok(Self {
            vocab_size,
            bos: token("bos_id")?.ok_or_else(|| missing("bos_id"))?,
            eos: token("eos_id")?.ok_or_else(|| missing("eos_id"))?,
            unk: token("unk_id")?,
        })
    }
}

fn states(graph: &Graph, batch: &str) -> Result<Vec<State>, String> {
    let mut states = Vec::new();
    for input in &graph.inputs {
        if input.name == "tokens" {
            continue;
        }
        if !numbered(&input.name) {
            return Err(format!(
                "input `{input}` is unknown; a model has `tokens` and `state_0`, `state_1`, .."
            ));
        }
        let output = format!("next_{}", input.name);
        let next = graph.output(&output).ok_or_else(|| format!("input `{input}` has no output {output}"))?;
        let state = state(input, next, batch)?;
        states.push(state);
    }
    let expected = states.len() + 1;
    if graph.outputs.len() != expected {
        let names: Vec<String> = graph.outputs.iter().map(Value::to_string).collect();
        return Err(format!(
            "its outputs are {}; expected log_probs and one next_state_K per state",
            list(&names)
        ));
    }
    Ok(states)
}

fn state(input: &Value, next: &Value, batch: &str) -> Result<State, String> {
    let wrong =
        || format!("state `{input}` should be float32, its batch size named {batch}, its other sizes fixed");
    let dims = input.dims.as_deref().filter(|_| input.dtype == Dtype::FLOAT).ok_or_else(wrong)?;
    let is_batch = |dim: &Dim| matches!(dim, Dim::Symbol(symbol) if symbol == batch);
    let at = dims.iter().position(is_batch).ok_or_else(wrong)?;
    let sizes: Option<Vec<usize>> = dims
        .iter()
        .enumerate()
        .map(|(i, dim)| match dim {
            _ if i == at => Some(1),
            &Dim::Fixed(size) if size > 0 => Some(size),
            _ => None,
        })
        .collect();
    let sizes = sizes.ok_or_else(wrong)?;
    let total = sizes.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    if total.is_none_or(|total| total > MAX_STATE) {
        return Err(format!("state `{input}` is too large; at most {MAX_STATE} numbers a row"));
    }
    // Declared output sizes may be missing; those that are there must agree.
    let differs = |a: &Dim, b: &Dim| matches!((a, b), (Dim::Fixed(a), Dim::Fixed(b)) if a != b);
    let paired = next.dtype == Dtype::FLOAT
        && next.dims.as_ref().is_none_or(|next| {
            next.len() == dims.len() && !dims.iter().zip(next).any(|(a, b)| differs(a, b))
        });
    if !paired {
        return Err(format!("output `{next}` does not fit input `{input}`"));
    }
    Ok(State { input: input.name.clone(), output: next.name.clone(), dims: sizes, batch: at })
}

fn numbered(name: &str) -> bool {
    name.strip_prefix("state_").is_some_and(|k| !k.is_empty() && k.bytes().all(|b| b.is_ascii_digit()))
}

fn property<'a>(graph: &'a Graph, name: &str) -> Option<&'a str> {
    graph.metadata.get(&format!("secondpass.{name}")).map(String::as_str)
}

/// What is said of a model that is not ours.
fn foreign(graph: &Graph) -> String {
    let show = |values: &[Value]| list(&values.iter().map(Value::to_string).collect::<Vec<_>>());
    format!(
        "has inputs {} and outputs {}; expected tokens int64 [N, L], state_K -> log_probs float32 [N, L, V], \
         next_state_K (export it with this project's exporter)",
        show(&graph.inputs),
        show(&graph.outputs)
    )
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names if names.len() > 8 => {
            format!("{}, .. ({} in all)", names[..8].join(", "), names.len())
        }
        names => names.join(", "),
    }
}

/// The newest version of the contract that is known.
const VERSION: u32 = 1;
const MAX_VOCAB: usize = 1 << 24;
const MAX_STATE: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, dtype: Dtype, dims: &[&str]) -> Value {
        let dim = |text: &&str| text.parse().map_or_else(|_| Dim::Symbol(text.to_string()), Dim::Fixed);
        Value { name: name.to_owned(), dtype, dims: Some(dims.iter().map(dim).collect()) }
    }

    fn graph() -> Graph {
        let pair = |(key, value): (&str, &str)| (format!("secondpass.{key}"), value.to_owned());
        Graph {
            path: "m.onnx".into(),
            inputs: vec![
                value("tokens", Dtype::INT64, &["N", "L"]),
                value("state_0", Dtype::FLOAT, &["2", "N", "16"]),
                value("state_1", Dtype::FLOAT, &["2", "N", "16"]),
            ],
            outputs: vec![
                value("log_probs", Dtype::FLOAT, &["N", "L", "50"]),
                value("next_state_0", Dtype::FLOAT, &["2", "N", "16"]),
                value("next_state_1", Dtype::FLOAT, &["2", "n2", "16"]),
            ],
            metadata: [
                ("version", "1"),
                ("vocab_size", "50"),
                ("bos_id", "1"),
                ("eos_id", "2"),
                ("unk_id", "0"),
            ]
            .map(pair)
            .into(),
            ..Graph::default()
        }
    }

    fn refusal(change: impl FnOnce(&mut Graph)) -> String {
        let mut graph = graph();
        change(&mut graph);
        Signature::detect(&graph).unwrap_err().to_string()
    }

    #[test]
    fn our_own_contract() {
        let signature = Signature::detect(&graph()).unwrap();
        assert_eq!((signature.vocab_size, signature.bos, signature.eos, signature.unk), (50, 1, 2, Some(0)));
        assert_eq!(signature.states.len(), 2);
        assert_eq!(signature.states[1].shape(5), [2, 5, 16]);
        assert_eq!(signature.states[0].size(), 32);
        assert_eq!(signature.state_bytes(), 256);
    }

    #[test]
    fn whatever_breaks_the_contract_is_named() {
        let float = Dtype::FLOAT;
        for (message, what) in [
            (refusal(|g| g.inputs[0].name = "x".into()), "has inputs x int64 [N, L], state_0"),
            (refusal(|g| g.outputs[0].name = "y".into()), "y float32 [N, L, 50]"),
            (refusal(|g| g.inputs[0].dtype = float), "tokens float32 [N, L]"),
            (refusal(|g| g.inputs[0] = value("tokens", Dtype::INT64, &["N"])), "tokens int64 [N]"),
            (refusal(|g| g.inputs[0] = value("tokens", Dtype::INT64, &["N", "35"])), "tokens int64 [N, 35]"),
            (refusal(|g| g.outputs[0].dtype = Dtype::FLOAT16), "log_probs float16"),
            (
                refusal(|g| g.outputs[0] = value("log_probs", float, &["N", "50"])),
                "log_probs float32 [N, 50]",
            ),
            (refusal(|g| g.inputs[1].dtype = Dtype::FLOAT16), "state_0 float16"),
            (refusal(|g| g.inputs[1] = value("state_0", float, &["2", "1", "16"])), "batch size named N"),
            (refusal(|g| g.inputs[1] = value("state_0", float, &["2", "N", "H"])), "other sizes fixed"),
            (refusal(|g| g.inputs[1].dims = None), "state_0 float32 [..]"),
            (refusal(|g| g.inputs[1].name = "h0".into()), "`h0 float32 [2, N, 16]` is unknown"),
            (refusal(|g| drop(g.outputs.pop())), "no output next_state_1"),
            (refusal(|g| g.outputs[1] = value("next_state_0", float, &["2", "N", "8"])), "does not fit"),
            (refusal(|g| g.outputs.push(value("extra", float, &["N"]))), "extra float32 [N]"),
            (refusal(|g| drop(g.inputs.remove(1))), "expected log_probs and one"),
            (refusal(|g| drop(g.metadata.insert("secondpass.vocab_size".into(), "51".into()))), "51, but"),
            (refusal(|g| drop(g.metadata.insert("secondpass.eos_id".into(), "50".into()))), "outside"),
            (refusal(|g| drop(g.metadata.insert("secondpass.bos_id".into(), "-1".into()))), "not a number"),
            (refusal(|g| drop(g.metadata.remove("secondpass.bos_id"))), "bos_id is missing"),
            (
                refusal(|g| drop(g.metadata.insert("secondpass.version".into(), "2".into()))),
                "update secondpass",
            ),
        ] {
            assert!(message.contains(what) && !message.contains('\n'), "{what}: {message}");
        }
    }
}
