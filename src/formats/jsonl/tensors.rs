//! Tensors that come with a record: nested lists of numbers, flat ones with their shape, or files.

use std::path::Path;

use super::span::{Cursor, Span, elements, unescape};
use super::{names, npy};
use crate::nbest::Tensor;
use crate::{Error, Result};

/// The tensors of a record, in the order in which they are written.
///
/// # Errors
/// [`Error::Record`]: a tensor that is ragged, of another size than its shape says, not of finite
/// numbers, or too large; or two of one name.
pub(super) fn read(
    line: &[u8],
    tensors: Option<Span>,
    encoder_out: Option<Span>,
    folder: Option<&Path>,
) -> Result<Vec<Tensor>> {
    let mut all = Vec::new();
    if let Some(span) = encoder_out {
        push(&mut all, names::ENCODER_OUT.to_owned(), line, span, folder)?;
    }
    let Some(span) = tensors else { return Ok(all) };
    if span.first(line) == b'[' {
        for element in elements(line, span)? {
            let named =
                (element.first(line) == b'{').then(|| member(line, element, "name")).transpose()?.flatten();
            let Some(name) = named.filter(|name| name.first(line) == b'"') else {
                return Err(Error::record(
                    "an element of `tensors` has no `name`: write {\"name\":..,\"shape\":..,\"data\":..}",
                ));
            };
            push(&mut all, text(line, name), line, element, folder)?;
        }
    } else {
        let mut cursor = Cursor::new(line, span.start);
        cursor.open(b'{')?;
        while let Some(member) = cursor.member()? {
            let value = cursor.value()?;
            push(&mut all, text(line, member.key), line, value, folder)?;
        }
    }
    Ok(all)
}

fn push(all: &mut Vec<Tensor>, name: String, line: &[u8], span: Span, folder: Option<&Path>) -> Result<()> {
    let fail = |what: &str| Err(Error::record(format!("tensor `{name}` at byte {}: {what}", span.start + 1)));
    if all.iter().any(|tensor| tensor.name == name) {
        return fail("there are two of that name: keep one");
    }
    let room = MAX_VALUES - all.iter().map(|tensor| tensor.values.len()).sum::<usize>();
    let (shape, values) = match tensor(line, span, room, folder) {
        Ok(Ok(tensor)) => tensor,
        Ok(Err(what)) => return fail(&what),
        Err(error) => return Err(error),
    };
    all.push(Tensor { name, shape, values: values.into() });
    Ok(())
}

type Parts = Result<(Vec<usize>, Vec<f32>), String>;

/// Shape and values. The outer error is lost JSON, which cannot be.
fn tensor(line: &[u8], span: Span, room: usize, folder: Option<&Path>) -> Result<Parts> {
    if span.first(line) == b'[' {
        return Ok(nested(span.of(line), room));
    }
    if span.first(line) != b'{' {
        return Ok(Err("neither a list nor an object: write {\"shape\":..,\"data\":..}".into()));
    }
    for kind in ["datatype", "dtype"] {
        let given = member(line, span, kind)?.map(|span| text(line, span).to_ascii_lowercase());
        if given.is_some_and(|given| !["float32", "fp32", "f32", "<f4"].contains(&&*given)) {
            return Ok(Err(format!("`{kind}` is not float32: convert it")));
        }
    }
    let shape = member(line, span, "shape")?.map(|shape| sizes(line, shape));
    if let Some(file) = member(line, span, "file")?.filter(|file| file.first(line) == b'"') {
        let read = npy::read(folder, &text(line, file), room);
        return Ok(read.and_then(|(found, values)| match shape {
            Some(None) => Err("`shape` is no list of sizes".into()),
            Some(Some(shape)) if shape != found => {
                Err(format!("its file holds {found:?}, and `shape` says {shape:?}: one of them is wrong"))
            }
            _ => Ok((found, values)),
        }));
    }
    let (data, coded) = (member(line, span, "data")?, member(line, span, "base64")?);
    let values = match (data, coded) {
        (Some(data), _) if data.first(line) == b'[' => nested(data.of(line), room),
        (_, Some(coded)) if coded.first(line) == b'"' => floats(&unescape(coded.of(line)), room),
        _ => Err("it has no list `data`, no string `base64` and no `file`".into()),
    };
    Ok(values.and_then(|(found, values)| match shape {
        None => Ok((found, values)),
        Some(None) => Err("`shape` is no list of sizes".into()),
        Some(Some(shape)) => {
            let size = shape.iter().try_fold(1usize, |size, &dim| size.checked_mul(dim));
            // Nested lists must be of that shape, flat ones of that size.
            if size != Some(values.len()) || found.len() > 1 && found != shape {
                return Err(format!("{} values in {found:?} for the shape {shape:?}", values.len()));
            }
            Ok((shape, values))
        }
    }))
}

