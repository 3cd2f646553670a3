//! Tensors in files beside the lists: numpy's `.npy` (float32 or float64, rows first), in one folder.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

/// Reads the file `name` in `folder`: shape and values, of which there is `room` for so many.
///
/// # Errors
/// If it is not in the folder, with all links followed, or no array of that kind: what and what to do.
pub(super) fn read(folder: Option<&Path>, name: &str, room: usize) -> Result<(Vec<usize>, Vec<f32>), String> {
    let Some(folder) = folder else {
        return Err(format!("it lies in the file {name:?}: name the folder of such files with --tensor-dir"));
    };
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain {
        return Err(format!("the file {name:?} is not named by its place in the folder of tensors"));
    }
    let unread = |error: std::io::Error| format!("the file {name:?} cannot be read ({error})");
    let folder = folder.canonicalize().map_err(unread)?;
    let path = folder.join(name).canonicalize().map_err(unread)?;
    if !path.starts_with(&folder) {
        return Err(format!("the file {name:?} leads outside the folder of tensors"));
    }
    // Neither a folder nor a pipe, for which opening it would wait.
    if !path.is_file() {
        return Err(format!("{name:?} is no file"));
    }
    let file = File::open(&path).map_err(unread)?;
    let most = room.saturating_mul(8).saturating_add(MOST_HEADER);
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() > most {
        return Err(format!("the file {name:?} is too large"));
    }
    parse(&bytes, room).map_err(|what| format!("the file {name:?} {what}"))
}

/// What `numpy.save` writes (format 1 to 3).
fn parse(bytes: &[u8], room: usize) -> Result<(Vec<usize>, Vec<f32>), String> {
    let none = || "is no .npy file: write it with numpy.save".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(none)?;
    let (header, data) = match *rest {
        [1, _, a, b, ref rest @ ..] => rest.split_at_checked(u16::from_le_bytes([a, b]).into()),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => {
            rest.split_at_checked(u32::from_le_bytes([a, b, c, d]) as usize)
        }
        _ => None,
    }
    .ok_or_else(none)?;
    let header = std::str::from_utf8(header).map_err(|_| none())?;
    let value = |key: &str| {
        let (_, value) = header.split_once(&format!("'{key}'"))?;
        Some(value.trim_start().strip_prefix(':')?.trim_start())
    };
    if !value("fortran_order").is_some_and(|order| order.starts_with("False")) {
        return Err("has columns first: write numpy.ascontiguousarray of it".into());
    }
    let width = match value("descr") {
        Some(kind) if kind.starts_with("'<f4'") => 4,
        Some(kind) if kind.starts_with("'<f8'") => 8,
        _ => return Err("is not of float32: write array.astype(\"float32\")".into()),
    };
    let shape = value("shape").and_then(|shape| Some(shape.strip_prefix('(')?.split_once(')')?.0));
    let sizes = shape.ok_or_else(none)?.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes.map(|size| size.parse().map_err(|_| none())).collect::<Result<_, _>>()?;
    if shape.is_empty() {
        return Err("holds a single number without a shape: write array.reshape(1)".into());
    }
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.filter(|&count| count <= room).ok_or("holds too many numbers")?;
    if Some(data.len()) != count.checked_mul(width) {
        return Err(format!("has {} bytes of numbers, not those of its shape {shape:?}", data.len()));
    }
    let values: Vec<f32> = match width {
        4 => data.as_chunks::<4>().0.iter().map(|&four| f32::from_le_bytes(four)).collect(),
        _ => data.as_chunks::<8>().0.iter().map(|&eight| f64::from_le_bytes(eight) as f32).collect(),
    };
    match values.iter().all(|value| value.is_finite()) {
        true => Ok((shape, values)),
        false => Err("has something in it that is no finite number".into()),
    }
}

/// No header of an array is longer.
const MOST_HEADER: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        [&bytes, header.as_bytes(), data].concat()
    }

    #[test]
    fn as_numpy_writes_them() {
        // numpy.save(file, numpy.array([[1, 2.5], [-3, 0]], dtype="<f4")), byte for byte.
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }                                                          \n";
        let data: Vec<u8> = [1f32, 2.5, -3.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let file = npy(header, &data);
        assert_eq!(parse(&file, 4).unwrap(), (vec![2, 2], vec![1.0, 2.5, -3.0, 0.0]));
        let wide = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n", &7f64.to_le_bytes());
        assert_eq!(parse(&wide, 4).unwrap(), (vec![1], vec![7.0]));
        let mut second = file.clone();
        second[6] = 2;
        second.splice(10..10, [0, 0]);
        assert_eq!(parse(&second, 4).unwrap().0, [2, 2]);
        assert!(parse(&file, 3).unwrap_err().contains("too many"));
        assert!(parse(&file[..file.len() - 1], 4).unwrap_err().contains("15 bytes"));
        for (from, to, what) in [
            ("<f4", "<i4", "float32"),
            ("<f4", ">f4", "float32"),
            ("False", "True ", "columns first"),
            ("(2, 2)", "(2, x)", "no .npy"),
            ("(2, 2)", "(2, 9)", "16 bytes"),
            ("(2, 2)", "()    ", "single number"),
            ("(2, 2)", "2, 2  ", "no .npy"),
            ("shape", "shapes", "no .npy"),
        ] {
            let error = parse(&npy(&header.replace(from, to), &data), 64).unwrap_err();
            assert!(error.contains(what), "{to}: {error}");
        }
        let nan = npy(header, &[f32::NAN.to_le_bytes(); 4].concat());
        assert!(parse(&nan, 4).unwrap_err().contains("finite"));
        for len in 0..file.len() {
            let _ = parse(&file[..len], 4);
        }
    }

    #[test]
    fn only_in_its_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("tensors");
        std::fs::create_dir_all(folder.join("deep")).unwrap();
        let file = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }\n", &1f32.to_le_bytes());
        std::fs::write(outer.path().join("secret.npy"), &file).unwrap();
        std::fs::write(folder.join("deep/a.npy"), &file).unwrap();
        #[cfg(unix)]
        for (link, to) in [("out.npy", "../secret.npy"), ("in.npy", "deep/a.npy")] {
            std::os::unix::fs::symlink(to, folder.join(link)).unwrap();
        }
        let read = |name: &str| super::read(Some(&folder), name, 4);
        for name in [
            "deep/a.npy",
            #[cfg(unix)]
            "in.npy",
        ] {
            assert_eq!(read(name).unwrap(), (vec![1], vec![1.0]));
        }
        let secret = outer.path().join("secret.npy").display().to_string();
        for (name, what) in [
            ("../secret.npy", "not named by its place"),
            ("deep/../../secret.npy", "not named by its place"),
            (&*secret, "not named by its place"),
            ("", "not named by its place"),
            #[cfg(unix)]
            ("out.npy", "leads outside"),
            ("deep", "no file"),
            ("nowhere.npy", "cannot be read"),
        ] {
            let error = read(name).unwrap_err();
            assert!(error.contains(what), "{name}: {error}");
        }
        assert!(super::read(None, "deep/a.npy", 4).unwrap_err().contains("--tensor-dir"));
    }
}
