//! What CUDA needs beside ONNX Runtime, and whether it is there.
//!
//! The provider library of ONNX Runtime's GPU builds names the CUDA libraries it links to; cuDNN and
//! cuFFT it loads when they are needed. What the system's loader does not find is looked for where pip
//! and the CUDA toolkit put it, and loaded from there before the provider asks for it by name.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::ep::{self, ExecutionProvider};
use prost::Message;

use super::device::Device;
use super::session::{self, Plan};
use super::{proto, runtime};
use crate::{Error, Result};

/// A library that the CUDA provider needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// As the loader looks for it: `libcudart.so.13`.
    pub name: String,
    /// What it belongs to, for who has to install it.
    pub part: &'static str,
    /// Where it is.
    pub place: Place,
}

/// Where a library was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The system's loader knows it.
    System,
    /// In a folder that the loader does not look into, from where it is now loaded.
    Folder(PathBuf),
    /// Nowhere, or what is there cannot be loaded.
    Missing,
}

/// The CUDA provider that lies beside an ONNX Runtime library, if there is one.
pub fn provider(library: &Path) -> Option<PathBuf> {
    let path = library.with_file_name(PROVIDER);
    path.is_file().then_some(path)
}

/// What the CUDA provider beside `library` needs, each loaded if it is there: the loader then has it
/// when the provider asks. Empty where there is no provider.
///
/// # Errors
/// If the provider cannot be read.
pub fn needs(library: &Path) -> Result<Vec<Need>> {
    let Some(provider) = provider(library) else { return Ok(Vec::new()) };
    let mut names = needed(&provider).map_err(|error| Error::io(&provider, error))?;
    names.retain(|name| part(name).is_some());
    // Loaded at the first recurrent layer, so that nothing names it.
    if !names.iter().any(|name| name.starts_with("libcudnn.")) {
        names.push(CUDNN.to_owned());
    }
    // What others link to comes first.
    names.sort_by_key(|name| PARTS.iter().position(|(start, _)| name.starts_with(start)));
    let folders = runtime::cuda_folders(library);
    let need = |name: String| {
        let place = place(&name, &folders);
        Need { part: part(&name).unwrap_or_default(), name, place }
    };
    Ok(names.into_iter().map(need).collect())
}

/// Whether models can run on that CUDA device: makes a session on it.
///
/// # Errors
/// If they cannot: the reason; or if there is no ONNX Runtime.
pub fn usable(device: u32) -> Result<()> {
    static KNOWN: Mutex<Option<HashMap<u32, Option<String>>>> = Mutex::new(None);
    let environment = runtime::environment()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let attempt = || {
        // Compiled in does not mean that a device or its libraries are there.
        if !ep::CUDA::is_available().unwrap_or(false) {
            return Some("the ONNX Runtime found is built without CUDA".to_owned());
        }
        let plan = Plan { device: Device::Cuda(device), threads: 1, half: false, tf32: false };
        let made = session::options(environment, plan).and_then(|mut builder| {
            builder.commit_from_memory(&smallest())?;
            Ok(())
        });
        made.err().map(|error| session::one_line(error.message()))
    };
    match known.get_or_insert_default().entry(device).or_insert_with(attempt) {
        None => Ok(()),
        Some(why) => Err(Error::Runtime(format!(
            "CUDA device {device} cannot be used ({}); `secondpass doctor --cuda` says what is missing",
            short(why)
        ))),
    }
}

/// The reason in a message of ONNX Runtime, without the path of its source file and its boasting.
pub(super) fn short(message: &str) -> String {
    let reason = message.rsplit(" with error: ").next().unwrap_or(message);
    reason.chars().take(300).collect()
}

/// A model that does nothing.
fn smallest() -> Vec<u8> {
    let value = |name: &str| proto::ValueInfo {
        name: name.into(),
        r#type: Some(proto::TypeProto {
            tensor_type: Some(proto::TensorType {
                elem_type: 1,
                shape: Some(proto::Shape {
                    dim: vec![proto::Dimension { dim_value: Some(1), ..Default::default() }],
                }),
            }),
        }),
    };
    let node = proto::Node {
        op_type: "Identity".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        ..Default::default()
    };
    let graph = proto::GraphProto {
        node: vec![node],
        name: "nothing".into(),
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    };
    let opset = proto::Opset { domain: String::new(), version: 13 };
    let model =
        proto::Model { ir_version: 8, graph: Some(graph), opset_import: vec![opset], ..Default::default() };
    model.encode_to_vec()
}

fn place(name: &str, folders: &[PathBuf]) -> Place {
    if ort::util::preload_dylib(name).is_ok() {
        return Place::System;
    }
    let files = folders.iter().map(|folder| folder.join(name)).filter(|path| path.is_file());
    files
        .map(|path| ort::util::preload_dylib(&path).map(|()| path))
        .find_map(Result::ok)
        .map_or(Place::Missing, Place::Folder)
}