/// Numbers in lists in lists, every list of one depth as long as its sisters.
fn nested(json: &[u8], room: usize) -> Parts {
    let mut sizes: Vec<Option<usize>> = Vec::new();
    // Elements so far of the lists that are open.
    let mut open: Vec<usize> = Vec::new();
    let mut values = Vec::new();
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'[' => {
                if open.len() >= MAX_DEPTH || !values.is_empty() && open.len() >= sizes.len() {
                    return Err("its lists are not all of one depth, or too deep".into());
                }
                if open.len() == sizes.len() {
                    sizes.push(None);
                }
                open.push(0);
            }
            b']' => {
                let count = open.pop().unwrap_or(0);
                let size = sizes.get_mut(open.len()).ok_or("its lists do not match")?;
                if *size.get_or_insert(count) != count {
                    return Err(format!(
                        "a list of {count} beside one of {}: every row is as long",
                        size.unwrap_or(0)
                    ));
                }
                if let Some(above) = open.last_mut() {
                    *above += 1;
                }
            }
            b',' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => {
                let len =
                    json[at..].iter().position(|b| matches!(b, b',' | b']' | b' ' | b'\t' | b'\r' | b'\n'));
                let raw = &json[at..at + len.unwrap_or(json.len() - at)];
                let number = std::str::from_utf8(raw).ok().and_then(|raw| raw.parse::<f32>().ok());
                let Some(number) = number.filter(|number| number.is_finite()) else {
                    return Err("something in it is no finite number".into());
                };
                if open.len() != sizes.len() {
                    return Err("its lists are not all of one depth".into());
                }
                if values.len() >= room {
                    return Err(format!("more than {MAX_VALUES} numbers in the tensors of one record"));
                }
                values.push(number);
                if let Some(count) = open.last_mut() {
                    *count += 1;
                }
                at += raw.len();
                continue;
            }
        }
        at += 1;
    }
    Ok((sizes.into_iter().map(|size| size.unwrap_or(0)).collect(), values))
}

/// Little-endian float32 in base64 (RFC 4648, padded or not).
fn floats(text: &[u8], room: usize) -> Parts {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if digits.len() / 4 * 3 > room.saturating_mul(4) {
        return Err(format!("more than {MAX_VALUES} numbers in the tensors of one record"));
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut bits, mut held) = (0u32, 0);
    for &digit in digits {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err("`base64` is not base64".into()),
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    if bytes.len() % 4 != 0 || bits != 0 {
        return Err("`base64` is no whole number of float32".into());
    }
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err("something in it is no finite number".into());
    }
    Ok((vec![values.len()], values))
}

