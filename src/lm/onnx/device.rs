//! Where models run.

use super::{cuda, runtime};
use crate::{Error, Result};

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device of that number.
    Cuda(u32),
    /// CUDA device 0 if it works, else the processor.
    Auto,
}

impl Device {
    /// The device that [`Device::Auto`] means here; any other is itself.
    ///
    /// # Errors
    /// If `Auto` must be decided and there is no ONNX Runtime.
    pub fn decide(self) -> Result<Self> {
        if self != Self::Cpu {
            runtime::prefer_cuda();
        }
        if self != Self::Auto {
            return Ok(self);
        }
        runtime::environment()?;
        Ok(if cuda::usable(0).is_ok() { Self::Cuda(0) } else { Self::Cpu })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("the processor (cpu)"),
            Self::Cuda(n) => write!(f, "CUDA device {n} (cuda:{n})"),
            Self::Auto => f.write_str("a GPU where there is one (auto)"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = Error;

    /// Reads `cpu`, `cuda`, `cuda:N` or `auto`.
    fn from_str(text: &str) -> Result<Self> {
        let number = |n: &str| n.parse().ok().filter(|&n| n <= i32::MAX as u32);
        match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            None if text == "cuda" => Some(Self::Cuda(0)),
            None if text == "auto" => Some(Self::Auto),
            Some(("cuda", n)) => number(n).map(Self::Cuda),
            _ => None,
        }
        .ok_or_else(|| Error::config(format!("device `{text}` is unknown; use cpu, cuda, cuda:N or auto")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        for (text, device) in [
            ("cpu", Device::Cpu),
            ("cuda", Device::Cuda(0)),
            ("cuda:3", Device::Cuda(3)),
            ("auto", Device::Auto),
        ] {
            assert_eq!(text.parse::<Device>().unwrap(), device);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:1", "cuda:99999999999"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
