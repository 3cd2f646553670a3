//! What a graph is described with: tensors, their types and shapes.

use std::fmt;

use super::proto;

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its element type; [`Dtype::UNDEFINED`] for what is no tensor.
    pub dtype: Dtype,
    /// Its dimensions; `None` where not even the rank is declared.
    pub dims: Option<Vec<Dim>>,
}

/// A weight: its name and shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its dimensions.
    pub dims: Vec<i64>,
}

/// One dimension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A fixed size.
    Fixed(usize),
    /// A symbol: equal symbols are equal sizes.
    Symbol(String),
    /// Anything.
    Unknown,
}

/// An ONNX element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtype(pub i32);

impl Dtype {
    /// No tensor, or not declared.
    pub const UNDEFINED: Self = Self(0);
    /// 32-bit floating point.
    pub const FLOAT: Self = Self(1);
    /// 32-bit integers.
    pub const INT32: Self = Self(6);
    /// 64-bit integers.
    pub const INT64: Self = Self(7);
    /// Booleans.
    pub const BOOL: Self = Self(9);
    /// 16-bit floating point.
    pub const FLOAT16: Self = Self(10);
    /// 64-bit floating point.
    pub const DOUBLE: Self = Self(11);
    /// 16-bit floating point with 8 bits of exponent.
    pub const BFLOAT16: Self = Self(16);
}

impl Dtype {
    /// Whether it is floating point of 16 bits.
    pub fn is_half(self) -> bool {
        self == Self::FLOAT16 || self == Self::BFLOAT16
    }

    /// Whether it is floating point.
    pub fn is_float(self) -> bool {
        self == Self::FLOAT || self == Self::DOUBLE || self.is_half()
    }

    /// Whether it is an integer that token ids come in.
    pub fn is_integer(self) -> bool {
        self == Self::INT32 || self == Self::INT64
    }
}

impl Value {
    /// How many dimensions it has, if that is declared.
    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    pub(super) fn new(info: &proto::ValueInfo) -> Self {
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        Self {
            name: info.name.clone(),
            dtype: Dtype(tensor.map_or(0, |t| t.elem_type)),
            dims: tensor.and_then(|t| t.shape.as_ref()).map(|shape| shape.dim.iter().map(Dim::new).collect()),
        }
    }
}

impl Weight {
    pub(super) fn new(tensor: &proto::TensorProto) -> Self {
        Self { name: tensor.name.clone(), dtype: Dtype(tensor.data_type), dims: tensor.dims.clone() }
    }
}

impl Dim {
    pub(super) fn new(dim: &proto::Dimension) -> Self {
        match (dim.dim_value, &dim.dim_param) {
            (Some(size), _) => usize::try_from(size).map_or(Self::Unknown, Self::Fixed),
            (None, Some(symbol)) if !symbol.is_empty() => Self::Symbol(symbol.clone()),
            _ => Self::Unknown,
        }
    }
}

/// As the field writes it: `tokens int64 [N, L]`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.name, self.dtype)?;
        match &self.dims {
            Some(dims) => {
                let dims: Vec<String> = dims.iter().map(Dim::to_string).collect();
                write!(f, "[{}]", dims.join(", "))
            }
            None => f.write_str("[..]"),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Symbol(symbol) => f.write_str(symbol),
            Self::Unknown => f.write_str("?"),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DTYPES.get(usize::try_from(self.0).unwrap_or(usize::MAX)) {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

const DTYPES: [&str; 17] = [
    "undefined",
    "float32",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "int32",
    "int64",
    "string",
    "bool",
    "float16",
    "float64",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bfloat16",
];