/// The value of a member of an object; the first of that name.
fn member(line: &[u8], object: Span, name: &str) -> Result<Option<Span>> {
    let mut cursor = Cursor::new(line, object.start);
    cursor.open(b'{')?;
    while let Some(member) = cursor.member()? {
        let value = cursor.value()?;
        if &*unescape(member.key.of(line)) == name.as_bytes() {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

fn sizes(line: &[u8], span: Span) -> Option<Vec<usize>> {
    let sizes = elements(line, span).ok().filter(|sizes| (1..=MAX_DEPTH).contains(&sizes.len()))?;
    sizes.iter().map(|size| std::str::from_utf8(size.of(line)).ok()?.parse().ok()).collect()
}

fn text(line: &[u8], span: Span) -> String {
    String::from_utf8_lossy(&unescape(span.of(line))).into_owned()
}

/// Numbers in all tensors of one record: 64 MB.
const MAX_VALUES: usize = 1 << 24;
const MAX_DEPTH: usize = 8;

#[cfg(test)]
mod tests {
    use crate::formats::jsonl::Reader;
    use crate::nbest::{Tensor, Utterance};

    fn read(member: &str) -> Result<Utterance, String> {
        let line = format!("{{{member},\"hyps\":[\"a\"]}}");
        let mut reader = Reader::new(Default::default());
        reader.read(line.as_bytes()).map(|record| record.utterance).map_err(|error| error.to_string())
    }

    fn tensors(member: &str) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let parts = |t: &Tensor| (t.name.clone(), t.shape.clone(), t.values.to_vec());
        read(member).unwrap().context.iter().map(parts).collect()
    }

    #[test]
    fn tensors_of_a_record() {
        let six = vec![1.0, 2.0, 3.0, 4.5, -5.0, 1e-3];
        let one = |name: &str, shape: &[usize]| vec![(name.to_owned(), shape.to_vec(), six.clone())];
        assert_eq!(tensors(r#""encoder_out":[[1, 2],[3,4.5] , [-5,1e-3]]"#), one("encoder_out", &[3, 2]));
        assert_eq!(tensors(r#""tensors":{"x":[[[1,2,3],[4.5,-5,1e-3]]]}"#), one("x", &[1, 2, 3]));
        let flat = r#""tensors":{"\u0078":{"data":[1,2,3,4.5,-5,0.001],"shape":[2,3],"dtype":"float32"}}"#;
        assert_eq!(tensors(flat), one("x", &[2, 3]));
        let listed = r#""tensors":[{"name":"x","shape":[6],"datatype":"FP32","data":[1,2,3,4.5,-5,0.001]}]"#;
        assert_eq!(tensors(listed), one("x", &[6]));
        // Python: base64.b64encode(struct.pack("<6f", 1, 2, 3, 4.5, -5, 1e-3))
        let coded = r#""tensors":{"x":{"base64":"AACAPwAAAEAAAEBAAACQQAAAoMBvEoM6","shape":[3,2]}}"#;
        assert_eq!(tensors(coded), one("x", &[3, 2]));
        assert_eq!(
            tensors(r#""tensors":{"e":{"shape":[0,4],"data":[]}}"#),
            [("e".to_owned(), vec![0, 4], vec![])]
        );
        assert!(read(r#""tensors":{"x":{"file":"a.npy"}}"#).unwrap_err().contains("--tensor-dir"));
        // Other things of that name are none of ours.
        assert!(tensors(r#""encoder_out":"utt1.npy""#).is_empty());
    }

    #[test]
    fn tensors_that_are_none() {
        for (member, what) in [
            (r#""encoder_out":[[1,2],[3]]"#, "tensor `encoder_out` at byte 16: a list of 1 beside one of 2"),
            (r#""encoder_out":[[1,2],3]"#, "one depth"),
            (r#""encoder_out":[1,[2]]"#, "one depth"),
            (r#""encoder_out":[[1],[[2]]]"#, "one depth"),
            (r#""encoder_out":[null]"#, "finite"),
            (r#""encoder_out":[1e39]"#, "finite"),
            (r#""encoder_out":["a"]"#, "finite"),
            (r#""encoder_out":[[[[[[[[[1]]]]]]]]]"#, "deep"),
            (r#""tensors":{"x":{"data":[1,2],"shape":[3]}}"#, "2 values in [2] for the shape [3]"),
            (r#""tensors":{"x":{"data":[[1],[2]],"shape":[1,2]}}"#, "for the shape"),
            (r#""tensors":{"x":{"data":[1],"shape":[18446744073709551615,2]}}"#, "for the shape"),
            (r#""tensors":{"x":{"data":[1],"shape":[-1]}}"#, "no list of sizes"),
            (r#""tensors":{"x":{"data":[1],"dtype":"int64"}}"#, "float32"),
            (r#""tensors":{"x":{"shape":[1]}}"#, "no list `data`"),
            (r#""tensors":{"x":{"base64":"AACAP"}}"#, "whole number"),
            (r#""tensors":{"x":{"base64":"AACAf*=="}}"#, "not base64"),
            (r#""tensors":{"x":{"base64":"AACAfw=="}}"#, "finite"),
            (r#""tensors":{"x":1}"#, "neither a list"),
            (r#""tensors":{"x":[1],"x":[1]}"#, "two of that name"),
            (r#""tensors":[[1]]"#, "no `name`"),
        ] {
            let error = read(member).map(|utterance| utterance.context).unwrap_err();
            assert!(error.contains(what) && !error.contains('\n'), "{member}: {error}");
        }
    }

    #[test]
    fn a_shape_beside_a_file_is_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([1f32, 2.0].iter().flat_map(|value| value.to_le_bytes()));
        std::fs::write(folder.path().join("a.npy"), bytes).unwrap();
        let read = |json: &str| {
            let span = super::Cursor::new(json.as_bytes(), 0).value().unwrap();
            super::tensor(json.as_bytes(), span, 9, Some(folder.path())).unwrap()
        };
        for right in [r#"{"file":"a.npy"}"#, r#"{"file":"a.npy","shape":[1,2]}"#] {
            assert_eq!(read(right).unwrap(), (vec![1, 2], vec![1.0, 2.0]));
        }
        assert!(read(r#"{"file":"a.npy","shape":[2,1]}"#).unwrap_err().contains("[1, 2]"));
        assert!(read(r#"{"file":"a.npy","shape":2}"#).unwrap_err().contains("no list of sizes"));
    }
}
