//! A model as ARPA text.

use std::io::{self, Write};

use super::model::Model;

/// Writes with so many decimals; a backoff only where an n-gram has longer ones.
pub(super) fn write(model: &Model, out: &mut dyn Write, decimals: usize) -> io::Result<()> {
    out.write_all(b"\\data\\\n")?;
    for (table, n) in model.tables.iter().zip(1..) {
        writeln!(out, "ngram {n}={}", table.codes.len())?;
    }
    for (table, n) in model.tables.iter().zip(1..) {
        write!(out, "\n\\{n}-grams:\n")?;
        let mut contexts = (n < model.tables.len()).then(|| model.contexts(n + 1)).into_iter().flatten();
        let mut next = contexts.next();
        for (row, &code) in table.codes.iter().enumerate() {
            let prob = table.prob[row];
            let prob = if n == 1 && row == model.bos { 1.0 } else { prob };
            out.write_all(number(prob.min(1.0), decimals).as_bytes())?;
            for at in 0..n {
                out.write_all(if at == 0 { b"\t" } else { b" " })?;
                out.write_all(&model.words[model.word(code, n, at)])?;
            }
            while next.as_ref().is_some_and(|(context, _)| *context < code) {
                next = contexts.next();
            }
            if next.as_ref().is_some_and(|(context, _)| *context == code) {
                write!(out, "\t{}", number(table.backoff[row], decimals))?;
            }
            out.write_all(b"\n")?;
        }
    }
    out.write_all(b"\n\\end\\\n")?;
    out.flush()
}

/// A logarithm, -99 for nothing.
fn number(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.log10().max(-99.0));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}
