//! `secondpass inspect`: what is this model, and what will be run?

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::End;
use super::load::Loading;
use super::messages::Messages;
use crate::lm::LanguageModel;
use crate::lm::ngram::Ngram;
use crate::lm::onnx::graph::{Dim, Graph, Projection, Value, rewrite};
use crate::lm::onnx::signature::Finding;
use crate::lm::onnx::{OnnxLm, OnnxOptions, Precision};
use crate::{Error, Result};

/// Show what a model file is: signature, cell, sizes, vocabulary, what will be run
#[derive(clap::Args, Debug)]
pub struct Args {
    /// An ONNX or n-gram file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the ONNX model would run: cpu, cuda, cuda:N, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Models")]
    device: String,
    /// In how many bits it would run: f32, bf16, int8, on a GPU tf32
    #[arg(long, value_name = "BITS", default_value = "f32", help_heading = "Models")]
    precision: Precision,
    /// From how many dimensions its logits would be previewed
    #[arg(long, value_name = "NUM", help_heading = "Models")]
    output_rank: Option<usize>,
    /// The ONNX Runtime library to use
    #[arg(long, value_name = "FILE", help_heading = "Models")]
    onnxruntime: Option<PathBuf>,
}

/// Inspects a file.
pub fn run(arguments: &Args, messages: &Messages) -> Result<End> {
    let path = &arguments.file;
    let mut out = String::new();
    let result =
        if is_ngram(path)? { ngram(path, &mut out) } else { neural(path, arguments, messages, &mut out) };
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|source| Error::Io { what: "output".into(), source })?;
    result.map(|()| End::Done)
}

fn neural(path: &Path, arguments: &Args, messages: &Messages, out: &mut String) -> Result<()> {
    let graph = Graph::read(path)?;
    *out += &format!("file         {}, {:.1} MB\n", path.display(), graph.bytes as f64 / 1e6);
    let producer = if graph.producer.is_empty() { "unknown" } else { &graph.producer };
    let opsets: Vec<String> = graph
        .opsets
        .iter()
        .map(
            |(domain, version)| {
                if domain.is_empty() { version.to_string() } else { format!("{domain} {version}") }
            },
        )
        .collect();
    *out +=
        &format!("format       ONNX IR {}, opset {}, by {producer}\n", graph.ir_version, opsets.join(", "));
    for (what, values) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for value in values {
            *out += &format!("{what:<12} {}\n", shape(value));
        }
    }
    let ops: Vec<String> = graph.ops.iter().map(|(op, count)| format!("{op} {count}")).collect();
    *out += &format!("operators    {}\n", ops.join(", "));
    *out += &format!("parameters   {:.2} million\n", graph.parameters() as f64 / 1e6);
    for (key, value) in &graph.metadata {
        *out += &format!("metadata     {key} = {value}\n");
    }
    let options = OnnxOptions {
        device: arguments.device.parse()?,
        runtime: arguments.onnxruntime.clone(),
        precision: arguments.precision,
        rank: arguments.output_rank,
        ..OnnxOptions::default()
    };
    // Everything above needs no runtime; what follows tries the model for real.
    let model = OnnxLm::open(path, "model", &options)?;
    let signature = model.signature();
    for Finding { what, value, why } in &signature.findings {
        *out += &format!("{what:<12} {value} ({why})\n");
    }
    *out += &format!("cell         {}\n", signature.cell.as_deref().unwrap_or("not said"));
    *out += &format!(
        "vocabulary   {} tokens ({}); <s> {}, </s> {}, <unk> {}\n",
        signature.vocab_size,
        signature.tokenizer,
        signature.bos,
        signature.eos,
        model.spec().vocab.unk().map_or("none".into(), |unk| unk.to_string())
    );
    *out += &format!("vocab_hash   {:016x}\n", model.spec().vocab.hash());
    *out += &format!("state        {} bytes for each history\n", signature.state_bytes());
    if let Some(split) = rewrite::split(&graph, &signature.output) {
        let Projection { hidden, logits, .. } = split.projection;
        *out += &format!("output layer can be cut off: {hidden} -> {logits}\n");
    }
    *out += &format!("runs as      {}\n", signature.run);
    *out += &format!("runs on      {}\n", model.device());
    for node in model.on_processor() {
        *out += &format!("             but on the processor: {node}\n");
    }
    for warning in &model.spec().warnings {
        messages.say(&format!("warning: {warning}"));
    }
    Ok(())
}

fn ngram(path: &Path, out: &mut String) -> Result<()> {
    let model = Ngram::open(path, &Loading::Mmap.options())?;
    let bytes = std::fs::metadata(path).map_err(|error| Error::io(path, error))?.len();
    *out += &format!("file         {}, {:.1} MB\n", path.display(), bytes as f64 / 1e6);
    *out += &format!("format       {}, order {}\n", model.info().kind, model.order());
    for (count, order) in model.counts().iter().zip(1..) {
        *out += &format!("{order}-grams      {count}\n");
    }
    *out += &format!("vocabulary   {} words\n", model.spec().vocab.size());
    for warning in &model.spec().warnings {
        *out += &format!("warning      {warning}\n");
    }
    *out += "runs as      backoff search in memory, each context of a list looked up once\n";
    Ok(())
}

/// Whether the file is an n-gram model by its first bytes: ARPA text, a binary, or something compressed.
fn is_ngram(path: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(path).map_err(|error| Error::io(path, error))?;
    file.take(512).read_to_end(&mut start).map_err(|error| Error::io(path, error))?;
    let packed: [&[u8]; 4] = [&[0x1f, 0x8b], b"BZh", b"\xfd7zXZ\0", &[0x28, 0xb5, 0x2f, 0xfd]];
    let compressed = packed.iter().any(|magic| start.starts_with(magic));
    let arpa = start.windows(6).any(|window| window == b"\\data\\");
    let named = path.to_string_lossy().contains(".arpa");
    Ok(compressed || arpa || named || Ngram::is_binary(&start))
}

fn shape(value: &Value) -> String {
    let dims = value.dims.as_ref().map(|dims| {
        let names: Vec<String> = dims
            .iter()
            .map(|dim| match dim {
                Dim::Fixed(size) => size.to_string(),
                Dim::Symbol(name) => name.clone(),
                Dim::Unknown => "?".into(),
            })
            .collect();
        names.join(", ")
    });
    format!("{} {} [{}]", value.name, value.dtype, dims.unwrap_or("any shape".into()))
}