fn part(name: &str) -> Option<&'static str> {
    PARTS.iter().find(|(start, _)| name.starts_with(start)).map(|&(_, part)| part)
}

/// The libraries that a 64-bit ELF file links to, as its dynamic section has them; none for files of
/// another kind.
fn needed(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let mut read = |at: u64, size: u64| {
        let mut bytes = vec![0; usize::try_from(size.min(MOST)).unwrap_or_default()];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).map(|()| bytes)
    };
    let number = |bytes: &[u8], at: usize, size: usize| {
        let field = bytes.get(at..at + size).unwrap_or_default();
        field.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte))
    };
    let Ok(header) = read(0, 64) else { return Ok(Vec::new()) };
    // 64 bits, the low byte first.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(Vec::new());
    }
    let (at, size, count) = (number(&header, 40, 8), number(&header, 58, 2), number(&header, 60, 2));
    let sections = read(at, size * count)?;
    let sections: Vec<&[u8]> = sections.chunks_exact((size as usize).max(64)).collect();
    let content = |section: &[u8]| (number(section, 24, 8), number(section, 32, 8));
    const DYNAMIC: u64 = 6;
    let Some(dynamic) = sections.iter().find(|section| number(section, 4, 4) == DYNAMIC) else {
        return Ok(Vec::new());
    };
    let Some(strings) = sections.get(number(dynamic, 40, 4) as usize) else { return Ok(Vec::new()) };
    let (at, size) = content(dynamic);
    let entries = read(at, size)?;
    let (at, size) = content(strings);
    let strings = read(at, size)?;
    let name = |entry: &[u8]| {
        let text = strings.get(number(entry, 8, 8) as usize..)?;
        Some(String::from_utf8_lossy(text.split(|&byte| byte == 0).next()?).into_owned())
    };
    const NEEDED: u64 = 1;
    Ok(entries.chunks_exact(16).filter(|entry| number(entry, 0, 8) == NEEDED).filter_map(name).collect())
}

const PROVIDER: &str =
    if cfg!(windows) { "onnxruntime_providers_cuda.dll" } else { "libonnxruntime_providers_cuda.so" };
const CUDNN: &str = "libcudnn.so.9";

/// In the order in which they link to each other.
const PARTS: [(&str, &str); 8] = [
    ("libcuda.so", "the NVIDIA driver"),
    ("libcudart.so", "CUDA runtime"),
    ("libcublasLt.so", "cuBLAS"),
    ("libcublas.so", "cuBLAS"),
    ("libnvrtc.so", "CUDA runtime compiler"),
    ("libcurand.so", "cuRAND"),
    ("libcufft.so", "cuFFT"),
    ("libcudnn.so", "cuDNN; recurrent layers run in it"),
];
/// No section that is read here is larger.
const MOST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_a_program_links_to() {
        if cfg!(not(all(target_os = "linux", target_pointer_width = "64"))) {
            return;
        }
        let names = needed(&std::env::current_exe().unwrap()).unwrap();
        assert!(names.iter().any(|name| name.starts_with("libc.so") || name.contains("musl")), "{names:?}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        for bytes in [&b""[..], b"\x7fELF", &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 58]].concat()] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(needed(&path).unwrap_or_default(), [""; 0]);
        }
    }

    #[test]
    fn where_libraries_are() {
        let directory = tempfile::tempdir().unwrap();
        let folders = [directory.path().join("nowhere"), directory.path().to_path_buf()];
        std::fs::write(directory.path().join("libcudart.so.99"), b"no library").unwrap();
        assert_eq!(place("libcudart.so.99", &folders), Place::Missing);
        assert_eq!(place("libcudnn.so.99", &folders), Place::Missing);
        if cfg!(all(target_os = "linux", target_env = "gnu")) {
            assert_eq!(place("libm.so.6", &folders), Place::System);
            let libm =
                ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6"];
            if let Some(libm) = libm.iter().find(|path| Path::new(path).exists()) {
                let copy = directory.path().join("libcublas.so.99");
                std::fs::copy(libm, &copy).unwrap();
                assert_eq!(place("libcublas.so.99", &folders), Place::Folder(copy));
            }
        }
    }

    #[test]
    fn without_a_provider_nothing_is_needed() {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("libonnxruntime.so.1.31.1");
        assert_eq!(needs(&library).unwrap(), []);
        std::fs::write(directory.path().join(PROVIDER), b"no library").unwrap();
        let names: Vec<String> = needs(&library).unwrap().into_iter().map(|need| need.name).collect();
        assert_eq!(names, [CUDNN]);
    }

    #[test]
    fn reasons_are_short() {
        let message = "/src/provider_bridge.cc:2332 Ort::Library::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to \
                       load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open";
        assert_eq!(short(message), "libcublasLt.so.13: cannot open");
    }
}
